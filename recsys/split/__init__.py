"""Splits ratings into train, validation and holdout, and checks that nothing leaks between them."""
