"""Reads the warehouse for people: one short-lived, read-only connection per question."""

from collections.abc import Iterator
from contextlib import contextmanager

import duckdb
import polars as pl
from duckdb import DuckDBPyConnection

import sql
from recsys.errors import NotPublished, UsageError
from recsys.home import Home


def recommend(home: Home, user_id: int) -> pl.DataFrame:
    """A user's list, best first: rank, title, year, score, rating_hat (stars), because_titles.

    Empty for a user who has rated everything.

    Raises: NotPublished if there are no lists yet; UsageError if nobody has that id.
    """
    with _reading(home) as connection:
        _check_published(connection, home)
        known = _select(connection, sql.read("known_users"), user_id=user_id).row(0, named=True)
        if not known["is_known"]:
            raise UsageError(
                f"user {user_id} is not known: {home.warehouse} has {known['n_users']:,} users, with ids from "
                f"{known['first_user_id']} to {known['last_user_id']}. Next: choose one from its table users"
            )
        return _select(connection, sql.read("recommend"), user_id=user_id)


def list_runs(home: Home, limit: int) -> pl.DataFrame:
    """The `limit` newest runs, newest first, with the columns of the table `runs`; moments are UTC.

    Raises: NotPublished if no night has run here yet.
    """
    with _reading(home) as connection:
        return _select(connection, sql.read("list_runs"), limit=limit)


def find_published(home: Home, dataset: str) -> tuple[str, str] | None:
    """The newest run of `dataset` that published, and the id of its snapshot; None if there is none.

    Raises: NotPublished if there is a warehouse that cannot be read.
    """
    if not home.warehouse.exists():
        return None
    with _reading(home) as connection:
        rows = connection.execute(sql.read("last_published"), {"dataset": dataset}).fetchall()
    return rows[0] if rows else None


def sample(home: Home) -> tuple[str, pl.DataFrame]:
    """A `select` that anybody may type against the warehouse, and what it answers.

    Raises: NotPublished if there are no lists yet.
    """
    with _reading(home) as connection:
        _check_published(connection, home)
        lines = sql.read("sample").splitlines()
        statement = "\n".join(line for line in lines if not line.startswith("--"))
        return statement, _select(connection, statement)


@contextmanager
def _reading(home: Home) -> Iterator[DuckDBPyConnection]:
    if not home.warehouse.exists():
        raise NotPublished(f"{home.warehouse} does not exist yet. Next: {_night(home)}")
    try:
        connection = duckdb.connect(home.warehouse, read_only=True)
    except duckdb.Error as error:
        raise NotPublished(
            f"{home.warehouse} cannot be opened: {error}. Next: close whoever has it open for writing; if it is "
            f"damaged, move it away and type {_night(home)}"
        ) from error
    with connection:
        connection.execute("set timezone = 'UTC'")
        yield connection


def _select(connection: DuckDBPyConnection, statement: str, **params: int) -> pl.DataFrame:
    rows: pl.DataFrame = connection.sql(statement, params=params).pl()
    return rows


def _check_published(connection: DuckDBPyConnection, home: Home) -> None:
    if not connection.sql("from recommendations limit 1").fetchall():
        n_runs = len(connection.table("runs"))
        raise NotPublished(
            f"{home.warehouse} holds no recommendations: none of its {n_runs} runs was published. "
            f"Next: `recsys runs --home {home.root}` says why; then {_night(home)}"
        )


def _night(home: Home) -> str:
    return f"`recsys nightly --home {home.root}`"
