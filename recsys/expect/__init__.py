"""Checking expectations on views of a DuckDB in memory, with Great Expectations by default, and a page of the results.

No rule is stated here; rules belong to `recsys.checks` and `recsys.warehouse`.
"""
