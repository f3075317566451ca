"""Checks expectations on views of an in-memory DuckDB database, by default with Great Expectations, and writes a page.

Rules do not belong here, but in `recsys.checks` and `recsys.warehouse`.
"""
