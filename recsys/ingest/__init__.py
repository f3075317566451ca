"""Converts a source to an immutable snapshot in canonical Parquet."""
