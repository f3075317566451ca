"""Validates a snapshot: rows that break a rule are quarantined, a table that breaks one stops the night."""

import logging
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from duckdb import ColumnExpression, ConstantExpression, DuckDBPyConnection

import sql
from recsys.checks.expectations import opened_database, validate
from recsys.checks.findings import Finding, Refusals, describe_excess, describe_failures, find_offences
from recsys.checks.rules import (
    COLUMNS,
    COLUMNS_DEMANDS,
    ROW_RULES,
    SCHEMAS,
    UNREADABLE,
    list_wrong_columns,
    table_rules,
)
from recsys.errors import DataRefused
from recsys.files import replacing, write_json
from recsys.home import Run
from recsys.ingest.snapshot import Snapshot
from recsys.schema import REJECTS
from recsys.settings import CheckConfig

logger = logging.getLogger(__name__)

KEYS = {"movies": "movie_id", "users": "user_id", "ratings": "user_id, movie_id"}
ADMITTED = {"movies": "movies", "users": "complete_users", "ratings": "ratings"}  # views, once all rules have run
ROWS_PER_GROUP = 1_000_000  # of Parquet: what is in memory at once while a table is written


@dataclass(frozen=True)
class Checked:
    """What a night may learn from: admitted rows only, canonical columns, sorted by key.

    A table of which no row was refused or cut is the snapshot's own file.
    """

    ratings: Path  # rated before as_of
    movies: Path
    users: Path
    quarantine: Path  # one row per refused line: the columns of `schema.REJECTS`, sorted by all of them
    as_of: datetime  # UTC
    rating_scale: tuple[float, ...]  # stars
    counts: Mapping[str, int]  # rows of ratings, movies, users and quarantine


def check_ratings(snapshot: Snapshot, run: Run, config: CheckConfig, as_of: datetime | None) -> Checked:
    """Checks every rule on what the snapshot knows as of `as_of`, and admits the rows that break none.

    Ratings from `as_of` on do not exist for the run: they are neither admitted nor judged. The default is one second
    after the newest admitted rating; a moment without time zone is UTC. `run.validation` gets result.json,
    quarantine.parquet and data_docs/ whether or not the data are refused.

    Raises: DataRefused if a table rule failed, or more than `config.max_bad_share` of a table's lines are refused.
    """
    _check_columns(snapshot, run)
    as_of = _utc(as_of)
    with opened_database(run) as connection:
        _create_views(connection, snapshot, as_of)
        _refuse_rows(connection)
        _write_rows(connection, sql.read("rule_quarantine"), REJECTS, run.quarantine)
        rules = table_rules(config)
        observations = validate(rules, run)
        refusals = _count_refusals(connection, run.quarantine)
        findings = find_offences(refusals, rules, observations)
        reasons = describe_failures(findings)
        reasons += describe_excess(refusals, config.max_bad_share, _examples(connection, run.quarantine))
        as_of = as_of or _end_of_data(connection)
        _write_result(findings, reasons, snapshot, run, as_of)
        if reasons:
            raise DataRefused(
                f"{snapshot.dataset} is refused: {'; '.join(reasons)}. Nothing is published, last night's table is "
                f"kept. See {run.data_docs / 'index.html'} and {run.quarantine}"
            )
        assert as_of is not None, "a table rule sees to it that there are ratings"
        return _admit(connection, snapshot, run, as_of)


def _check_columns(snapshot: Snapshot, run: Run) -> None:
    """Every other rule reads these columns, so a difference ends the check here, without Data Docs."""
    paths = _paths(snapshot)
    wrong = {table: list_wrong_columns(paths[table], schema) for table, schema in SCHEMAS.items()}
    reasons = [f"{table}: {'; '.join(differences)}" for table, differences in wrong.items() if differences]
    if not reasons:
        return
    findings = [
        Finding(COLUMNS, table, COLUMNS_DEMANDS, not wrong[table], observed=len(wrong[table])) for table in SCHEMAS
    ]
    with replacing(run.quarantine) as aside:
        shutil.copyfile(snapshot.rejects, aside)
    _write_result(findings, reasons, snapshot, run, as_of=None)
    raise DataRefused(
        f"{snapshot.dataset} is refused: {snapshot.folder} does not have the canonical columns ({'; '.join(reasons)}). "
        f"Nothing is published, last night's table is kept. Remove the folder, so that the next run writes it anew"
    )


def _paths(snapshot: Snapshot) -> dict[str, Path]:
    return {"movies": snapshot.movies, "users": snapshot.users, "ratings": snapshot.ratings}


def _create_views(connection: DuckDBPyConnection, snapshot: Snapshot, as_of: datetime | None) -> None:
    """Everything that the statements in sql/rule_*.sql and sql/admitted_*.sql read, and the names of the latter."""
    connection.execute(
        "create table refused (source_table varchar, file_row_number bigint, rule varchar, position integer)"
    )
    connection.execute(
        "create table rating_scale as select unnest($scale)::float as rating", {"scale": list(snapshot.rating_scale)}
    )
    for table, path in _paths(snapshot).items():
        rows = connection.read_parquet(str(path), file_row_number=True)
        if as_of and table == "ratings":
            rows = rows.filter(ColumnExpression("rated_at") < ConstantExpression(as_of))
        rows.create_view(f"snapshot_{table}")
        connection.sql(sql.read(f"admitted_{table}")).create_view(table)
    connection.sql(sql.read("complete_users")).create_view("complete_users")
    connection.read_parquet(str(snapshot.rejects)).create_view("rejects")
    _create_source_lines(connection, snapshot)


def _create_source_lines(connection: DuckDBPyConnection, snapshot: Snapshot) -> None:
    """source_lines: for each row of each table the line of the source that it came from."""
    for table, path in (
        ("movies", snapshot.movie_lines),
        ("users", snapshot.user_lines),
        ("ratings", snapshot.source_lines),
    ):
        connection.read_parquet(str(path), file_row_number=True).create_view(f"{table}_lines")
    connection.sql(sql.read("rule_source_lines")).create_view("source_lines")


def _utc(moment: datetime | None) -> datetime | None:
    if moment is None:
        return None
    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)


def _refuse_rows(connection: DuckDBPyConnection) -> None:
    """Applies the row rules in their order; each refusal shrinks the views that the next rule reads."""
    for position, rule in enumerate(ROW_RULES):
        connection.execute(
            f"insert into refused select $table, file_row_number, $rule, $position from ({rule.query})",
            {"table": rule.table, "rule": rule.name, "position": position},
        )


def _write_rows(connection: DuckDBPyConnection, query: str, schema: pa.Schema, path: Path) -> None:
    """Streams the rows of `query`, so that memory does not grow with the table."""
    with replacing(path) as aside, pq.ParquetWriter(aside, schema, compression="zstd") as writer:
        for batch in connection.sql(query).to_arrow_reader(ROWS_PER_GROUP):
            writer.write_table(pa.Table.from_batches([batch]).cast(schema))


def _count_refusals(connection: DuckDBPyConnection, quarantine: Path) -> Refusals:
    counts = connection.read_parquet(str(quarantine)).aggregate("source_table, rule, count(*)").fetchall()
    refused = {(table, rule): count for table, rule, count in counts}
    unreadable = {table: refused.get((table, UNREADABLE), 0) for table in SCHEMAS}
    # ratings from as_of on do not exist; a line that cannot be read has no date and counts always
    lines = {table: _count(connection, f"snapshot_{table}") + unreadable[table] for table in SCHEMAS}
    return Refusals(lines, refused)


def _examples(connection: DuckDBPyConnection, quarantine: Path) -> dict[tuple[str, str], str]:
    """The first line in the quarantine by (table, rule), in words."""
    columns = "source_table, rule, min(source_line), arg_min(row, source_line)"
    rows = connection.read_parquet(str(quarantine)).aggregate(columns, "source_table, rule").fetchall()
    return {(table, rule): f"line {line}: {row}" for table, rule, line, row in rows}


def _end_of_data(connection: DuckDBPyConnection) -> datetime | None:
    """One second after the newest admitted rating, UTC; None without ratings."""
    newest: datetime | None = connection.sql("select max(rated_at) from ratings").fetchall()[0][0]
    return newest.astimezone(UTC) + timedelta(seconds=1) if newest else None


def _write_result(
    findings: Sequence[Finding], reasons: Sequence[str], snapshot: Snapshot, run: Run, as_of: datetime | None
) -> None:
    result = {
        "run_id": run.run_id,
        "as_of": as_of.isoformat() if as_of else None,
        "dataset": snapshot.dataset,
        "snapshot": snapshot.snapshot_id,
        "passed": not reasons,
        "reasons": reasons,
        "rules": [asdict(finding) for finding in findings],
    }
    write_json(run.findings, result)


def _admit(connection: DuckDBPyConnection, snapshot: Snapshot, run: Run, as_of: datetime) -> Checked:
    paths = {table: _admit_table(connection, table, path, run) for table, path in _paths(snapshot).items()}
    counts = {table: _count_rows(path) for table, path in paths.items()}
    counts["quarantine"] = _count_rows(run.quarantine)
    logger.info("admitted: %s ratings before %s", f"{counts['ratings']:,}", as_of.isoformat())
    return Checked(**paths, quarantine=run.quarantine, as_of=as_of, rating_scale=snapshot.rating_scale, counts=counts)


def _admit_table(connection: DuckDBPyConnection, table: str, source: Path, run: Run) -> Path:
    """The snapshot's own file where all of it is admitted, else a copy of what is."""
    admitted = ADMITTED[table]
    if _count(connection, admitted) == _count_rows(source):
        return source
    schema, path = SCHEMAS[table], run.folder / "checked" / f"{table}.parquet"
    rows = f"select {', '.join(schema.names)} from {admitted} order by {KEYS[table]}"
    _write_rows(connection, rows, schema, path)
    return path


def _count(connection: DuckDBPyConnection, view: str) -> int:
    count: int = connection.view(view).aggregate("count(*)").fetchall()[0][0]
    return count


def _count_rows(path: Path) -> int:
    return int(pq.read_metadata(path).num_rows)
