"""Reads the warehouse for a run: one short-lived, read-only connection per query.

The queries for people are in `recsys.ask.lookup`.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import duckdb
import polars as pl
from duckdb import DuckDBPyConnection

import sql
from recsys.errors import NotPublished
from recsys.home import Home, Run

Losses = dict[str, tuple[str, float, float]]  # by run: its champion, the loss in MAE (stars) and the loss in NDCG@10


def list_runs(home: Home, limit: int) -> pl.DataFrame:
    """The `limit` newest runs, newest first, with the columns of the table `runs`; times are UTC.

    Raises: NotPublished if there is no warehouse yet.
    """
    with reading(home) as connection:
        return select(connection, sql.read("list_runs"), limit=limit)


def read_status(home: Home) -> dict[str, dict[str, Any]]:
    """The runs `served`, `last_success` and `last_night`, by name; a name is absent if there is no such run.

    Each run has run_id, dataset, snapshot, as_of, finished_at (both UTC), verdict and reason.

    Raises: NotPublished if there is a warehouse that cannot be read.
    """
    if not home.warehouse.exists():
        return {}
    with reading(home) as connection:
        rows = select(connection, sql.read("status")).to_dicts()
    return {row.pop("part"): row for row in rows}


def find_published(home: Home, dataset: str) -> tuple[str, str] | None:
    """The newest run of `dataset` that published, and the id of its snapshot; None if there is none.

    Raises: NotPublished if there is a warehouse that cannot be read.
    """
    if not home.warehouse.exists():
        return None
    with reading(home) as connection:
        rows = connection.execute(sql.read("last_published"), {"dataset": dataset}).fetchall()
    return rows[0] if rows else None


def find_served(home: Home) -> dict[str, Any] | None:
    """The row in `runs` of the run whose lists are served; None if no lists are served.

    Raises: NotPublished if there is a warehouse that cannot be read.
    """
    if not home.warehouse.exists():
        return None
    with reading(home) as connection:
        rows = select(connection, sql.read("served_run"))
    return rows.row(0, named=True) if len(rows) else None


def find_served_by_runs(home: Home) -> str | None:
    """The run whose lists should be served, by the table `runs` alone; None if nothing was published.

    Raises: NotPublished if there is no warehouse, or one that cannot be read.
    """
    with reading(home) as connection:
        rows = connection.execute(sql.read("served_by_runs")).fetchall()
    return str(rows[0][0]) if rows else None


def read_losses(home: Home) -> Losses:
    """How much worse each run was than its champion, of those that were compared.

    Raises: NotPublished if there is a warehouse that cannot be read.
    """
    if not home.warehouse.exists():
        return {}
    with reading(home) as connection:
        rows = select(connection, sql.read("losses")).rows()
    return {run_id: (champion, mae, ndcg) for run_id, champion, mae, ndcg in rows}


def find_in_use(tonight: Run) -> set[str]:
    """The runs whose folders are needed whole: tonight's, and the one whose lists are served.

    Raises: NotPublished if there is a warehouse that cannot be read.
    """
    served = find_served(tonight.home)
    return {tonight.run_id} | ({str(served["run_id"])} if served else set())


def find_held(home: Home) -> str | None:
    """The reason of the rollback that blocks publishing; None if publishing is not blocked.

    Raises: NotPublished if there is a warehouse that cannot be read.
    """
    if not home.warehouse.exists():
        return None
    with reading(home) as connection:
        rows = select(connection, sql.read("held_after_rollback"))
    return str(rows["reason"].item()) if len(rows) else None


def read_figures(home: Home, dataset: str, limit: int) -> pl.DataFrame:
    """Errors and list quality of the newest nights, oldest first: run_id, verdict, model (network, bias or popularity),
    metric, value. Empty if no night has run.

    Raises: NotPublished if there is no warehouse, or one that cannot be read.
    """
    with reading(home) as connection:
        return select(connection, sql.read("night_figures"), dataset=dataset, limit=limit)


def list_published(home: Home) -> pl.DataFrame:
    """The runs that published lists, newest first, with the columns of the table `runs` and is_served.

    Raises: NotPublished if there are none.
    """
    with reading(home) as connection:
        check_published(connection, home)
        return select(connection, sql.read("published_runs"))


def list_nights(home: Home, dataset: str) -> dict[datetime, str]:
    """The as_of of every night of a dataset that made lists, with the latest run of that as_of.

    Raises: NotPublished if there is a warehouse that cannot be read.
    """
    if not home.warehouse.exists():
        return {}
    with reading(home) as connection:
        return dict(select(connection, sql.read("nights_made"), dataset=dataset).iter_rows())


def list_remembered(home: Home) -> set[str]:
    """The runs in recommendation_history.

    Raises: NotPublished if there is no warehouse, or one that cannot be read.
    """
    with reading(home) as connection:
        return set(select(connection, sql.read("remembered_runs"))["run_id"])


def find_lists(home: Home, dataset: str) -> pl.DataFrame | None:
    """The served lists (user_id, rank, movie_id); None if the served lists are not of `dataset`.

    Raises: NotPublished if there is a warehouse that cannot be read.
    """
    if find_published(home, dataset) is None:
        return None
    with reading(home) as connection:
        return select(connection, sql.read("served_lists"), dataset=dataset)


def count_rows(home: Home) -> dict[str, int]:
    """The number of rows of each table, by name.

    Raises: NotPublished if there is no warehouse, or one that cannot be read.
    """
    with reading(home) as connection:
        names = connection.sql(
            "select table_name from duckdb_tables() where schema_name = 'main' order by 1"
        ).fetchall()
        return {name: len(connection.table(name)) for (name,) in names}


def sample(home: Home) -> tuple[str, pl.DataFrame]:
    """An example query on the warehouse, and its result.

    Raises: NotPublished if there are no lists yet.
    """
    with reading(home) as connection:
        check_published(connection, home)
        lines = sql.read("sample").splitlines()
        statement = "\n".join(line for line in lines if not line.startswith("--"))
        return statement, select(connection, statement)


@contextmanager
def reading(home: Home) -> Iterator[DuckDBPyConnection]:
    """A read-only connection with times in UTC. It keeps reading the same file if another one is published meanwhile.

    Raises: NotPublished if there is no warehouse, or one that cannot be read.
    """
    if not home.warehouse.exists():
        raise NotPublished(f"{home.warehouse} does not exist yet. Next: {next_night(home)}")
    try:
        connection = duckdb.connect(home.warehouse, read_only=True)
    except duckdb.Error as error:
        raise NotPublished(
            f"{home.warehouse} cannot be opened: {error}. Next: close the program that has it open for writing; "
            f"if the file is damaged, put back a copy from your backup, or move it away and run {next_night(home)}, "
            "which begins a new history"
        ) from error
    with connection:
        connection.execute("set timezone = 'UTC'")
        try:
            yield connection
        except (duckdb.CatalogException, duckdb.BinderException) as error:
            missing = str(error).partition("\n")[0]
            raise NotPublished(
                f"{home.warehouse} was written by an older version of recsys: {missing}. Next: {next_night(home)}"
            ) from error


def select(connection: DuckDBPyConnection, statement: str, **params: int | str) -> pl.DataFrame:
    """The rows of a statement."""
    rows: pl.DataFrame = connection.sql(statement, params=params).pl()
    return rows


def check_published(connection: DuckDBPyConnection, home: Home) -> None:
    """Checks that there are lists. Raises: NotPublished if there are none."""
    if not connection.sql("from recommendations limit 1").fetchall():
        n_runs = len(connection.table("runs"))
        raise NotPublished(
            f"{home.warehouse} holds no recommendations: none of its {n_runs} runs was published. "
            f"Next: `recsys runs --home {home.root}` shows the reasons; then {next_night(home)}"
        )


def next_night(home: Home) -> str:
    """The command that runs a night, for the next step in an error message."""
    return f"`recsys nightly --home {home.root}`"
