"""The format of a table's file: separator, quotes and header."""

import csv
from dataclasses import dataclass

from recsys.errors import DataRefused
from recsys.ingest.archives.archives import Files
from recsys.ingest.archives.signatures import shown

UTF8_MARK = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class Text:
    """The format of a table's file. `columns` has the canonical name of each field, "" for a field that is not used."""

    name: str
    separator: str
    columns: tuple[str, ...]
    header: tuple[str, ...] = ()  # the published name of each of `columns`; empty when the file has no header
    optional: tuple[str, ...] = ()  # columns that may be absent, if there is a header
    parquet: str = ""  # a Parquet file with the columns of `header`, preferred if it exists
    rest: str = ""  # the column in which the separator may occur

    def is_in(self, files: Files) -> bool:
        return self.name in files or self.parquet in files

    def split(self, line: str) -> list[str]:
        """The fields of one line; quotes count only with commas. Raises: ValueError if a quote is not closed."""
        if self.separator == ",":
            return split_quoted(line)
        if not self.rest:
            return line.split(self.separator)
        before = self.columns.index(self.rest)
        *fields, rest = line.split(self.separator, before)
        return [*fields, *rest.rsplit(self.separator, len(self.columns) - before - 1)]


def split_quoted(line: str) -> list[str]:
    """The fields of one line of CSV. Raises: ValueError if a quote is not closed, e.g. in a field with a line break."""
    try:
        return next(csv.reader([line], strict=True), [])
    except csv.Error as error:
        raise ValueError(f"a quote is not closed ({error})") from error


def header_names(line: bytes, text: Text) -> list[str]:
    """The column names in a header line, which may be quoted."""
    header = line.decode("utf-8", "replace").strip()
    try:
        return [name.strip() for name in text.split(header)]
    except ValueError:
        return [header]


def named_columns(files: Files, text: Text, name: str, header: list[str]) -> tuple[str, ...]:
    """The canonical name of each field of `header`.

    Raises: DataRefused if a column is missing or appears twice.
    """
    ours = dict(zip(text.header, text.columns, strict=True))
    found = shown(", ".join(header), 300) if any(header) else "no lines"
    repeated = sorted({column for column in header if header.count(column) > 1})
    if repeated:
        raise DataRefused(
            f"{name} in {files.path} has several columns named {', '.join(map(repr, repeated))[:300]} "
            f"({found}); column names must be unique. Next: name each column once"
        )
    missing = [column for column in ours if column not in header and ours[column] not in text.optional]
    if missing:
        raise DataRefused(
            f"{name} in {files.path} has no column {', '.join(missing)}; it has {found}. "
            f"Next: name its columns {', '.join(column for column in ours if ours[column] not in text.optional)}"
        )
    return tuple(ours.get(column, "") for column in header)


def unused_columns(text: Text, name: str, header: list[str]) -> tuple[str, ...]:
    unused = [column for column in header if column not in text.header]
    if not unused:
        return ()
    words = "a column {} that is not used" if len(unused) == 1 else "columns {} that are not used"
    return (f"{name} has {words.format(shown(', '.join(unused), 300))}",)
