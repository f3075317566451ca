"""Given and expected rows of each rule's statement. test_check.py tests whole checks."""

import math
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import sql
from recsys.checks.findings import Finding
from recsys.checks.rules import ROW_RULES, SHIFT_RULES, UNREADABLE, ShiftRule, list_wrong_columns, table_rules
from recsys.schema import MOVIES, RATINGS, TABLES
from recsys.settings import CheckConfig, LimitConfig, ShiftConfig

T1, T2 = datetime(2000, 1, 1, tzinfo=UTC), datetime(2000, 1, 2, tzinfo=UTC)
MOMENTS = (
    datetime(1994, 12, 31, 23, 59, 59, tzinfo=UTC),
    datetime(1995, 1, 1, tzinfo=UTC),
    T2,
    T2 + timedelta(seconds=1),
    datetime(1970, 1, 1, tzinfo=UTC),
)

GIVEN = """
create table stored_movies (movie_id integer, title varchar, year smallint, genres varchar[], file_row_number bigint);
create table stored_users (
    user_id integer, gender varchar, age smallint, occupation varchar, zip_code varchar, file_row_number bigint
);
create table stored_ratings (
    user_id integer, movie_id integer, rating float, rated_at timestamptz, file_row_number bigint
);
create table stored_superseded (
    user_id integer, movie_id integer, rating float, rated_at timestamptz, until timestamptz, file_row_number bigint
);
create table stored_tags (
    user_id integer, movie_id integer, tag varchar, tagged_at timestamptz, file_row_number bigint
);
create table stored_links (movie_id integer, imdb_id varchar, tmdb_id integer, file_row_number bigint);
create table rating_scale (rating float);
create table compared_scale (rating float);
create table known_genres (genre varchar);
create table moments (started_at timestamptz, as_of timestamptz);
create table previous_ratings (user_id integer, rating float);
create table refused (source_table varchar, file_row_number bigint, rule varchar, position integer);
create table rejects (
    source_table varchar, source_file varchar, source_line bigint, rule varchar, row varchar
);
create table ratings_lines (source_file varchar, source_line bigint, file_row_number bigint);
create table superseded_lines as from ratings_lines;
create table movies_lines as from ratings_lines;
create table users_lines as from ratings_lines;
create table tags_lines as from ratings_lines;
create table links_lines as from ratings_lines;
"""


@pytest.fixture
def connection() -> Iterator[duckdb.DuckDBPyConnection]:
    """A database with empty tables in place of the Parquet files, and with the usual views on them."""
    with duckdb.connect() as connection:
        connection.execute("set timezone = 'UTC'")
        for statement in GIVEN.split(";\n"):
            connection.execute(statement)
        for table in TABLES:
            connection.sql(f"from stored_{table}").create_view(f"snapshot_{table}")
            connection.sql(sql.read(f"admitted_{table}")).create_view(table)
        connection.sql(sql.read("rule_source_lines")).create_view("source_lines")
        yield connection


def give(connection: duckdb.DuckDBPyConnection, table: str, *rows: tuple[Any, ...]) -> None:
    """Inserts rows numbered from 0; row i is from line i + 1."""
    for number, row in enumerate(rows):
        marks = ", ".join("?" * (len(row) + 1))
        connection.execute(f"insert into stored_{table} values ({marks})", [*row, number])
        connection.execute(f"insert into {table}_lines values (?, ?, ?)", [f"{table}.csv", number + 1, number])


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
    assert refused_rows(connection, "movie_id_unique") == [0, 2]  # now the last row is from the first line


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
    """The start of the run is the last valid time of a rating."""
    connection.execute("insert into moments values (?, null)", [T2])
    give(connection, "ratings", *((1, movie, 3.0, moment) for movie, moment in enumerate(MOMENTS)))
    assert refused_rows(connection, "rated_at_plausible") == [0, 3, 4]


@pytest.mark.parametrize(
    ("n", "days", "refused"),
    [
        (498, [366], []),  # one of 499 ratings is more than 0.2%
        (499, [366], [499]),
        (499, [365], []),
        (999, [366, 400], [999, 1000]),
        (999, [200, 400], []),  # no gap of more than a year
        (999, [366, 366, 400], []),  # three of 1,002
        (999, [366, 366, 800], [1001]),
        (8000, [366] * 9, [*range(8000, 8009)]),
        (8000, [366] * 10, []),  # a service that was started again
        (3, [400], []),
    ],
)
def test_rated_at_isolated(connection: duckdb.DuckDBPyConnection, n: int, days: list[int], refused: list[int]) -> None:
    """The last of `n` ratings is dated T1, and further ratings these numbers of days later."""
    connection.execute(
        "insert into stored_ratings select 1, n, 3, $t1::timestamptz - to_minutes($n - 1 - n), n from range($n) r(n)",
        {"n": n, "t1": T1},
    )
    for number, later in enumerate(days, start=n):
        rated_at = T1 + timedelta(days=later)
        connection.execute("insert into stored_ratings values (2, ?, 3, ?, ?)", [number, rated_at, number])
    assert refused_rows(connection, "rated_at_isolated") == refused


def test_tagged_at_plausible(connection: duckdb.DuckDBPyConnection) -> None:
    connection.execute("insert into moments values (?, null)", [T2])
    give(connection, "tags", *((1, movie, "dull", moment) for movie, moment in enumerate(MOMENTS)))
    assert refused_rows(connection, "tagged_at_plausible") == [0, 3, 4]


def test_movie_genres_known(connection: duckdb.DuckDBPyConnection) -> None:
    genres: tuple[list[str], ...] = (["Drama"], [], ["Drama", "War"], ["War", "Robots"], ["drama"], [""])
    give(connection, "movies", *((movie, "Heat", 1995, names) for movie, names in enumerate(genres)))
    assert refused_rows(connection, "movie_genres_known") == []  # without known genres any genre is allowed
    connection.execute("insert into known_genres values ('Drama'), ('War')")
    assert refused_rows(connection, "movie_genres_known") == [3, 4, 5]


def test_user_age(connection: duckdb.DuckDBPyConnection) -> None:
    ages = (0, 1, None, 120, 121, -5)
    give(connection, "users", *((user, "F", age, "writer", "0") for user, age in enumerate(ages)))
    assert refused_rows(connection, "user_age") == [0, 4, 5]


def test_user_gender(connection: duckdb.DuckDBPyConnection) -> None:
    genders = ("F", "M", None, "", "f", "X")
    give(connection, "users", *((user, gender, 30, "writer", "0") for user, gender in enumerate(genders)))
    assert refused_rows(connection, "user_gender") == [3, 4, 5]


def test_tag_not_empty(connection: duckdb.DuckDBPyConnection) -> None:
    give(connection, "tags", *((1, 1, tag, T1) for tag in ("dull", "", "  ", ",", "0")))
    assert refused_rows(connection, "tag_not_empty") == [1, 2]


def test_tag_movie_known(connection: duckdb.DuckDBPyConnection) -> None:
    give(connection, "movies", (1, "Heat", 1995, []), (2, "", 1995, []))
    give(connection, "tags", (1, 1, "dull", T1), (1, 2, "dull", T1), (1, 3, "dull", T1))
    assert refused_rows(connection, "tag_movie_known") == [2]
    connection.execute("insert into refused values ('movies', 1, 'movie_title', 0)")
    assert refused_rows(connection, "tag_movie_known") == [1, 2]


def test_link_movie_known(connection: duckdb.DuckDBPyConnection) -> None:
    give(connection, "movies", (1, "Heat", 1995, []), (2, "", 1995, []))
    give(connection, "links", (1, "0113277", 949), (2, None, None), (3, "0113277", 949))
    assert refused_rows(connection, "link_movie_known") == [2]
    connection.execute("insert into refused values ('movies', 1, 'movie_title', 0)")
    assert refused_rows(connection, "link_movie_known") == [1, 2]


def test_link_movie_unique(connection: duckdb.DuckDBPyConnection) -> None:
    give(connection, "links", *((movie, "0113277", 949) for movie in (7, 8, 7, 9, 7)))
    assert refused_rows(connection, "link_movie_unique") == [2, 4]
    connection.execute("update links_lines set source_line = 100 - source_line")
    assert refused_rows(connection, "link_movie_unique") == [0, 2]
    connection.execute("update links_lines set source_file = 'a.csv' where file_row_number = 2")
    assert refused_rows(connection, "link_movie_unique") == [0, 4]  # the file comes before the line


@pytest.mark.parametrize(
    ("rule", "table", "rows", "refused"),
    [
        (
            "movie_id_unique",
            "movies",
            [(7, "Ran", 1985, []), (7, "Heat", 1996, []), (7, "Heat", 1995, ["War"])],
            [0, 1],
        ),
        (
            "movie_id_unique",
            "movies",
            [(7, "Heat", None, []), (7, "Heat", 1995, ["War"]), (7, "Heat", 1995, [])],
            [0, 1],
        ),
        ("user_id_unique", "users", [(7, "M", 1, "a", "0"), (7, "F", 31, "a", "0"), (7, "F", 30, "b", "9")], [0, 1]),
        ("user_id_unique", "users", [(7, "F", 30, None, "0"), (7, "F", 30, "a", "1"), (7, "F", 30, "a", "0")], [0, 1]),
        ("link_movie_unique", "links", [(7, None, 1), (7, "0113277", None), (7, "0113277", 949)], [0, 1]),
    ],
)
@pytest.mark.parametrize("places", [(1, 2, 3), (3, 2, 1), (2, 3, 1)])
def test_the_duplicate_that_is_kept_depends_on_content_not_on_lines(
    connection: duckdb.DuckDBPyConnection,
    rule: str,
    table: str,
    rows: list[tuple[Any, ...]],
    refused: list[int],
    places: tuple[int, ...],
) -> None:
    """The name of a snapshot does not depend on line numbers."""
    give(connection, table, *rows)
    for number, line in enumerate(places):
        connection.execute(f"update {table}_lines set source_line = ? where file_row_number = ?", [line, number])
    assert refused_rows(connection, rule) == refused
    connection.execute(f"update {table}_lines set source_file = source_line || '.csv'")
    assert refused_rows(connection, rule) == refused


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
        *((1, 1, 5.0, T1), (1, 1, 1.0, T2)),  # the latest is kept, whatever its stars
        *((1, 2, 5.0, T1), (1, 2, 4.0, T1)),  # then the highest
        *((1, 3, 3.0, T1), (1, 3, 3.0, T1)),  # then the one on the lowest line
        *((2, 1, 3.0, T1), (1, 4, 3.0, T1)),  # no repetition: another user, another movie
    )
    assert refused_rows(connection, "rating_unique") == [0, 3, 5]
    connection.execute("update ratings_lines set source_line = 100 - source_line")
    assert refused_rows(connection, "rating_unique") == [0, 3, 4]


def test_a_rule_sees_only_the_rows_that_earlier_rules_admitted(connection: duckdb.DuckDBPyConnection) -> None:
    give(connection, "ratings", (1, 1, 4.0, T1), (1, 1, 11.0, T2))
    connection.execute("insert into refused values ('ratings', 1, 'rating_on_scale', 4), ('users', 0, 'other', 3)")
    assert refused_rows(connection, "rating_unique") == []
    assert connection.sql("select rating from ratings").fetchall() == [(4.0,)]


def test_the_quarantine_has_rule_file_line_and_row(connection: duckdb.DuckDBPyConnection) -> None:
    give(connection, "ratings", (1, 2, 3.7, T1), (1, 3, float("nan"), T1), (9, 9, 3.0, T1))
    give(connection, "movies", (4, "", None, ["Drama"]))
    give(connection, "users", (5, None, 30, "writer", "0"))
    give(connection, "tags", (6, 7, " ", T1))
    give(connection, "links", (8, "0113277", None))
    connection.execute(
        "insert into refused values ('ratings', 1, 'b', 1), ('ratings', 0, 'a', 0), ('movies', 0, 'c', 2), "
        "('users', 0, 'd', 3), ('tags', 0, 'e', 4), ('links', 0, 'f', 5)"
    )
    connection.execute("""insert into rejects values ('ratings', 'new.csv', 1, 'unreadable', '{"line":"?"}')""")
    assert connection.sql(sql.read("rule_quarantine")).fetchall() == [
        ("links", "links.csv", 1, "f", '{"movie_id":8,"imdb_id":"0113277","tmdb_id":null}'),
        ("movies", "movies.csv", 1, "c", '{"movie_id":4,"title":"","year":null,"genres":["Drama"]}'),
        ("ratings", "new.csv", 1, "unreadable", '{"line":"?"}'),
        ("ratings", "ratings.csv", 1, "a", '{"user_id":1,"movie_id":2,"rating":3.7,"rated_at":"2000-01-01T00:00:00Z"}'),
        (
            *("ratings", "ratings.csv", 2, "b"),
            '{"user_id":1,"movie_id":3,"rating":"nan","rated_at":"2000-01-01T00:00:00Z"}',
        ),
        ("tags", "tags.csv", 1, "e", '{"user_id":6,"movie_id":7,"tag":" ","tagged_at":"2000-01-01T00:00:00Z"}'),
        (
            *("users", "users.csv", 1, "d"),
            '{"user_id":5,"gender":null,"age":30,"occupation":"writer","zip_code":"0"}',
        ),
    ]


def test_known_ratings(connection: duckdb.DuckDBPyConnection) -> None:
    """Known at T2 are the ratings before it, and the superseded ones that ended at T2 or later."""
    connection.execute("insert into moments values (?, ?)", [T2, T2])
    give(connection, "ratings", (1, 1, 3.0, T1), (1, 2, 3.0, T2))
    tomorrow = T2 + timedelta(days=1)
    give(
        connection,
        "superseded",
        *((2, 1, 3.0, T1, T2), (2, 2, 3.0, T1, tomorrow)),
        *((2, 3, 3.0, T1, T2 - timedelta(seconds=1)), (2, 4, 3.0, T2, tomorrow)),
    )
    rows = connection.sql(f"select user_id, movie_id, file_row_number from ({sql.read('known_ratings')}) order by all")
    assert rows.fetchall() == [(1, 1, 0), (2, 1, -1), (2, 2, -2)]
    superseded = "select file_row_number, source_file, source_line from source_lines where file_row_number = -2"
    assert connection.sql(superseded).fetchall() == [(-2, "superseded.csv", 2)]


def test_end_of_data(connection: duckdb.DuckDBPyConnection) -> None:
    """Retractions after the start of the run do not count."""
    connection.execute("insert into moments values (?, null)", [T2])
    assert connection.sql(sql.read("end_of_data")).fetchall() == [(None,)]
    give(connection, "ratings", (1, 1, 3.0, T1))
    assert connection.sql(sql.read("end_of_data")).fetchall() == [(T1,)]
    give(connection, "superseded", (2, 1, 3.0, T1, T2 - timedelta(hours=1)), (2, 1, 3.0, T1, T2 + timedelta(hours=1)))
    assert connection.sql(sql.read("end_of_data")).fetchall() == [(T2 - timedelta(hours=1),)]


def test_complete_users(connection: duckdb.DuckDBPyConnection) -> None:
    give(connection, "users", (1, "F", 30, "writer", "0"), (2, "M", 31, "writer", "0"))
    give(connection, "ratings", (1, 1, 3.0, T1), (3, 1, 3.0, T1), (3, 2, 3.0, T1))
    connection.execute("insert into refused values ('users', 1, 'user_age', 0)")
    rows = connection.sql(f"from ({sql.read('complete_users')}) order by user_id").fetchall()
    assert rows == [(1, "F", 30, "writer", "0", 0), (3, None, None, None, None, None)]


def compare(connection: duckdb.DuckDBPyConnection) -> dict[str, Any]:
    relation = connection.sql(sql.read("compare_snapshots"))
    (row,) = relation.fetchall()
    return dict(zip(relation.columns, row, strict=True))


def test_compare_snapshots_by_hand(connection: duckdb.DuckDBPyConnection) -> None:
    """Tonight the stars are 1, 1, 5 and one value off the scale. Before, they were 1, 5, 5, 5, of users 1 and 2."""
    connection.execute("insert into moments values (?, null)", [T2])
    connection.execute("insert into compared_scale values (1), (5)")
    give(connection, "movies", (1, "Heat", 1995, []))
    future = T2 + timedelta(days=1)
    give(connection, "ratings", (1, 1, 1.0, T1), (3, 1, 1.0, T1), (4, 2, 5.0, T1), (5, 1, float("nan"), future))
    give(connection, "tags", (1, 1, "dull", future + timedelta(hours=1)))
    connection.execute("insert into previous_ratings values (1, 1), (1, 5), (2, 5), (2, 5)")
    found = compare(connection)
    p, q = (2.5 / 4, 1.5 / 4), (1.5 / 5, 3.5 / 5)  # half a rating added to each count
    assert found.pop("rating_psi") == pytest.approx(sum((a - b) * math.log(a / b) for a, b in zip(p, q, strict=True)))
    assert found.pop("rating_mean_shift") == pytest.approx(4 - 7 / 3)
    assert found == {
        "rating_count": 4,
        "rating_count_share": 1.0,
        "unknown_movie_share": 0.25,
        "new_user_share": 0.75,
        "newest_rating_age_days": 1.0,
        "newest_at": future + timedelta(hours=1),
    }


def test_compare_snapshots_without_ratings(connection: duckdb.DuckDBPyConnection) -> None:
    connection.execute("insert into moments values (?, null)", [T2])
    connection.execute("insert into compared_scale values (1), (5)")
    give(connection, "superseded", (1, 1, 3.0, T1, T2))
    empty = compare(connection)
    assert (empty.pop("rating_count"), empty.pop("newest_at")) == (0, T2)
    assert set(empty.values()) == {None}
    give(connection, "ratings", (1, 1, 1.0, T1), (3, 1, 5.0, T1))
    alone = compare(connection)
    assert alone["unknown_movie_share"] == 1.0
    assert alone["newest_rating_age_days"] == 1.0
    for name in ("rating_count_share", "rating_mean_shift", "rating_psi", "new_user_share"):
        assert alone[name] is None


def test_snapshots_with_the_same_content_do_not_differ(connection: duckdb.DuckDBPyConnection) -> None:
    connection.execute("insert into moments values (?, null)", [T2])
    connection.execute("insert into compared_scale values (1), (5)")
    give(connection, "ratings", (1, 1, 1.0, T1), (3, 1, 5.0, T1))
    connection.execute("insert into previous_ratings select user_id, rating from stored_ratings")
    found = compare(connection)
    assert (found["rating_count_share"], found["new_user_share"]) == (1.0, 0.0)
    assert (found["rating_mean_shift"], found["rating_psi"]) == (0.0, 0.0)


def test_every_rule_has_a_statement_and_every_statement_a_rule() -> None:
    helpers = {"rule_quarantine", "rule_source_lines"}
    assert {path.stem for path in sql.FOLDER.glob("rule_*.sql")} - helpers == {
        f"rule_{rule.name}" for rule in ROW_RULES
    }


def test_names_of_rules_are_unique() -> None:
    names = [rule.name for rule in ROW_RULES]
    names += [rule.name for rule in table_rules(CheckConfig())]
    names += [rule.name for rule in SHIFT_RULES]
    assert len(set(names)) == len(names)


def test_every_rule_has_its_limits_and_every_limit_a_rule() -> None:
    assert set(LimitConfig.model_fields) == {UNREADABLE, *(rule.name for rule in ROW_RULES)}
    assert set(ShiftConfig.model_fields) == {
        f"{rule.name}_{level}" for rule in SHIFT_RULES for level in ("warn", "stop")
    }


def test_every_limit_has_a_reason() -> None:
    for config in (LimitConfig, ShiftConfig):
        assert all(len(field.description or "") > 20 for field in config.model_fields.values())


@pytest.mark.parametrize("rule", SHIFT_RULES, ids=lambda rule: rule.name)
def test_a_value_at_the_limit_passes_and_one_beyond_fails(rule: ShiftRule) -> None:
    beyond = 0.4 if rule.at_least else 0.6
    assert rule.holds(0.5, 0.5)
    assert not rule.holds(beyond, 0.5)
    assert rule.holds(beyond, None)


def test_canonical_columns_pass(tmp_path: Path) -> None:
    pq.write_table(MOVIES.empty_table(), tmp_path / "movies.parquet")
    assert list_wrong_columns(tmp_path / "movies.parquet", MOVIES) == []


@pytest.mark.parametrize(
    ("found", "problem"),
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
def test_the_error_names_wrong_columns(tmp_path: Path, found: pa.Schema, problem: str) -> None:
    pq.write_table(found.empty_table(), tmp_path / "ratings.parquet")
    (difference,) = list_wrong_columns(tmp_path / "ratings.parquet", RATINGS)
    assert problem in difference


def test_a_limit_of_zero_is_shown() -> None:
    finding = Finding("movies_named", "movies", "every movie has a title", "stop", observed=2.0, stop=0.0)
    assert finding.describe() == "movies_named: movies: stop, found 2, stop at 0"
