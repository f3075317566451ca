"""Reads files as numbered lines. They are the input of all parsers, for text of any layout and for Parquet.

DuckDB's `read_csv(store_rejects = true)` is not an alternative. It has no line numbers for valid rows, reads 4.7 as the
id 5, skips empty lines, and loses all lines after an unclosed quote.
"""

import codecs
import csv
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from typing import BinaryIO

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from recsys.errors import DataRefused, SourceError
from recsys.ingest.archives.archives import Files
from recsys.ingest.archives.signatures import FIRST_BYTES, looks_like
from recsys.ingest.parse.parquet import parquet_blocks, parquet_names
from recsys.ingest.parse.texts import UTF8_MARK, Text, header_names, named_columns, unused_columns

BLOCK_BYTES = 2**23  # read at once; also the maximum length of a line

# The schema of a block of lines as an Arrow table for DuckDB; see Lines.tables.
LINES = pa.schema(
    [
        pa.field("source_line", pa.int64(), nullable=False),
        pa.field("line", pa.large_string(), nullable=False),
        pa.field("fields", pa.list_(pa.string())),
        pa.field("problem", pa.string()),
    ]
)

# A file of the last kind has bytes that do not occur in text. Only the lines with such bytes are rejected.
MAY_BE_TEXT = ("an empty file", "text", "an unknown kind of file")


@dataclass(frozen=True)
class Lines:
    """A file's lines after its header. `columns` names each field, "" for a field that is not used."""

    text: Text
    name: str  # of the file that is read, CSV or Parquet
    columns: tuple[str, ...]
    first: int  # number of the first line after the header, from 1
    blocks: Iterator[bytes]  # of complete lines, each ending in a newline
    encoding: str = "utf-8"
    notices: tuple[str, ...] = ()  # for the log and the manifest

    def __iter__(self) -> Iterator[tuple[int, bytes]]:
        """Yields each line with its number, without the line break."""
        number = self.first
        for block in self.blocks:
            for line in block.split(b"\n")[:-1]:
                yield number, line.removesuffix(b"\r")
                number += 1

    def fields(self, line: bytes) -> dict[str, str]:
        """The fields of one line by column.

        Raises: ValueError with the reason if the line cannot be decoded or split into these columns.
        """
        fields = self.text.split(self.decode(line))
        if len(fields) != len(self.columns):
            raise ValueError(f"{count_fields(len(fields))} instead of {len(self.columns)}")
        return dict(zip(self.columns, fields, strict=True))

    def decode(self, line: bytes) -> str:
        try:
            return line.decode(self.encoding)
        except UnicodeDecodeError as error:
            raise ValueError(f"byte {error.start + 1} is not {self.encoding.upper()}") from error

    def shown(self, line: bytes) -> str:
        """The line as readable text; bytes that are not in the encoding are written as \\xe9."""
        return line.decode(self.encoding, "backslashreplace")

    def tables(self) -> Iterator[pa.Table]:
        """Yields the lines as Arrow tables with the schema LINES, one per block.

        A line keeps its line break. `fields` is null unless splitting at the separator would be wrong. `problem` is the
        reason why a line cannot be split. Bytes that are not in the encoding are written as \\xe9.
        """
        number = self.first
        for block in self.blocks:
            text = self.in_utf8(block)
            ends = np.flatnonzero(np.frombuffer(text, np.uint8) == ord("\n")) + 1
            starts = np.concatenate([[0], ends]).astype(np.int64)
            line = pa.LargeStringArray.from_buffers(len(ends), pa.py_buffer(starts), pa.py_buffer(text))
            special = self.special_lines(block, text, ends)
            fields, problem = self.split(block, special)
            yield pa.table(
                [
                    np.arange(number, number + len(ends)),
                    line,
                    scatter(fields, special, len(ends), LINES.field("fields").type),
                    scatter(problem, special, len(ends), LINES.field("problem").type),
                ],
                schema=LINES,
            )
            number += len(ends)

    def in_utf8(self, block: bytes) -> bytes:
        """The block in UTF-8; bytes that are not in the encoding are written as \\xe9."""
        if block.isascii():
            return block
        text = block.decode(self.encoding, "backslashreplace").encode()
        return block if text == block else text

    def special_lines(self, block: bytes, text: bytes, ends: NDArray[np.int64]) -> NDArray[np.int64]:
        """Positions of the lines that DuckDB must not split: with quotes, `Text.rest`, or invalid bytes."""
        if self.text.rest:
            return np.arange(len(ends))
        special = np.empty(0, np.int64)
        if self.text.separator == "," and b'"' in text:
            quotes = np.flatnonzero(np.frombuffer(text, np.uint8) == ord('"'))
            special = np.searchsorted(ends, quotes, side="right")
        if text != block:
            broken = [i for i, line in enumerate(block.split(b"\n")) if not self.can_decode(line)]
            special = np.concatenate([special, np.array(broken, np.int64)])
        return np.unique(special)

    def can_decode(self, line: bytes) -> bool:
        try:
            self.decode(line)
        except ValueError:
            return False
        return True

    def split(self, block: bytes, special: NDArray[np.int64]) -> tuple[list[list[str] | None], list[str | None]]:
        """Fields and problems of the lines at the positions `special`. For each line, one of the two is None."""
        if not len(special):
            return [], []
        lines = block.split(b"\n")
        chosen = [lines[position].removesuffix(b"\r") for position in special.tolist()]
        all_fields = self.split_all(chosen)
        if all_fields is not None:
            return list(all_fields), [None] * len(all_fields)
        return self.split_each(chosen)

    def split_all(self, chosen: list[bytes]) -> list[list[str]] | None:
        """The fields of lines with quotes, in one call; None unless every line is one complete row."""
        if self.text.separator != ",":
            return None
        try:
            rows = list(csv.reader([line.decode(self.encoding) for line in chosen], strict=True))
        except (UnicodeDecodeError, csv.Error):
            return None
        return rows if len(rows) == len(chosen) else None

    def split_each(self, chosen: list[bytes]) -> tuple[list[list[str] | None], list[str | None]]:
        fields: list[list[str] | None] = []
        problems: list[str | None] = []
        for line in chosen:
            try:
                fields.append(self.text.split(self.decode(line)))
                problems.append(None)
            except ValueError as error:
                fields.append(None)
                problems.append(str(error))
        return fields, problems


def count_fields(n: int) -> str:
    return "1 field" if n == 1 else f"{n} fields"


def scatter(
    values: list[list[str] | None] | list[str | None], at: NDArray[np.int64], n: int, kind: pa.DataType
) -> pa.Array:
    """An array of length `n` that is null except for `values` at the positions `at`."""
    if not len(at):
        return pa.nulls(n, kind)
    position = np.zeros(n, np.int64)
    position[at] = np.arange(len(at))
    missing = np.ones(n, bool)
    missing[at] = False
    return pa.array(values, kind).take(pa.array(position, mask=missing))


def read_lines(files: Files, text: Text, encoding: str = "utf-8") -> Lines:
    """The lines of `text`. The rows of a Parquet file become lines of comma-separated values.

    Raises: DataRefused if it is another kind of file, or lacks a column, has it twice or of another type; SourceError
    if it cannot be read.
    """
    if text.parquet in files:
        return lines_of_parquet(files, text)
    notices: tuple[str, ...] = ()
    if encoding != "utf-8" and is_utf8(files.open(text.name)):
        encoding, notices = "utf-8", (f"{text.name} is in UTF-8, although it was published in {encoding}",)
    blocks = whole_lines(files, text.name, files.open(text.name))
    if not text.header:
        return Lines(text, text.name, text.columns, 1, blocks, encoding, notices)
    head, _, rest = next(blocks, b"").partition(b"\n")
    names = header_names(head, text)
    columns = named_columns(files, text, text.name, names)
    blocks = chain([rest] if rest else [], blocks)
    return Lines(text, text.name, columns, 2, blocks, encoding, unused_columns(text, text.name, names))


def is_utf8(file: BinaryIO) -> bool:
    """Whether the file is valid UTF-8 and has characters beyond ASCII. Decoding as Latin-1 would prove nothing."""
    decoder, is_ascii = codecs.getincrementaldecoder("utf-8")(), True
    try:
        while block := file.read(BLOCK_BYTES):
            is_ascii = is_ascii and block.isascii()
            decoder.decode(block)
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return False
    return not is_ascii


def lines_of_parquet(files: Files, text: Text) -> Lines:
    names = parquet_names(files, text.parquet)
    columns = named_columns(files, text, text.parquet, names)
    used = {name: column for name, column in zip(names, columns, strict=True) if column}
    blocks = parquet_blocks(files, text.parquet, used)
    notices = unused_columns(text, text.parquet, names)
    return Lines(text, text.parquet, tuple(used.values()), 1, blocks, notices=notices)


def whole_lines(files: Files, name: str, file: BinaryIO) -> Iterator[bytes]:
    """Yields the rest of `file`, without a UTF-8 byte order mark, in blocks that end at a line end.

    Raises: DataRefused if it is not text; SourceError if a line is too long.
    """
    head = file.read(BLOCK_BYTES)
    check_is_text(files, name, head)
    data, rest = head.removeprefix(UTF8_MARK), b""
    while data:
        block, newline, tail = data.rpartition(b"\n")
        if newline:
            yield rest + block + newline
            rest = tail
        elif len(rest) + len(data) > BLOCK_BYTES:
            raise SourceError(
                f"{name} in {files.path} has a line longer than {BLOCK_BYTES:,} bytes: it is not a table. "
                "Next: get the archive again from its publisher"
            )
        else:
            rest += data
        data = file.read(BLOCK_BYTES)
    if rest:
        yield rest + b"\n"


def check_is_text(files: Files, name: str, head: bytes) -> None:
    first = head[:FIRST_BYTES]
    found = looks_like(first)
    if found in MAY_BE_TEXT and first.count(0) * 4 > len(first):  # in UTF-16 every second byte of Latin letters is 0
        found = "text in UTF-16, or not text"
    if found not in MAY_BE_TEXT:
        raise DataRefused(
            f"{name} in {files.path} is {found}, despite its name. Next: unpack it or convert it to plain "
            "text in UTF-8, or rename it"
        )
