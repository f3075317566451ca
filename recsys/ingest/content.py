"""Writes one table of a snapshot as sorted Parquet, and hashes its content independently of the source's order."""

import hashlib
import json
from contextlib import ExitStack
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

LINES = pa.schema(
    [
        pa.field("source_file", pa.string(), nullable=False),  # name without the folder
        pa.field("source_line", pa.int64(), nullable=False),  # 1 = the file's first line; in Parquet, the row
    ]
)

ROWS_PER_GROUP = 1_000_000  # size of a Parquet row group; one group is in memory


def write_table(
    table: str, rows: duckdb.DuckDBPyRelation, schema: pa.Schema, path: Path, lines_path: Path | None = None
) -> list[str]:
    """Writes sorted `rows` and their places in the source. Returns one digest for each column of the content.

    The place of a row is not part of the content: the same ratings from another file give the same digests.
    """
    digests = {name: hashlib.sha256(f"{table}.{name}".encode()) for name in schema.names if name not in LINES.names}
    with ExitStack() as stack:
        writer = stack.enter_context(pq.ParquetWriter(path, schema, compression="zstd"))
        lines_writer = lines_path and stack.enter_context(pq.ParquetWriter(lines_path, LINES, compression="zstd"))
        for batch in rows.to_arrow_reader(ROWS_PER_GROUP):
            block = pa.Table.from_batches([batch])
            canonical = block.select(schema.names).cast(schema)
            writer.write_table(canonical)
            for name, digest in digests.items():
                digest.update(column_bytes(canonical[name]))
            if lines_writer:
                lines_writer.write_table(block.select(LINES.names).cast(LINES))
    return [f"{table}.{name} {digest.hexdigest()}" for name, digest in digests.items()]


def column_bytes(column: pa.ChunkedArray) -> bytes:
    """Returns bytes that depend only on the values, not on batches or Arrow's memory layout."""
    if not column.null_count and pa.types.is_primitive(column.type):
        return np.ascontiguousarray(column.to_numpy()).tobytes()
    return "".join(json.dumps(value) + "\n" for value in column.to_pylist()).encode()
