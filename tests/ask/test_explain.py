import math
import shutil
from pathlib import Path

import duckdb
import polars as pl
import pytest

from recsys.ask.explain import Explanation, explain
from recsys.ask.lookup import read_served
from recsys.errors import NotPublished, UsageError
from recsys.home import Home
from recsys.rank.common import ROUNDING
from recsys.retrieve.scales import MIN_AFFINITY
from tests.support.nights import QUIET, SILENT

LEVELS = [1.0, 2.0, 3.0, 4.0, 5.0]


def ask(home: Home, query: str) -> pl.DataFrame:
    with duckdb.connect(home.warehouse, read_only=True) as connection:
        rows: pl.DataFrame = connection.sql(query).pl()
        return rows


def places(home: Home) -> pl.DataFrame:
    """Some published places, from the first to the last rank, of users of all kinds."""
    chosen = f"user_id in ({SILENT}, {QUIET}, 5, 40, 80) and rank in (1, 4, 10)"
    return ask(home, f"select * from recommendations_named where {chosen} order by user_id, rank")


def listed(home: Home, user_id: int, rank: int) -> int:
    return int(ask(home, f"select movie_id from recommendations where user_id = {user_id} and rank = {rank}").item())


def seen(home: Home, user_id: int) -> dict[int, float]:
    (source,) = home.root.glob("snapshots/*/*/ratings.parquet")
    rated = pl.read_parquet(source).filter(user_id=user_id)
    return dict(rated.select("movie_id", "rating").iter_rows())


def test_the_parts_of_a_published_score_add_up(served_night: Home) -> None:
    rows = places(served_night).rows(named=True)
    assert len(rows) == 15
    for row in rows:
        one = explain(served_night, row["user_id"], str(row["movie_id"]))
        assert (one.rank, one.rating) == (row["rank"], None)
        assert one.parts["adds"].sum() == pytest.approx(row["score"], abs=1e-4)
        assert one.score == pytest.approx(row["score"], abs=1e-4)
        assert one.rating_hat == pytest.approx(row["rating_hat"], abs=1e-4)
        assert one.parts["part"].to_list() == ["ease", "als", "popularity", "stars", "likes", "popularity_penalty"]
        for _, value, weight, adds in one.parts.iter_rows():
            assert adds == pytest.approx(value * weight, abs=1e-9)


def test_shares_add_up_to_the_affinity(served_night: Home) -> None:
    for user_id in (QUIET, 5, 40):
        one = explain(served_night, user_id, str(listed(served_night, user_id, 1)))
        assert dict(one.because.select("movie_id", "rating").iter_rows()) == seen(served_night, user_id)
        assert one.affinity is not None
        assert one.because["share"].sum() == pytest.approx(one.affinity, abs=1e-6)
        assert one.because["share"].to_list() == sorted(one.because["share"], reverse=True)
        part = dict(one.parts.select("part", "value").iter_rows())
        assert math.exp(part["ease"]) == pytest.approx(max(one.affinity, MIN_AFFINITY), abs=1e-6)


def test_published_reasons_are_the_largest_shares_of_liked_movies(served_night: Home) -> None:
    (source,) = served_night.root.glob("snapshots/*/*/ratings.parquet")
    rating_mean = float(pl.read_parquet(source)["rating"].to_numpy().mean())
    for row in places(served_night).rows(named=True):
        because = explain(served_night, row["user_id"], str(row["movie_id"])).because
        damped_mean = (pl.col("rating").sum() + 5 * rating_mean) / (pl.len() + 5)
        least = pl.max_horizontal(damped_mean, pl.col("rating").mean(), 3) - ROUNDING
        liked = because.filter(pl.col("rating") >= least, pl.col("share") > 0)
        assert liked["title"].head(3).to_list() == (row["because_titles"] or [])


def test_the_mean_of_the_star_distribution_is_the_expected_rating(served_night: Home) -> None:
    for user_id, movie in ((SILENT, 3), (5, 50), (40, 7)):
        one = explain(served_night, user_id, str(movie))
        assert one.stars["stars"].to_list() == LEVELS
        assert one.stars["probability"].sum() == pytest.approx(1, abs=1e-5)
        mean = (one.stars["stars"] * one.stars["probability"]).sum()
        assert mean == pytest.approx(one.rating_hat, abs=1e-4)
        parts = dict(one.parts.select("part", "value").iter_rows())
        assert math.exp(parts["stars"]) == pytest.approx(one.rating_hat, abs=1e-4)
        assert math.exp(parts["likes"]) == pytest.approx(one.stars["probability"][3:].sum(), abs=1e-4)


def test_a_rated_movie_has_its_rating(served_night: Home) -> None:
    movie, stars = next(iter(seen(served_night, 5).items()))
    one = explain(served_night, 5, str(movie))
    assert (one.rating, one.rank) == (stars, None)


def test_an_unlisted_movie_scores_below_listed_ones(served_night: Home) -> None:
    lists = ask(served_night, "select movie_id, score from recommendations where user_id = 5")
    known = {*lists["movie_id"], *seen(served_night, 5)}
    others = [movie for movie in range(1, 101) if movie not in known][:10]
    explained = [explain(served_night, 5, str(movie)) for movie in others]
    assert {one.rank for one in explained} == {None}
    assert max(one.score for one in explained) <= min(lists["score"].to_list()) + 1e-6


def test_a_movie_without_ratings_is_explained(served_night: Home) -> None:
    """Its parts come from its neighbours, and it has no shares."""
    one = explain(served_night, 5, "3")
    assert one.affinity == 0
    assert dict(one.parts.select("part", "value").iter_rows())["ease"] > math.log(MIN_AFFINITY)


def test_a_user_without_ratings_is_explained(served_night: Home) -> None:
    one = explain(served_night, SILENT, str(listed(served_night, SILENT, 1)))
    assert one.because.is_empty()
    assert one.affinity == 0
    assert one.rank == 1


def test_a_movie_can_be_given_by_title(served_night: Home) -> None:
    movie = ask(served_night, "select movie_id, title from movies where movie_id = 20").row(0)
    assert explain(served_night, 5, movie[1].upper()).movie["movie_id"].item() == 20


def test_json_output_has_plain_types(served_night: Home) -> None:
    one = explain(served_night, 5, str(listed(served_night, 5, 2)))
    found = one.as_json()
    assert set(found) == set(Explanation.__dataclass_fields__)
    assert (found["user_id"], found["rank"], found["rating"]) == (5, 2, None)
    assert set(found["movie"]) == {"movie_id", "title", "year", "genres"}
    assert sum(part["adds"] for part in found["parts"]) == pytest.approx(found["score"])
    assert [row["stars"] for row in found["stars"]] == LEVELS
    assert len(found["because"]) == len(seen(served_night, 5))


@pytest.mark.parametrize(
    ("user_id", "asked", "complaint"),
    [(777, "3", "user 777 is not known"), (5, "No Such Film", "no movie is called 'No Such Film'")],
)
def test_unknown_users_and_movies_are_refused(served_night: Home, user_id: int, asked: str, complaint: str) -> None:
    with pytest.raises(UsageError, match=complaint):
        explain(served_night, user_id, asked)


def test_a_missing_folder_of_the_run_is_an_error(served_night: Home, tmp_path: Path) -> None:
    """The lists themselves are still served from the warehouse."""
    home = Home(tmp_path)
    shutil.copy(served_night.warehouse, home.warehouse)
    run_id, _ = read_served(home)
    with pytest.raises(NotPublished, match=rf"runs/{run_id} has no saved ranker, so .* Next: "):
        explain(home, 5, "3")


def test_missing_published_lists_are_an_error(home: Home) -> None:
    with pytest.raises(NotPublished, match="does not exist yet"):
        explain(home, 5, "3")
