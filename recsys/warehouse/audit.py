"""Checks tables about to be published: one `sql/audit_*.sql` per rule, which selects the rows that break it."""

import logging
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
    "audit_length",
    "audit_ranks",
    "audit_distinct",
    "audit_unseen",
    "audit_finite",
    "audit_order",
    "audit_because",
)


def audit(connection: DuckDBPyConnection, run_id: str, n: int, ratings: Path) -> None:
    """Passes if the tables of `connection` are fit for `run_id` to publish lists of `n` movies.

    `ratings` is the Parquet of all ratings known tonight: whoever is in it has a list, and nothing in it is
    recommended to the one who rated it.

    Raises: PublishError that names every broken rule, its count of offending rows and one of them.
    """
    _load_ratings(connection, ratings)
    known = {"run_id": run_id, "n": n}
    broken = [complaint for rule in RULES if (complaint := _complain(connection, rule, known))]
    connection.execute("drop table temp.ratings")
    if broken:
        raise PublishError(
            f"the tables of run {run_id} failed their audit: {'; '.join(broken)}. What is served stays as it is. "
            "Next: look these rows up in the run's recommendations.parquet"
        )
    logger.info("audit: %d rules hold", len(RULES))


def _load_ratings(connection: DuckDBPyConnection, ratings: Path) -> None:
    """Makes `ratings` a table of the connection, which several rules read; it is not part of the file."""
    connection.execute(
        "create or replace temp table ratings as select user_id, movie_id from read_parquet($path)",
        {"path": str(ratings)},
    )


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
