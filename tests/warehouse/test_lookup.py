from datetime import UTC, datetime
from pathlib import Path

import duckdb
import polars as pl
import pytest
from warehouses import STARTED_AT, make_frames, make_outcome, write_night

from recsys.errors import NotPublished, UsageError
from recsys.home import Home
from recsys.warehouse.lookup import list_runs, recommend, sample
from recsys.warehouse.publish import publish, record


@pytest.fixture
def served(home: Home, tmp_path: Path) -> Home:
    """A home with one published run: four users, and one more who has rated nothing."""
    frames = make_frames()
    frames["users"] = pl.concat([frames["users"], frames["users"].head(1).with_columns(user_id=pl.lit(9, pl.Int32))])
    publish(make_outcome("r1"), write_night(tmp_path / "tonight", frames), home)
    return home


def test_recommend_names_movies_and_reasons(served: Home) -> None:
    assert recommend(served, 1).to_dicts() == [
        {
            "rank": rank,
            "title": title,
            "year": 1995,
            "score": score,
            "rating_hat": 4.0,
            "because_titles": ["Movie 2"],
        }
        for rank, title, score in ((1, "Movie 3", 1.0), (2, "Movie 4", 0.5))
    ]


def test_recommend_is_empty_for_who_has_no_list(served: Home) -> None:
    assert recommend(served, 9).is_empty()


@pytest.mark.parametrize("user_id", [0, 5, 2**40])
def test_recommend_says_which_users_there_are(served: Home, user_id: int) -> None:
    with pytest.raises(UsageError, match=rf"user {user_id} is not known: .* has 5 users, with ids from 1 to 9\. Next"):
        recommend(served, user_id)


def test_list_runs_starts_with_the_newest(served: Home) -> None:
    record(make_outcome("r2", "held back", "too bad"), served)
    record(make_outcome("r3", "data refused", "5% broken"), served)

    runs = list_runs(served, limit=2)
    assert runs["run_id"].to_list() == ["r3", "r2"]
    assert runs["published"].to_list() == [False, False]
    assert runs["reason"].to_list() == ["5% broken", "too bad"]
    assert runs.schema["started_at"] == pl.Datetime("us", "UTC")
    assert runs["started_at"][0] == STARTED_AT
    assert runs["as_of"][0] == datetime(1998, 4, 23, tzinfo=UTC)
    assert len(list_runs(served, limit=10)) == 3


def test_sample_is_a_select_that_anybody_can_type(served: Home) -> None:
    statement, rows = sample(served)

    assert statement.startswith("select user_id, rank, title")
    assert rows["title"].to_list() == ["Movie 3", "Movie 4"]
    with duckdb.connect(served.warehouse, read_only=True) as connection:
        assert connection.sql(statement).pl().equals(rows)


def test_without_a_warehouse_the_next_command_is_named(home: Home) -> None:
    expected = rf"warehouse\.duckdb does not exist yet\. Next: `recsys nightly --home {home.root}`"
    with pytest.raises(NotPublished, match=expected):
        recommend(home, 1)
    with pytest.raises(NotPublished, match=expected):
        list_runs(home, 10)
    with pytest.raises(NotPublished, match=expected):
        sample(home)


def test_without_a_published_run_the_next_command_is_named(home: Home) -> None:
    record(make_outcome("r1", "held back", "too bad"), home)

    assert len(list_runs(home, 10)) == 1
    for ask in (lambda: recommend(home, 1), lambda: sample(home)):
        with pytest.raises(NotPublished, match=r"holds no recommendations.*`recsys runs --home .* `recsys nightly"):
            ask()


def test_damaged_warehouse_is_told_in_words(home: Home) -> None:
    home.root.mkdir()
    home.warehouse.write_bytes(b"not a database" * 1000)
    with pytest.raises(NotPublished, match=r"cannot be opened: .* not a valid DuckDB database file.*Next: "):
        list_runs(home, 10)


def test_leaves_no_connection_open(served: Home) -> None:
    recommend(served, 1)
    duckdb.connect(served.warehouse).close()  # for writing: refused while any read-only connection is open here
