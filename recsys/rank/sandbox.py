"""Runs somebody's SQL select where it can read the night's tables and nothing else."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from textwrap import shorten
from threading import Event, Thread

import duckdb
import polars as pl

from recsys.errors import UsageError

MEMORY = "2GB"  # grouping all 32M ratings by movie or by user takes a tenth of it
SELECT = re.compile(r"\s*(select|with|from)[\s(*]", re.IGNORECASE)


def is_select(text: str) -> bool:
    """Whether a rule's entry is meant as SQL; it is a path otherwise."""
    return SELECT.match(text) is not None


def run_select(name: str, text: str, tables: dict[str, Path], *, max_seconds: float, max_rows: int) -> pl.DataFrame:
    """The rows of `text`, one select from `tables`: Parquet files by the name that SQL calls them by.

    It has no files but these, no network, no extensions, no Python variables, `MEMORY`, and writes nothing.

    Raises: UsageError, which calls the select `name`, if it is anything else than one select, fails, or has not ended
    after `max_seconds` or `max_rows`.
    """
    with duckdb.connect(config={"temp_directory": "", "memory_limit": MEMORY}) as connection:
        _lock_up(connection, tables)
        try:
            statements = connection.extract_statements(text.strip().rstrip(";"))
            if [statement.type for statement in statements] != [duckdb.StatementType.SELECT]:
                raise UsageError(
                    f"{name} is not one select but {_kinds(statements)}: {_shorten(text)}. Give each select an entry."
                )
            with _stopping(connection, max_seconds):
                rows: pl.DataFrame = connection.sql(statements[0]).limit(max_rows + 1).pl()
        except TimeoutError:
            raise UsageError(
                f"{name} has not ended after {max_seconds:g} seconds: {_shorten(text)}. Select less, or raise "
                "rules.max_seconds."
            ) from None
        except duckdb.Error as error:
            raise UsageError(
                f"{name} cannot be run: {_shorten(str(error))}. It may select from {', '.join(tables)} and nothing "
                f"else: {_shorten(text)}"
            ) from None
    if len(rows) > max_rows:
        raise UsageError(
            f"{name} has more than {max_rows:,} rows: {_shorten(text)}. Select less, or raise rules.max_rows."
        )
    return rows


def _lock_up(connection: duckdb.DuckDBPyConnection, tables: dict[str, Path]) -> None:
    for name, path in tables.items():
        connection.read_parquet([str(path)]).create_view(name)
    connection.execute("set allowed_paths = $paths", {"paths": [str(path) for path in tables.values()]})
    connection.execute("set python_enable_replacements = false")
    connection.execute("set enable_progress_bar = false")
    connection.execute("set timezone = 'UTC'")  # of rated_at, on every machine
    connection.execute("set enable_external_access = false")
    connection.execute("set lock_configuration = true")


@contextmanager
def _stopping(connection: duckdb.DuckDBPyConnection, after_seconds: float) -> Iterator[None]:
    """Interrupts what runs on `connection` when it takes longer.

    Raises: TimeoutError if it was interrupted.
    """
    done, late = Event(), Event()

    def watch() -> None:
        if not done.wait(after_seconds):
            late.set()
            while True:  # an interrupt between two steps of a select is forgotten by the second
                connection.interrupt()
                if done.wait(0.1):
                    break

    watcher = Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    except duckdb.InterruptException:
        if late.is_set():
            raise TimeoutError from None
        raise
    finally:
        done.set()
        watcher.join()  # else it could still reach for a connection that is closed


def _kinds(statements: list[duckdb.Statement]) -> str:
    return " and ".join(statement.type.name.lower() for statement in statements) or "nothing"


def _shorten(text: str) -> str:
    return shorten(text, 300, placeholder=" …")
