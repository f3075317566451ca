import shutil
from datetime import UTC, datetime

import duckdb
import polars as pl
import pytest

from recsys.ask.lookup import recommend, recommend_default, similar
from recsys.errors import NotPublished, UsageError
from recsys.home import Home
from recsys.warehouse.lookup import list_runs, sample
from recsys.warehouse.publish import record
from tests.support.warehouses import STARTED_AT, Frames, make_frames, make_outcome, publish, write_night


def make_five() -> Frames:
    """Four users, and user 9, who has rated everything."""
    frames = make_frames()
    frames["users"] = pl.concat([frames["users"], frames["users"].head(1).with_columns(user_id=pl.lit(9, pl.Int32))])
    every = [frames["ratings"], frames["ratings"].with_columns(user_id=pl.lit(9, pl.Int32))]
    return frames | {"ratings": pl.concat(every)}


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """A home with one published run, to read only."""
    folder = tmp_path_factory.mktemp("reference")
    publish(make_outcome("r1"), write_night(folder / "night", make_five()), Home(folder / "home"))
    return Home(folder / "home")


@pytest.fixture
def served(reference: Home, home: Home) -> Home:
    """A copy of it."""
    shutil.copytree(reference.root, home.root)
    return home


@pytest.fixture
def without(served: Home) -> Home:
    """A home whose run made neither default lists nor similar movies."""
    with duckdb.connect(served.warehouse) as connection:
        connection.execute("delete from default_recommendations; delete from similar_movies")
    return served


def test_recommend_names_movies_and_reasons(served: Home) -> None:
    assert recommend(served, 1).to_dicts() == [
        {
            "run_id": "r1",
            "rank": rank,
            "movie_id": movie_id,
            "title": f"Movie {movie_id}",
            "year": 1995,
            "score": score,
            "rating_hat": 4.0,
            "because_movie_ids": [2],
            "because_titles": ["Movie 2"],
            "served_by": "history",
        }
        for rank, movie_id, score in ((1, 3, 1.0), (2, 4, 0.5))
    ]


def test_recommend_is_empty_for_a_user_without_a_list(served: Home) -> None:
    assert recommend(served, 9).is_empty()


@pytest.mark.parametrize("user_id", [0, 5, 2**40])
def test_the_error_for_an_unknown_user_names_the_range_of_ids(served: Home, user_id: int) -> None:
    expected = rf"user {user_id} is not known: .* has 5 users, with ids from 1 to 9\. Next: choose one from its table "
    with pytest.raises(UsageError, match=expected + "users, or see a default list with --segment: 'all', 'gender=F ag"):
        recommend(served, user_id)


def test_the_error_for_an_unknown_user_names_no_default_list_if_there_is_none(without: Home) -> None:
    with pytest.raises(UsageError, match=r"choose one from its table users$"):
        recommend(without, 5)


@pytest.mark.parametrize("segment", ["gender=F age=25", "age=25  gender=f"])
def test_default_list_of_a_segment_in_any_word_order(served: Home, segment: str) -> None:
    listed = recommend_default(served, segment)
    assert listed.columns == recommend(served, 1).columns
    assert listed.select("run_id", "rank", "movie_id", "title", "score", "rating_hat", "served_by").rows() == [
        ("r1", 1, 2, "Movie 2", 1.0, None, "features"),
        ("r1", 2, 1, "Movie 1", 0.5, None, "features"),
    ]


def test_the_error_for_an_unknown_segment_names_the_others(served: Home) -> None:
    assert recommend_default(served, "all")["title"].to_list() == ["Movie 1", "Movie 2"]
    expected = r"no default list for 'gender=M'; there are lists for 'all', 'gender=F age=25'\. Next: choose"
    with pytest.raises(UsageError, match=expected):
        recommend_default(served, "gender=M")


def test_the_error_names_at_most_twelve_segments(served: Home) -> None:
    with duckdb.connect(served.warehouse) as connection:
        connection.execute(
            "delete from default_recommendations where segment <> 'all'; insert into default_recommendations "
            "select 'age=' || age, 1, 1, 1.0, 'r1' from range(10, 30) as ages(age)"
        )
    with pytest.raises(UsageError, match=r"lists for 'all', 'age=10', .*'age=20' and 9 more\. Next"):
        recommend_default(served, "age=99")


@pytest.mark.parametrize("asked", ["Movie 2", "movie two", "2"])
def test_similar_movies_by_title_or_id(served: Home, asked: str) -> None:
    movie, rows = similar(served, asked)
    assert movie.to_dicts() == [
        {
            "movie_id": 2,
            "title": "Movie 2",
            "year": 1995,
            "genres": ["Drama", "War"],
            "n_ratings": 2,
            "similarity": 1.0,
        }
    ]
    assert rows.to_dicts() == [
        {"run_id": "r1", "rank": rank, "movie_id": movie_id, "title": f"Movie {movie_id}", "year": 1995}
        | {"genres": ["Drama", "War"], "similarity": similarity}
        for rank, movie_id, similarity in ((1, 3, 1.0), (2, 4, 0.5))
    ]


def test_similar_movies_may_be_empty(served: Home) -> None:
    with duckdb.connect(served.warehouse) as connection:
        connection.execute("delete from similar_movies where movie_id = 2")
    assert similar(served, "Movie 2")[1].is_empty()


def test_the_most_rated_of_several_movies_with_the_same_title_is_found(served: Home) -> None:
    with duckdb.connect(served.warehouse) as connection:
        connection.execute("update movies set title = 'Ran', n_ratings = if(movie_id = 3, 3, 2)")
    assert similar(served, "ran")[0]["movie_id"].item() == 3


def test_similar_movies_of_an_unknown_title_suggests_others(served: Home) -> None:
    with pytest.raises(
        UsageError, match=r"no movie is called 'Movie 9'; did you mean Movie 1 \(1995\), movie_id 1; Mov"
    ):
        similar(served, "Movie 9")


def test_lists_that_the_run_did_not_make_are_an_error(without: Home) -> None:
    with pytest.raises(NotPublished, match=r"holds no similar movies: .* Next: `recsys nightly"):
        similar(without, "Movie 1")
    with pytest.raises(NotPublished, match=r"holds no default lists: .* Next: `recsys nightly"):
        recommend_default(without, "all")


def test_a_warehouse_of_an_older_version_is_an_error(served: Home) -> None:
    with duckdb.connect(served.warehouse) as connection:
        connection.execute("drop table similar_movies")
    with pytest.raises(NotPublished, match=r"older version of recsys: .*similar_movies.* Next: `recsys nightly --home"):
        similar(served, "Movie 1")


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


def test_sample_returns_its_statement_and_the_rows(served: Home) -> None:
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
    for ask in (
        lambda: recommend(home, 1),
        lambda: recommend_default(home, "all"),
        lambda: similar(home, "Movie 1"),
        lambda: sample(home),
    ):
        with pytest.raises(NotPublished, match=r"holds no recommendations.*`recsys runs --home .* `recsys nightly"):
            ask()


def test_a_damaged_warehouse_is_an_error(home: Home) -> None:
    home.root.mkdir()
    home.warehouse.write_bytes(b"not a database" * 1000)
    with pytest.raises(NotPublished, match=r"cannot be opened: .* not a valid DuckDB database file.*Next: "):
        list_runs(home, 10)


def test_no_connection_stays_open(served: Home) -> None:
    recommend(served, 1)
    duckdb.connect(served.warehouse).close()  # for writing: fails while a read-only connection is open in this process
