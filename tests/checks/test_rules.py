"""Given and expected rows of each rule's statement; what a whole check makes of them is in test_check.py."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import sql
from recsys.checks.rules import ROW_RULES, list_wrong_columns, table_rules
from recsys.schema import MOVIES, RATINGS
from recsys.settings import CheckConfig

T1, T2 = datetime(2000, 1, 1, tzinfo=UTC), datetime(2000, 1, 2, tzinfo=UTC)

GIVEN = """
create table snapshot_movies (movie_id integer, title varchar, year smallint, genres varchar[], file_row_number bigint);
create table snapshot_users (
    user_id integer, gender varchar, age smallint, occupation varchar, zip_code varchar, file_row_number bigint
);
create table snapshot_ratings (
    user_id integer, movie_id integer, rating float, rated_at timestamptz, file_row_number bigint
);
create table rating_scale (rating float);
create table refused (source_table varchar, file_row_number bigint, rule varchar, position integer);
create table rejects (source_table varchar, source_line bigint, rule varchar, row varchar);
create table movies_lines (source_line bigint, file_row_number bigint);
create table users_lines (source_line bigint, file_row_number bigint);
create table ratings_lines (source_line bigint, file_row_number bigint);
"""


@pytest.fixture
def connection() -> Iterator[duckdb.DuckDBPyConnection]:
    """Empty tables where `check` has views on Parquet, and the same views on them."""
    with duckdb.connect() as connection:
        connection.execute("set timezone = 'UTC'")
        for statement in GIVEN.split(";\n"):
            connection.execute(statement)
        for table in ("movies", "users", "ratings"):
            connection.sql(sql.read(f"admitted_{table}")).create_view(table)
        connection.sql(sql.read("rule_source_lines")).create_view("source_lines")
        yield connection


def give(connection: duckdb.DuckDBPyConnection, table: str, *rows: tuple[Any, ...]) -> None:
    """Rows numbered from 0; where the table has source lines, row i stood on line i + 1."""
    for number, row in enumerate(rows):
        marks = ", ".join("?" * (len(row) + 1))
        connection.execute(f"insert into snapshot_{table} values ({marks})", [*row, number])
        connection.execute(f"insert into {table}_lines values (?, ?)", [number + 1, number])


def refused_rows(connection: duckdb.DuckDBPyConnection, rule: str) -> list[int]:
    query = f"select file_row_number from ({sql.read(f'rule_{rule}')}) order by file_row_number"
    return [number for (number,) in connection.execute(query).fetchall()]


def test_movie_title(connection: duckdb.DuckDBPyConnection) -> None:
    give(connection, "movies", (1, "Heat", 1995, []), (2, "", 1995, []), (3, "  ", 1995, []), (4, "M", 1931, []))
    assert refused_rows(connection, "movie_title") == [1, 2]


def test_movie_year(connection: duckdb.DuckDBPyConnection) -> None:
    years = (1869, 1870, 1995, None, 2100, 2101)
    give(connection, "movies", *((movie, "Heat", year, []) for movie, year in enumerate(years)))
    assert refused_rows(connection, "movie_year") == [0, 5]


def test_movie_id_unique(connection: duckdb.DuckDBPyConnection) -> None:
    give(connection, "movies", *((movie, "Heat", 1995, []) for movie in (7, 8, 7, 9, 7)))
    assert refused_rows(connection, "movie_id_unique") == [2, 4]
    connection.execute("update movies_lines set source_line = 100 - source_line")
    assert refused_rows(connection, "movie_id_unique") == [0, 2]  # now the last row stood on the first line


def test_user_id_unique(connection: duckdb.DuckDBPyConnection) -> None:
    give(connection, "users", *((user, "F", 30, "writer", "0") for user in (7, 8, 7, 9, 7)))
    assert refused_rows(connection, "user_id_unique") == [2, 4]
    connection.execute("update users_lines set source_line = 100 - source_line")
    assert refused_rows(connection, "user_id_unique") == [0, 2]


def test_rating_on_scale(connection: duckdb.DuckDBPyConnection) -> None:
    connection.execute("insert into rating_scale values (0.5), (1.0), (5.0)")
    stars = (0.5, 0.0, 1.0, 5.0, 5.5, 0.75, float("nan"), float("inf"), -1.0)
    give(connection, "ratings", *((1, movie, rating, T1) for movie, rating in enumerate(stars)))
    assert refused_rows(connection, "rating_on_scale") == [1, 4, 5, 6, 7, 8]


def test_rated_at_plausible(connection: duckdb.DuckDBPyConnection) -> None:
    moments = (
        datetime(1994, 12, 31, 23, 59, 59, tzinfo=UTC),
        datetime(1995, 1, 1, tzinfo=UTC),
        datetime(2038, 1, 19, 3, 14, 7, tzinfo=UTC),
        datetime(2038, 1, 19, 3, 14, 8, tzinfo=UTC),
        datetime(1970, 1, 1, tzinfo=UTC),
    )
    give(connection, "ratings", *((1, movie, 3.0, moment) for movie, moment in enumerate(moments)))
    assert refused_rows(connection, "rated_at_plausible") == [0, 3, 4]


def test_rating_movie_known(connection: duckdb.DuckDBPyConnection) -> None:
    give(connection, "movies", (1, "Heat", 1995, []), (2, "", 1995, []))
    give(connection, "ratings", (1, 1, 3.0, T1), (1, 2, 3.0, T1), (1, 3, 3.0, T1))
    assert refused_rows(connection, "rating_movie_known") == [2]
    connection.execute("insert into refused values ('movies', 1, 'movie_title', 0)")
    assert refused_rows(connection, "rating_movie_known") == [1, 2]


def test_rating_unique(connection: duckdb.DuckDBPyConnection) -> None:
    give(
        connection,
        "ratings",
        *((1, 1, 5.0, T1), (1, 1, 1.0, T2)),  # the latest stays, whatever its stars
        *((1, 2, 5.0, T1), (1, 2, 4.0, T1)),  # then the highest
        *((1, 3, 3.0, T1), (1, 3, 3.0, T1)),  # then the one on the lowest line
        *((2, 1, 3.0, T1), (1, 4, 3.0, T1)),  # no repetition: another user, another movie
    )
    assert refused_rows(connection, "rating_unique") == [0, 3, 5]
    connection.execute("update ratings_lines set source_line = 100 - source_line")
    assert refused_rows(connection, "rating_unique") == [0, 3, 4]


def test_a_rule_sees_only_what_earlier_rules_let_through(connection: duckdb.DuckDBPyConnection) -> None:
    give(connection, "ratings", (1, 1, 4.0, T1), (1, 1, 11.0, T2))
    connection.execute("insert into refused values ('ratings', 1, 'rating_on_scale', 4), ('users', 0, 'other', 3)")
    assert refused_rows(connection, "rating_unique") == []
    assert connection.sql("select rating from ratings").fetchall() == [(4.0,)]


def test_quarantine_says_rule_line_and_row(connection: duckdb.DuckDBPyConnection) -> None:
    give(connection, "ratings", (1, 2, 3.7, T1), (1, 3, float("nan"), T1), (9, 9, 3.0, T1))
    give(connection, "movies", (4, "", None, ["Drama"]))
    give(connection, "users", (5, None, 30, "writer", "0"))
    connection.execute(
        "insert into refused values ('ratings', 1, 'b', 1), ('ratings', 0, 'a', 0), ('movies', 0, 'c', 2), "
        "('users', 0, 'd', 3)"
    )
    connection.execute("""insert into rejects values ('ratings', 9, 'unreadable', '{"line":"?"}')""")
    assert connection.sql(sql.read("rule_quarantine")).fetchall() == [
        ("movies", 1, "c", '{"movie_id":4,"title":"","year":null,"genres":["Drama"]}'),
        ("ratings", 1, "a", '{"user_id":1,"movie_id":2,"rating":3.7,"rated_at":"2000-01-01T00:00:00Z"}'),
        ("ratings", 2, "b", '{"user_id":1,"movie_id":3,"rating":"nan","rated_at":"2000-01-01T00:00:00Z"}'),
        ("ratings", 9, "unreadable", '{"line":"?"}'),
        ("users", 1, "d", '{"user_id":5,"gender":null,"age":30,"occupation":"writer","zip_code":"0"}'),
    ]


def test_every_rule_has_a_statement_and_every_statement_a_rule() -> None:
    helpers = {"rule_quarantine", "rule_source_lines"}
    assert {path.stem for path in sql.FOLDER.glob("rule_*.sql")} - helpers == {
        f"rule_{rule.name}" for rule in ROW_RULES
    }


def test_names_of_rules_are_unique() -> None:
    names = [rule.name for rule in ROW_RULES] + [rule.name for rule in table_rules(CheckConfig())]
    assert len(set(names)) == len(names)


def test_canonical_columns_are_not_wrong(tmp_path: Path) -> None:
    pq.write_table(MOVIES.empty_table(), tmp_path / "movies.parquet")
    assert list_wrong_columns(tmp_path / "movies.parquet", MOVIES) == []


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (RATINGS.remove(2), "rating float not null is missing"),
        (RATINGS.append(pa.field("mood", pa.string())), "mood string is not expected"),
        (RATINGS.set(2, pa.field("rating", pa.float64(), nullable=False)), "rating double not null should be"),
        (RATINGS.set(2, pa.field("rating", pa.float32())), "rating float should be rating float not null"),
        (
            RATINGS.set(3, pa.field("rated_at", pa.timestamp("us"), nullable=False)),
            "rated_at timestamp[us] not null should be rated_at timestamp[us, tz=UTC] not null",
        ),
        (pa.schema(list(RATINGS)[::-1]), "the order is rated_at, rating, movie_id, user_id"),
    ],
)
def test_other_columns_are_named(tmp_path: Path, found: pa.Schema, said: str) -> None:
    pq.write_table(found.empty_table(), tmp_path / "ratings.parquet")
    (difference,) = list_wrong_columns(tmp_path / "ratings.parquet", RATINGS)
    assert said in difference
