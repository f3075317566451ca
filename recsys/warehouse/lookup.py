"""Reads the warehouse for people: one short-lived, read-only connection per question."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import duckdb
import polars as pl
from duckdb import DuckDBPyConnection

import sql
from recsys.ask.titles import find_movie
from recsys.errors import NotPublished, UsageError
from recsys.home import Home

SEGMENTS_NAMED = 12  # by an error; an edition has some dozens


def recommend(home: Home, user_id: int) -> pl.DataFrame:
    """A user's list, best first: rank, title, year, score, rating_hat (stars), because_titles, served_by.

    Empty for a user to whom their ratings and the rules leave nothing.

    Raises: NotPublished if there are no lists yet; UsageError if nobody has that id, naming the default lists.
    """
    with reading(home) as connection:
        check_published(connection, home)
        _check_user(connection, home, user_id)
        return _select(connection, sql.read("recommend"), user_id=user_id)


def recommend_default(home: Home, segment: str) -> pl.DataFrame:
    """The list for users the model does not know, best first: rank, title, year, score.

    `segment` is all, or what such a user is, in any order: gender=F age=25.

    Raises: NotPublished if there are no such lists; UsageError if there is none for that segment, naming others.
    """
    with reading(home) as connection:
        check_published(connection, home)
        segments = _segments(connection)
        if not segments:
            raise NotPublished(_lacks(home, "default lists"))
        meant = [known for known in segments if _words(known) == _words(segment)]
        if not meant:
            raise UsageError(
                f"there is no default list for '{segment}'; there are lists for {_enumerate(segments)}. Next: choose "
                "one of these, or see all in the table default_recommendations"
            )
        return _select(connection, sql.read("recommend_default"), segment=meant[0])


def similar(home: Home, asked: str) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The movie asked for, by title or movie_id, as one row of movie_id, title, year, genres, n_ratings, similarity to
    what was asked; and the movies similar to it, best first: rank, title, year, genres, similarity.

    The second is empty for a movie that nobody has rated.

    Raises: NotPublished if no similar movies are published; UsageError if no movie is called so.
    """
    with reading(home) as connection:
        check_published(connection, home)
        if not connection.sql("from similar_movies limit 1").fetchall():
            raise NotPublished(_lacks(home, "similar movies"))
        movie = find_movie(asked, _select(connection, sql.read("rated_movies")))
        return movie, _select(connection, sql.read("similar"), movie_id=movie["movie_id"].item())


def list_runs(home: Home, limit: int) -> pl.DataFrame:
    """The `limit` newest runs, newest first, with the columns of the table `runs`; moments are UTC.

    Raises: NotPublished if no night has run here yet.
    """
    with reading(home) as connection:
        return _select(connection, sql.read("list_runs"), limit=limit)


def read_status(home: Home) -> dict[str, dict[str, Any]]:
    """What is served and how nights went: served, last_success and last_night, each with run_id, dataset, snapshot,
    as_of, finished_at (both UTC), verdict and reason. What there is none of is absent.

    Raises: NotPublished if there is a warehouse that cannot be read.
    """
    if not home.warehouse.exists():
        return {}
    with reading(home) as connection:
        rows = _select(connection, sql.read("status")).to_dicts()
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
    """The row in `runs` of the run whose lists are served; None if there are none.

    Raises: NotPublished if there is a warehouse that cannot be read.
    """
    if not home.warehouse.exists():
        return None
    with reading(home) as connection:
        rows = _select(connection, sql.read("served_run"))
    return rows.row(0, named=True) if len(rows) else None


def find_held(home: Home) -> str | None:
    """What the roll-back says that keeps nights from publishing; None if none does.

    Raises: NotPublished if there is a warehouse that cannot be read.
    """
    if not home.warehouse.exists():
        return None
    with reading(home) as connection:
        rows = _select(connection, sql.read("held_after_rollback"))
    return str(rows["reason"].item()) if len(rows) else None


def read_figures(home: Home, dataset: str, limit: int) -> pl.DataFrame:
    """Errors and list quality of the newest nights, the oldest of them first: run_id, verdict, model (network, bias or
    popularity), metric, value. Empty if none has run yet.

    Raises: NotPublished if there is no warehouse, or one that cannot be read.
    """
    with reading(home) as connection:
        return _select(connection, sql.read("night_figures"), dataset=dataset, limit=limit)


def list_published(home: Home) -> pl.DataFrame:
    """The runs that published lists, newest first, with the columns of the table `runs` and is_served.

    Raises: NotPublished if there are none.
    """
    with reading(home) as connection:
        check_published(connection, home)
        return _select(connection, sql.read("published_runs"))


def list_nights(home: Home, dataset: str) -> dict[datetime, str]:
    """The moments of a data set for which lists were made, and the run that made them last.

    Raises: NotPublished if there is a warehouse that cannot be read.
    """
    if not home.warehouse.exists():
        return {}
    with reading(home) as connection:
        return dict(_select(connection, sql.read("nights_made"), dataset=dataset).iter_rows())


def list_remembered(home: Home) -> set[str]:
    """The runs whose lists recommendation_history has.

    Raises: NotPublished if there is no warehouse, or one that cannot be read.
    """
    with reading(home) as connection:
        return set(_select(connection, sql.read("remembered_runs"))["run_id"])


def find_lists(home: Home, dataset: str) -> pl.DataFrame | None:
    """The lists that are served (user_id, rank, movie_id), if they are of `dataset`; None if there are none.

    Raises: NotPublished if there is a warehouse that cannot be read.
    """
    if find_published(home, dataset) is None:
        return None
    with reading(home) as connection:
        return _select(connection, sql.read("served_lists"), dataset=dataset)


@dataclass(frozen=True)
class Place:
    """A movie in a user's published list, or not in it."""

    run_id: str  # that published the lists
    movie: pl.DataFrame  # one row: movie_id, title, year, genres, n_ratings, similarity to what was asked
    rank: int | None
    movies: pl.DataFrame  # all of them, with the same columns but the last


def find_place(home: Home, user_id: int, asked: str) -> Place:
    """Where the movie of this title or id stands in the user's list.

    Raises: NotPublished if there are no lists; UsageError if nobody has that id, or no movie is called so.
    """
    with reading(home) as connection:
        check_published(connection, home)
        _check_user(connection, home, user_id)
        movies = _select(connection, sql.read("rated_movies"))
        movie = find_movie(asked, movies)
        known = {"user_id": user_id, "movie_id": movie["movie_id"].item()}
        ((run_id, rank),) = connection.execute(sql.read("find_place"), known).fetchall()
        return Place(run_id, movie, rank, movies)


def read_served(home: Home) -> tuple[str, pl.DataFrame]:
    """The run whose lists are served, and all movies: movie_id, title, year, genres, n_ratings.

    Raises: NotPublished if there are no lists.
    """
    with reading(home) as connection:
        check_published(connection, home)
        ((run_id,),) = connection.execute("select any_value(run_id) from recommendations").fetchall()
        return run_id, _select(connection, sql.read("rated_movies"))


def sample(home: Home) -> tuple[str, pl.DataFrame]:
    """A `select` that anybody may type against the warehouse, and what it answers.

    Raises: NotPublished if there are no lists yet.
    """
    with reading(home) as connection:
        check_published(connection, home)
        lines = sql.read("sample").splitlines()
        statement = "\n".join(line for line in lines if not line.startswith("--"))
        return statement, _select(connection, statement)


@contextmanager
def reading(home: Home) -> Iterator[DuckDBPyConnection]:
    """One read-only connection, so one file, whatever is published while it is open; moments are UTC.

    Raises: NotPublished if there is no warehouse, or one that cannot be read.
    """
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
        try:
            yield connection
        except (duckdb.CatalogException, duckdb.BinderException) as error:
            missing = str(error).partition("\n")[0]
            raise NotPublished(
                f"{home.warehouse} is of an older version of recsys: {missing}. Next: {_night(home)}"
            ) from error


def _select(connection: DuckDBPyConnection, statement: str, **params: int | str) -> pl.DataFrame:
    rows: pl.DataFrame = connection.sql(statement, params=params).pl()
    return rows


def _check_user(connection: DuckDBPyConnection, home: Home, user_id: int) -> None:
    known = _select(connection, sql.read("known_users"), user_id=user_id).row(0, named=True)
    if not known["is_known"]:
        raise UsageError(
            f"user {user_id} is not known: {home.warehouse} has {known['n_users']:,} users, with ids from "
            f"{known['first_user_id']} to {known['last_user_id']}. Next: choose one from its table users"
            f"{_instead(_segments(connection))}"
        )


def check_published(connection: DuckDBPyConnection, home: Home) -> None:
    """Passes if there are lists. Raises: NotPublished if there are none."""
    if not connection.sql("from recommendations limit 1").fetchall():
        n_runs = len(connection.table("runs"))
        raise NotPublished(
            f"{home.warehouse} holds no recommendations: none of its {n_runs} runs was published. "
            f"Next: `recsys runs --home {home.root}` says why; then {_night(home)}"
        )


def _segments(connection: DuckDBPyConnection) -> list[str]:
    return [segment for (segment,) in connection.sql(sql.read("list_segments")).fetchall()]


def _words(segment: str) -> list[str]:
    return sorted(segment.casefold().split())


def _enumerate(segments: list[str]) -> str:
    more = f" and {len(segments) - SEGMENTS_NAMED} more" if len(segments) > SEGMENTS_NAMED else ""
    return ", ".join(f"'{segment}'" for segment in segments[:SEGMENTS_NAMED]) + more


def _instead(segments: list[str]) -> str:
    """What there is for a user nobody knows."""
    return f", or see a default list with --segment: {_enumerate(segments)}" if segments else ""


def _lacks(home: Home, what: str) -> str:
    return f"{home.warehouse} holds no {what}: the run that published it made none. Next: {_night(home)}"


def _night(home: Home) -> str:
    return f"`recsys nightly --home {home.root}`"
