"""Reading a source of any layout: good lines into the canonical tables, the others into rejects."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

import sql
from recsys.errors import DataRefused
from recsys.ingest.archives import Files, opened
from recsys.ingest.datasets import LayoutName
from recsys.ingest.layouts import INT16_MAX, INT32_MAX, LAYOUTS, Fields, Layout, whole
from recsys.ingest.lines import Lines, Text, read_lines
from recsys.schema import MOVIES, REJECTS, USERS

Row = dict[str, Any]

SOURCE_LINE = pa.field("source_line", pa.int64(), nullable=False)
NO_LINES = pa.schema([SOURCE_LINE, pa.field("line", pa.large_string())]).empty_table()
NO_GENRES = "(no genres listed)"
FLAG = "genre:"  # marks the columns of u.item that hold 0 or 1


def read_tables(path: Path, layout_name: LayoutName, connection: duckdb.DuckDBPyConnection) -> None:
    """Fills ratings, movies, users and rejects of `connection`: canonical columns and source_line, in no order.

    source_line is the physical line, 1 being the file's first; of Parquet, the row. An edition without users has
    those of its ratings, with the line on which each first rates. Rejects have the columns of `schema.REJECTS`.

    Raises: SourceError when a file cannot be read; DataRefused when it lacks a column or not one line is a row.
    """
    layout = LAYOUTS[layout_name]
    connection.execute("set TimeZone = 'UTC'")  # of moments that name no zone
    with opened(path) as files:
        rejects = read_ratings(files, layout, connection)
        rejects += read_movies(files, layout, connection)
        rejects += read_users(files, layout, connection)
    connection.register("rejects", pa.Table.from_pylist(rejects, schema=REJECTS))


def read_ratings(files: Files, layout: Layout, connection: duckdb.DuckDBPyConnection) -> list[Row]:
    text = layout.ratings
    lines = read_lines(files, text)
    positions = {column: index for index, column in enumerate(lines.columns, start=1) if column}
    parameters = {**positions, "separator": text.separator, "fields": len(lines.columns)}
    statement = sql.read("read_ratings")
    connection.register("lines", NO_LINES)
    connection.execute(f"create table readings as {statement}", parameters)
    for block in lines.tables():
        connection.register("lines", block)
        connection.execute(f"insert into readings {statement}", parameters)
    connection.execute("create view ratings as select * exclude (unreadable) from readings where unreadable is null")
    # Before the unreadable lines are fetched: of a file that is something else, that would be all of them.
    counts = "select count(*) - count(unreadable), count(unreadable), min_by(unreadable, source_line) from readings"
    check_some_readable(files, text, *connection.execute(counts).fetchall()[0])
    unreadable = "select source_line, unreadable from readings where unreadable is not null"
    return [reject("ratings", *row) for row in connection.execute(unreadable).fetchall()]


def read_movies(files: Files, layout: Layout, connection: duckdb.DuckDBPyConnection) -> list[Row]:
    lines = read_lines(files, with_flags(files, layout))
    rows, rejects = read_rows("movies", lines, layout, movie_row)
    check_some_readable(files, layout.movies, len(rows), len(rejects), first_of(rejects))
    connection.register("movies", pa.Table.from_pylist(rows, schema=MOVIES.append(SOURCE_LINE)))
    return rejects


def read_users(files: Files, layout: Layout, connection: duckdb.DuckDBPyConnection) -> list[Row]:
    text = layout.users
    if text is None or not text.is_in(files):
        connection.execute(f"create table users as {sql.read('users_of_ratings')}")
        return []
    rows, rejects = read_rows("users", read_lines(files, text), layout, user_row)
    check_some_readable(files, text, len(rows), len(rejects), first_of(rejects))
    connection.register("users", pa.Table.from_pylist(rows, schema=USERS.append(SOURCE_LINE)))
    return rejects


def read_rows(
    table: str, lines: Lines, layout: Layout, row_of: Callable[[Fields, Layout], Row]
) -> tuple[list[Row], list[Row]]:
    """The rows that `row_of` makes of `lines`, and the lines of which it raises ValueError."""
    rows, rejects = [], []
    for number, line in lines:
        try:
            rows.append({**row_of(lines.fields(line, layout.encoding), layout), "source_line": number})
        except ValueError:
            rejects.append(reject(table, number, line.decode(layout.encoding, "backslashreplace")))
    return rows, rejects


def reject(table: str, number: int, line: str) -> Row:
    row = json.dumps({"line": line}, ensure_ascii=False)
    return {"source_table": table, "source_line": number, "rule": "unreadable", "row": row}


def first_of(rejects: list[Row]) -> str | None:
    return str(rejects[0]["row"]) if rejects else None


def check_some_readable(files: Files, text: Text, readable: int, unreadable: int, example: str | None) -> None:
    """Raises: DataRefused when there are lines and not one is a row: then the file is something else."""
    if unreadable and not readable:
        columns = ", ".join(column for column in text.columns if column)
        raise DataRefused(
            f"not one of the {unreadable:,} lines of {text.name} in {files.path} can be read as {columns} parted by "
            f"{text.separator!r}; the first is {str(example)[:200]!r}. Next: pass the archive as it was published"
        )


def movie_row(fields: Fields, layout: Layout) -> Row:
    title, year = layout.title(fields)
    if not title:
        raise ValueError
    return {"movie_id": identity(fields["movie_id"]), "title": title, "year": year, "genres": genres(fields, layout)}


def genres(fields: Fields, layout: Layout) -> list[str]:
    """Sorted, so that every layout of an edition gives the same list."""
    if layout.genres:
        flags = {name.removeprefix(FLAG): value for name, value in fields.items() if name.startswith(FLAG)}
        if not set(flags.values()) <= {"0", "1"}:
            raise ValueError
        return sorted(name for name, value in flags.items() if value == "1")
    listed = fields["genres"].strip()
    return [] if listed == NO_GENRES else sorted(set(listed.split(layout.genre_separator)) - {""})


def with_flags(files: Files, layout: Layout) -> Text:
    """The text of movies; where genres are flags, with a column for each line of the file that names them."""
    text = layout.movies
    if not layout.genres:
        return text
    listed = files.open(layout.genres).read().decode(layout.encoding).splitlines()
    names = [line.split("|")[0] for line in listed if "|" in line]
    return replace(text, columns=(*text.columns, *(FLAG + name for name in names)))


def user_row(fields: Fields, layout: Layout) -> Row:
    occupation = fields.get("occupation") or None
    if occupation and layout.occupations:
        occupation = layout.occupations[whole(occupation, len(layout.occupations) - 1) or 0]
    return {
        "user_id": identity(fields["user_id"]),
        "gender": fields.get("gender") or None,
        "age": whole(fields.get("age", ""), INT16_MAX),
        "occupation": occupation,
        "zip_code": fields.get("zip_code") or None,
    }


def identity(text: str) -> int:
    """A user_id or movie_id. Raises: ValueError unless it is a positive int32."""
    value = whole(text, INT32_MAX)
    if not value:
        raise ValueError
    return value
