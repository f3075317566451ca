"""Converts ids, descriptions and dates to indices for embedding tables. The tables themselves belong in models."""
