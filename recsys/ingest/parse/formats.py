"""Reading a source of any layout: good lines into the canonical tables, the others into rejects."""

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
# What one file of our own schema may hold.
DROPS = {
    "ratings": RATINGS,
    "movies": MOVIES.append(UPDATED_AT),
    "users": USERS.append(UPDATED_AT),
    "tags": TAGS,
    "links": LINKS,
    "retractions": RETRACTIONS,
}

ROW_READERS: dict[str, Callable[..., Row]] = {"movies": movie_row, "users": user_row}  # the other tables by SQL
ROWS_AT_A_TIME = 50_000
GIVE_UP_AFTER = 1_000_000  # lines, not one of them a row: what else is in the file is not worth the memory


@dataclass(frozen=True)
class Target:
    """Where the rows of a file go."""

    relation: str
    table: str  # of what: a name in DROPS
    schema: pa.Schema


def read_tables(path: Path, layout_name: LayoutName, connection: duckdb.DuckDBPyConnection) -> list[str]:
    """Fills every table of `schema.TABLES`, and rejects, of `connection`: canonical columns, source_file, source_line.

    source_line is the physical line, 1 being the file's first; of Parquet, the row. No table is in any order; users,
    tags and links are empty where the edition gives none. Rejects have the columns of `schema.REJECTS`. Returns what
    a person should know of the files, in words.

    Raises: SourceError when a file cannot be read; DataRefused when it is something else, lacks a column or has it in
    another type, or not one line is a row.
    """
    layout = LAYOUTS[layout_name]
    prepare(connection)
    notices: list[str] = []
    with opened(path) as files:
        notices += [f"{name} is not used" for name in layout.unused if name in files]
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
    """Fills rows and rejects of `connection` from one file, CSV or Parquet, of a table of our own, or of retractions.

    Rows have the table's columns, source_file and source_line; those of movies and users also updated_at, null when
    the file does not say; those of retractions are user_id, movie_id, retracted_at. They hold until the next call.
    Returns what a person should know of the file, in words.

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
    connection.execute("set TimeZone = 'UTC'")  # of moments that name no zone
    connection.register("lines", LINES.empty_table())  # which the macro names
    parted = sql.read("read_parted")
    connection.execute(f"create or replace temp macro parted_lines(separator, n_fields) as table {parted}")
    connection.execute(sql.read("read_fields"))
    fill_empty("rejects", REJECTS, connection)


def fill_empty(relation: str, schema: pa.Schema, connection: duckdb.DuckDBPyConnection) -> None:
    connection.register("nothing", schema.empty_table())
    connection.execute(f"create or replace table {relation} as from nothing")
    connection.unregister("nothing")


def read_file(
    files: Files, text: Text, layout: Layout, target: Target, connection: duckdb.DuckDBPyConnection
) -> list[str]:
    """Fills the relation of `target` with the rows of a file, and rejects with its other lines.

    Raises: as `read_tables`; SourceError, too, when memory runs out.
    """
    try:
        return read_within_memory(files, text, layout, target, connection)
    except (MemoryError, duckdb.OutOfMemoryException) as error:
        name = text.parquet if text.parquet in files else text.name
        said = str(error).partition("\n")[0] or "out of memory"  # DuckDB goes on for a page
        raise SourceError(
            f"{name} in {files.path} takes more memory to read than there is here ({said}). "
            "Next: see that the file is as it was published, or read it on a machine with more memory"
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
    """A block's lines as `readings`: the columns of the target, and for a line that is no row, why not."""
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
    """The relation itself, as a view: a file's name held once for each of its rows would cost as much as a rating."""
    relation = target.relation
    connection.execute(f"create or replace table {relation}_file as select $name as source_file", {"name": lines.name})
    connection.execute(f"create or replace view {relation} as from {relation}_read cross join {relation}_file")


def read_rows(lines: Lines, layout: Layout, target: Target) -> Iterator[pa.Table]:
    """The lines of movies or users as readings, some at a time; those that are no row have `why`, and the line."""
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
    """Raises: DataRefused when there are lines and not one is a row: then the file is something else."""
    if n_rows or not n_rejects:
        return
    example = connection.execute(sql.read("read_example"), {"source_table": target.table}).fetchall()
    number, line, why = example[0]
    columns = ", ".join(column for column in lines.columns if column)
    raise DataRefused(
        f"not one of the {n_rejects:,} lines read of {lines.name} in {files.path} is {columns} parted by "
        f"{lines.text.separator!r}: in line {number}, {quote(f'{line}: {why}')}. "
        "Next: pass the file as it was published, or write that column again"
    )
