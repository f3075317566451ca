import math
import time
from itertools import pairwise

import numpy as np
import polars as pl
import pytest

from recsys.errors import UsageError
from recsys.ingest.synthetic import synthetic
from recsys.ingest.synthetic.synthetic import STARS, Planted, checkerboard, parse_sizes, plant


@pytest.fixture(scope="module")
def planted() -> Planted:
    return plant(500, 300, 30_000)


def ids(ratings: pl.DataFrame) -> tuple[synthetic.Ints, synthetic.Ints]:
    return ratings["user_id"].to_numpy().astype(np.int64), ratings["movie_id"].to_numpy().astype(np.int64)


def test_sizes_are_parsed_from_the_source() -> None:
    assert parse_sizes("synthetic:200x100x5000") == (200, 100, 5000)


@pytest.mark.parametrize("source", ["synthetic:", "synthetic:200x100", "synthetic:2.5x1x1", "synthetic:axbxc"])
def test_an_invalid_size_is_refused_with_an_example(source: str) -> None:
    with pytest.raises(UsageError, match="synthetic:200x100x5000"):
        parse_sizes(source)


@pytest.mark.parametrize("source", ["synthetic:10x10x101", "synthetic:0x10x0", "synthetic:10x10x0"])
def test_impossible_sizes_are_refused(source: str) -> None:
    with pytest.raises(UsageError, match="are impossible"):
        parse_sizes(source)


def test_the_seed_determines_the_data() -> None:
    assert plant(50, 40, 500).ratings.equals(plant(50, 40, 500).ratings)
    assert not plant(50, 40, 500, seed=1).ratings.equals(plant(50, 40, 500).ratings)


@pytest.mark.parametrize(
    ("n_users", "n_movies", "n_ratings"), [(50, 40, 2000), (50, 40, 501), (300, 400, 900), (1, 1, 1)]
)
def test_pairs_are_distinct_and_have_the_given_number(n_users: int, n_movies: int, n_ratings: int) -> None:
    ratings = plant(n_users, n_movies, n_ratings).ratings
    assert len(ratings) == n_ratings
    assert not ratings.select("user_id", "movie_id").is_duplicated().any()
    assert ratings["user_id"].is_between(1, n_users).all()
    assert ratings["movie_id"].is_between(1, n_movies).all()


def test_times_increase_within_one_year(planted: Planted) -> None:
    rated_at = planted.ratings["rated_at"]
    assert rated_at.is_sorted()
    assert rated_at.dt.year().unique().to_list() == [2000]


def test_few_movies_have_most_of_the_ratings(planted: Planted) -> None:
    counts = planted.ratings["movie_id"].value_counts()["count"].sort(descending=True)
    assert counts.head(60).sum() > 0.4 * len(planted.ratings)  # a fifth of the movies


def test_movies_and_users_have_every_column(planted: Planted) -> None:
    assert planted.movies["title"].n_unique() == len(planted.movies) == 300
    assert planted.movies["genres"].list.len().is_between(1, 3).all()
    assert planted.users.null_count().sum_horizontal().item() == 0


def test_probabilities_match_hand_arithmetic(planted: Planted) -> None:
    user, movie = np.array([7]), np.array([9])
    score, sigma = planted.scores(user, movie).item(), planted.noise
    below = [0.0, *(0.5 * math.erfc((score - edge) / sigma / math.sqrt(2)) for edge in (1.5, 2.5, 3.5, 4.5)), 1.0]
    by_hand = [high - low for low, high in pairwise(below)]
    np.testing.assert_allclose(planted.probabilities(user, movie), [by_hand], atol=1e-12)


def test_ratings_follow_the_true_distribution(planted: Planted) -> None:
    """The probabilities give the expected count of each star and its variance."""
    p_BK = planted.probabilities(*ids(planted.ratings))
    counts_K = [(planted.ratings["rating"] == star).sum() for star in STARS]
    sd_K = np.sqrt((p_BK * (1 - p_BK)).sum(0))
    assert (np.abs(counts_K - p_BK.sum(0)) < 4 * sd_K).all()


def test_the_truth_reaches_the_best_errors(planted: Planted) -> None:
    users, movies = ids(planted.ratings)
    stars = planted.ratings["rating"].to_numpy()
    p_BK = planted.probabilities(users, movies)
    median = STARS[(p_BK.cumsum(1) >= 0.5).argmax(1)]
    mae, rmse = planted.best_mae_median(users, movies), planted.best_rmse_mean(users, movies)
    assert np.abs(stars - median).mean() == pytest.approx(mae, abs=0.01)
    assert math.sqrt(((stars - p_BK @ STARS) ** 2).mean()) == pytest.approx(rmse, abs=0.01)
    assert np.abs(stars - np.rint(stars.mean())).mean() > mae + 0.1  # a constant does worse
    assert np.std(stars) > rmse + 0.1


def test_without_noise_the_best_errors_are_zero() -> None:
    planted = plant(50, 40, 500, noise=1e-9)
    users, movies = ids(planted.ratings)
    assert planted.best_mae_median(users, movies) == pytest.approx(0, abs=1e-6)
    assert planted.best_rmse_mean(users, movies) == pytest.approx(0, abs=1e-3)


def test_in_a_checkerboard_pairs_of_equal_parity_are_liked() -> None:
    ratings = checkerboard(40, 30, shown=0.5, disliked=0.1)
    same = pl.col("user_id") % 2 == pl.col("movie_id") % 2
    assert ratings.filter(same)["rating"].unique().to_list() == [5]
    assert ratings.filter(~same)["rating"].unique().to_list() == [1]
    assert len(ratings.filter(same)) == pytest.approx(0.5 * 600, abs=60)
    assert len(ratings.filter(~same)) == pytest.approx(0.1 * 600, abs=40)
    assert len(checkerboard(40, 30).filter(~same)) == 0


def test_a_million_ratings_take_seconds() -> None:
    start = time.process_time()
    assert len(plant(6_000, 4_000, 1_000_000).ratings) == 1_000_000
    assert time.process_time() - start < 10  # CPU seconds; about 1


@pytest.mark.parametrize(("n_users", "n_movies", "n_ratings"), [(300, 400, 9_000), (50, 40, 400), (60, 50, 2_000)])
def test_blocks_give_the_same_ratings_as_one_draw(
    n_users: int, n_movies: int, n_ratings: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_once = plant(n_users, n_movies, n_ratings).ratings
    monkeypatch.setattr(synthetic, "BLOCK", 77)
    assert plant(n_users, n_movies, n_ratings).ratings.equals(at_once)


def test_sparse_pairs_are_the_first_distinct_of_numpys_choice() -> None:
    """Compares with draws from the same generator. The pairs are so few that several rounds are needed."""
    weight = np.array([0.9, 0.06, 0.04])
    by_hand: list[int] = []
    rng = np.random.default_rng(5)
    while len(by_hand) < 9:
        more = max(1000, 2 * (9 - len(by_hand)))
        pairs = rng.choice(3, more, p=weight) * 3 + rng.choice(3, more, p=weight)
        by_hand = list(dict.fromkeys([*by_hand, *pairs.tolist()]))
    assert synthetic.draw_sparse(weight, weight, 9, np.random.default_rng(5)).tolist() == by_hand[:9]
