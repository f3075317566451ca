"""Audits tables about to be published with Great Expectations: every rule on rows, and measures within their limits."""

import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from html import escape
from pathlib import Path
from typing import Any

from duckdb import DuckDBPyConnection

import sql
from recsys.errors import PublishError
from recsys.expect.checkpoint import Observation, Pages, expect, expect_no_rows, opened_database, run_checkpoint
from recsys.settings import AuditConfig
from recsys.warehouse.audit_rules import CONTRACT, ROW_RULES, Measure, RowRule, limited
from recsys.warehouse.outcome import TONIGHT

logger = logging.getLogger(__name__)

OTHERS = {  # tables of which there may be none
    "shortened": "user_id integer, n_available bigint",
    "blocked": "user_id integer, movie_id integer, genre varchar",
    "caps": "movie_id integer, group_name varchar, at_most bigint",
}

EXPLANATION = """\
One rule that does not hold and nothing is published: what was served before is served on. <code>lists</code> are the
lists of users, of segments and of similar movies as one, <code>measures</code> figures of all users' lists together,
most of them beside the lists of the night before, <code>columns_found</code> the columns of every table."""

ROW_QUERY = """\
with {table} as not materialized (select * from {{batch}})
select * from (
{query})"""

Limits = Sequence[tuple[Measure, float]]


@dataclass(frozen=True)
class Beside:
    """Parquet files that an audit reads beside the tables; None: there are no such rows."""

    ratings: Path  # (user_id, movie_id), all that are known: nothing in it is recommended to the one who rated it
    available: Path | None = None  # (movie_id) that may be shown; None: those that somebody rated
    shortened: Path | None = None  # (user_id, n_available) of users to whom rules leave fewer than n of these
    blocked: Path | None = None  # (user_id, movie_id, genre), null is any: the rules themselves
    caps: Path | None = None  # (movie_id, group_name, at_most)
    limits: AuditConfig = field(default_factory=AuditConfig)  # of what `metrics` says of the lists

    @property
    def may_be_shown(self) -> Path:
        return self.available or self.ratings


def audit(file: Path, run_id: str, n: int | None, beside: Beside | None, docs: Path | None = None) -> None:
    """Passes if the tables of a warehouse are fit to be served: lists of `n` movies that `run_id` made.

    Without `beside`, and `n`, only what the tables themselves can tell is looked at. Data Docs go to the folder `docs`.

    Raises: PublishError that names every broken rule, its count of offending rows and one of them, or its limit.
    """
    rules = [rule for rule in ROW_RULES if beside or not rule.asks_more]
    measured: dict[str, float] = {}
    with _opened(file, run_id) as connection:
        if connection.sql(CONTRACT.query).limit(1).fetchall():
            rules = [CONTRACT]  # what other columns hold nobody can say
        else:
            _create_views(connection, run_id, n, beside)
            measured = _read_measures(connection, run_id) if beside else {}
        limits = list(limited(measured, beside.limits)) if beside else []
        pages = Pages(docs, f"What the audit of {escape(run_id)} found", EXPLANATION) if docs else None
        seen = run_checkpoint(_name(run_id), _expectations(rules, limits), run_id, datetime.now(UTC), pages)
        broken = [_describe_rows(connection, rule, seen[rule.name]) for rule in rules if not seen[rule.name].passed]
        broken += [_describe_measure(*pair, measured) for pair in limits if not seen[_key(pair[0])].passed]
    if broken:
        ways_on = [] if any(not seen[rule.name].passed for rule in rules) else _list_ways_on(limits, measured)
        raise PublishError(
            f"the tables of run {run_id} failed their audit: {'; '.join(broken)}. What is served stays as it is. "
            + (f"See {docs / 'index.html'}. " if docs else "")
            + "Next: look the lists up in the Parquet files of the run's folder"
            + (f"; if they are right, let them pass with {' '.join(ways_on)}" if ways_on else "")
        )
    logger.info("audit: %d rules hold", len(seen))


@contextmanager
def _opened(file: Path, run_id: str) -> Iterator[DuckDBPyConnection]:
    """A connection in memory with the file attached, and the columns that it has and should have."""
    with opened_database(_name(run_id), file.with_name(f"{file.name}.spill")) as connection:
        connection.execute("attach $path as next (read_only)", {"path": str(file)})
        _describe_columns(connection)
        yield connection
        connection.execute("detach next")


def _create_views(connection: DuckDBPyConnection, run_id: str, n: int | None, beside: Beside | None) -> None:
    """What rules read: the tables of the file, all lists as one, and what lies beside them."""
    for (table,) in connection.sql("select table_name from duckdb_tables() where database_name = 'next'").fetchall():
        connection.execute(f"create view {table} as from next.{table}")
    connection.execute(f"create view lists as {sql.read('lists')}")
    connection.execute("create table audited as select $run_id as run_id, $n as n", {"run_id": run_id, "n": n})
    if beside:
        _read_beside(connection, beside)


def _describe_columns(connection: DuckDBPyConnection) -> None:
    """Columns as the schema promises them, from an empty database, and as the file has them."""
    connection.execute("attach ':memory:' as promised")
    own = connection.sql("select current_database()").fetchall()[0][0]
    connection.execute(f'use promised; {sql.read("schema")}; use "{own}"')
    for view, database in (("columns_promised", "promised"), ("columns_found", "next")):
        described = f"select * exclude (database_name) from ({sql.read('described_columns')})"
        connection.execute(f"create table {view} as {described} where database_name = '{database}'")
    connection.execute("detach promised")


def _read_beside(connection: DuckDBPyConnection, beside: Beside) -> None:
    connection.execute(
        "create table ratings as select user_id, movie_id from read_parquet($path)", {"path": str(beside.ratings)}
    )
    connection.execute(
        "create table available as select distinct movie_id from read_parquet($path)",
        {"path": str(beside.may_be_shown)},
    )
    for table, columns in OTHERS.items():
        connection.execute(f"create table {table} ({columns})")
        if path := getattr(beside, table):
            connection.execute(f"insert into {table} by name from read_parquet($path)", {"path": str(path)})


def _read_measures(connection: DuckDBPyConnection, run_id: str) -> dict[str, float]:
    """What `metrics` says of the lists, kept as the view `measures`."""
    rows = connection.execute(
        "select metric, value from metrics "
        "where run_id = $run_id and split = $split and slice = 'all' and starts_with(metric, 'audit_')",
        {"run_id": run_id, "split": TONIGHT},
    ).fetchall()
    measured: dict[str, float] = dict(rows)
    if measured:
        columns = ", ".join(f"${name} as {name}" for name in measured)
        connection.execute(f"create table measures as select {columns}", measured)
    return measured


def _expectations(rules: Sequence[RowRule], limits: Limits) -> dict[str, list[Any]]:
    views: dict[str, list[Any]] = {}
    for rule in rules:
        query = ROW_QUERY.format(table=rule.table, query=rule.query.replace("{", "{{").replace("}", "}}"))
        views.setdefault(rule.table, []).append(expect_no_rows(rule.name, f"no {rule.offence}", query))
    for measure, limit in limits:
        side = "min_value" if measure.at_least else "max_value"
        said = f"{measure.demands}: at {'least' if measure.at_least else 'most'} {limit:g}"
        expectation = expect(_key(measure), said, "ExpectColumnMaxToBeBetween", column=measure.name, **{side: limit})
        views.setdefault("measures", []).append(expectation)
    return views


def _describe_rows(connection: DuckDBPyConnection, rule: RowRule, seen: Observation) -> str:
    """What is wrong, in words, with one of the rows; of the columns that name a list only the one that does."""
    offending = connection.sql(rule.query).limit(1)
    example = dict(zip(offending.columns, offending.fetchall()[0], strict=True))
    words = ", ".join(f"{column} {value}" for column, value in example.items() if value is not None)
    return f"{rule.name}: {seen.observed:,} {rule.offence}, for example {words}"


def _describe_measure(measure: Measure, limit: float, measured: Mapping[str, float]) -> str:
    side = "at least" if measure.at_least else "at most"
    return f"{measure.name} is {measured[measure.name]:.4g}, it should be {side} {limit:g} ({measure.demands})"


def _list_ways_on(limits: Limits, measured: Mapping[str, float]) -> list[str]:
    """The settings that would let the lists pass, to four decimals, away from what would still be refused."""
    ways_on = []
    for measure, limit in limits:
        value = measured[measure.name]
        if not measure.holds(value, limit):
            rounded = math.floor(value * 10_000) if measure.at_least else math.ceil(value * 10_000)
            ways_on.append(f"RECSYS_AUDIT__{measure.setting.upper()}={rounded / 10_000}")
    return ways_on


def _key(measure: Measure) -> str:
    """Two limits on one figure are two rules."""
    return f"{measure.name}_{measure.setting}"


def _name(run_id: str) -> str:
    """Of the database in memory; the checks of the same run may still hold one."""
    return f"audit_{run_id}"
