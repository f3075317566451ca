"""Metrics as plain functions of arrays and frames. Choosing the predictions to measure belongs in evaluate."""
