"""Ratings that nobody gave, with known structure. For tests, benchmarks and trying things out."""
