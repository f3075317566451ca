"""Checks tables about to be published: one `sql/audit_*.sql` per rule, which selects the rows that break it."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
from duckdb import DuckDBPyConnection

import sql
from recsys.errors import PublishError

logger = logging.getLogger(__name__)

RULES = (
    "audit_run",
    "audit_any",
    "audit_known",
    "audit_served_by",
    "audit_length",
    "audit_available",
    "audit_blocked",
    "audit_caps",
    "audit_ranks",
    "audit_distinct",
    "audit_unseen",
    "audit_finite",
    "audit_order",
    "audit_because",
    "audit_default_all",
    "audit_similar_self",
    "audit_lists_known",
    "audit_lists_ranks",
    "audit_lists_distinct",
    "audit_lists_finite",
    "audit_lists_order",
)

NEED_MORE = {  # than the tables themselves
    "audit_length", "audit_available", "audit_blocked", "audit_caps", "audit_unseen", "audit_because",
}  # fmt: skip

OTHERS = {  # tables of which there may be none
    "shortened": "user_id integer, n_available bigint",
    "blocked": "user_id integer, movie_id integer, genre varchar",
    "caps": "movie_id integer, group_name varchar, at_most bigint",
}


@dataclass(frozen=True)
class Beside:
    """Parquet files that an audit reads beside the tables; None: there are no such rows."""

    ratings: Path  # (user_id, movie_id), all that are known: nothing in it is recommended to the one who rated it
    available: Path | None = None  # (movie_id) that may be shown; None: those that somebody rated
    shortened: Path | None = None  # (user_id, n_available) of users to whom rules leave fewer than n of these
    blocked: Path | None = None  # (user_id, movie_id, genre), null is any: the rules themselves
    caps: Path | None = None  # (movie_id, group_name, at_most)


def audit(file: Path, run_id: str, n: int | None, beside: Beside | None) -> None:
    """Passes if the tables of a warehouse are fit to be served: lists of `n` movies that `run_id` made.

    Without `beside`, and `n`, only what the tables themselves can tell is looked at.

    Raises: PublishError that names every broken rule, its count of offending rows and one of them.
    """
    known = {"run_id": run_id, "n": n}
    rules = RULES if beside else [rule for rule in RULES if rule not in NEED_MORE]
    with _opened(file, beside) as connection:
        broken = [complaint for rule in rules if (complaint := _complain(connection, rule, known))]
    if broken:
        raise PublishError(
            f"the tables of run {run_id} failed their audit: {'; '.join(broken)}. What is served stays as it is. "
            "Next: look these rows up in the Parquet files of the run's folder"
        )
    logger.info("audit: %d rules hold", len(rules))


@contextmanager
def _opened(file: Path, beside: Beside | None) -> Iterator[DuckDBPyConnection]:
    """A connection in memory that sees the tables of the file, and what rules read beside them."""
    with duckdb.connect() as connection:
        connection.execute("attach $path as next (read_only)", {"path": str(file)})
        for (table,) in connection.sql(
            "select table_name from duckdb_tables() where database_name = 'next'"
        ).fetchall():
            connection.execute(f"create view {table} as from next.{table}")
        connection.execute(f"create view other_lists as {sql.read('other_lists')}")
        if beside:
            _read_beside(connection, beside)
        yield connection


def _read_beside(connection: DuckDBPyConnection, beside: Beside) -> None:
    connection.execute(
        "create table ratings as select user_id, movie_id from read_parquet($path)", {"path": str(beside.ratings)}
    )
    connection.execute(
        "create table available as select distinct movie_id from read_parquet($path)",
        {"path": str(beside.available or beside.ratings)},
    )
    for table, columns in OTHERS.items():
        connection.execute(f"create table {table} ({columns})")
        if path := getattr(beside, table):
            connection.execute(f"insert into {table} by name from read_parquet($path)", {"path": str(path)})


def _complain(connection: DuckDBPyConnection, rule: str, known: dict[str, Any]) -> str | None:
    """What is wrong, in words, or None if no row breaks the rule."""
    statement = sql.read(rule)
    wanted = connection.extract_statements(statement)[0].named_parameters
    offending = connection.sql(statement, params={name: known[name] for name in wanted})
    n_offending = len(offending)
    if not n_offending:
        return None
    example = dict(zip(offending.columns, offending.limit(1).fetchall()[0], strict=True))
    words = ", ".join(f"{column} {value}" for column, value in example.items())
    return f"{rule}: {n_offending:,} {describe(rule)}, for example {words}"


def describe(rule: str) -> str:
    """The sentence in the header of a rule's file, without its full stop."""
    first_line = sql.read(rule).partition("\n")[0]
    return first_line.removeprefix(f"-- {rule}: ").removesuffix(".")
