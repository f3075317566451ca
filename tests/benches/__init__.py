"""What `bench.py` and `bench_lists.py` measure, one module for each question."""
