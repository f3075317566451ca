"""Reads a source of any layout. Valid lines go to the canonical tables, other lines to `rejects`."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

import sql
from recsys.datasets import LayoutName
from recsys.errors import DataRefused, SourceError
from recsys.forgotten import quote
from recsys.ingest.archives.archives import Files, check_regular, directory_entry, opened
from recsys.ingest.parse.layouts import LAYOUTS, Layout, drop_text
from recsys.ingest.parse.lines import LINES, Lines, read_lines
from recsys.ingest.parse.rows import Row, movie_row, user_row, with_flags
from recsys.ingest.parse.texts import Text
from recsys.schema import LINKS, MOVIES, RATED_AT, RATINGS, REJECTS, TABLES, TAGS, USERS

SOURCE_LINE = pa.field("source_line", pa.int64(), nullable=False)
SOURCE_FILE = pa.field("source_file", pa.string(), nullable=False)

UPDATED_AT = pa.field("updated_at", RATED_AT)
RETRACTIONS = pa.schema(
    [
        pa.field("user_id", pa.int32(), nullable=False),
        pa.field("movie_id", pa.int32(), nullable=False),
        pa.field("retracted_at", RATED_AT, nullable=False),
    ]
)
# The columns of a file in our own schema.
DROPS = {
    "ratings": RATINGS,
    "movies": MOVIES.append(UPDATED_AT),
    "users": USERS.append(UPDATED_AT),
    "tags": TAGS,
    "links": LINKS,
    "retractions": RETRACTIONS,
}

ROW_READERS: dict[str, Callable[..., Row]] = {
    "movies": movie_row,
    "users": user_row,
}  # the other tables are read by SQL
ROWS_AT_A_TIME = 50_000
GIVE_UP_AFTER = (
    1_000_000  # lines without a single row: the file is something else, and its rejects would fill the memory
)


@dataclass(frozen=True)
class Target:
    """The relation to which the rows of a file are added."""

    relation: str
    table: str  # a name in DROPS
    schema: pa.Schema


def read_tables(path: Path, layout_name: LayoutName, connection: duckdb.DuckDBPyConnection) -> list[str]:
    """Fills the tables of `schema.TABLES`, and `rejects`, in `connection`: canonical columns, source_file, source_line.

    source_line is the physical line, starting at 1; for Parquet it is the row. Rows are in no particular order. Users,
    tags and links are empty if the edition has none. Rejects have the columns of `schema.REJECTS`. Returns notices
    about the files as text.

    Raises: SourceError if a file cannot be read; DataRefused if it is another kind of file, lacks a column, has a
    column of another type, or if none of its lines is a row.
    """
    layout = LAYOUTS[layout_name]
    prepare(connection)
    notices: list[str] = []
    with opened(path) as files:
        texts = {**layout.texts(), "movies": with_flags(files, layout)}
        for table, schema in TABLES.items():
            text = texts.get(table)
            target = Target(table, table, schema)
            if text and (table in ("ratings", "movies") or text.is_in(files)):
                notices += read_file(files, text, layout, target, connection)
            else:
                fill_empty(table, pa.schema([*schema, SOURCE_FILE, SOURCE_LINE]), connection)
    return notices


def read_drop(path: Path, table: str, connection: duckdb.DuckDBPyConnection) -> list[str]:
    """Fills the relations `rows` and `rejects` of `connection` from one file, CSV or Parquet, in our own schema.

    Rows have the columns of DROPS[table], source_file and source_line; updated_at is null if the file does not have
    it. The relations are valid until the next call. Returns notices about the file as text.

    Raises: as `read_tables`.
    """
    prepare(connection)
    with ExitStack() as closing:
        files = one_file(path, closing)
        target = Target("rows", table, DROPS[table])
        return read_file(files, drop_text(table, path.name), LAYOUTS["canonical"], target, connection)


def one_file(path: Path, closing: ExitStack) -> Files:
    check_regular(path)
    return Files(path.parent, {path.name: directory_entry(path, path.parent)}, closing)


def prepare(connection: duckdb.DuckDBPyConnection) -> None:
    connection.execute("set TimeZone = 'UTC'")  # for times without a zone
    connection.register("lines", LINES.empty_table())  # the macro refers to it
    statement = sql.read("read_split")
    connection.execute(f"create or replace temp macro split_lines(separator, n_fields) as table {statement}")
    connection.execute(sql.read("read_fields"))
    fill_empty("rejects", REJECTS, connection)


def fill_empty(relation: str, schema: pa.Schema, connection: duckdb.DuckDBPyConnection) -> None:
    connection.register("nothing", schema.empty_table())
    connection.execute(f"create or replace table {relation} as from nothing")
    connection.unregister("nothing")


def read_file(
    files: Files, text: Text, layout: Layout, target: Target, connection: duckdb.DuckDBPyConnection
) -> list[str]:
    """Fills the relation of `target` with the rows of a file, and `rejects` with its other lines.

    Raises: as `read_tables`; SourceError also if memory runs out.
    """
    try:
        return read_within_memory(files, text, layout, target, connection)
    except (MemoryError, duckdb.OutOfMemoryException) as error:
        name = text.parquet if text.parquet in files else text.name
        reason = str(error).partition("\n")[0] or "out of memory"  # the rest of DuckDB's message fills a page
        raise SourceError(
            f"{name} in {files.path} needs more memory than is available ({reason}). "
            "Next: check that the file is as it was published, or read it on a machine with more memory"
        ) from error


def read_within_memory(
    files: Files, text: Text, layout: Layout, target: Target, connection: duckdb.DuckDBPyConnection
) -> list[str]:
    lines = read_lines(files, text, layout.encoding)
    fill_empty(f"{target.relation}_read", pa.schema([*target.schema, SOURCE_LINE]), connection)
    blocks = read_rows(lines, layout, target) if target.table in ROW_READERS else lines.tables()
    n_rows = n_rejects = 0
    for block in blocks:
        make_readings(block, lines, target, connection)
        n_rows += insert_rows(target, connection)
        n_rejects += insert_rejects(target, lines, connection)
        if not n_rows and n_rejects > GIVE_UP_AFTER:
            break
    check_some_readable(files, lines, target, n_rows, n_rejects, connection)
    name_source(target, lines, connection)
    return list(lines.notices)


def make_readings(block: pa.Table, lines: Lines, target: Target, connection: duckdb.DuckDBPyConnection) -> None:
    """Creates `readings` of a block: the target's columns, and `why` and `line` for a line that is not a row."""
    connection.register("lines", block)
    if target.table in ROW_READERS:
        connection.execute("create or replace temp table readings as from lines")
    else:
        positions = {column: index for index, column in enumerate(lines.columns, start=1) if column}
        parameters = {**positions, "separator": lines.text.separator, "n_fields": len(lines.columns)}
        statement = sql.read(f"read_{target.table}")
        connection.execute(f"create or replace temp table readings as {statement}", parameters)


def insert_rows(target: Target, connection: duckdb.DuckDBPyConnection) -> int:
    rows = "select * exclude (why, line) from readings where why is null"
    inserted = connection.execute(f"insert into {target.relation}_read by name {rows}")
    return int(inserted.fetchall()[0][0])


def insert_rejects(target: Target, lines: Lines, connection: duckdb.DuckDBPyConnection) -> int:
    parameters = {"source_table": target.table, "source_file": lines.name}
    inserted = connection.execute(f"insert into rejects by name {sql.read('read_rejects')}", parameters)
    return int(inserted.fetchall()[0][0])


def name_source(target: Target, lines: Lines, connection: duckdb.DuckDBPyConnection) -> None:
    """Creates the relation as a view, so that the file's name is not stored in every row."""
    relation = target.relation
    connection.execute(f"create or replace table {relation}_file as select $name as source_file", {"name": lines.name})
    connection.execute(f"create or replace view {relation} as from {relation}_read cross join {relation}_file")


def read_rows(lines: Lines, layout: Layout, target: Target) -> Iterator[pa.Table]:
    """Yields the lines of movies or users as readings, in chunks. A line that is not a row has `why` and `line`."""
    fields = [field.with_nullable(True) for field in target.schema]
    schema = pa.schema([*fields, SOURCE_LINE, pa.field("why", pa.string()), pa.field("line", pa.string())])
    numbered = iter(lines)
    while chunk := list(islice(numbered, ROWS_AT_A_TIME)):
        readings = [read_row(number, line, lines, layout, ROW_READERS[target.table]) for number, line in chunk]
        yield pa.Table.from_pylist(readings, schema=schema)


def read_row(number: int, line: bytes, lines: Lines, layout: Layout, row_of: Callable[..., Row]) -> dict[str, Any]:
    if not line.strip():
        return {"source_line": number, "why": "the line is empty", "line": lines.shown(line)}
    try:
        return {**row_of(lines.fields(line), layout), "source_line": number}
    except ValueError as error:
        return {"source_line": number, "why": str(error), "line": lines.shown(line)}


def check_some_readable(
    files: Files, lines: Lines, target: Target, n_rows: int, n_rejects: int, connection: duckdb.DuckDBPyConnection
) -> None:
    """Raises: DataRefused if the file has lines but no rows, because it must be another kind of file."""
    if n_rows or not n_rejects:
        return
    example = connection.execute(sql.read("read_example"), {"source_table": target.table}).fetchall()
    number, line, why = example[0]
    columns = ", ".join(column for column in lines.columns if column)
    raise DataRefused(
        f"none of the {n_rejects:,} lines read from {lines.name} in {files.path} has the columns {columns}, separated "
        f"by {lines.text.separator!r}; line {number}: {quote(f'{line}: {why}')}. "
        "Next: pass the file as it was published, or correct that column"
    )
