"""Limits the amount of text that a Parquet file unpacks to, before it is unpacked.

A dictionary stores each text once and rows only refer to it, so a small file can unpack to any amount of text.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet as pq
from numpy.typing import NDArray

from recsys.errors import DataRefused, SourceError
from recsys.ingest.archives.archives import Files
from recsys.ingest.archives.zips import LIMITS

FIELD_BYTES = 10_000  # of text in one column of a row; the longest titles and tags of MovieLens have a few hundred
LISTED = 100  # elements per list, averaged over a row group; a movie of MovieLens has up to 10 genres
PIECE_BYTES = 2**23  # of text, converted at once

BATCH_ROWS = 2**17  # read at once
BATCH_ROWS_UNSHARED = 2**7  # without dictionaries, where any text may be long
SHARED = {"PLAIN", "RLE", "BIT_PACKED", "PLAIN_DICTIONARY", "RLE_DICTIONARY"}  # encodings read into a dictionary


def chunks(parquet: pq.ParquetFile, columns: Sequence[str]) -> Iterator[tuple[int, pq.ColumnChunkMetaData]]:
    """Yields the rows and the metadata of each column chunk of `columns`."""
    for number in range(parquet.metadata.num_row_groups):
        group = parquet.metadata.row_group(number)
        found = (group.column(position) for position in range(group.num_columns))
        yield from ((group.num_rows, chunk) for chunk in found if chunk.path_in_schema.split(".")[0] in columns)


def text_paths(parquet: pq.ParquetFile, columns: Sequence[str]) -> list[str] | None:
    """Paths of the text columns, to be read as dictionaries; None if one has an encoding that does not allow it."""
    texts = [chunk for _, chunk in chunks(parquet, columns) if chunk.physical_type == "BYTE_ARRAY"]
    if not all(SHARED.issuperset(chunk.encodings) for chunk in texts):
        return None
    return sorted({chunk.path_in_schema for chunk in texts})


def check_claims(files: Files, name: str, parquet: pq.ParquetFile, columns: Sequence[str]) -> None:
    """Raises: SourceError if the file unpacks to more than the limits according to its metadata."""
    check_unpacked(files, name, sum(chunk.total_uncompressed_size for _, chunk in chunks(parquet, columns)))
    for n_rows, chunk in chunks(parquet, columns):
        if chunk.num_values > LISTED * n_rows:
            raise SourceError(
                f"{name} in {files.path} is not safe to read: {n_rows:,} rows of its column {chunk.path_in_schema} "
                f"list {chunk.num_values:,} values, the limit is {LISTED} per row. Next: write it again"
            )


def check_unpacked(files: Files, name: str, unpacked_bytes: int) -> None:
    """Raises: SourceError if a file unpacks to many times its size; the limits are those of zips."""
    size_bytes = files.entries[name].size_bytes
    if unpacked_bytes > max(LIMITS.ratio_from_bytes, LIMITS.ratio * size_bytes):
        raise SourceError(
            f"{name} in {files.path} is not safe to read: its {size_bytes:,} bytes unpack to {unpacked_bytes:,} or "
            f"more, the limit is {LIMITS.ratio} times as many: it is a decompression bomb. Next: write it again"
        )


def pieces(files: Files, name: str, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Yields the same rows in batches with at most about PIECE_BYTES of text.

    Raises: DataRefused if a field is too long; SourceError if there is too much text in total.
    """
    row, unpacked_bytes = 1, 0
    for batch in batches:
        text_bytes = np.zeros(batch.num_rows, np.int64)
        for column, values in zip(batch.schema.names, batch.columns, strict=True):
            field_bytes = text_bytes_of(values)
            check_fields(files, name, column, row, field_bytes)
            text_bytes += field_bytes
        ends = np.cumsum(text_bytes)
        unpacked_bytes += int(text_bytes.sum())
        check_unpacked(files, name, unpacked_bytes)
        yield from cut(batch, ends)
        row += batch.num_rows


def check_fields(files: Files, name: str, column: str, first_row: int, field_bytes: NDArray[np.int64]) -> None:
    longest = int(field_bytes.argmax()) if len(field_bytes) else 0
    if len(field_bytes) and field_bytes[longest] > FIELD_BYTES:
        raise DataRefused(
            f"{name} in {files.path} has {field_bytes[longest]:,} bytes of text in its column {column} of row "
            f"{first_row + longest:,}, the limit is {FIELD_BYTES:,}: no title, tag or list of genres is that long. "
            "Next: correct that field"
        )


def cut(batch: pa.RecordBatch, ends: NDArray[np.int64]) -> Iterator[pa.RecordBatch]:
    cuts = np.flatnonzero(np.diff(ends // PIECE_BYTES)) + 1
    bounds = [0, *cuts.tolist(), batch.num_rows]
    for start, end in pairwise(bounds):
        yield batch.slice(start, end - start)


def text_bytes_of(column: pa.Array) -> NDArray[np.int64]:
    """Bytes of text in each row of a column, in all elements of a list; 0 for other types."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        return whole_numbers(pa.array(text_bytes_of(column.dictionary)).take(column.indices))
    if is_list(kind):
        counts = whole_numbers(pa.compute.list_value_length(column))
        before = np.concatenate([[0], np.cumsum(text_bytes_of(column.flatten()))])
        ends = np.cumsum(counts)
        return np.asarray(before[ends] - before[ends - counts], np.int64)
    if not is_text(kind):
        return np.zeros(len(column), np.int64)
    return whole_numbers(pa.compute.binary_length(column.cast(pa.large_string())))


def whole_numbers(array: pa.Array) -> NDArray[np.int64]:
    """The array as int64, 0 for null."""
    return np.asarray(pa.compute.fill_null(array, 0).cast(pa.int64()).to_numpy(zero_copy_only=False), np.int64)


def is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))
