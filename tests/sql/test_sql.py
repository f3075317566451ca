"""Every `select` on the warehouse with given and expected rows, the header of every file, and the schema's comments."""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import polars as pl
import pytest

import sql
from recsys.ask import lookup as questions
from recsys.encode.features import fit_features
from recsys.encode.vocabulary import Vocabulary, list_films
from recsys.schema import AGE_BANDS
from recsys.warehouse import lookup
from recsys.warehouse.audit_rules import ROW_RULES
from recsys.warehouse.build import LISTS, TABLES

Row = tuple[Any, ...]

KEY_OF_LISTS = re.compile(r"\n    primary key \([a-z_]+, rank\),")  # left out, so that lists can break the rules

MOVIES = [(1, "Heat", 1995, ["Crime"], 9), (2, "Big", 1988, [], 8), (3, "Ran", None, ["Drama", "War"], None)]
TWINS = [(3, 3), (13, 3)]  # entries of one film
USERS = [(1, "F", 25, "artist", "00100", "25", "gender=F age=25"), (2, *[None] * 5, "all")]
NIGHT, EARLIER = datetime(2026, 11, 21, 3, tzinfo=UTC), datetime(2026, 11, 20, 3, tzinfo=UTC)


INPUTS = (  # relations that rules read in addition to the warehouse
    "ratings (user_id integer, movie_id integer, rating float)",
    "films (movie_id integer, film_id integer)",
    "counted_ratings (movie_id integer, user_id integer, n_ratings bigint, total double, first_rated_at timestamptz, "
    "last_rated_at timestamptz)",
    "described_metrics (metric varchar, unit varchar, better varchar, measures varchar)",
    "blocked (user_id integer, movie_id integer, genre varchar)",
    "caps (movie_id integer, group_name varchar, at_most integer)",
    "available (movie_id integer)",
    "shortened (user_id integer, n_available bigint)",
    "audited (run_id varchar, n integer, middle double)",
    *(
        f"{name} (table_name varchar, column_name varchar, data_type varchar, is_nullable boolean, comment varchar)"
        for name in ("columns_promised", "columns_found")
    ),
    "lists_before (user_id integer, rank integer, movie_id integer, served_by varchar)",
)


@dataclass(frozen=True)
class Case:
    expected: list[Row]
    given: dict[str, list[Row]]  # table: rows
    params: dict[str, Any] = field(default_factory=dict)


def place(user_id: int, rank: int, movie_id: int, score: float = 1.0, *because: int, run_id: str = "r1") -> Row:
    """One row of recommendations with a rating_hat of 4.126 stars."""
    return (user_id, rank, movie_id, score, 4.126, list(because), "history", run_id)


def run(run_id: str) -> Row:
    return (run_id, NIGHT, NIGHT, NIGHT, "ml-1m", "abc", "ordinal", "def", "0.1.0", "published", None, True, None, None)


def ended(run_id: str, verdict: str) -> Row:
    return (*run(run_id)[:9], verdict, "why", False, None, None)


def rolled_back(run_id: str) -> Row:
    return (*ended(run_id, "rolled back")[:-3], True, None, None)


def history(run_id: str, day: int, *places: tuple[int, int, int]) -> list[Row]:
    """Rows of recommendation_history for (user_id, rank, movie_id)."""
    as_of = datetime(2026, 11, day, tzinfo=UTC)
    return [(run_id, as_of, user_id, rank, movie_id, 1 / rank, 4.5, [9]) for user_id, rank, movie_id in places]


FIRST_AT, LAST_AT = datetime(1998, 4, 1, tzinfo=UTC), datetime(1998, 4, 22, tzinfo=UTC)
COUNTED = (2, 7.0, FIRST_AT, LAST_AT)  # a row of counted_ratings without its ids: 3 and 4 stars
NOTHING = (0, None, *[0] * 10, None, None)  # a row of statistics without its key


def counted(*stars: int) -> Row:
    """The same for whole stars of the same dates."""
    by_star = [stars.count(half / 2) for half in range(1, 11)]
    return (len(stars), sum(stars) / len(stars), *by_star, FIRST_AT, LAST_AT)


CASES = {
    "audit_run": Case(
        given={
            "recommendations": [place(1, 1, 1), place(1, 2, 2, run_id="r0"), place(2, 1, 2, run_id="r0")],
            "default_recommendations": [("all", 1, 1, 1.0, "r0"), ("all", 2, 2, 0.5, "r1")],
            "similar_movies": [(1, 1, 2, 1.0, "r2"), (2, 1, 1, 1.0, "r1")],
            "audited": [("r1", 2)],
        },
        expected=[("r0", 3), ("r2", 1)],
    ),
    "audit_served_by": Case(
        given={
            "recommendations": [
                (*place(user_id, rank, rank)[:-2], served_by, "r1")
                for user_id, served_by in enumerate(["history", "few ratings", "features", "default", "taste", ""], 1)
                for rank in (1, 2)
            ]
        },
        expected=[(5, "taste"), (6, "")],
    ),
    "audit_any": Case(given={"users": USERS}, expected=[(2,)]),
    "audit_links": Case(given={"movies": MOVIES, "links": [(1, "0113277", 949), (7, None, 1)]}, expected=[(7,)]),
    # The list of user 2 would be that of all, which is missing; user 3 is of an older version.
    "audit_segments": Case(
        given={
            "users": [*USERS, (3, *[None] * 6)],
            "default_recommendations": [("gender=F age=25", 1, 1, 1.0, "r1"), ("gender=F age=25", 2, 2, 0.5, "r1")],
        },
        expected=[(2, "all")],
    ),
    # The distribution of movie 2 adds up to 6 stars instead of 7; movie 3 has no row; movie 9 is unknown.
    "audit_movie_stats": Case(
        given={
            "movies": [*MOVIES, (4, "Fargo", 1996, [], 0)],
            "counted_ratings": [(movie_id, None, *COUNTED) for movie_id in (1, 2, 3)],
            "movie_stats": [
                (1, *counted(3, 4)),
                (2, 2, 3.5, *counted(3, 3)[2:]),
                (4, *NOTHING),
                (9, *NOTHING),
            ],
        },
        expected=[(2, 2, 2, 7.0, 6.0), (3, 2, None, 7.0, None), (9, None, 0, None, 0.0)],
    ),
    # The mean of user 1 is wrong, user 2 has no rating.
    "audit_user_stats": Case(
        given={
            "users": USERS,
            "counted_ratings": [(None, 1, *COUNTED)],
            "user_stats": [(1, "all", None, 2, 3.0, *counted(3, 4)[2:]), (2, "all", None, *NOTHING)],
        },
        expected=[(1, 2, 2, 7.0, 7.0)],
    ),
    "metric_names": Case(
        given={
            "metrics": [
                ("r1", model, "holdout", "all", metric, 0.5)
                for model, metric in (
                    ("ordinal", "mae_median"),
                    ("bias", "mae_median"),
                    ("ordinal", "mae_median_difference_low"),
                    ("ordinal", "coverage_at_10_ratio"),
                    ("ordinal", "churn_at_7"),
                    ("ordinal", "nameless"),
                )
            ],
            "described_metrics": [
                ("mae_*", "nats", "up", "error"),
                ("mae_median", "stars", "down", "error of the median"),
                ("coverage_at_10", "share", "up", "movies shown"),
                ("churn_at_*", "share", None, "movies that left"),
            ],
        },
        expected=[
            ("churn_at_7", "movies that left", "share", None),
            ("coverage_at_10_ratio", "value of the model divided by that of the champion: movies shown", "ratio", "up"),
            ("mae_median", "error of the median", "stars", "down"),
            (
                "mae_median_difference_low",
                "lower end of the interval of: value of the model minus that of the champion: error of the median",
                "stars",
                "down",
            ),
        ],
    ),
    # The column age has another type, zip_code is missing, mood is new, gender is nullable, id has no comment.
    "audit_contract": Case(
        given={
            "columns_promised": [
                ("users", "", "table", False, "Who."),
                ("users", "age", "SMALLINT", True, "Years."),
                ("users", "gender", "VARCHAR", False, "M or F."),
                ("users", "id", "INTEGER", False, "Number."),
                ("users", "zip_code", "VARCHAR", True, "Code."),
            ],
            "columns_found": [
                ("users", "", "table", False, "Who."),
                ("users", "age", "INTEGER", True, "Years."),
                ("users", "gender", "VARCHAR", True, "M or F."),
                ("users", "id", "INTEGER", False, None),
                ("users", "mood", "VARCHAR", True, "How."),
            ],
        },
        expected=[
            ("users", "age", "SMALLINT", "INTEGER", True),
            ("users", "gender", "VARCHAR not null", "VARCHAR", True),
            ("users", "id", "INTEGER not null", "INTEGER not null", False),
            ("users", "mood", None, "VARCHAR", True),
            ("users", "zip_code", "VARCHAR", None, False),
        ],
    ),
    "audit_known": Case(
        given={
            "movies": MOVIES,
            "users": USERS,
            "recommendations": [place(1, 1, 3), place(1, 2, 9), place(7, 1, 1)],
            "default_recommendations": [("all", 1, 1, 1.0, "r1"), ("all", 2, 9, 0.5, "r1")],
            "similar_movies": [(1, 1, 9, 1.0, "r1"), (8, 1, 2, 1.0, "r1"), (2, 1, 3, 1.0, "r1")],
        },
        expected=[
            (1, None, None, 2, 9),
            (7, None, None, 1, 1),
            (None, "all", None, 2, 9),
            (None, None, 1, 1, 9),
            (None, None, 8, 1, 2),
        ],
    ),
    # Movies 1 to 3 may be shown, 9 may not; n is 2. User 1 has two unrated movies; 2 has one; 3 has none, but one
    # listed; 4 has a list that is too short; 5 has no list; 6 has no ratings and a full list; 7 has neither; 8 has
    # rated only movie 9, so three are left. Rules leave one movie to user 10, and more than the available ones to 11.
    "audit_length": Case(
        given={
            "users": [(user_id, *[None] * 6) for user_id in (1, 2, 3, 4, 5, 6, 7, 8, 10, 11)],
            "ratings": [(1, 1), (2, 1), (2, 2), (3, 1), (3, 2), (3, 3), (4, 1), (5, 3), (8, 9), (11, 1), (11, 2)],
            "available": [(1,), (2,), (3,)],
            "shortened": [(10, 1), (11, 5)],
            "recommendations": [
                *(place(1, 1, 2), place(1, 2, 3), place(2, 1, 3), place(3, 1, 1)),
                *(place(4, 1, 2), place(6, 1, 1), place(6, 2, 2), place(8, 1, 1), place(8, 2, 2)),
                *(place(10, 1, 3), place(11, 1, 3)),
            ],
            "audited": [("r1", 2)],
        },
        expected=[(3, 1, 0), (4, 1, 2), (5, 0, 2), (7, 0, 2)],
    ),
    # Movies 1, 3 and its twin 13 may be shown: two films. User 1 has seen one film, under both ids, and 2 under one.
    "audit_length of twins": Case(
        given={
            "films": TWINS,
            "users": [(user_id, None, None, None, None) for user_id in (1, 2, 3)],
            "ratings": [(1, 3), (1, 13), (2, 13), (2, 9)],
            "available": [(1,), (3,), (13,)],
            "recommendations": [place(1, 1, 1), place(2, 1, 1), place(2, 2, 3), place(3, 1, 13), place(3, 2, 1)],
            "audited": [("r1", 3)],
        },
        expected=[(2, 2, 1)],
    ),
    # Movie 3 may not be shown; 9 is not a movie, which another rule reports.
    "audit_available": Case(
        given={
            "movies": MOVIES,
            "available": [(1,), (2,)],
            "recommendations": [place(1, 1, 3), place(1, 2, 1), place(2, 1, 9)],
            "default_recommendations": [("all", 1, 3, 1.0, "r1"), ("all", 2, 2, 0.5, "r1")],
            "similar_movies": [(3, 1, 1, 0.5, "r1"), (1, 1, 3, 0.5, "r1")],
        },
        expected=[(3, 3)],
    ),
    "audit_ranks": Case(
        given={
            "recommendations": [
                *(place(1, 1, 3), place(1, 2, 1)),  # right
                *(place(2, 1, 3), place(2, 3, 1)),  # a gap
                *(place(3, 1, 3), place(3, 1, 1)),  # twice the first
                place(4, 0, 1),  # counts from 0
            ],
            "default_recommendations": [
                *(("all", 1, 3, 2.0, "r1"), ("all", 2, 1, 1.0, "r1")),
                *(("age=1", 1, 3, 2.0, "r1"), ("age=1", 3, 1, 1.0, "r1")),
            ],
            "similar_movies": [(3, 1, 2, 2.0, "r1"), (3, 1, 1, 1.0, "r1"), (4, 0, 1, 1.0, "r1")],
        },
        expected=[
            (2, None, None, 3, 2),
            (3, None, None, 1, 2),
            (4, None, None, 0, 1),
            (None, "age=1", None, 3, 2),
            (None, None, 3, 1, 2),
            (None, None, 4, 0, 1),
        ],
    ),
    "audit_distinct": Case(
        given={
            "recommendations": [place(1, 1, 3), place(1, 2, 3), place(2, 1, 3), place(2, 2, 1)],
            "default_recommendations": [("all", 1, 3, 1.0, "r1"), ("all", 2, 3, 1.0, "r1"), ("age=1", 1, 3, 1.0, "r1")],
            "similar_movies": [(1, 1, 3, 1.0, "r1"), (1, 2, 3, 1.0, "r1"), (3, 1, 1, 1.0, "r1")],
        },
        expected=[(1, None, None, 3, 2), (None, "all", None, 3, 2), (None, None, 1, 3, 2)],
    ),
    "audit_distinct of twins": Case(
        given={
            "films": TWINS,
            "recommendations": [place(1, 1, 13), place(1, 2, 3), place(2, 1, 3), place(2, 2, 1)],
            "default_recommendations": [("all", 1, 3, 1.0, "r1"), ("all", 2, 13, 1.0, "r1"), ("a=1", 1, 3, 1.0, "r1")],
            "similar_movies": [(1, 1, 3, 1.0, "r1"), (1, 2, 13, 1.0, "r1"), (3, 1, 1, 1.0, "r1")],
        },
        expected=[(1, None, None, 3, 2), (None, "all", None, 3, 2), (None, None, 1, 3, 2)],
    ),
    "audit_unseen": Case(
        given={"ratings": [(1, 3), (2, 1)], "recommendations": [place(1, 1, 1), place(1, 2, 3), place(2, 1, 3)]},
        expected=[(1, 2, 3)],
    ),
    # User 1 has rated 3, user 2 its twin 13, user 3 another movie.
    "audit_unseen under another id": Case(
        given={
            "films": TWINS,
            "ratings": [(1, 3), (2, 13), (3, 1)],
            "recommendations": [place(1, 1, 13), place(1, 2, 1), place(2, 1, 3), place(3, 1, 3), place(3, 2, 2)],
        },
        expected=[(1, 1, 13), (2, 1, 3)],
    ),
    "audit_finite": Case(
        given={
            "recommendations": [
                *(place(1, 1, 1, math.inf), place(1, 2, 2, -1e300), place(1, 3, 3, -math.inf)),
                (2, 1, 1, 1.0, -math.inf, [], "history", "r1"),
            ],
            "default_recommendations": [("all", 1, 3, math.inf, "r1"), ("all", 2, 1, -1e300, "r1")],
            "similar_movies": [(1, 1, 3, 1.0, "r1"), (1, 2, 2, -math.inf, "r1")],
        },
        expected=[
            (1, None, None, 1, math.inf, None),
            (1, None, None, 3, -math.inf, None),
            (2, None, None, 1, None, -math.inf),
            (None, "all", None, 1, math.inf, None),
            (None, None, 1, 2, -math.inf, None),
        ],
    ),
    # Equal scores are in order. A NaN, which DuckDB sorts above all numbers, is left to audit_finite.
    "audit_order": Case(
        given={
            "recommendations": [
                *(place(1, 1, 1, 2.0), place(1, 2, 2, 2.0), place(1, 3, 3, 2.5)),
                *(place(2, 1, 1, 0.5), place(2, 2, 2, math.nan), place(2, 3, 3, 0.25)),
            ],
            "default_recommendations": [("all", 1, 3, 2.0, "r1"), ("all", 2, 1, 2.0, "r1"), ("all", 3, 2, 2.5, "r1")],
            "similar_movies": [(1, 1, 3, 0.5, "r1"), (1, 2, 2, math.nan, "r1"), (2, 1, 3, 0.75, "r1")],
        },
        expected=[(1, None, None, 3, 2.5, 2.0), (None, "all", None, 3, 2.5, 2.0)],
    ),
    # Heat and the genre Crime are blocked for all, Ran for user 2, War and Drama for user 3, nothing for user 4.
    "audit_blocked": Case(
        given={
            "movies": MOVIES,
            "blocked": [(None, 1, None), (None, None, "Crime"), (2, 3, None), (3, None, "War"), (3, None, "Drama")],
            "recommendations": [
                *(place(1, 1, 2), place(1, 2, 1)),
                *(place(2, 1, 3), place(2, 2, 2)),
                *(place(3, 1, 2), place(3, 2, 3)),
                *(place(4, 1, 3), place(4, 2, 2)),
            ],
        },
        expected=[(1, 2, 1), (2, 1, 3), (3, 2, 3)],
    ),
    # Movie 3 is in two groups. User 1 has one movie too many of the first; user 2 has as many as are allowed.
    "audit_caps": Case(
        given={
            "caps": [(1, "caps[0] Drama", 1), (3, "caps[0] Drama", 1), (2, "caps[0] War", 2), (3, "caps[0] War", 2)],
            "recommendations": [place(1, 1, 1), place(1, 2, 2), place(1, 3, 3), place(2, 1, 3), place(2, 2, 2)],
            "default_recommendations": [("all", 1, 1, 1.0, "r1"), ("all", 2, 3, 1.0, "r1")],
            "similar_movies": [(2, 1, 1, 1.0, "r1"), (2, 2, 3, 1.0, "r1")],
        },
        expected=[(1, None, "caps[0] Drama", 1, 2), (None, "all", "caps[0] Drama", 1, 2)],
    ),
    # One of the movies 1 and 3 may be listed; 2 and 4 are in no group. User 1 has rated 4 and has room for 2, which is
    # blocked for user 2; both 2 and 4 are blocked for user 3. Segment all is complete, gender=F has room for 1 or 3.
    "audit_room": Case(
        given={
            "movies": [
                (1, "A", 1, ["Drama"], 1),
                (2, "B", 1, ["Crime"], 1),
                (3, "C", 1, [], 1),
                (4, "D", 1, ["War"], 1),
            ],
            "available": [(1,), (2,), (3,), (4,)],
            "caps": [(1, "caps[0] Drama", 1), (3, "caps[0] Drama", 1)],
            "blocked": [(2, None, "Crime"), (3, 2, None), (3, None, "War"), (None, 9, None)],
            "ratings": [(1, 4), (2, 4)],
            "recommendations": [place(1, 1, 1), place(2, 1, 3), place(3, 1, 1)],
            "default_recommendations": [
                *(("all", rank, movie_id, 1.0, "r1") for rank, movie_id in ((1, 1), (2, 2), (3, 4))),
                *(("gender=F", rank, movie_id, 1.0, "r1") for rank, movie_id in ((1, 2), (2, 4))),
            ],
            "similar_movies": [(1, 1, 2, 1.0, "r1")],
            "audited": [("r1", 3)],
        },
        expected=[(1, None, 2, 1), (None, "gender=F", 1, 2)],
    ),
    # User 1 has room for 2, but not for 13, whose twin is listed; user 2 has none for 3, whose twin they have rated.
    "audit_room of twins": Case(
        given={
            "films": TWINS,
            "available": [(1,), (2,), (3,), (13,)],
            "caps": [(1, "caps[0] Drama", 1)],
            "ratings": [(2, 13)],
            "recommendations": [place(1, 1, 1), place(1, 2, 3), place(2, 1, 1), place(2, 2, 2)],
            "audited": [("r1", 3)],
        },
        expected=[(1, None, 2, 1)],
    ),
    # Four movies may be shown, and n is 2: age=1 has one too few, gender=F one too many.
    "audit_default_length": Case(
        given={
            "available": [(1,), (2,), (3,), (4,)],
            "default_recommendations": [
                *(("all", rank, rank, 1.0, "r1") for rank in (1, 2)),
                ("age=1", 1, 1, 1.0, "r1"),
                *(("gender=F", rank, rank, 1.0, "r1") for rank in (1, 2, 3)),
            ],
            "audited": [("r1", 2)],
        },
        expected=[("age=1", 1, 2), ("gender=F", 3, 2)],
    ),
    "audit_default_length where fewer may be shown, and under caps": Case(
        given={
            "available": [(1,), (2,), (3,)],
            "caps": [(1, "caps[0] Drama", 1)],
            "default_recommendations": [
                *(("all", rank, rank, 1.0, "r1") for rank in (1, 2, 3)),
                ("age=1", 1, 1, 1.0, "r1"),
            ],
            "audited": [("r1", 10)],
        },
        expected=[],
    ),
    "audit_default_length of twins": Case(
        given={
            "films": TWINS,
            "available": [(1,), (3,), (13,)],
            "default_recommendations": [("all", 1, 1, 1.0, "r1"), ("all", 2, 3, 0.5, "r1"), ("age=1", 1, 1, 1.0, "r1")],
            "audited": [("r1", 3)],
        },
        expected=[("age=1", 1, 2)],
    ),
    "audit_strangers": Case(
        given={
            "ratings": [(1, 2), (1, 3), (2, 1)],
            "recommendations": [
                (*place(user_id, 1, 1)[:-2], served_by, "r1")
                for user_id, served_by in (
                    *((1, "history"), (2, "few ratings"), (3, "default"), (4, "features")),  # right
                    *((1, "default"), (2, "features"), (3, "history"), (4, "few ratings")),
                )
            ],
        },
        expected=[(1, "default", 2), (2, "features", 1), (3, "history", 0), (4, "few ratings", 0)],
    ),
    # User 1 keeps one of two movies and has equal scores, 2 is new and has no ratings, 3 is missing. The scale is 1 to
    # 3 stars, so 4.126 stars exceed it by 0.563 of its length.
    "measure_lists": Case(
        given={
            "recommendations": [
                *(place(1, 1, 1), place(1, 2, 2), place(1, 3, 3)),
                *((*place(2, rank, rank, 1 / rank)[:-2], "default", "r1") for rank in (1, 2, 3)),
            ],
            "lists_before": [
                *((1, 1, 2, "history"), (1, 2, 9, "history")),
                *((3, 1, 1, "history"), (3, 2, 2, "history")),
            ],
        },
        params={"n_available": 1000, "lowest": 1.0, "highest": 3.0},
        expected=[(1.0, 0.5, 0.5, None, 0.5, 0.5, pytest.approx(0.563))],
    ),
    # Movie 1 is in the lists of 75 of 100 users; the list of a user without ratings does not count.
    "measure_lists of enough users": Case(
        given={
            "recommendations": [
                *(place(user_id, 1, 1 if user_id <= 75 else 2) for user_id in range(1, 101)),
                (*place(101, 1, 1)[:-2], "default", "r1"),
            ],
        },
        params={"n_available": 10, "lowest": None, "highest": None},
        expected=[(None, pytest.approx(1 / 101), None, 0.75, None, 0.0, None)],
    ),
    "measure_lists of too few movies": Case(
        given={"recommendations": [place(user_id, 1, 1) for user_id in range(1, 101)]},
        params={"n_available": 9, "lowest": 4.0, "highest": 5.0},
        expected=[(None, 0.0, None, None, None, 0.0, 0.0)],
    ),
    "audit_because": Case(
        given={
            "ratings": [(1, 2), (1, 3), (2, 1)],
            "recommendations": [place(1, 1, 1, 1.0, 3, 2), place(2, 1, 3, 1.0, 1, 2), place(2, 2, 2, 1.0, 2)],
        },
        expected=[(2, 2)],
    ),
    # The middle of the scale is 3. User 1 has a mean of 4, user 2 a mean of 2; user 3 has rated 13 and 3 with 4 stars.
    "audit_because_liked": Case(
        given={
            "ratings": [(1, 1, 4), (1, 2, 5), (1, 3, 3), (2, 1, 1), (2, 2, 2), (2, 3, 3), (3, 3, 4), (3, 13, 4)],
            "recommendations": [
                *(place(1, 1, 7, 1.0, 1, 2), place(1, 2, 8, 1.0, 3)),
                *(place(2, 1, 7, 1.0, 3, 2), place(2, 2, 8, 1.0, 2), place(3, 1, 7, 1.0, 3)),
            ],
            "audited": [("r1", 2, 3.0)],
        },
        expected=[(1, 3, 3.0, 4.0), (2, 2, 2.0, 3.0)],
    ),
    "audit_because_liked on an unknown scale": Case(
        given={
            "ratings": [(2, 1, 1), (2, 2, 2), (2, 3, 3)],
            "recommendations": [place(2, 1, 7, 1.0, 3, 2), place(2, 2, 8, 1.0, 1)],
            "audited": [("r1", 2, None)],
        },
        expected=[(2, 1, 1.0, 2.0)],
    ),
    "audit_because_distinct": Case(
        given={
            "films": TWINS,
            "recommendations": [place(1, 1, 7, 1.0, 13, 1, 3), place(1, 2, 8, 1.0, 3, 1), place(2, 1, 7, 1.0, 2, 2)],
        },
        expected=[(1, 1, 3, 2), (2, 1, 2, 2)],
    ),
    "audit_default_all": Case(
        given={"default_recommendations": [("gender=F", 1, 1, 1.0, "r1"), ("gender=M", 1, 1, 1.0, "r1")]},
        expected=[(2,)],
    ),
    "audit_similar_self": Case(
        given={"similar_movies": [(1, 1, 2, 1.0, "r1"), (2, 1, 1, 1.0, "r1"), (2, 2, 2, 0.5, "r1")]},
        expected=[(2, 2)],
    ),
    "audit_similar_self of twins": Case(
        given={
            "films": TWINS,
            "similar_movies": [
                (3, 1, 13, 1.0, "r1"),
                (3, 2, 1, 1.0, "r1"),
                (13, 1, 1, 1.0, "r1"),
                (13, 2, 3, 1.0, "r1"),
            ],
        },
        expected=[(3, 1), (13, 2)],
    ),
    "recommend": Case(
        given={
            "movies": MOVIES,
            "recommendations": [place(1, 2, 1, 0.5), place(1, 1, 2, 0.75, 3, 1), place(2, 1, 1)],
        },
        params={"user_id": 1},
        expected=[
            ("r1", 1, 2, "Big", 1988, 0.75, 4.126, [3, 1], ["Ran", "Heat"], "history"),
            ("r1", 2, 1, "Heat", 1995, 0.5, 4.126, [], [], "history"),
        ],
    ),
    "recommend_default": Case(
        given={
            "movies": MOVIES,
            "default_recommendations": [("all", 2, 3, 0.5, "r1"), ("all", 1, 2, 1.0, "r1"), ("age=1", 1, 1, 1.0, "r1")],
        },
        params={"segment": "all"},
        expected=[
            ("r1", 1, 2, "Big", 1988, 1.0, None, [], [], "default"),
            ("r1", 2, 3, "Ran", None, 0.5, None, [], [], "default"),
        ],
    ),
    "list_segments": Case(
        given={"default_recommendations": [(name, 1, 1, 1.0, "r1") for name in ("gender=M", "age=1", "all", "age=1")]},
        expected=[("all",), ("age=1",), ("gender=M",)],
    ),
    "served_lists": Case(
        given={
            "runs": [run("r1"), (*run("r0")[:4], "x", *run("r0")[5:])],
            "recommendations": [place(2, 1, 3), place(1, 1, 2)],
        },
        params={"dataset": "ml-1m"},
        expected=[(1, 1, 2), (2, 1, 3)],
    ),
    "find_place": Case(
        given={"recommendations": [place(1, 1, 2), place(1, 2, 3), place(2, 1, 3)]},
        params={"user_id": 1, "movie_id": 3},
        expected=[("r1", 2)],
    ),
    "rated_movies": Case(given={"movies": MOVIES[::-1]}, expected=MOVIES),
    "similar": Case(
        given={
            "movies": MOVIES,
            "similar_movies": [(1, 2, 3, 0.5, "r1"), (1, 1, 2, 0.75, "r1"), (2, 1, 1, 1.0, "r1")],
        },
        params={"movie_id": 1},
        expected=[("r1", 1, 2, "Big", 1988, [], 0.75), ("r1", 2, 3, "Ran", None, ["Drama", "War"], 0.5)],
    ),
    "known_users": Case(given={"users": USERS}, params={"user_id": 3}, expected=[(2, 1, 2, False)]),
    # r1 had no champion, slices of r2 do not count, too few users of r3 had a relevant movie.
    "losses": Case(
        given={
            "runs": [run("r1"), (*run("r2")[:-2], "r1", None), (*run("r3")[:-2], "r1", None)],
            "metrics": [
                ("r2", "ordinal", "holdout", "against=champion", "mae_median_difference", 0.25),
                ("r2", "ordinal", "holdout", "against=champion", "mae_median_difference_low", 0.125),
                ("r2", "ordinal", "holdout", "against=champion", "ndcg_at_10_difference", 0.5),
                ("r2", "ordinal", "holdout", "against=champion genre=War", "mae_median_difference", 9.0),
                ("r2", "ordinal", "holdout", "against=best", "mae_median_difference", 9.0),
                ("r3", "ordinal", "holdout_time", "against=champion", "mae_median_difference", -0.25),
            ],
        },
        expected=[("r2", "r1", 0.25, -0.5), ("r3", "r1", -0.25, 0.0)],
    ),
    "list_runs": Case(
        given={"runs": [run("r2"), run("r3"), run("r1")]}, params={"limit": 2}, expected=[run("r1"), run("r3")]
    ),
    # r1 is not among the two newest with metrics, r3 has no metrics, other slices of r4 do not count.
    "night_figures": Case(
        given={
            "runs": [run("r1"), run("r2"), ended("r3", "data refused"), ended("r4", "held back")],
            "metrics": [
                ("r1", "ordinal", "holdout", "all", "mae_median", 0.7),
                ("r2", "ordinal", "holdout", "all", "mae_median", 0.6),
                ("r2", "ordinal", "validation", "all", "mae_median", 0.5),
                ("r2", "softmax", "holdout", "all", "mae_median", 0.8),
                ("r2", "bias", "holdout", "all", "mae_rounded", 0.75),
                ("r4", "ordinal", "holdout_time", "all", "mae_median", 0.9),
                ("r4", "ordinal", "holdout_time", "genre=War", "mae_median", 0.4),
                ("r4", "popularity", "holdout_time", "all", "ndcg_at_10", 0.2),
            ],
        },
        params={"dataset": "ml-1m", "limit": 2},
        expected=[
            ("r2", "published", "bias", "mae_rounded", 0.75),
            ("r2", "published", "network", "mae_median", 0.6),
            ("r4", "held back", "network", "mae_median", 0.9),
            ("r4", "held back", "popularity", "ndcg_at_10", 0.2),
        ],
    ),
    "last_published": Case(
        given={"runs": [run("r1"), run("r2"), ended("r3", "held back"), (*run("r4")[:4], "x", *run("r4")[5:])]},
        params={"dataset": "ml-1m"},
        expected=[("r2", "abc")],
    ),
    # A roll-back to r1 has a row of its own, but no lists.
    "last_published after a roll-back": Case(
        given={
            "runs": [run("r1"), run("r2"), rolled_back("r3")],
            "recommendations": [place(1, 1, 1, run_id="r1")],
        },
        params={"dataset": "ml-1m"},
        expected=[("r1", "abc")],
    ),
    "served_run": Case(
        given={"runs": [run("r1"), run("r2")], "recommendations": [place(1, 1, 1), place(1, 2, 2)]},
        expected=[run("r1")],
    ),
    "held_after_rollback": Case(
        given={"runs": [run("r1"), rolled_back("r2"), ended("r3", "held back")]}, expected=[("r2", "why")]
    ),
    "held_after_rollback, and released": Case(
        given={"runs": [rolled_back("r2"), ended("r3", "released"), ended("r4", "failed")]}, expected=[]
    ),
    "held_after_rollback, and published against it": Case(given={"runs": [rolled_back("r2"), run("r3")]}, expected=[]),
    "served_by_runs": Case(given={"runs": [run("r1"), run("r2"), ended("r3", "held back")]}, expected=[("r2",)]),
    "served_by_runs, after a rollback": Case(
        given={
            "runs": [
                *(run("r1"), run("r2"), ended("r4", "released")),
                (*rolled_back("r3")[:-4], "by hand, from run r2 to run r1", True, None, None),
            ]
        },
        expected=[("r1",)],
    ),
    "remembered_runs": Case(
        given={"recommendation_history": [*history("r2", 20, (1, 1, 1), (1, 2, 2)), *history("r1", 21, (1, 1, 1))]},
        expected=[("r1",), ("r2",)],
    ),
    "published_runs": Case(
        given={
            "runs": [run("r1"), run("r3"), ended("r2", "held back"), rolled_back("r4")],
            "recommendations": [place(1, 1, 1)],
        },
        expected=[(*run("r3"), False), (*run("r1"), True)],
    ),
    # A night with two runs, a backfilled one, a refused one, and one of another data set.
    "nights_made": Case(
        given={
            "runs": [
                *(run("r1"), run("r2"), ended("r3", "data refused")),
                ("r4", EARLIER, *ended("r4", "backfilled")[2:]),
                (*run("r5")[:4], "x", *run("r5")[5:]),
            ]
        },
        params={"dataset": "ml-1m"},
        expected=[(EARLIER, "r4"), (NIGHT, "r2")],
    ),
    # r4 restored r1; r5 is a later night that failed; r3 found the lists of r2 unchanged.
    "status": Case(
        given={
            "runs": [
                *(run("r1"), run("r2"), ended("r3", "unchanged")),
                *(rolled_back("r4"), ended("r5", "held back"), ended("r6", "backfilled")),
            ],
            "recommendations": [place(1, 1, 1, run_id="r1")],
        },
        expected=[
            ("served", "r1", "ml-1m", "abc", NIGHT, NIGHT, "published", None),
            ("last_success", "r3", "ml-1m", "abc", NIGHT, NIGHT, "unchanged", "why"),
            ("last_night", "r5", "ml-1m", "abc", NIGHT, NIGHT, "held back", "why"),
        ],
    ),
    "status of nights that published nothing": Case(
        given={"runs": [ended("r1", "data refused")]},
        expected=[("last_night", "r1", "ml-1m", "abc", NIGHT, NIGHT, "data refused", "why")],
    ),
    "sample": Case(
        given={
            "movies": MOVIES,
            "recommendations": [place(2, 1, 1, 0.5, 2), *(place(4, rank, 2) for rank in range(1, 8))],
        },
        expected=[(2, 1, "Heat", 1995, 4.13, ["Big"])],
    ),
}


@pytest.fixture
def connection() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as connection:
        connection.execute("set timezone = 'UTC'")
        connection.execute(KEY_OF_LISTS.sub("", sql.read("schema")))
        for table in INPUTS:
            connection.execute(f"create temp table {table}")
        connection.execute(f"create temp view lists as {sql.read('lists')}")
        yield connection


def insert(connection: duckdb.DuckDBPyConnection, given: dict[str, list[Row]]) -> None:
    """Rows may lack the last columns of a table, which are null."""
    for table, rows in given.items():
        columns = connection.table(table).columns[: len(rows[0])]
        places = ", ".join("?" for _ in columns)
        connection.executemany(f"insert into {table} ({', '.join(columns)}) values ({places})", rows)


@pytest.mark.parametrize("name", CASES)
def test_select_gives_the_expected_rows(connection: duckdb.DuckDBPyConnection, name: str) -> None:
    case = CASES[name]
    insert(connection, case.given)
    file = re.split(r"\W", name)[0]  # the rest of the name distinguishes several cases of one file
    assert connection.sql(sql.read(file), params=case.params).fetchall() == case.expected


ORDERED = [  # cases in which a later run is preferred to an earlier one
    "list_runs", "night_figures", "last_published", "held_after_rollback", "held_after_rollback, and released",
    "held_after_rollback, and published against it", "published_runs", "nights_made", "status",
]  # fmt: skip


@pytest.mark.parametrize("name", ORDERED)
def test_the_newest_run_is_the_one_that_ended_last(connection: duckdb.DuckDBPyConnection, name: str) -> None:
    """With names in reverse, as after a clock that was ahead, the same rows are found."""

    def rename(rows: list[Row]) -> list[Row]:
        names = {f"r{number}": f"r{9 - number}" for number in range(1, 9)}
        return [tuple(names.get(value, value) if isinstance(value, str) else value for value in row) for row in rows]

    case = CASES[name]
    insert(connection, {table: rename(rows) for table, rows in case.given.items()})
    found = connection.sql(sql.read(re.split(r"\W", name)[0]), params=case.params).fetchall()
    assert found == rename(case.expected)


def test_of_two_runs_with_the_same_as_of_the_one_that_ended_last_is_newer(
    connection: duckdb.DuckDBPyConnection,
) -> None:
    rows = [*history("r3", 20, (1, 1, 1)), *history("r1", 20, (1, 1, 2)), *history("r2", 20, (1, 1, 3))]
    insert(connection, {"recommendation_history": rows, "recommendations": [place(1, 1, 3, run_id="r2")]})
    newest = "select run_id from recommendations_as_of('2026-11-21'::timestamptz)"
    assert connection.sql(newest).fetchall() == [("r2",)]
    changes = "select change, movie_id from recommendation_changes order by change"
    assert connection.sql(changes).fetchall() == [("entered", 3), ("left", 2)]


def test_every_rule_and_every_query_has_a_case() -> None:
    texts = [Path(str(module.__file__)).read_text(encoding="utf-8") for module in (lookup, questions)]
    asked = re.findall(r'sql\.read\("(\w+)"\)', "".join(texts))
    assert {*(rule.name for rule in ROW_RULES), "measure_lists", "metric_names", *asked} == {
        re.split(r"\W", name)[0] for name in CASES
    }


def test_audit_any_passes_with_one_recommendation(connection: duckdb.DuckDBPyConnection) -> None:
    insert(connection, {"users": USERS, "recommendations": [place(1, 1, 1)]})
    assert connection.sql(sql.read("audit_any")).fetchall() == []


def test_audit_default_all_passes_without_default_lists(connection: duckdb.DuckDBPyConnection) -> None:
    """It also passes if the list for all is among them."""
    assert connection.sql(sql.read("audit_default_all")).fetchall() == []
    insert(connection, {"default_recommendations": [("all", 1, 1, 1.0, "r1"), ("gender=F", 1, 1, 1.0, "r1")]})
    assert connection.sql(sql.read("audit_default_all")).fetchall() == []


def test_counted_movies(connection: duckdb.DuckDBPyConnection, tmp_path: Path) -> None:
    frames = {
        "movies": pl.DataFrame({"movie_id": [2, 1, 3], "title": ["Big", "Heat", "Heat"]}),
        "ratings": pl.DataFrame({"user_id": [1, 2, 2], "movie_id": [1, 1, 3]}),
        "films": list_films({3: 1}),
    }
    paths = {name: str(tmp_path / f"{name}.parquet") for name in frames}
    for name, frame in frames.items():
        frame.write_parquet(paths[name])
    counted = connection.sql(sql.read("counted_movies"), params=paths)
    assert counted.columns == ["movie_id", "title", "n_ratings", "film_id"]
    assert counted.fetchall() == [(1, "Heat", 2, 1), (2, "Big", 0, 2), (3, "Heat", 1, 1)]


def test_films_are_those_with_several_entries(connection: duckdb.DuckDBPyConnection) -> None:
    """A table of an older version has no film_id: then every movie is a film of its own."""
    insert(
        connection, {"movies": [(1, "Heat", 1995, [], 1, 1), (2, "Big", 1988, [], 1, 2), (3, "Heat", 1995, [], 1, 1)]}
    )
    insert(connection, {"movies": [(4, "Ran", 1985, []), (5, "Ran", 1985, [])]})
    assert sorted(connection.sql(sql.read("films")).fetchall()) == [(1, 1), (3, 1)]


def write(folder: Path, **frames: pl.DataFrame) -> dict[str, str]:
    """Writes each frame to a Parquet file; returns the paths as parameters of a statement."""
    for name, frame in frames.items():
        frame.write_parquet(folder / f"{name}.parquet")
    return {name: str(folder / f"{name}.parquet") for name in frames}


RATINGS = pl.DataFrame(
    {
        "user_id": [1, 1, 2],
        "movie_id": [1, 2, 1],
        "rating": pl.Series([4.0, 0.5, 3.5], dtype=pl.Float32),
        "rated_at": [FIRST_AT, LAST_AT, LAST_AT],
    }
)


def test_statistics(connection: duckdb.DuckDBPyConnection, tmp_path: Path) -> None:
    """Heat has 4 and 3.5 stars, Big 0.5, Ran none. User 3 has not rated."""
    insert(connection, {"movies": MOVIES, "users": [*USERS, (3, *[None] * 6)]})
    connection.execute("update users set segment = 'all' where user_id = 3")
    params = write(tmp_path, ratings=RATINGS)
    no_stars = [0] * 10
    stars = {half: [*no_stars[: half - 1], 1, *no_stars[half:]] for half in (1, 7, 8)}
    of_heat = [a + b for a, b in zip(stars[7], stars[8], strict=True)]
    of_1 = [a + b for a, b in zip(stars[1], stars[8], strict=True)]
    for table, expected in {
        "movie_stats": [
            (1, 2, 3.75, *of_heat, FIRST_AT, LAST_AT),
            (2, 1, 0.5, *stars[1], LAST_AT, LAST_AT),
            (3, *NOTHING),
        ],
        "user_stats": [
            (1, "gender=F age=25", "25", 2, 2.25, *of_1, FIRST_AT, LAST_AT),
            (2, "all", None, 1, 3.5, *stars[7], LAST_AT, LAST_AT),
            (3, "all", None, *NOTHING),
        ],
    }.items():
        connection.execute(f"insert into {table} by name {sql.read(table)}", params)
        assert connection.table(table).fetchall() == expected
    connection.execute(f"insert into counted_ratings by name {sql.read('counted_ratings')}", params)
    assert connection.sql("from counted_ratings order by movie_id, user_id").fetchall() == [
        (1, None, 2, 7.5, FIRST_AT, LAST_AT),
        (2, None, 1, 0.5, LAST_AT, LAST_AT),
        (None, 1, 2, 4.5, FIRST_AT, LAST_AT),
        (None, 2, 1, 3.5, LAST_AT, LAST_AT),
    ]
    for rule in ("audit_movie_stats", "audit_user_stats"):
        assert connection.sql(sql.read(rule)).fetchall() == []


def test_described_users(connection: duckdb.DuckDBPyConnection, tmp_path: Path) -> None:
    """Age bands are those of the networks' features, for every age."""
    ages = [*range(1, 121)]
    users = pl.DataFrame(
        {
            "user_id": [*range(1, 121), 121, 122, 123],
            "gender": ["F"] * 118 + [None, None, "M", None, None],
            "age": [*ages, None, None, None],
            "occupation": ["artist"] * 121 + ["artist", None],
            "zip_code": ["00100"] * 123,
        }
    )
    params = write(tmp_path, users=users) | {"age_bands": [*AGE_BANDS]}
    described = connection.sql(sql.read("described_users"), params=params)
    rows = described.project("user_id, age_band, segment").fetchall()
    movies = pl.DataFrame({"movie_id": [1], "title": ["Heat"], "year": [1995], "genres": [["Crime"]]})
    ids = Vocabulary(np.arange(1, 124, dtype=np.int32), np.ones(1, dtype=np.int32))
    age = fit_features(ids, users, movies).user["age"]
    bands = [age.names[value - 1] for value in age.values[1:121].tolist()]
    assert [band for _, band, _ in rows[:120]] == bands
    assert rows[:2] == [(1, "under 18", "gender=F age=under 18"), (2, "under 18", "gender=F age=under 18")]
    assert [segment for *_, segment in rows[-6:]] == [
        "gender=F age=56", "age=56", "age=56", "gender=M", "occupation=artist", "all",
    ]  # fmt: skip


def test_described_metrics(connection: duckdb.DuckDBPyConnection) -> None:
    described = connection.sql(sql.read("described_metrics"))
    names = [row[0] for row in described.fetchall()]
    assert len(names) == len(set(names)) > 40
    assert names[0] == "mae_median"
    assert {row[2] for row in described.fetchall()} == {"up", "down", "near 1", "as wanted", None}


def test_lists(connection: duckdb.DuckDBPyConnection) -> None:
    insert(connection, {"default_recommendations": [("age=1", 1, 3, 2.0, "r1")]})
    insert(connection, {"similar_movies": [(1, 2, 3, 0.5, "r1")]})
    insert(connection, {"recommendations": [place(7, 1, 2, 1.5)]})
    assert sorted(connection.sql("from lists").fetchall(), key=str) == [
        (7, None, None, 1, 2, 1.5),
        (None, "age=1", None, 1, 3, 2.0),
        (None, None, 1, 2, 3, 0.5),
    ]


def test_described_columns(connection: duckdb.DuckDBPyConnection) -> None:
    """A table and a view, each with one of its columns."""
    described = connection.sql(sql.read("described_columns")).filter("database_name = current_database()")
    named = described.filter("table_name like 'default_recommendations%' and column_name in ('', 'segment')")
    assert sorted(row[1:5] for row in named.fetchall()) == [
        ("default_recommendations", "", "table", False),
        ("default_recommendations", "segment", "VARCHAR", False),
        ("default_recommendations_named", "", "view", False),
        ("default_recommendations_named", "segment", "VARCHAR", True),
    ]
    assert described.filter("comment is null").fetchall() == []


def test_known_users_of_an_empty_table(connection: duckdb.DuckDBPyConnection) -> None:
    assert connection.sql(sql.read("known_users"), params={"user_id": 1}).fetchall() == [(0, None, None, False)]


def test_view_has_a_row_for_each_recommendation(connection: duckdb.DuckDBPyConnection) -> None:
    given = {"movies": MOVIES, "recommendations": [place(1, 1, 3, 0.5, 2, 1), place(1, 2, 2, 0.25)]}
    insert(connection, given)
    assert connection.sql("from recommendations_named order by user_id, rank").fetchall() == [
        (1, 1, 3, "Ran", None, ["Drama", "War"], 0.5, 4.126, [2, 1], ["Big", "Heat"], "history", "r1"),
        (1, 2, 2, "Big", 1988, [], 0.25, 4.126, [], [], "history", "r1"),
    ]


def test_views_of_the_other_lists_name_their_movies(connection: duckdb.DuckDBPyConnection) -> None:
    insert(connection, {"movies": MOVIES})
    insert(connection, {"default_recommendations": [("age=1", 1, 3, 2.0, "r1")]})
    insert(connection, {"similar_movies": [(1, 1, 2, 0.5, "r1")]})
    assert connection.sql("from default_recommendations_named").fetchall() == [
        ("age=1", 1, 3, "Ran", None, ["Drama", "War"], 2.0, "r1")
    ]
    assert connection.sql("from similar_movies_named").fetchall() == [
        (1, "Heat", 1995, 1, 2, "Big", 1988, [], 0.5, "r1")
    ]


def test_the_history_is_named(connection: duckdb.DuckDBPyConnection) -> None:
    """Movie 9 is of another dataset. Runs of older versions have no reasons."""
    as_of = datetime(2026, 11, 20, tzinfo=UTC)
    rows = [("r1", as_of, 1, 1, 3, 0.5, 4.5, [2, 1]), ("r1", as_of, 1, 2, 9, 0.25, 4.0, [])]
    insert(connection, {"movies": MOVIES, "recommendation_history": [*rows, ("r0", as_of, 1, 1, 1, 0.5, None, None)]})
    assert connection.sql("from recommendation_history_named order by run_id, rank").fetchall() == [
        ("r0", as_of, 1, 1, 1, "Heat", 1995, ["Crime"], 0.5, None, None, None),
        ("r1", as_of, 1, 1, 3, "Ran", None, ["Drama", "War"], 0.5, 4.5, [2, 1], ["Big", "Heat"]),
        ("r1", as_of, 1, 2, 9, None, None, None, 0.25, 4.0, [], []),
    ]


def test_lists_as_of_a_time_are_those_of_the_latest_run_up_to_it(connection: duckdb.DuckDBPyConnection) -> None:
    """The as_of of a backfilled run counts, not its start; of two runs with the same as_of, the later one counts."""
    made = [*history("r1", 20, (1, 1, 7)), *history("r2", 22, (1, 1, 8)), *history("r3", 21, (1, 1, 9))]
    insert(connection, {"recommendation_history": [*made, *history("r4", 21, (1, 1, 5), (2, 1, 6))]})
    found = {
        day: connection.sql(
            f"select run_id, user_id, movie_id from recommendations_as_of('2026-11-{day} 00:00+00') order by user_id"
        ).fetchall()
        for day in (19, 20, 21, 23)
    }
    assert found == {19: [], 20: [("r1", 1, 7)], 21: [("r4", 1, 5), ("r4", 2, 6)], 23: [("r2", 1, 8)]}


def test_changes_compare_the_served_lists_with_those_of_the_previous_run(
    connection: duckdb.DuckDBPyConnection,
) -> None:
    """User 3 has a list for the first time, 4 no longer has one; r0 is older, and r3 is newer than the served run."""
    before = history("r1", 21, (1, 1, 7), (1, 2, 8), (2, 1, 7), (4, 1, 7))
    now = history("r2", 22, (1, 1, 8), (1, 2, 9), (2, 1, 7), (3, 1, 5))
    others = [*history("r0", 20, (1, 1, 1)), *history("r3", 23, (1, 1, 1))]
    insert(connection, {"recommendation_history": [*others, *before, *now]})
    assert connection.sql("from recommendation_changes").fetchall() == []
    insert(connection, {"recommendations": [place(1, 1, 8, run_id="r2")]})
    assert connection.sql("from recommendation_changes order by user_id, movie_id").fetchall() == [
        (1, 7, "left", 1, None, "r1", "r2", 2),
        (1, 8, "moved", 2, 1, "r1", "r2", 1),
        (1, 9, "entered", None, 2, "r1", "r2", 1),
        (3, 5, "entered", None, 1, "r1", "r2", 2),
        (4, 7, "left", 1, None, "r1", "r2", 2),
    ]
    insert(connection, {"movies": [(8, "Big", 1988, [], 8)]})
    named = "select title, year, genres, change, places from recommendation_changes_named where user_id = 1"
    assert connection.sql(f"{named} order by movie_id").fetchall() == [
        (None, None, None, "left", 2), ("Big", 1988, [], "moved", 1), (None, None, None, "entered", 1),
    ]  # fmt: skip


def test_a_run_on_another_dataset_is_not_the_run_before(connection: duckdb.DuckDBPyConnection) -> None:
    made = [*history("r1", 20, (1, 1, 7)), *history("r2", 21, (1, 1, 8)), *history("r3", 22, (1, 1, 9))]
    runs = [run("r1"), (*run("r2")[:4], "ml-100k", *run("r2")[5:]), run("r3")]
    insert(connection, {"runs": runs, "recommendation_history": made, "recommendations": [place(1, 1, 9, run_id="r3")]})
    changes = "select movie_id, change, run_id_before from recommendation_changes order by movie_id"
    assert connection.sql(changes).fetchall() == [(7, "left", "r1"), (9, "entered", "r1")]


def test_the_first_run_has_no_changes(connection: duckdb.DuckDBPyConnection) -> None:
    insert(connection, {"recommendation_history": history("r1", 21, (1, 1, 7))})
    insert(connection, {"recommendations": [place(1, 1, 7)]})
    assert connection.sql("from recommendation_changes").fetchall() == []


def test_every_table_view_and_column_has_a_comment(connection: duckdb.DuckDBPyConnection) -> None:
    connection.execute("drop view temp.lists")
    for table in INPUTS:
        connection.execute(f"drop table temp.{table.partition(' ')[0]}")
    bare = connection.sql("""
        select table_name from duckdb_tables() where comment is null
        union all
        select view_name from duckdb_views() where comment is null and not internal
        union all
        select table_name || '.' || column_name from duckdb_columns() where comment is null and not internal
        union all
        select function_name from duckdb_functions() where comment is null and not internal
    """)
    assert bare.fetchall() == []
    described = connection.sql("select distinct table_name from duckdb_columns() where not internal").fetchall()
    views = {f"{table}_named" for table in ("recommendations", "default_recommendations", "similar_movies", LISTS)}
    assert {name for (name,) in described} == {
        *TABLES, *views, "recommendation_changes", "recommendation_changes_named",
    }  # fmt: skip


@pytest.mark.parametrize("path", sorted(sql.FOLDER.glob("*.sql")), ids=lambda path: path.stem)
def test_the_header_has_its_parts(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    header = [line for line in lines if line.startswith("--")]
    assert lines[0].startswith(f"-- {path.stem}: ")
    for word in ("grain", "reads", "params", "ties"):
        assert any(line.startswith(f"-- {word} ") for line in header), f"{path.name} has no line on its {word}"
