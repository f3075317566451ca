"""A report with polars: the movies that entered or left the most lists since the night before.

python docs/examples/polars_changes.py data/warehouse.duckdb
"""
# ruff: noqa: T201

import sys

import duckdb
import polars as pl


def read_changes(warehouse: str) -> pl.DataFrame:
    """Every change of a user's list, with the title of the movie."""
    with duckdb.connect(warehouse, read_only=True) as connection:
        return connection.sql(
            "select user_id, change, title from recommendation_changes inner join movies using (movie_id)"
        ).pl()


def count_changes(changes: pl.DataFrame) -> pl.DataFrame:
    """One row per movie: how many lists it entered and left, and the difference; the largest gains first."""
    return (
        changes.group_by("title")
        .agg(entered=(pl.col("change") == "entered").sum(), left=(pl.col("change") == "left").sum())
        .with_columns(net=pl.col("entered").cast(pl.Int64) - pl.col("left").cast(pl.Int64))
        .sort("net", "title", descending=[True, False])
    )


if __name__ == "__main__":
    print(count_changes(read_changes(sys.argv[1] if len(sys.argv) > 1 else "data/warehouse.duckdb")))
