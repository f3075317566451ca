"""The measurements of `bench.py` and `bench_lists.py`, one module for each question."""
