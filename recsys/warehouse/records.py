"""Writes the records of one run: its rows in `runs`, `run_steps`, `metrics` and `quarantine`."""

import logging
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa
from duckdb import DuckDBPyConnection
from pydantic import TypeAdapter, ValidationError

import sql
from recsys.files import exact, read_json
from recsys.home import Home
from recsys.warehouse.build import NAMES
from recsys.warehouse.outcome import MetricRow, Outcome

logger = logging.getLogger(__name__)


def write_run(
    connection: DuckDBPyConnection, outcome: Outcome, metrics: Iterable[MetricRow], quarantine: Path | None
) -> None:
    """Writes the records of a run. Existing rows of the same run are replaced, so a repeated run leaves one row.

    The row in `runs` is the last one of the table, so that the order of the rows is that in which the runs ended. The
    clock cannot tell this order: it may have been wrong once.
    """
    row = asdict(outcome)
    steps: dict[str, float] = row.pop("seconds")
    connection.execute("delete from runs where run_id = $run_id", {"run_id": outcome.run_id})
    _upsert(connection, "runs", row)
    connection.execute("delete from run_steps where run_id = $run_id", {"run_id": outcome.run_id})
    for step, seconds in steps.items():
        _upsert(connection, "run_steps", {"run_id": outcome.run_id, "step": step, "seconds": seconds})
    measured = pa.Table.from_pylist([{"run_id": outcome.run_id, **asdict(metric)} for metric in metrics])
    if len(measured):  # hundreds of rows: one statement per row would take longer than writing the rest of the file
        connection.register("measured", measured)
        connection.execute("insert or replace into metrics by name select * from measured")
        connection.unregister("measured")
    if quarantine:
        connection.execute("delete from quarantine where run_id = $run_id", {"run_id": outcome.run_id})
        connection.execute(
            "insert into quarantine by name select *, $run_id as run_id from read_parquet($path) order by all",
            {"run_id": outcome.run_id, "path": exact(quarantine)},
        )
    name_metrics(connection)


def name_metrics(connection: DuckDBPyConnection) -> None:
    """Fills `metric_names` with the metrics that occur in `metrics`."""
    connection.execute(f"create temp view described_metrics as {sql.read('described_metrics')}")
    connection.execute(f"insert into {NAMES} by name {sql.read(NAMES)}")
    connection.execute("drop view described_metrics")


def _upsert(connection: DuckDBPyConnection, table: str, row: dict[str, Any]) -> None:
    places = ", ".join(f"${column}" for column in row)
    connection.execute(f"insert or replace into {table} ({', '.join(row)}) values ({places})", row)


def list_missed(home: Home) -> Iterator[tuple[Path, Outcome]]:
    """Yields the runs that could not be added to the warehouse when they ended, for example because the disk was full.

    Each comes with its file. A damaged file is logged and skipped.
    """
    for run in home.list_runs():
        if not run.unrecorded.exists():
            continue
        try:
            yield run.unrecorded, TypeAdapter(Outcome).validate_python(read_json(run.unrecorded))
        except (OSError, ValueError, ValidationError) as error:
            logger.warning("%s is damaged and is ignored: %s. Next: remove it", run.unrecorded, error)
