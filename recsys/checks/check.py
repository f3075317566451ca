"""Checks a snapshot. A line that breaks a rule goes to the quarantine; a table that breaks a rule stops the night."""

import logging
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from duckdb import DuckDBPyConnection
from duckdb import Error as DatabaseError

import sql
from recsys.checks.admit import admit, admitted_path, count_files, write_rows
from recsys.checks.expectations import EXPLANATION, list_expectations
from recsys.checks.findings import Finding, Measures, Refusals, describe_stops, find_offences, list_overrides
from recsys.checks.previous import Previous, find_previous
from recsys.checks.result import Result, describe_metrics, hash_check, reuse, write_result
from recsys.checks.rules import (
    COLUMNS,
    COLUMNS_DEMANDS,
    ROW_RULES,
    SCHEMAS,
    UNREADABLE,
    list_wrong_columns,
    table_rules,
)
from recsys.checks.views import TAGS_AND_LINKS, create_tags_and_links, create_views
from recsys.datasets import name_data
from recsys.errors import DataRefused, UsageError
from recsys.expect.validate import Pages, Validate, opened_database, validate_views
from recsys.files import exact, replacing
from recsys.forgotten import quote
from recsys.home import Run
from recsys.ingest.snapshot import Snapshot, damaged
from recsys.schema import REJECTS, SUPERSEDED
from recsys.settings import CheckConfig

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Checked:
    """The admitted rows of a snapshot, in canonical columns, sorted by key.

    If no row of a table was refused, its path is the snapshot's own file.
    """

    ratings: Path  # rated before as_of
    movies: Path
    users: Path
    tags: Path  # tagged before as_of
    links: Path
    quarantine: Path  # one row per refused line: the columns of `schema.REJECTS`, sorted by all of them
    as_of: datetime  # UTC
    rating_scale: tuple[float, ...]  # stars
    counts: Mapping[str, int]  # rows of each table and of the quarantine


def check_ratings(
    snapshot: Snapshot,
    run: Run,
    config: CheckConfig,
    as_of: datetime | None,
    validate: Validate = validate_views,
) -> Checked:
    """Checks the rows known at `as_of` against every rule, and admits the rows that break no rule.

    Ratings and tags from `as_of` on are ignored. Ratings that were replaced or retracted later still count. The default
    of `as_of` is one second after the newest admitted rating or retraction; a time without a zone is UTC. The snapshot
    as a whole is compared with the last published one. `validate` evaluates the rules. result.json, quarantine.parquet
    and data_docs/index.html are written to `run.validation`, whether or not the data are refused. If an earlier run of
    this home has checked the same data with the same rules, its result is reused.

    Raises: DataRefused if a table or shift rule fails, or a larger share of lines is refused than `config` allows;
    SourceError if the snapshot is damaged.
    """
    _check_columns(snapshot, run)
    as_of = _utc(as_of)
    previous = find_previous(snapshot, run.home)
    key = hash_check(snapshot, config, as_of)
    result = reuse(key, snapshot, previous, config, run)
    if result is None:
        with _damage_reported(snapshot):
            result = _examine(snapshot, previous, run, config, as_of, key, validate)
    write_result(result, run)
    if not result.passed:
        name = name_data(snapshot.dataset, run)
        raise DataRefused(
            f"{name} is refused: {'; '.join(result.reasons)}. Nothing is published, and last night's table "
            f"is kept. See {run.data_docs / 'index.html'} and {run.quarantine}. {_next_step(result)}"
        )
    return _admitted(result, snapshot, run)


@contextmanager
def _damage_reported(snapshot: Snapshot) -> Iterator[None]:
    """Turns a database error about a file of the snapshot into a SourceError. Damage is only found on reading."""
    try:
        yield
    except DatabaseError as error:
        if str(snapshot.folder) not in str(error):
            raise
        raise damaged(snapshot, error) from error


def _check_columns(snapshot: Snapshot, run: Run) -> None:
    """Raises: DataRefused if columns are not canonical. No page of rules is written, as the other rules cannot run."""
    schemas = {**SCHEMAS, "superseded": SUPERSEDED}
    wrong = {table: list_wrong_columns(snapshot.table(table), schema) for table, schema in schemas.items()}
    reasons = [f"{table}: {'; '.join(differences)}" for table, differences in wrong.items() if differences]
    if not reasons:
        return
    findings = [
        Finding(COLUMNS, table, COLUMNS_DEMANDS, "stop" if wrong[table] else "pass", observed=len(wrong[table]))
        for table in schemas
    ]
    with replacing(run.quarantine) as aside:
        shutil.copyfile(snapshot.rejects, aside)
    write_result(Result(**_names(snapshot, run), passed=False, reasons=reasons, rules=findings), run)
    name = name_data(snapshot.dataset, run)
    raise DataRefused(
        f"{name} is refused: {snapshot.folder} does not have the canonical columns ({'; '.join(reasons)}). "
        "Nothing is published, and last night's table is kept. "
        "Next: remove that folder, so that the next run writes it again"
    )


def _examine(
    snapshot: Snapshot,
    previous: Previous,
    run: Run,
    config: CheckConfig,
    as_of: datetime | None,
    key: str,
    validate: Validate,
) -> Result:
    """Applies the rules; writes the quarantine, the page of the rules and the admitted rows."""
    with opened_database(run.run_id, run.folder / "spill") as connection:
        create_views(connection, snapshot, previous, run, as_of)
        as_of = _refuse_rows(connection, as_of)
        write_rows(connection, sql.read("rule_quarantine"), REJECTS, run.quarantine)
        measures, newest_at = _compare(connection)
        rules = table_rules(config)
        expectations = list_expectations(rules, measures, config.shift)
        pages = Pages(run.data_docs, f"Checks of {run.run_id}", EXPLANATION)
        observations = validate(run.run_id, expectations, run.run_id, run.started_at, pages)
        refusals = _count_refusals(connection, run.quarantine)
        findings = find_offences(refusals, rules, observations, measures, config)
        reasons = describe_stops(findings, refusals, _examples(connection, run.quarantine), previous.note)
        admitted = {} if reasons else admit(connection, snapshot, run)
        return Result(
            **_names(snapshot, run),
            key=key,
            previous=previous.snapshot_id,
            compared=previous.note,
            newest_at=newest_at,
            as_of=as_of,
            passed=not reasons,
            reasons=reasons,
            rules=findings,
            metrics=describe_metrics(measures, findings),
            admitted=admitted,
            counts=count_files(admitted, snapshot, run),
        )


def _next_step(result: Result) -> str:
    settings = list_overrides(result.rules)
    return "Next: correct the source" + (
        f"; if the data are right, allow them with {' '.join(settings)}" if settings else ""
    )


def _names(snapshot: Snapshot, run: Run) -> dict[str, Any]:
    return {
        "run_id": run.run_id,
        "started_at": run.started_at,
        "dataset": snapshot.dataset,
        "snapshot": snapshot.snapshot_id,
    }


def check_moment(as_of: datetime | None) -> None:
    """Raises: UsageError if `as_of` is after now: its tables would be served until then, instead of later nights'."""
    moment, now = _utc(as_of), datetime.now(UTC)
    if moment and moment > now:
        raise UsageError(
            f"--as-of {moment.isoformat()} is after now ({now.isoformat(timespec='seconds')}), and the ratings up to "
            "that moment do not exist yet. Next: pass an earlier moment, or leave --as-of out"
        )


def _utc(moment: datetime | None) -> datetime | None:
    if moment is None:
        return None
    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)


def _refuse_rows(connection: DuckDBPyConnection, as_of: datetime | None) -> datetime | None:
    """Applies the row rules in order. Each rule reads only the rows that earlier rules admitted.

    Returns `as_of`, or its default if it is None. Tags from that time on are ignored.
    """
    _apply_rules(connection, [table for table in SCHEMAS if table not in TAGS_AND_LINKS])
    as_of = as_of or _end_of_data(connection)
    create_tags_and_links(connection, as_of)
    _apply_rules(connection, TAGS_AND_LINKS)
    return as_of


def _apply_rules(connection: DuckDBPyConnection, tables: Sequence[str]) -> None:
    for position, rule in enumerate(ROW_RULES):
        if rule.table in tables:
            connection.execute(
                f"insert into refused select $table, file_row_number, $rule, $position from ({rule.query})",
                {"table": rule.table, "rule": rule.name, "position": position},
            )


def _end_of_data(connection: DuckDBPyConnection) -> datetime | None:
    """One second after the newest admitted rating or retraction, in UTC; None without ratings.

    Retractions count, so that a run with this time as its `as_of` gives the same result.
    """
    newest: datetime | None = connection.sql(sql.read("end_of_data")).fetchall()[0][0]
    return newest.astimezone(UTC) + timedelta(seconds=1) if newest else None


def _compare(connection: DuckDBPyConnection) -> tuple[Measures, datetime | None]:
    """The figures of the snapshot as a whole, and its newest time. Also stores them as the table `comparison`."""
    connection.execute(f"create table comparison as {sql.read('compare_snapshots')}")
    names = connection.table("comparison").columns
    measures = dict(zip(names, connection.table("comparison").fetchall()[0], strict=True))
    return measures, measures.pop("newest_at")


def _count_refusals(connection: DuckDBPyConnection, quarantine: Path) -> Refusals:
    counts = connection.read_parquet(exact(quarantine)).aggregate("source_table, rule, count(*)").fetchall()
    refused = {(table, rule): count for table, rule, count in counts}
    # Ratings from as_of on are ignored. A line that cannot be read has no date and always counts.
    lines = {table: _count(connection, f"snapshot_{table}") + refused.get((table, UNREADABLE), 0) for table in SCHEMAS}
    for table, _ in refused:
        # Retractions have no table of their own; unreadable ones are counted as a share of the ratings.
        lines.setdefault(table, lines["ratings"] + refused.get((table, UNREADABLE), 0))
    return Refusals(lines, refused)


def _examples(connection: DuckDBPyConnection, quarantine: Path) -> dict[tuple[str, str], str]:
    """The first line in the quarantine by (table, rule), as text."""
    position = "struct_pack(file := source_file, line := source_line)"
    columns = f"source_table, rule, min({position}) as first, arg_min(row, {position})"
    rows = connection.read_parquet(exact(quarantine)).aggregate(columns, "source_table, rule").fetchall()
    return {
        (table, rule): f"{first['file']} line {first['line']}: {quote(row.removeprefix('{').removesuffix('}'))}"
        for table, rule, first, row in rows
    }


def _admitted(result: Result, snapshot: Snapshot, run: Run) -> Checked:
    assert result.as_of is not None, "the rule enough_ratings passes only if there are ratings"
    paths = {table: admitted_path(table, result.admitted, snapshot, run) for table in SCHEMAS}
    logger.info("admitted: %s ratings before %s", f"{result.counts['ratings']:,}", result.as_of.isoformat())
    return Checked(
        **paths,
        quarantine=run.quarantine,
        as_of=result.as_of,
        rating_scale=snapshot.rating_scale,
        counts=result.counts,
    )


def _count(connection: DuckDBPyConnection, view: str) -> int:
    count: int = connection.view(view).aggregate("count(*)").fetchall()[0][0]
    return count
