"""Synthetic ratings with a known structure, for tests, benchmarks and trying things out."""
