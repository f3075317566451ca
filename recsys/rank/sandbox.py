"""Runs a SQL select from the settings in a sandbox, where it can only read the night's tables."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from textwrap import shorten
from threading import Event, Thread

import duckdb
import polars as pl

from recsys.errors import UsageError

MEMORY = "2GB"  # grouping 32M ratings by movie or by user needs a tenth of this
SELECT = re.compile(r"\s*(select|with|from)[\s(*]", re.IGNORECASE)


def is_select(text: str) -> bool:
    """Whether a rule's entry is SQL; otherwise it is a path."""
    return SELECT.match(text) is not None


def run_select(name: str, text: str, tables: dict[str, Path], *, max_seconds: float, max_rows: int) -> pl.DataFrame:
    """Returns the rows of `text`, a single select. `tables` are the Parquet files that it can read, by view name.

    The select has no access to other files, the network, extensions or Python variables. It cannot write, and its
    memory is limited to `MEMORY`. Errors refer to it as `name`.

    Raises: UsageError if `text` is not a single select, fails, or exceeds `max_seconds` or `max_rows`.
    """
    with duckdb.connect(config={"temp_directory": "", "memory_limit": MEMORY}) as connection:
        _restrict(connection, tables)
        try:
            statements = connection.extract_statements(text.strip().rstrip(";"))
            if [statement.type for statement in statements] != [duckdb.StatementType.SELECT]:
                raise UsageError(
                    f"{name} is not a single select but {_kinds(statements)}: {_shorten(text)}. Next: give each select "
                    "its own entry"
                )
            with _time_limit(connection, max_seconds):
                rows: pl.DataFrame = connection.sql(statements[0]).limit(max_rows + 1).pl()
        except TimeoutError:
            raise UsageError(
                f"{name} timed out after {max_seconds:g} seconds: {_shorten(text)}. Next: select less, or raise "
                "rules.max_seconds"
            ) from None
        except duckdb.Error as error:
            raise UsageError(
                f"{name} failed: {_shorten(str(error))}. It can only select from {', '.join(tables)}: {_shorten(text)}"
            ) from None
    if len(rows) > max_rows:
        raise UsageError(
            f"{name} has more than {max_rows:,} rows: {_shorten(text)}. Next: select less, or raise rules.max_rows"
        )
    return rows


def _restrict(connection: duckdb.DuckDBPyConnection, tables: dict[str, Path]) -> None:
    for name, path in tables.items():
        connection.read_parquet([str(path)]).create_view(name)
    connection.execute("set allowed_paths = $paths", {"paths": [str(path) for path in tables.values()]})
    connection.execute("set python_enable_replacements = false")
    connection.execute("set enable_progress_bar = false")
    connection.execute("set timezone = 'UTC'")  # so that rated_at is the same on every machine
    connection.execute("set enable_external_access = false")
    connection.execute("set lock_configuration = true")


@contextmanager
def _time_limit(connection: duckdb.DuckDBPyConnection, after_seconds: float) -> Iterator[None]:
    """Interrupts queries on `connection` after this time.

    Raises: TimeoutError if a query was interrupted.
    """
    done, late = Event(), Event()

    def watch() -> None:
        if not done.wait(after_seconds):
            late.set()
            while True:  # DuckDB ignores an interrupt that arrives between two steps of a select
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
        watcher.join()  # so that it never interrupts a closed connection


def _kinds(statements: list[duckdb.Statement]) -> str:
    return " and ".join(statement.type.name.lower() for statement in statements) or "nothing"


def _shorten(text: str) -> str:
    return shorten(text, 300, placeholder=" …")
