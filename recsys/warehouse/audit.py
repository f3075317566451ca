"""Audits tables before they are published: no row may break a rule, and every measure must be within its limit."""

import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from html import escape
from pathlib import Path

import duckdb
import pyarrow as pa
from duckdb import DuckDBPyConnection

import sql
from recsys.errors import PublishError
from recsys.expect.validate import (
    Expectation,
    Observation,
    Pages,
    Validate,
    expect,
    expect_no_rows,
    opened_database,
    validate_views,
)
from recsys.files import exact
from recsys.settings import AuditConfig
from recsys.warehouse.audit_rules import CONTRACT, ROW_RULES, Measure, RowRule, limited
from recsys.warehouse.outcome import TONIGHT

logger = logging.getLogger(__name__)

OPTIONAL_TABLES = {  # empty unless a file is given
    "shortened": "user_id integer, n_available bigint",
    "blocked": "user_id integer, movie_id integer, genre varchar",
    "caps": "movie_id integer, group_name varchar, at_most bigint",
}

EXPLANATION = """\
If one rule fails, nothing is published and readers keep the tables they had before. <code>lists</code> is the union of
the lists of users, of segments and of similar movies. <code>measures</code> are figures of all users' lists together,
most of them compared with the lists of the night before. <code>columns_found</code> are the columns of every table."""

ROW_QUERY = """\
with {table} as not materialized (select * from {{batch}})
select * from (
{query})"""

Limits = Sequence[tuple[Measure, float]]


@dataclass(frozen=True)
class AuditInputs:
    """Parquet files that the audit reads in addition to the tables (None: no rows), and the limits of the measures."""

    ratings: Path  # (user_id, movie_id, rating) of all known ratings; lists have none of their users' own
    available: Path | None = None  # (movie_id) that may be shown; None: every movie with a rating
    shortened: Path | None = None  # (user_id, n_available) of users who may be shown fewer than n of these
    blocked: Path | None = None  # (user_id, movie_id, genre) that rules forbid; null matches any
    caps: Path | None = None  # (movie_id, group_name, at_most)
    limits: AuditConfig = field(default_factory=AuditConfig)
    rating_scale: tuple[float, ...] = ()  # stars; empty if unknown

    @property
    def may_be_shown(self) -> Path:
        return self.available or self.ratings


def audit(
    file: Path,
    run_id: str,
    n: int | None,
    inputs: AuditInputs | None,
    docs: Path | None = None,
    validate: Validate = validate_views,
) -> None:
    """Checks that the tables of a warehouse may be served, with lists of `n` movies made by `run_id`.

    Without `inputs` and `n`, only the rules that need no other files are checked. docs: folder for the page of the
    results.

    Raises: PublishError that names every broken rule with its number of offending rows and one example, and every
    broken limit.
    """
    rules = [rule for rule in ROW_RULES if inputs or not rule.needs_inputs]
    measured: dict[str, float] = {}
    with _opened(file, run_id) as connection:
        if connection.sql(CONTRACT.query).limit(1).fetchall():
            rules = [CONTRACT]  # other rules read columns that may be missing
        else:
            _create_views(connection, run_id, n, inputs)
            measured = _read_measures(connection, run_id) if inputs else {}
        limits = list(limited(measured, inputs.limits)) if inputs else []
        pages = Pages(docs, f"Audit of {escape(run_id)}", EXPLANATION) if docs else None
        seen = validate(_database(run_id), _expectations(rules, limits), run_id, datetime.now(UTC), pages)
        broken = [_describe_rows(connection, rule, seen[rule.name]) for rule in rules if not seen[rule.name].passed]
    broken += [_describe_measure(*pair, measured) for pair in limits if not seen[_key(pair[0])].passed]
    if broken:
        overrides = [] if any(not seen[rule.name].passed for rule in rules) else _list_overrides(limits, measured)
        raise PublishError(
            f"the tables of run {run_id} failed their audit: {'; '.join(broken)}. The served tables stay as they are. "
            + (f"See {docs / 'index.html'}. " if docs else "")
            + "Next: compare with the Parquet files in the run's folder"
            + (f"; if the lists are right, let them pass with {' '.join(overrides)}" if overrides else "")
        )
    logger.info("audit: %d rules hold", len(seen))


@contextmanager
def _opened(file: Path, run_id: str) -> Iterator[DuckDBPyConnection]:
    """An in-memory database with the file attached, and the tables `columns_promised` and `columns_found`."""
    with opened_database(_database(run_id), file.with_name(f"{file.name}.spill")) as connection:
        connection.execute("attach $path as next (read_only)", {"path": str(file)})
        _describe_columns(connection)
        yield connection
        connection.execute("detach next")


def _create_views(connection: DuckDBPyConnection, run_id: str, n: int | None, inputs: AuditInputs | None) -> None:
    """Creates the relations that the rules read: the tables of the file, the union of all lists, and the inputs."""
    for (table,) in connection.sql("select table_name from duckdb_tables() where database_name = 'next'").fetchall():
        connection.execute(f"create view {table} as from next.{table}")
    connection.execute(f"create view lists as {sql.read('lists')}")
    connection.execute(f"create view films as {sql.read('films')}")
    scale = inputs.rating_scale if inputs else ()
    connection.execute(
        "create table audited as select $run_id as run_id, $n as n, $middle::double as middle",
        {"run_id": run_id, "n": n, "middle": (min(scale) + max(scale)) / 2 if scale else None},
    )
    if inputs:
        _read_inputs(connection, inputs)


def _describe_columns(connection: DuckDBPyConnection) -> None:
    """Creates the tables of the columns that the schema promises and of those that the file has."""
    connection.register("promised", _read_promised_columns())
    connection.execute("create table columns_promised as from promised")
    connection.unregister("promised")
    connection.execute(f"create table columns_found as {_select_columns()} where database_name = 'next'")


@cache
def _read_promised_columns() -> pa.Table:
    """The columns of an empty warehouse. Cached, because reading them takes as long as auditing a small file."""
    with duckdb.connect() as connection:
        connection.execute(sql.read("schema"))
        return connection.sql(f"{_select_columns()} where database_name = current_database()").to_arrow_table()


def _select_columns() -> str:
    return f"select * exclude (database_name) from ({sql.read('described_columns')})"


def _read_inputs(connection: DuckDBPyConnection, inputs: AuditInputs) -> None:
    connection.execute(
        "create table ratings as select user_id, movie_id, rating from read_parquet($path)",
        {"path": exact(inputs.ratings)},
    )
    connection.execute(
        "create table available as select distinct movie_id from read_parquet($path)",
        {"path": exact(inputs.may_be_shown)},
    )
    counted = sql.read("counted_ratings")
    connection.execute(f"create table counted_ratings as {counted}", {"ratings": exact(inputs.ratings)})
    for table, columns in OPTIONAL_TABLES.items():
        connection.execute(f"create table {table} ({columns})")
        if path := getattr(inputs, table):
            connection.execute(f"insert into {table} by name from read_parquet($path)", {"path": exact(path)})


def _read_measures(connection: DuckDBPyConnection, run_id: str) -> dict[str, float]:
    """The measures of the lists in the table `metrics`; also creates the table `measures`, with one column for each."""
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


def _expectations(rules: Sequence[RowRule], limits: Limits) -> dict[str, list[Expectation]]:
    views: dict[str, list[Expectation]] = {}
    for rule in rules:
        query = ROW_QUERY.format(table=rule.table, query=rule.query.replace("{", "{{").replace("}", "}}"))
        views.setdefault(rule.table, []).append(expect_no_rows(rule.name, f"no {rule.offence}", query))
    for measure, limit in limits:
        side = "min_value" if measure.at_least else "max_value"
        demands = f"{measure.demands}: at {'least' if measure.at_least else 'most'} {limit:g}"
        expectation = expect(_key(measure), demands, "ExpectColumnMaxToBeBetween", column=measure.name, **{side: limit})
        views.setdefault("measures", []).append(expectation)
    return views


def _describe_rows(connection: DuckDBPyConnection, rule: RowRule, seen: Observation) -> str:
    """Describes a broken rule: the number of offending rows, and the columns of one of them that are not null."""
    offending = connection.sql(rule.query).limit(1)
    example = dict(zip(offending.columns, offending.fetchall()[0], strict=True))
    words = ", ".join(f"{column} {value}" for column, value in example.items() if value is not None)
    return f"{rule.name}: {seen.observed:,} {rule.offence}, for example {words}"


def _describe_measure(measure: Measure, limit: float, measured: Mapping[str, float]) -> str:
    side = "at least" if measure.at_least else "at most"
    return f"{measure.name} is {measured[measure.name]:.4g}, it should be {side} {limit:g} ({measure.demands})"


def _list_overrides(limits: Limits, measured: Mapping[str, float]) -> list[str]:
    """The settings that let the lists pass, rounded to four decimals in the less strict direction."""
    overrides = []
    for measure, limit in limits:
        value = measured[measure.name]
        if not measure.holds(value, limit):
            rounded = math.floor(value * 10_000) if measure.at_least else math.ceil(value * 10_000)
            overrides.append(f"RECSYS_AUDIT__{measure.setting.upper()}={rounded / 10_000}")
    return overrides


def _key(measure: Measure) -> str:
    """The name of the rule; a measure with two limits has two rules."""
    return f"{measure.name}_{measure.setting}"


def _database(run_id: str) -> str:
    """The name of the in-memory database. The data checks may still use one that is named after the run."""
    return f"audit_{run_id}"
