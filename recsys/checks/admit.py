"""Writes the admitted rows of each table: the snapshot's own file if no row was refused, else a copy."""

import shutil
from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from duckdb import DuckDBPyConnection

from recsys.checks.rules import SCHEMAS
from recsys.files import replacing
from recsys.home import Run
from recsys.ingest.snapshot import Snapshot

ADMITTED = {table: table for table in SCHEMAS} | {"users": "complete_users"}  # view by table; valid after all rules
KEYS = {
    "movies": "movie_id",
    "users": "user_id",
    "ratings": "user_id, movie_id",
    "tags": "user_id, movie_id, tagged_at, tag",
    "links": "movie_id",
}
ROWS_PER_GROUP = 1_000_000  # size of a Parquet row group; one group is in memory while a table is written


def admit(connection: DuckDBPyConnection, snapshot: Snapshot, run: Run) -> dict[str, str]:
    """Copies the admitted rows of each table that has refused rows.

    Returns the place of the admitted rows by table: "snapshot" for the snapshot's file, "checked" for a file in
    `run.checked`.
    """
    shutil.rmtree(run.checked, ignore_errors=True)
    return {table: _admit_table(connection, table, snapshot, run) for table in SCHEMAS}


def admitted_path(table: str, admitted: Mapping[str, str], snapshot: Snapshot, run: Run) -> Path:
    return run.checked / f"{table}.parquet" if admitted[table] == "checked" else snapshot.table(table)


def count_files(admitted: Mapping[str, str], snapshot: Snapshot, run: Run) -> dict[str, int]:
    """Number of rows of each admitted table and of the quarantine."""
    counts = {table: count_rows(admitted_path(table, admitted, snapshot, run)) for table in admitted}
    return counts | {"quarantine": count_rows(run.quarantine)}


def count_rows(path: Path) -> int:
    """Number of rows of a Parquet file. Raises: OSError or pa.ArrowException if it is not Parquet."""
    return int(pq.read_metadata(path).num_rows)


def write_rows(connection: DuckDBPyConnection, query: str, schema: pa.Schema, path: Path) -> None:
    """Streams the rows of `query` into a Parquet file, so that memory use does not grow with the table."""
    with replacing(path) as aside, pq.ParquetWriter(aside, schema, compression="zstd") as writer:
        for batch in connection.sql(query).to_arrow_reader(ROWS_PER_GROUP):
            writer.write_table(pa.Table.from_batches([batch]).cast(schema))


def _admit_table(connection: DuckDBPyConnection, table: str, snapshot: Snapshot, run: Run) -> str:
    view, schema = ADMITTED[table], SCHEMAS[table]
    if _is_whole(connection, view, count_rows(snapshot.table(table))):
        return "snapshot"
    rows = f"select {', '.join(schema.names)} from {view} order by {KEYS[table]}"
    write_rows(connection, rows, schema, run.checked / f"{table}.parquet")
    return "checked"


def _is_whole(connection: DuckDBPyConnection, view: str, stored: int) -> bool:
    """Whether a view has all rows of its stored table and no other rows.

    The row number of a superseded rating is negative; that of a user without a line in the source is null.
    """
    columns = "count(*), count(*) filter (file_row_number >= 0)"
    return connection.view(view).aggregate(columns).fetchall() == [(stored, stored)]
