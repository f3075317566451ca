"""Files as numbered lines: the one way in which text of any layout, and Parquet, reaches the parsers."""

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute
import pyarrow.csv
import pyarrow.parquet as pq

from recsys.errors import DataRefused, SourceError
from recsys.ingest.archives import Files

BLOCK_BYTES = 2**24  # read at a time; also the longest line that is taken for one


@dataclass(frozen=True)
class Text:
    """A table's file: how its lines are parted, and our names for the fields, "" where we have no use for one."""

    name: str
    separator: str
    columns: tuple[str, ...]
    header: tuple[str, ...] = ()  # the published name of each of `columns`; empty when the file has no header
    optional: tuple[str, ...] = ()  # columns that may be absent; a header is needed to tell
    parquet: str = ""  # a Parquet file with the columns of `header`, which is taken first

    def is_in(self, files: Files) -> bool:
        return self.name in files or self.parquet in files

    def split(self, line: str) -> list[str]:
        """The fields of one line; only commas know quotes. Raises: ValueError when a quote is not closed."""
        if self.separator != ",":
            return line.split(self.separator)
        try:
            return next(csv.reader([line], strict=True), [])
        except csv.Error as error:
            raise ValueError(str(error)) from error


@dataclass(frozen=True)
class Lines:
    """A file's lines after its header; `columns` names each field, "" where we have no use for one."""

    text: Text
    columns: tuple[str, ...]
    first: int  # number of the first line; 1 is the file's first
    blocks: Iterator[bytes]  # of whole lines, each ending in a newline

    def __iter__(self) -> Iterator[tuple[int, bytes]]:
        """Each line with its number, without its end."""
        number = self.first
        for block in self.blocks:
            for line in block.split(b"\n")[:-1]:
                yield number, line.removesuffix(b"\r")
                number += 1

    def fields(self, line: bytes, encoding: str) -> dict[str, str]:
        """The fields of one line by column. Raises: ValueError when it cannot be decoded or parted into them."""
        return dict(zip(self.columns, self.text.split(line.decode(encoding)), strict=True))

    def tables(self) -> Iterator[pa.Table]:
        """The lines in Arrow, (source_line int64, line string) with line ends kept, a block at a time.

        For ASCII files: every other byte comes written out, which no field of a rating can be.
        """
        number = self.first
        for block in self.blocks:
            ascii_block = block if block.isascii() else block.decode("ascii", "backslashreplace").encode()
            ends = np.flatnonzero(np.frombuffer(ascii_block, np.uint8) == ord("\n")) + 1
            starts = np.concatenate([[0], ends]).astype(np.int64)
            line = pa.LargeStringArray.from_buffers(len(ends), pa.py_buffer(starts), pa.py_buffer(ascii_block))
            yield pa.table({"source_line": np.arange(number, number + len(ends)), "line": line})
            number += len(ends)


def read_lines(files: Files, text: Text) -> Lines:
    """The lines of `text`, or of its Parquet, as the comma-separated values it would be.

    Raises: DataRefused when the header lacks a column; SourceError when the file cannot be read.
    """
    if text.parquet in files:
        return parquet_lines(files, text)
    file = files.open(text.name)
    if not text.header:
        return Lines(text, text.columns, 1, whole_lines(files, text.name, file))
    header = file.readline(BLOCK_BYTES).decode("utf-8-sig", "replace").rstrip("\r\n")
    columns = named_columns(files, text, text.name, [name.strip('"') for name in header.split(text.separator)])
    return Lines(text, columns, 2, whole_lines(files, text.name, file))


def parquet_lines(files: Files, text: Text) -> Lines:
    try:
        parquet = pq.ParquetFile(files.open(text.parquet))
    except pa.ArrowInvalid as error:
        raise SourceError(f"{text.parquet} in {files.path} is not Parquet ({error}). Next: write it again") from error
    columns = named_columns(files, text, text.parquet, parquet.schema_arrow.names)
    return Lines(text, columns, 1, map(comma_separated, parquet.iter_batches()))


def named_columns(files: Files, text: Text, name: str, header: list[str]) -> tuple[str, ...]:
    """Our name for each field of `header`."""
    ours = dict(zip(text.header, text.columns, strict=True))
    missing = [column for column in ours if column not in header and ours[column] not in text.optional]
    if missing:
        raise DataRefused(
            f"{name} in {files.path} has no column {', '.join(missing)}; it has {', '.join(header)}. "
            f"Next: name its columns {', '.join(text.header)}"
        )
    return tuple(ours.get(column, "") for column in header)


def whole_lines(files: Files, name: str, file: BinaryIO) -> Iterator[bytes]:
    """The rest of `file` in blocks that end where a line ends."""
    rest = b""
    while data := file.read(BLOCK_BYTES):
        head, newline, tail = data.rpartition(b"\n")
        if newline:
            yield rest + head + newline
            rest = tail
        elif len(rest) + len(data) > BLOCK_BYTES:
            raise SourceError(
                f"{name} in {files.path} holds a line longer than {BLOCK_BYTES:,} bytes: it is no list of rows. "
                "Next: get the archive again from its publisher"
            )
        else:
            rest += data
    if rest:
        yield rest + b"\n"


def comma_separated(batch: pa.RecordBatch) -> bytes:
    """The batch as text; lists joined by |, as genres are everywhere else."""
    columns = [joined(column) if is_list(column) else column for column in batch.columns]
    buffer = io.BytesIO()
    text = pa.record_batch(columns, names=batch.schema.names)
    pyarrow.csv.write_csv(text, buffer, pyarrow.csv.WriteOptions(include_header=False))
    return buffer.getvalue()


def is_list(column: pa.Array) -> bool:
    return bool(pa.types.is_list(column.type) or pa.types.is_large_list(column.type))


def joined(column: pa.Array) -> pa.Array:
    return pa.compute.binary_join(column.cast(pa.list_(pa.string())), "|")
