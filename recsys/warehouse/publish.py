"""Writes the warehouse: builds the next file aside, audits it, and renames it over the present one.

The only module that opens DuckDB connections for writing a file. The caller holds `home.lock`; readers hold nothing:
who has the old file open keeps reading it, complete, until the last of their connections closes.

Every night writes a fresh file and copies into it what stays, rather than changing a copy of the old file: the file
stays compact, the tables are always those of sql/schema.sql, and so is the format, whatever wrote the old one.
"""

import logging
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
from duckdb import DuckDBPyConnection

import sql
from recsys.errors import PublishError
from recsys.files import replacing, sync
from recsys.forgotten import read_forgotten
from recsys.home import Home
from recsys.warehouse.audit import audit
from recsys.warehouse.outcome import MetricRow, Outcome

logger = logging.getLogger(__name__)

STORAGE_VERSION = "v1.4.0"  # DuckDB 1.4, 1.5 and 2.0 read it; what 2.0 writes by itself no older one can

SERVED = (  # replaced as a whole by each run that publishes
    "recommendations", "default_recommendations", "similar_movies", "movies", "users",
)  # fmt: skip
HISTORY = ("runs", "metrics", "quarantine")  # grow with every run
ADDED = ("default_recommendations", "similar_movies")  # which a warehouse of an older version does not have


@dataclass(frozen=True)
class Tonight:
    """What a run is about to publish. Paths are Parquet files whose columns are those of the tables, less run_id."""

    recommendations: Path
    movies: Path  # without n_ratings, which are counted in `ratings`
    users: Path
    ratings: Path  # all that are known tonight; not published, the audit needs them
    quarantine: Path
    metrics: tuple[MetricRow, ...]
    n: int  # movies per user
    default_recommendations: Path | None = None  # no lists where there is none
    similar_movies: Path | None = None  # the same
    available: Path | None = None  # (movie_id) that may be shown; None: those that somebody rated
    shortened: Path | None = None  # (user_id, n_available) where rules leave a user fewer than they have not rated
    blocked: Path | None = None  # (user_id, movie_id, genre), null is any: what rules forbid
    caps: Path | None = None  # (movie_id, group_name, at_most)


def publish(outcome: Outcome, tonight: Tonight, home: Home) -> dict[str, int]:
    """Replaces the tables that are served and adds the run to the history; returns the rows per table.

    Publishing a run again gives the same tables. Whatever dies when, `home.warehouse` is the old file or the new one.

    Raises: PublishError if the audit fails or a file cannot be read or written; the old file stays as it is.
    """
    assert outcome.published
    with _next_file(home, keep=HISTORY) as connection:
        _write_served(connection, outcome.run_id, tonight)
        _write_run(connection, outcome, tonight.metrics, tonight.quarantine)
        audit(
            connection,
            outcome.run_id,
            tonight.n,
            tonight.ratings,
            available=tonight.available,
            shortened=tonight.shortened,
            blocked=tonight.blocked,
            caps=tonight.caps,
        )
        return _count_rows(connection)


def record(outcome: Outcome, home: Home, metrics: Iterable[MetricRow] = (), quarantine: Path | None = None) -> None:
    """Adds a run that published nothing to the history; the tables that are served stay as they are.

    A run whose lists are being served stays `published`, whatever went wrong with it afterwards. On a home without a
    warehouse it makes one with empty tables.

    Raises: PublishError if a file cannot be read or written; the old file stays as it is.
    """
    assert not outcome.published
    with _next_file(home, keep=SERVED + HISTORY) as connection:
        _write_run(connection, outcome, metrics, quarantine)
        connection.execute(
            "update runs set published = true "
            "where run_id = $run_id and run_id in (select run_id from recommendations)",
            {"run_id": outcome.run_id},
        )
        _count_rows(connection)


def check_present(home: Home) -> None:
    """Passes if the history in the present warehouse, if there is one, can be carried over.

    Raises: PublishError if it cannot.
    """
    with duckdb.connect() as connection:
        connection.execute("set timezone = 'UTC'")
        connection.execute(sql.read("schema"))
        _keep(connection, home, HISTORY)


@contextmanager
def _next_file(home: Home, keep: tuple[str, ...]) -> Iterator[DuckDBPyConnection]:
    """Yields a connection to the next warehouse, which holds the `keep` tables of the present one; then swaps it in."""
    _remove_leftovers(home)
    try:
        with replacing(home.warehouse) as aside:
            with duckdb.connect(aside, config={"storage_compatibility_version": STORAGE_VERSION}) as connection:
                connection.execute("set timezone = 'UTC'")
                connection.execute(sql.read("schema"))
                _keep(connection, home, keep)
                yield connection
                connection.execute("checkpoint")
            _drop_foreign_wal(home)
    except (duckdb.Error, OSError) as error:
        raise PublishError(
            f"the next {home.warehouse} could not be written: {error}. The present one was not touched. "
            "Next: put right what the message names, and run the night again"
        ) from error
    finally:
        _remove_leftovers(home)


def _remove_leftovers(home: Home) -> None:
    """Deletes what a killed run, or DuckDB on behalf of one, left beside the warehouse."""
    for path in home.root.glob(f".{home.warehouse.name}.*"):
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def _drop_foreign_wal(home: Home) -> None:
    """A log that somebody's writing session left beside the present file: DuckDB would refuse the next one with it."""
    log = home.warehouse.with_name(f"{home.warehouse.name}.wal")
    if log.exists():
        logger.warning("%s was opened for writing by somebody; their %s goes", home.warehouse, log.name)
        log.unlink()
        sync(log.parent)


def _keep(connection: DuckDBPyConnection, home: Home, tables: tuple[str, ...]) -> None:
    """Copies tables of the present file, without a trace of users who asked to be forgotten."""
    if not home.warehouse.exists():
        return
    forgotten = read_forgotten(home)
    try:
        connection.execute("attach $path as present (read_only)", {"path": str(home.warehouse)})
        stored = connection.sql("select table_name from duckdb_tables() where database_name = 'present'").fetchall()
        absent = set(ADDED) - {name for (name,) in stored}
        for table in (table for table in tables if table not in absent):
            kept = connection.sql(f"from present.{table}")
            kept = kept.filter(forgotten.condition(table, kept.columns)).project(forgotten.projection(table))
            connection.execute(f"insert into {table} by name {kept.sql_query()}")
        connection.execute("detach present")
    except duckdb.Error as error:
        raise PublishError(
            f"{home.warehouse} cannot be read, so the history in it would be lost: {error}. Nothing was changed. "
            "Next: close whoever has it open for writing, or put a good copy in its place, "
            "or move it away to start without a history"
        ) from error


def _write_served(connection: DuckDBPyConnection, run_id: str, tonight: Tonight) -> None:
    lists = (
        ("recommendations", tonight.recommendations, "user_id, rank"),
        ("default_recommendations", tonight.default_recommendations, "segment, rank"),
        ("similar_movies", tonight.similar_movies, "movie_id, rank"),
    )
    for table, path, key in lists:
        if path:
            connection.execute(
                f"insert into {table} by name select *, $run_id as run_id from read_parquet($path) order by {key}",
                {"run_id": run_id, "path": str(path)},
            )
    connection.execute(
        f"insert into movies by name {sql.read('counted_movies')}",
        {"movies": str(tonight.movies), "ratings": str(tonight.ratings)},
    )
    connection.execute(
        "insert into users by name from read_parquet($path) order by user_id", {"path": str(tonight.users)}
    )


def _write_run(
    connection: DuckDBPyConnection, outcome: Outcome, metrics: Iterable[MetricRow], quarantine: Path | None
) -> None:
    """Replaces rows of the same run: a night that is tried again leaves one row."""
    _upsert(connection, "runs", asdict(outcome))
    measured = pa.Table.from_pylist([{"run_id": outcome.run_id, **asdict(metric)} for metric in metrics])
    if len(measured):  # hundreds: one statement each would take longer than all the rest
        connection.register("measured", measured)
        connection.execute("insert or replace into metrics by name select * from measured")
        connection.unregister("measured")
    if quarantine:
        connection.execute("delete from quarantine where run_id = $run_id", {"run_id": outcome.run_id})
        connection.execute(
            "insert into quarantine by name select *, $run_id as run_id from read_parquet($path) order by all",
            {"run_id": outcome.run_id, "path": str(quarantine)},
        )


def _upsert(connection: DuckDBPyConnection, table: str, row: dict[str, Any]) -> None:
    places = ", ".join(f"${column}" for column in row)
    connection.execute(f"insert or replace into {table} ({', '.join(row)}) values ({places})", row)


def _count_rows(connection: DuckDBPyConnection) -> dict[str, int]:
    counts = {table: len(connection.table(table)) for table in SERVED + HISTORY}
    logger.info("warehouse: %s", ", ".join(f"{table} {count:,}" for table, count in counts.items()))
    return counts
