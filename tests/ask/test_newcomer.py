import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

from recsys.ask.explain import explain
from recsys.ask.lookup import read_served, recommend_default
from recsys.ask.newcomer import recommend_for
from recsys.errors import NotPublished, UsageError
from recsys.home import Home

RECSYS = Path(sys.executable).with_name("recsys")


@pytest.fixture(scope="module")
def titles(served_night: Home) -> list[str]:
    """Titles of the most rated movies."""
    _, movies = read_served(served_night)
    return movies.sort("n_ratings", "movie_id", descending=[True, False])["title"].to_list()


def test_a_list_for_ratings_by_title(served_night: Home, titles: list[str]) -> None:
    newcomer = recommend_for(served_night, f"{titles[0]}=5, {titles[1].lower()}=2")
    assert newcomer.rated.select("title", "rating").rows() == [(titles[0], 5.0), (titles[1], 2.0)]
    assert newcomer.served_by == "few ratings"
    assert newcomer.rows.schema == {
        "rank": pl.Int64,
        "movie_id": pl.Int32,
        "title": pl.String,
        "year": pl.Int16,
        "score": pl.Float64,
        "rating_hat": pl.Float32,
        "because_movie_ids": pl.List(pl.Int32),
        "because_titles": pl.List(pl.String),
    }
    assert newcomer.rows["rank"].to_list() == list(range(1, 11))
    assert newcomer.rows["score"].to_list() == sorted(newcomer.rows["score"], reverse=True)
    assert not set(newcomer.rated["movie_id"]) & set(newcomer.rows["movie_id"])
    assert newcomer.rows["because_titles"].explode().drop_nulls().unique().to_list() == [titles[0]], "the liked one"


def test_ten_ratings_are_served_by_history(served_night: Home, titles: list[str]) -> None:
    newcomer = recommend_for(served_night, ", ".join(f"{title}={1 + n % 5}" for n, title in enumerate(titles[:10])))
    assert newcomer.served_by == "history"


def test_other_ratings_give_other_lists(served_night: Home, titles: list[str]) -> None:
    first, second = (recommend_for(served_night, f"{title}=5").rows["title"].to_list() for title in titles[:2])
    assert first != second
    assert titles[0] not in first
    assert titles[0] in second or titles[1] in first


@pytest.mark.parametrize("n", [1, 5])
def test_a_low_rating_is_a_low_rating(served_night: Home, titles: list[str], n: int) -> None:
    high, low, none = (
        recommend_for(served_night, ", ".join(f"{title}={stars}" for title in titles[:n]), n=99).rows
        for stars in (5, 1, 3)
    )
    assert high["movie_id"].to_list()[:10] != low["movie_id"].to_list()[:10]
    assert low["because_titles"].list.len().sum() == 0, "a movie rated 1 is no reason"
    assert high["because_titles"].list.len().sum() > 0
    expected = high.join(low, on="movie_id", suffix="_low").join(none, on="movie_id", suffix="_middle")
    assert len(expected) == 100 - n
    means = expected.select("rating_hat_low", "rating_hat_middle", "rating_hat").mean().row(0)
    assert means == tuple(sorted(means)), "expected stars are those of this user"
    assert means[0] < means[2] - 0.05 * n


def test_n_limits_the_list(served_night: Home, titles: list[str]) -> None:
    ten, three, many = (recommend_for(served_night, f"{titles[0]}=5", n=n).rows for n in (None, 3, 500))
    assert three.equals(ten.head(3))
    assert len(many) == 99, "all movies of the source except the rated one"


def test_a_segment_changes_the_list(served_night: Home, titles: list[str]) -> None:
    ratings = f"{titles[0]}=5"
    without_segment, woman, again = (
        recommend_for(served_night, ratings, segment).rows
        for segment in (None, "gender=F age=under 18", " AGE=under 18  gender=f ")
    )
    assert without_segment["score"].to_list() != woman["score"].to_list()
    assert woman.equals(again)
    assert without_segment.equals(recommend_for(served_night, ratings, "all").rows)


def test_segment_names_match_the_default_lists(served_night: Home, titles: list[str]) -> None:
    for segment in ("all", "gender=F", "occupation=writer", "gender=M age=under 18"):
        assert len(recommend_default(served_night, segment)) == 10
        assert len(recommend_for(served_night, f"{titles[0]}=5", segment).rows) == 10


@pytest.mark.parametrize(
    ("ratings", "segment", "complaint"),
    [
        ("No Such Film=5", None, "no movie is called 'No Such Film'"),
        ("20=9", None, "9 stars for '20' are not on the rating scale. Next: use one of 1, 2, 3, 4, 5"),
        ("20", None, "is not a title with stars"),
        ("20=5", "gender=X", "'gender=X' is unknown. Next: use gender=F, gender=M, age=18"),
        ("20=5", "all gender=F", "'all' is unknown"),
        ("20=5", "", "'' is unknown"),
        ("20=5", "gender=F gender=m", "'gender=F gender=m' has two values of gender"),
    ],
)
def test_invalid_arguments_are_refused(served_night: Home, ratings: str, segment: str | None, complaint: str) -> None:
    with pytest.raises(UsageError, match=complaint):
        recommend_for(served_night, ratings, segment)


def test_a_missing_folder_of_the_run_is_an_error(served_night: Home, tmp_path: Path) -> None:
    home = Home(tmp_path)
    shutil.copy(served_night.warehouse, home.warehouse)
    run_id, _ = read_served(home)
    with pytest.raises(NotPublished, match=rf"runs/{run_id} has no saved ranker, so .* Next: "):
        recommend_for(home, "20=5")


@pytest.mark.parametrize("damaged", ["ranker/ranker.safetensors", "ranker/ranker.json", "vocabulary/users.parquet"])
@pytest.mark.parametrize("how", ["cut", "gone"])
def test_a_damaged_folder_is_reported_with_its_path(served_night: Home, tmp_path: Path, damaged: str, how: str) -> None:
    home = Home(tmp_path / "copy")
    shutil.copytree(served_night.root, home.root)
    run_id, _ = read_served(home)
    path = home.run(run_id).folder / damaged
    os.truncate(path, 90) if how == "cut" else path.unlink()
    for asked in (lambda: recommend_for(home, "20=5"), lambda: explain(home, 5, "3")):
        with pytest.raises(NotPublished, match=rf"runs/{run_id}.*, so .*\. Next: `recsys nightly"):
            asked()


def test_missing_published_lists_are_an_error(home: Home) -> None:
    with pytest.raises(NotPublished, match="does not exist yet"):
        recommend_for(home, "20=5")


def test_the_command_gives_the_same_list_in_a_new_process(served_night: Home, titles: list[str]) -> None:
    ratings = f"{titles[0]}=5, {titles[3]}=1"
    words = [str(RECSYS), "recommend", "--ratings", ratings, "--n", "4", "--json", "--home", str(served_night.root)]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(words, capture_output=True, text=True, check=True, env=environment)
    expected = recommend_for(served_night, ratings, n=4)
    found = json.loads(done.stdout)
    assert found["served_by"] == "few ratings"
    assert (found["run_id"], found["user_id"]) == (expected.run_id, None)
    assert [row["title"] for row in found["rated"]] == [titles[0], titles[3]]
    assert [row["movie_id"] for row in found["rows"]] == expected.rows["movie_id"].to_list()
    assert [row["score"] for row in found["rows"]] == pytest.approx(expected.rows["score"].to_list())
