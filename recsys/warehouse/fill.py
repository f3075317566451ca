"""Writes the rows of one run into the next warehouse file, which `build` has opened."""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from duckdb import DuckDBPyConnection

import sql
from recsys.files import exact, replacing
from recsys.schema import AGE_BANDS
from recsys.warehouse.build import NO_LISTS, SERVED, STATS, TABLES, Counts, Tonight
from recsys.warehouse.measure import measure_lists
from recsys.warehouse.outcome import MetricRow, Outcome

logger = logging.getLogger(__name__)

Params = dict[str, Any]  # of a statement
Hashed = tuple[int, int | None]  # number of rows, and the sum of their hashes; None without rows


def write_served(connection: DuckDBPyConnection, run_id: str, tonight: Tonight) -> None:
    """Fills the served tables."""
    for table, statement, params in list_served(tonight):
        if "run_id" in connection.table(table).columns:
            named = f"select *, $run_id as run_id from ({statement})"
            connection.execute(f"insert into {table} by name {named}", params | {"run_id": run_id})
        else:
            connection.execute(f"insert into {table} by name {statement}", params)
    for table in STATS:
        connection.execute(f"insert into {table} by name {sql.read(table)}", {"ratings": exact(tonight.ratings)})


def measure(
    connection: DuckDBPyConnection, outcome: Outcome, tonight: Tonight, lists_before: str
) -> tuple[MetricRow, ...]:
    """Measures the lists that were just written, for `metrics` and the audit.

    `lists_before` selects the lists that they are compared with.
    """
    assert outcome.model
    # a file of an older version may lack columns
    connection.execute(f"create temp view lists_before as {NO_LISTS} union all by name ({lists_before})")
    measured = tuple(measure_lists(connection, outcome.model, tonight.audit_inputs.may_be_shown, tonight.rating_scale))
    connection.execute("drop view lists_before")
    return measured


def list_served(tonight: Tonight) -> Iterator[tuple[str, str, Params]]:
    """The served tables that have rows, without the statistics, which follow from the others and the ratings.

    Yields the name, the select of the rows in order without run_id, and its parameters.
    """
    lists = (
        ("recommendations", tonight.recommendations, "user_id, rank"),
        ("default_recommendations", tonight.default_recommendations, "segment, rank"),
        ("similar_movies", tonight.similar_movies, "movie_id, rank"),
        ("links", tonight.links, "movie_id"),
    )
    for table, path, key in lists:
        if path:
            yield table, f"select * from read_parquet($path) order by {key}", {"path": exact(path)}
    counted = {name: exact(getattr(tonight, name)) for name in ("movies", "ratings", "films")}
    yield "movies", sql.read("counted_movies"), counted
    yield "users", sql.read("described_users"), {"users": exact(tonight.users), "age_bands": [*AGE_BANDS]}


def hash_rows(connection: DuckDBPyConnection, statement: str, table: str, params: Params) -> Hashed:
    """Counts and hashes rows over the columns of the present table, without run_id, cast to the table's types."""
    columns = connection.sql(f"describe present.{table}").fetchall()
    typed = ", ".join(f"cast({name} as {kind})" for name, kind, *_ in columns if name != "run_id")
    hashed = f"select count(*), sum(hash({typed})::hugeint) from ({statement})"
    ((n_rows, total),) = connection.execute(hashed, params).fetchall()
    return n_rows, total


def write_copies(connection: DuckDBPyConnection, folder: Path) -> None:
    """Writes a Parquet file of each served table."""
    for table in SERVED:
        with replacing(folder / f"{table}.parquet") as aside:
            connection.table(table).write_parquet(str(aside), compression="zstd")


def count_rows(connection: DuckDBPyConnection) -> Counts:
    """The number of rows of every table."""
    counts = {table: len(connection.table(table)) for table in TABLES}
    logger.info("warehouse: %s", ", ".join(f"{table} {count:,}" for table, count in counts.items()))
    return counts
