"""Metrics: plain functions of arrays and frames. Whose predictions are measured, and when, is for others to say."""
