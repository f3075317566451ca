"""A report with pandas: how many users see each genre, and how high it ranks.

python docs/examples/pandas_report.py data/warehouse.duckdb
"""
# ruff: noqa: T201

import sys

import duckdb
import pandas as pd


def read_lists(warehouse: str) -> pd.DataFrame:
    """All places of all lists. The connection is closed afterwards, so the next call reads the newest tables."""
    with duckdb.connect(warehouse, read_only=True) as connection:
        return connection.sql("select user_id, rank, genres from recommendations_named").df()


def summarise_genres(lists: pd.DataFrame) -> pd.DataFrame:
    """One row per genre, the most shown first. A movie counts in each of its genres."""
    places = lists.explode("genres").rename(columns={"genres": "genre"})
    summary = places.groupby("genre").agg(
        users=("user_id", "nunique"), places=("rank", "size"), mean_rank=("rank", "mean")
    )
    return summary.sort_values(["places", "users"], ascending=False).round({"mean_rank": 1})


if __name__ == "__main__":
    print(summarise_genres(read_lists(sys.argv[1] if len(sys.argv) > 1 else "data/warehouse.duckdb")))
