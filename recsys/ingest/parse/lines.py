"""Files as numbered lines: the one way in which text of any layout, and Parquet, reaches the parsers."""

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

BLOCK_BYTES = 2**23  # read at a time; also the longest line that is taken for one

# A block of lines as DuckDB gets it, see Lines.tables.
LINES = pa.schema(
    [
        pa.field("source_line", pa.int64(), nullable=False),
        pa.field("line", pa.large_string(), nullable=False),
        pa.field("fields", pa.list_(pa.string())),
        pa.field("problem", pa.string()),
    ]
)

# The last is the word for bytes that are in no text: they cost the lines they stand in, not the file.
MAY_BE_TEXT = ("an empty file", "text", "no kind of file known here")


@dataclass(frozen=True)
class Lines:
    """A file's lines after its header; `columns` names each field, "" where we have no use for one."""

    text: Text
    name: str  # of the file that is read: the text's, or its Parquet's
    columns: tuple[str, ...]
    first: int  # number of the first line; 1 is the file's first
    blocks: Iterator[bytes]  # of whole lines, each ending in a newline
    encoding: str = "utf-8"
    notices: tuple[str, ...] = ()  # what a person should know of the file, in words

    def __iter__(self) -> Iterator[tuple[int, bytes]]:
        """Each line with its number, without its end."""
        number = self.first
        for block in self.blocks:
            for line in block.split(b"\n")[:-1]:
                yield number, line.removesuffix(b"\r")
                number += 1

    def fields(self, line: bytes) -> dict[str, str]:
        """The fields of one line by column.

        Raises: ValueError, saying what is wrong, when it cannot be decoded or parted into them.
        """
        fields = self.text.split(self.decode(line))
        if len(fields) != len(self.columns):
            raise ValueError(f"{count_fields(len(fields))} where {len(self.columns)} are needed")
        return dict(zip(self.columns, fields, strict=True))

    def decode(self, line: bytes) -> str:
        try:
            return line.decode(self.encoding)
        except UnicodeDecodeError as error:
            raise ValueError(f"byte {error.start + 1} is not {self.encoding.upper()}") from error

    def shown(self, line: bytes) -> str:
        """The line for a person to read, bytes that are not in the encoding written out as \\xe9."""
        return line.decode(self.encoding, "backslashreplace")

    def tables(self) -> Iterator[pa.Table]:
        """The lines in Arrow, a block at a time: source_line int64, line string, its end kept, fields list<string>
        where splitting at the separator alone would be wrong, else null, and problem string where nothing can part it.

        Bytes that are not in the encoding come written out as \\xe9, with the problem beside them.
        """
        number = self.first
        for block in self.blocks:
            text = self.in_utf8(block)
            ends = np.flatnonzero(np.frombuffer(text, np.uint8) == ord("\n")) + 1
            starts = np.concatenate([[0], ends]).astype(np.int64)
            line = pa.LargeStringArray.from_buffers(len(ends), pa.py_buffer(starts), pa.py_buffer(text))
            special = self.special_lines(block, text, ends)
            fields, problem = self.part(block, special)
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
        """The same lines in UTF-8, whatever is in them."""
        if block.isascii():
            return block
        text = block.decode(self.encoding, "backslashreplace").encode()
        return block if text == block else text

    def special_lines(self, block: bytes, text: bytes, ends: NDArray[np.int64]) -> NDArray[np.int64]:
        """Positions of the lines that DuckDB must not split: those with quotes, with a rest, or of broken bytes."""
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

    def part(self, block: bytes, special: NDArray[np.int64]) -> tuple[list[list[str] | None], list[str | None]]:
        """Fields and problems of the lines at the positions `special`, one of the two for each."""
        if not len(special):
            return [], []
        lines = block.split(b"\n")
        chosen = [lines[position].removesuffix(b"\r") for position in special.tolist()]
        quick = self.part_all(chosen)
        if quick is not None:
            return list(quick), [None] * len(quick)
        return self.part_each(chosen)

    def part_all(self, chosen: list[bytes]) -> list[list[str]] | None:
        """The fields of lines with quotes, fast; None unless each line is one row, whole and decodable."""
        if self.text.separator != ",":
            return None
        try:
            rows = list(csv.reader([line.decode(self.encoding) for line in chosen], strict=True))
        except (UnicodeDecodeError, csv.Error):
            return None
        return rows if len(rows) == len(chosen) else None

    def part_each(self, chosen: list[bytes]) -> tuple[list[list[str] | None], list[str | None]]:
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
    """An array of length `n`, null but for `values` at the positions `at`."""
    if not len(at):
        return pa.nulls(n, kind)
    position = np.zeros(n, np.int64)
    position[at] = np.arange(len(at))
    missing = np.ones(n, bool)
    missing[at] = False
    return pa.array(values, kind).take(pa.array(position, mask=missing))


def read_lines(files: Files, text: Text, encoding: str = "utf-8") -> Lines:
    """The lines of `text`, or of its Parquet, as the comma-separated values it would be.

    Raises: DataRefused when it is no such file, or lacks a column, has it twice or in another type; SourceError when
    it cannot be read.
    """
    if text.parquet in files:
        return lines_of_parquet(files, text)
    blocks = whole_lines(files, text.name, files.open(text.name))
    if not text.header:
        return Lines(text, text.name, text.columns, 1, blocks, encoding)
    head, _, rest = next(blocks, b"").partition(b"\n")
    names = header_names(head, text)
    columns = named_columns(files, text, text.name, names)
    blocks = chain([rest] if rest else [], blocks)
    return Lines(text, text.name, columns, 2, blocks, encoding, unused_columns(text, text.name, names))


def lines_of_parquet(files: Files, text: Text) -> Lines:
    names = parquet_names(files, text.parquet)
    columns = named_columns(files, text, text.parquet, names)
    used = {name: column for name, column in zip(names, columns, strict=True) if column}
    blocks = parquet_blocks(files, text.parquet, used)
    notices = unused_columns(text, text.parquet, names)
    return Lines(text, text.parquet, tuple(used.values()), 1, blocks, notices=notices)


def whole_lines(files: Files, name: str, file: BinaryIO) -> Iterator[bytes]:
    """The rest of `file`, less a mark of UTF-8 before it, in blocks that end where a line ends.

    Raises: DataRefused when it is no text.
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
                f"{name} in {files.path} holds a line longer than {BLOCK_BYTES:,} bytes: it is no list of rows. "
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
    if found in MAY_BE_TEXT and first.count(0) * 4 > len(first):  # UTF-16 has a zero beside every Latin letter
        found = "text in UTF-16, or no text at all"
    if found not in MAY_BE_TEXT:
        raise DataRefused(
            f"{name} in {files.path} is {found}, whatever its name says. Next: unpack it or write it again, as plain "
            "text in UTF-8, or name it as what it is"
        )
