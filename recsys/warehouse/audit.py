"""Checks tables about to be published: one `sql/audit_*.sql` per rule, which selects the rows that break it."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

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

BESIDE = {  # tables of which there may be none
    "shortened": "user_id integer, n_available bigint",
    "blocked": "user_id integer, movie_id integer, genre varchar",
    "caps": "movie_id integer, group_name varchar, at_most bigint",
}


def audit(
    connection: DuckDBPyConnection,
    run_id: str,
    n: int,
    ratings: Path,
    *,
    available: Path | None = None,
    shortened: Path | None = None,
    blocked: Path | None = None,
    caps: Path | None = None,
) -> None:
    """Passes if the tables of `connection` are fit for `run_id` to publish lists of `n` movies.

    `ratings` is the Parquet of all ratings known tonight: nothing in it is recommended to the one who rated it.
    `available` is that of the movies that may be shown (movie_id), without it those that somebody rated; `shortened`
    that of the users to whom rules leave fewer than `n` of these (user_id, n_available). `blocked`
    (user_id, movie_id, genre; null is any) and `caps` (movie_id, group_name, at_most) are the rules themselves.

    Raises: PublishError that names every broken rule, its count of offending rows and one of them.
    """
    known = {"run_id": run_id, "n": n}
    with _beside(connection, ratings, available, {"shortened": shortened, "blocked": blocked, "caps": caps}):
        broken = [complaint for rule in RULES if (complaint := _complain(connection, rule, known))]
    if broken:
        raise PublishError(
            f"the tables of run {run_id} failed their audit: {'; '.join(broken)}. What is served stays as it is. "
            "Next: look these rows up in the Parquet files of the run's folder"
        )
    logger.info("audit: %d rules hold", len(RULES))


@contextmanager
def _beside(
    connection: DuckDBPyConnection, ratings: Path, available: Path | None, others: dict[str, Path | None]
) -> Iterator[None]:
    """What rules read beside the published tables, as temporary ones that are not part of the file."""
    connection.execute(
        "create temp table ratings as select user_id, movie_id from read_parquet($path)", {"path": str(ratings)}
    )
    connection.execute(
        "create temp table available as select distinct movie_id from read_parquet($path)",
        {"path": str(available or ratings)},
    )
    for table, columns in BESIDE.items():
        connection.execute(f"create temp table {table} ({columns})")
        if path := others[table]:
            connection.execute(f"insert into {table} by name from read_parquet($path)", {"path": str(path)})
    connection.execute(f"create temp view other_lists as {sql.read('other_lists')}")
    try:
        yield
    finally:
        connection.execute("drop view temp.other_lists")
        for table in ("ratings", "available", *BESIDE):
            connection.execute(f"drop table temp.{table}")


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
