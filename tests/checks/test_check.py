import json
import logging
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from archives import write_archive
from snapshots import START, Row, Tables, make_run, make_tables, write_tables

from recsys.checks.check import check_ratings
from recsys.errors import DataRefused
from recsys.home import Home, Run
from recsys.ingest.fetch import fetch_archive
from recsys.ingest.snapshot import Snapshot, write_snapshot
from recsys.ingest.synthetic import plant
from recsys.schema import MOVIES, RATINGS, REJECTS, USERS
from recsys.settings import CheckConfig

CONFIG = CheckConfig(max_bad_share=0.5, min_ratings=2)  # lets every single broken row through
STRICT = CheckConfig(max_bad_share=0.01, min_ratings=500)


@pytest.fixture
def run(home: Home) -> Run:
    return make_run(home)


def read_quarantine(run: Run) -> list[tuple[str, int, str]]:
    columns = pl.read_parquet(run.quarantine, columns=["source_table", "source_line", "rule"])
    return columns.rows()


def read_result(run: Run) -> dict[str, Any]:
    result: dict[str, Any] = json.loads(run.findings.read_text(encoding="utf-8"))
    return result


def broken_rules(run: Run) -> dict[str, int | None]:
    return {rule["rule"]: rule["offending"] for rule in read_result(run)["rules"] if not rule["passed"]}


def validation_pages(run: Run) -> list[Path]:
    return sorted((run.validation / "data_docs" / "validations").glob(f"*/{run.run_id}/**/*.html"))


def test_good_data_are_the_snapshot_itself(tmp_path: Path, run: Run) -> None:
    snapshot = write_tables(tmp_path / "s", make_tables())
    checked = check_ratings(snapshot, run, STRICT, None)
    assert (checked.ratings, checked.movies, checked.users) == (snapshot.ratings, snapshot.movies, snapshot.users)
    assert checked.counts == {"ratings": 600, "movies": 20, "users": 30, "quarantine": 0}
    assert checked.as_of == START + timedelta(minutes=599, seconds=1)
    assert checked.rating_scale == (1.0, 2.0, 3.0, 4.0, 5.0)
    assert read_quarantine(run) == []
    assert pq.read_schema(checked.quarantine).equals(REJECTS)


def test_every_rule_is_in_the_results_and_in_the_log(
    tmp_path: Path, run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG, logger="recsys"):
        check_ratings(write_tables(tmp_path / "s", make_tables()), run, STRICT, None)
    result = read_result(run)
    assert result["passed"] is True
    assert result["as_of"] == "2000-01-01T09:59:01+00:00"
    assert all(rule["passed"] for rule in result["rules"])
    assert {rule["rule"] for rule in result["rules"]} == {
        *("unreadable", "movie_title", "movie_year", "movie_id_unique", "user_id_unique", "rating_on_scale"),
        *("rated_at_plausible", "rating_movie_known", "rating_unique"),
        *("enough_ratings", "enough_users", "enough_movies", "ratings_differ"),
    }
    assert {"rule": "enough_ratings", "observed": 600}.items() <= result["rules"][-4].items()
    assert "rating_on_scale: 0 lines of ratings refused, 0.000%" in caplog.messages
    assert "enough_ratings: ratings pass, found 600" in caplog.messages
    assert "rules: 15 of 15 hold" in caplog.messages
    assert not [record for record in caplog.records if record.name.startswith(("great_expectations", "py.warnings"))]


def test_data_docs_stand_under_the_run(tmp_path: Path, run: Run) -> None:
    check_ratings(write_tables(tmp_path / "s", make_tables()), run, STRICT, None)
    assert (run.validation / "data_docs" / "index.html").exists()
    pages = validation_pages(run)
    assert [page.stem for page in pages] == [
        *("duckdb-ratings", "duckdb-rejects", "duckdb-snapshot_movies", "duckdb-snapshot_ratings"),
        "duckdb-snapshot_users",
    ]
    assert "a rating is one of the stars that the edition gives" in pages[3].read_text(encoding="utf-8")


def change(table: str, **values: Any) -> Callable[[Tables], None]:
    """Changes the row on line 5 of a table."""
    return lambda tables: tables[table][4].update(values)


def repeat(table: str, **values: Any) -> Callable[[Tables], None]:
    """Adds line 5 of a table once more, changed, as its last line."""
    return lambda tables: tables[table].append(tables[table][4] | values)


def add_movie_without_title(tables: Tables) -> None:
    """Nobody has rated it, so that no other rule has anything to say."""
    tables["movies"].append({"movie_id": 21, "title": " ", "year": 1999, "genres": []})


def add_movie_from_the_future(tables: Tables) -> None:
    tables["movies"].append({"movie_id": 21, "title": "Metropolis", "year": 2200, "genres": []})


@pytest.mark.parametrize(
    ("break_it", "expected"),
    [
        (add_movie_without_title, ("movies", 21, "movie_title")),
        (add_movie_from_the_future, ("movies", 21, "movie_year")),
        (repeat("movies", title="Movie 5 again"), ("movies", 21, "movie_id_unique")),
        (repeat("users", age=31), ("users", 31, "user_id_unique")),
        (change("ratings", rating=5.5), ("ratings", 5, "rating_on_scale")),
        (change("ratings", rating=float("nan")), ("ratings", 5, "rating_on_scale")),
        (change("ratings", rated_at=datetime(1994, 1, 1, tzinfo=UTC)), ("ratings", 5, "rated_at_plausible")),
        (change("ratings", rated_at=datetime(2060, 1, 1, tzinfo=UTC)), ("ratings", 5, "rated_at_plausible")),
        (change("ratings", movie_id=21), ("ratings", 5, "rating_movie_known")),
        (repeat("ratings", rated_at=START - timedelta(days=1)), ("ratings", 601, "rating_unique")),
        (repeat("ratings", rated_at=START + timedelta(days=1)), ("ratings", 5, "rating_unique")),
    ],
)
def test_a_broken_row_breaks_its_rule_and_no_other(
    tmp_path: Path, run: Run, break_it: Callable[[Tables], None], expected: tuple[str, int, str]
) -> None:
    tables = make_tables()
    break_it(tables)
    snapshot = write_tables(tmp_path / "s", tables)
    checked = check_ratings(snapshot, run, CONFIG, None)
    assert read_quarantine(run) == [expected]
    assert broken_rules(run) == {expected[2]: 1}
    table = expected[0]
    admitted = {"ratings": checked.ratings, "movies": checked.movies, "users": checked.users}
    schemas = {"ratings": RATINGS, "movies": MOVIES, "users": USERS}
    for name, path in admitted.items():
        assert len(pl.read_parquet(path)) == len(tables[name]) - (name == table)
        assert pq.read_schema(path).equals(schemas[name])


@pytest.mark.parametrize(
    ("break_it", "rule"),
    [
        (lambda tables: tables.update(ratings=tables["ratings"][:499]), "enough_ratings"),
        (lambda tables: [row.update(user_id=1, movie_id=n) for n, row in enumerate(tables["ratings"])], "enough_users"),
        (
            lambda tables: [row.update(movie_id=1, user_id=n) for n, row in enumerate(tables["ratings"])],
            "enough_movies",
        ),
        (lambda tables: [row.update(rating=3.0) for row in tables["ratings"]], "ratings_differ"),
    ],
)
def test_a_table_that_cannot_be_learned_from_is_refused(
    tmp_path: Path, run: Run, break_it: Callable[[Tables], None], rule: str
) -> None:
    tables = make_tables()
    break_it(tables)
    tables["movies"] = [tables["movies"][0] | {"movie_id": movie} for movie in range(600)]
    with pytest.raises(DataRefused, match=f"ratings break the rule {rule}"):
        check_ratings(write_tables(tmp_path / "s", tables), run, STRICT, None)
    assert list(broken_rules(run)) == [rule]
    assert read_result(run)["passed"] is False


def test_a_row_names_the_first_rule_it_breaks(tmp_path: Path, run: Run) -> None:
    tables = make_tables()
    tables["ratings"][4].update(rating=9.0, movie_id=99, rated_at=datetime(1980, 1, 1, tzinfo=UTC))
    check_ratings(write_tables(tmp_path / "s", tables), run, CONFIG, None)
    assert read_quarantine(run) == [("ratings", 5, "rating_on_scale")]


def test_ratings_of_a_refused_movie_go_with_it(tmp_path: Path, run: Run) -> None:
    tables = make_tables()
    tables["movies"][4]["title"] = ""
    checked = check_ratings(write_tables(tmp_path / "s", tables), run, CONFIG, None)
    assert broken_rules(run) == {"movie_title": 1, "rating_movie_known": 30}
    assert not pl.read_parquet(checked.ratings)["movie_id"].is_in([5]).any()


def test_a_refused_user_costs_a_profile_and_no_rating(tmp_path: Path, run: Run) -> None:
    tables = make_tables()
    lost = tables["users"].pop(6)
    reject = {"source_table": "users", "source_line": 7, "rule": "unreadable", "row": "{}"}
    checked = check_ratings(write_tables(tmp_path / "s", tables, [reject]), run, CONFIG, None)
    assert checked.counts == {"ratings": 600, "movies": 20, "users": 30, "quarantine": 1}
    users = pl.read_parquet(checked.users)
    assert users["user_id"].to_list() == list(range(1, 31))
    assert users.row(6) == (lost["user_id"], None, None, None, None)
    assert users.row(7) == (8, "F", 30, "writer", "00000")


def test_shares_are_of_what_existed_before_as_of(tmp_path: Path, run: Run) -> None:
    """Of 600 ratings, one a minute, 60 exist; 6 of them are off the scale: 10%, though 1% of all."""
    tables = make_tables()
    for row in tables["ratings"][:6]:
        row["rating"] = 9.0
    config = CheckConfig(max_bad_share=0.05, min_ratings=2)
    with pytest.raises(DataRefused, match=r"6 of 60 lines of ratings are refused, 10\.00%"):
        check_ratings(write_tables(tmp_path / "s", tables), run, config, START + timedelta(minutes=60))


def test_an_unusable_repetition_does_not_replace_a_usable_rating(tmp_path: Path, run: Run) -> None:
    tables = make_tables()
    repeat("ratings", rating=11.0, rated_at=START + timedelta(days=1))(tables)
    check_ratings(write_tables(tmp_path / "s", tables), run, CONFIG, None)
    assert read_quarantine(run) == [("ratings", 601, "rating_on_scale")]


def test_only_ratings_before_as_of_exist(tmp_path: Path, run: Run) -> None:
    tables = make_tables()
    as_of = START + timedelta(minutes=100)
    repeat("ratings", rated_at=as_of)(tables)  # replaces line 5, but not yet
    tables["ratings"][599]["rating"] = 9.0
    checked = check_ratings(write_tables(tmp_path / "s", tables), run, CONFIG, as_of)
    ratings = pl.read_parquet(checked.ratings)
    assert ratings["rated_at"].max() == as_of - timedelta(minutes=1)
    assert ratings.equals(ratings.sort("user_id", "movie_id"))
    assert checked.counts == {"ratings": 100, "movies": 20, "users": 30, "quarantine": 0}
    assert checked.as_of == as_of


@pytest.mark.parametrize(
    "as_of",
    [datetime(2000, 1, 1, 3), datetime(2000, 1, 1, 5, tzinfo=timezone(timedelta(hours=2)))],
)
def test_as_of_is_utc_unless_it_says_otherwise(tmp_path: Path, run: Run, as_of: datetime) -> None:
    checked = check_ratings(write_tables(tmp_path / "s", make_tables()), run, CONFIG, as_of)
    assert checked.as_of == datetime(2000, 1, 1, 3, tzinfo=UTC)
    assert checked.counts["ratings"] == 180


def test_before_the_first_rating_there_is_nothing_to_learn(tmp_path: Path, run: Run) -> None:
    with pytest.raises(DataRefused, match=r"enough_ratings \(there are at least 2 ratings\): found 0"):
        check_ratings(write_tables(tmp_path / "s", make_tables()), run, CONFIG, START)


def test_unreadable_lines_count(tmp_path: Path, run: Run) -> None:
    rejects: list[Row] = [
        {"source_table": "ratings", "source_line": 601 + n, "rule": "unreadable", "row": '{"line":"?"}'}
        for n in range(7)
    ]
    snapshot = write_tables(tmp_path / "s", make_tables(), rejects)
    assert check_ratings(snapshot, run, CONFIG, None).counts["quarantine"] == 7
    assert broken_rules(run) == {"unreadable": 7}
    with pytest.raises(DataRefused, match=r'7 of 607 lines of ratings are refused, 1\.15%.* line 601: \{"line":"\?"\}'):
        check_ratings(snapshot, run, STRICT, None)


def test_exactly_the_limit_is_let_through(tmp_path: Path, run: Run) -> None:
    tables = make_tables()
    for row in tables["ratings"][:6]:
        row["rating"] = 0.0
    snapshot = write_tables(tmp_path / "s", tables)
    assert check_ratings(snapshot, run, STRICT, None).counts["quarantine"] == 6  # 1% of 600


def test_columns_that_are_not_canonical_are_refused(tmp_path: Path, run: Run) -> None:
    snapshot = write_tables(tmp_path / "s", make_tables())
    ratings = pq.read_table(snapshot.ratings)
    pq.write_table(ratings.set_column(2, "rating", ratings["rating"].cast(pa.float64())), snapshot.ratings)
    with pytest.raises(DataRefused, match=r"ratings: rating double should be rating float not null"):
        check_ratings(snapshot, run, STRICT, None)
    assert [rule["table"] for rule in read_result(run)["rules"] if not rule["passed"]] == ["ratings"]
    assert read_quarantine(run) == []


def test_a_check_can_be_repeated_in_its_run(tmp_path: Path, run: Run) -> None:
    tables = make_tables()
    tables["ratings"][4]["rating"] = 9.0
    snapshot = write_tables(tmp_path / "s", tables)
    first = check_ratings(snapshot, run, CONFIG, None)
    content = first.ratings.read_bytes(), first.quarantine.read_bytes()
    second = check_ratings(snapshot, run, CONFIG, None)
    assert second == first
    assert (second.ratings.read_bytes(), second.quarantine.read_bytes()) == content
    assert len(validation_pages(run)) == 5


def write_broken_source(folder: Path, share: float, home: Home) -> tuple[Snapshot, list[tuple[str, int, str]]]:
    """20,000 lines in ML-1M's layout of which `share` are broken in three ways, and what the quarantine must say."""
    planted = plant(300, 200, 20_000)
    n_broken = round(20_000 * share)
    broken: dict[int, tuple[str, str]] = {}
    for number in range(n_broken):
        line = 3 + number * (20_000 // n_broken)
        user = 1000 + number  # rates nothing else
        broken[line] = [
            (f"{user}::1::9::978300000", "rating_on_scale"),
            (f"{user}::99999::4::978300000", "rating_movie_known"),
            (f"{user}::1", "unreadable"),
        ][number % 3]
    good = planted.ratings.head(20_000 - n_broken)
    texts = {line: text for line, (text, _) in broken.items()}
    path = write_archive(folder / "source", "ml-1m", good, planted.movies, planted.users, texts)
    snapshot = write_snapshot(fetch_archive(str(path), home), home)
    return snapshot, [("ratings", line, rule) for line, (_, rule) in sorted(broken.items())]


def test_a_source_with_one_broken_row_in_a_thousand_passes(tmp_path: Path, home: Home, run: Run) -> None:
    snapshot, expected = write_broken_source(tmp_path, 0.001, home)
    checked = check_ratings(snapshot, run, CheckConfig(), None)
    assert len(expected) == 20
    assert read_quarantine(run) == expected
    assert checked.counts == {"ratings": 19_980, "movies": 200, "users": 300, "quarantine": 20}


def test_a_source_with_five_percent_broken_rows_is_refused(tmp_path: Path, home: Home, run: Run) -> None:
    snapshot, expected = write_broken_source(tmp_path, 0.05, home)
    with pytest.raises(DataRefused) as refusal:
        check_ratings(snapshot, run, CheckConfig(), None)
    message = str(refusal.value)
    assert "1,000 of 20,000 lines of ratings are refused, 5.00%, the limit is 1.00%; 334 of them break" in message
    assert "the rule rating_on_scale (a rating is one of the stars that the edition gives), e.g. line 3: {" in message
    assert "last night's table is kept" in message
    assert str(run.quarantine) in message
    assert refusal.value.exit_code == 3
    assert read_quarantine(run) == expected
    assert read_result(run)["reasons"]
    assert len(validation_pages(run)) == 5
