"""Synthetic ratings with a known structure, for tests, benchmarks and experiments."""
