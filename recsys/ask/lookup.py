"""Queries on the published tables, each with its own short-lived, read-only connection."""

from dataclasses import dataclass

import polars as pl
from duckdb import DuckDBPyConnection

import sql
from recsys.ask.titles import find_movie
from recsys.errors import NotPublished, UsageError
from recsys.home import Home
from recsys.warehouse.lookup import check_published, next_night, reading, select

SEGMENTS_NAMED = 12  # maximum in error messages, because an edition has dozens of segments


def recommend(home: Home, user_id: int) -> pl.DataFrame:
    """Returns a user's list, best first: run_id, rank, movie_id, title, year, score, rating_hat (expected stars),
    because_movie_ids, because_titles, served_by.

    The list is empty if the user's ratings and the rules exclude all movies.

    Raises: NotPublished if there are no lists yet; UsageError, which names the default lists, if the user is unknown.
    """
    with reading(home) as connection:
        check_published(connection, home)
        _check_user(connection, home, user_id)
        return select(connection, sql.read("recommend"), user_id=user_id)


def recommend_default(home: Home, segment: str) -> pl.DataFrame:
    """Returns the list for users unknown to the model, in the columns of `recommend`; rating_hat is null.

    `segment` is "all" or properties in any order: gender=F age=25.

    Raises: NotPublished if there are no default lists; UsageError, which names others, if this segment has none.
    """
    with reading(home) as connection:
        check_published(connection, home)
        segments = _segments(connection)
        if not segments:
            raise NotPublished(_lacks(home, "default lists"))
        found = [known for known in segments if _words(known) == _words(segment)]
        if not found:
            raise UsageError(
                f"there is no default list for '{segment}'; there are lists for {_enumerate(segments)}. Next: choose "
                "one of these, or see all in the table default_recommendations"
            )
        return select(connection, sql.read("recommend_default"), segment=found[0])


def similar(home: Home, asked: str) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Finds a movie by title or movie_id, and the movies similar to it.

    The first frame has one row: movie_id, title, year, genres, n_ratings, similarity to the query. The second has the
    similar movies, best first: run_id, rank, movie_id, title, year, genres, similarity; it is empty for a movie without
    ratings.

    Raises: NotPublished if no similar movies are published; UsageError if no movie matches.
    """
    with reading(home) as connection:
        check_published(connection, home)
        if not connection.sql("from similar_movies limit 1").fetchall():
            raise NotPublished(_lacks(home, "similar movies"))
        movie = find_movie(asked, select(connection, sql.read("rated_movies")))
        return movie, select(connection, sql.read("similar"), movie_id=movie["movie_id"].item())


@dataclass(frozen=True)
class Place:
    """The rank of a movie in a user's published list, if it is listed."""

    run_id: str  # the run that published the lists
    movie: pl.DataFrame  # one row: movie_id, title, year, genres, n_ratings, similarity to the query
    rank: int | None
    movies: pl.DataFrame  # all movies, with the same columns except the last


def find_place(home: Home, user_id: int, asked: str) -> Place:
    """Finds the rank of the movie with this title or id in the user's list.

    Raises: NotPublished if there are no lists; UsageError if the user or the movie is unknown.
    """
    with reading(home) as connection:
        check_published(connection, home)
        _check_user(connection, home, user_id)
        movies = select(connection, sql.read("rated_movies"))
        movie = find_movie(asked, movies)
        known = {"user_id": user_id, "movie_id": movie["movie_id"].item()}
        ((run_id, rank),) = connection.execute(sql.read("find_place"), known).fetchall()
        return Place(run_id, movie, rank, movies)


def read_served(home: Home) -> tuple[str, pl.DataFrame]:
    """Returns the run whose lists are served, and all movies: movie_id, title, year, genres, n_ratings.

    Raises: NotPublished if there are no lists.
    """
    with reading(home) as connection:
        check_published(connection, home)
        ((run_id,),) = connection.execute("select any_value(run_id) from recommendations").fetchall()
        return run_id, select(connection, sql.read("rated_movies"))


def _check_user(connection: DuckDBPyConnection, home: Home, user_id: int) -> None:
    known = select(connection, sql.read("known_users"), user_id=user_id).row(0, named=True)
    if not known["is_known"]:
        raise UsageError(
            f"user {user_id} is not known: {home.warehouse} has {known['n_users']:,} users, with ids from "
            f"{known['first_user_id']} to {known['last_user_id']}. Next: choose one from its table users"
            f"{_instead(_segments(connection))}"
        )


def _segments(connection: DuckDBPyConnection) -> list[str]:
    return [segment for (segment,) in connection.sql(sql.read("list_segments")).fetchall()]


def _words(segment: str) -> list[str]:
    return sorted(segment.casefold().split())


def _enumerate(segments: list[str]) -> str:
    more = f" and {len(segments) - SEGMENTS_NAMED} more" if len(segments) > SEGMENTS_NAMED else ""
    return ", ".join(f"'{segment}'" for segment in segments[:SEGMENTS_NAMED]) + more


def _instead(segments: list[str]) -> str:
    """Suggests the default lists."""
    return f", or see a default list with --segment: {_enumerate(segments)}" if segments else ""


def _lacks(home: Home, what: str) -> str:
    return f"{home.warehouse} holds no {what}: the run that published it made none. Next: {next_night(home)}"
