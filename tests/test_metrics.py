import math
from collections.abc import Iterable

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from recsys.decode import Prediction, decode_mean
from recsys.metrics import list_metrics, log_loss, mae, number_metrics, prediction_metrics, rmse

STARS = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0])
Shown = dict[int, list[int]]  # movies per user, best first
Relevant = dict[int, set[int]]


def test_mae_and_rmse_by_hand() -> None:
    stars_hat, stars = torch.tensor([1.0, 2.5, 5.0, 3.0]), torch.tensor([2.0, 2.0, 3.0, 3.0])
    assert mae(stars_hat, stars) == pytest.approx((1 + 0.5 + 2 + 0) / 4)
    assert rmse(stars_hat, stars) == pytest.approx(math.sqrt((1 + 0.25 + 4 + 0) / 4))


def test_errors_are_summed_in_double_precision() -> None:
    stars_hat = torch.rand(100_000, generator=torch.Generator().manual_seed(0))
    off = [value - 1.0 for value in stars_hat.tolist()]
    assert mae(stars_hat, torch.ones(100_000)) == pytest.approx(math.fsum(map(abs, off)) / 100_000, rel=1e-12)
    mean_square = math.fsum(value**2 for value in off) / 100_000
    assert rmse(stars_hat, torch.ones(100_000)) == pytest.approx(math.sqrt(mean_square), rel=1e-12)


def test_log_loss_by_hand() -> None:
    p_BK = torch.tensor([[0.5, 0.25, 0.25], [0.125, 0.75, 0.125]])
    assert log_loss(p_BK, torch.tensor([1, 0])) == pytest.approx((math.log(4) + math.log(8)) / 2)


def test_an_impossible_level_costs_16_nats_not_infinity() -> None:
    p_BK = torch.tensor([[0.0, 1.0], [1.0, 0.0], [1e-9, 1.0]])
    assert log_loss(p_BK, torch.tensor([0, 0, 0])) == pytest.approx((math.log(1e7) + 0 + math.log(1e7)) / 3)
    assert math.log(1e7) == pytest.approx(16, abs=0.2)


def test_every_decoder_on_the_same_rows() -> None:
    p_BK = torch.tensor([[0.0, 0.0, 0.25, 0.25, 0.5], [0.5, 0.0, 0.0, 0.0, 0.5]])
    prediction = Prediction(p_BK, decode_mean(p_BK, STARS))
    metrics = prediction_metrics(prediction, torch.tensor([4, 1]), STARS)  # 5 and 2 stars
    assert metrics == {
        "mae_median": pytest.approx((1 + 1) / 2),  # medians 4 and 1
        "mae_mode": pytest.approx((0 + 1) / 2),  # modes 5 and 1
        "mae_mean": pytest.approx((0.75 + 1) / 2),  # means 4.25 and 3
        "mae_rounded": pytest.approx((1 + 1) / 2),  # means rounded 4 and 3
        "rmse_mean": pytest.approx(math.sqrt((0.75**2 + 1) / 2)),
        "log_loss": pytest.approx((math.log(2) + math.log(1e7)) / 2),
    }


def test_one_number_per_rating() -> None:
    metrics = number_metrics(torch.tensor([3.6, 2.0]), torch.tensor([4.0, 3.0]), STARS)
    assert metrics == {
        "mae_mean": pytest.approx((0.4 + 1) / 2),
        "mae_rounded": pytest.approx((0 + 1) / 2),
        "rmse_mean": pytest.approx(math.sqrt((0.16 + 1) / 2)),
    }


def lists_frame(shown: Shown) -> pl.DataFrame:
    rows = [(user, rank, movie) for user, movies in shown.items() for rank, movie in enumerate(movies, start=1)]
    return pl.DataFrame(rows, {"user_id": pl.Int32, "rank": pl.Int32, "movie_id": pl.Int32}, orient="row")


def relevant_frame(relevant: Relevant) -> pl.DataFrame:
    rows = [(user, movie) for user, movies in relevant.items() for movie in movies]
    return pl.DataFrame(rows, {"user_id": pl.Int32, "movie_id": pl.Int32}, orient="row")


def measure(shown: Shown, relevant: Relevant, n_movies: int = 100) -> dict[str, float]:
    return list_metrics(lists_frame(shown), relevant_frame(relevant), n_movies)


def test_lists_by_hand() -> None:
    shown = {
        1: [10, 11, 12, 13],  # 10 and 12 right, a third one not shown
        2: [20, 21],  # 21 right, and there is no other
        3: [30],  # nothing right
        4: [40, 41],  # nobody knows what is right: does not count
    }
    relevant = {1: {10, 12, 99}, 2: {21}, 3: {31, 32}}
    ndcg_1 = (1 + 1 / math.log2(4)) / (1 + 1 / math.log2(3) + 1 / math.log2(4))
    ndcg_2 = (1 / math.log2(3)) / 1
    metrics = measure(shown, relevant, n_movies=50)
    assert metrics == {
        "ndcg_at_10": pytest.approx((ndcg_1 + ndcg_2 + 0) / 3),
        "recall_at_10": pytest.approx((2 / 3 + 1 + 0) / 3),
        "recall_at_50": pytest.approx((2 / 3 + 1 + 0) / 3),
        "coverage_at_10": pytest.approx(9 / 50),  # the list of user 4 counts here
        "users_with_relevant": 3.0,
    }


def test_cuts_at_10_and_50() -> None:
    shown = {1: list(range(1, 61))}
    relevant = {1: {10, 11, 50, 51}}
    metrics = measure(shown, relevant, n_movies=60)
    ideal = sum(1 / math.log2(rank + 1) for rank in range(1, 5))
    assert metrics["ndcg_at_10"] == pytest.approx(1 / math.log2(11) / ideal)
    assert metrics["recall_at_10"] == pytest.approx(1 / 4)
    assert metrics["recall_at_50"] == pytest.approx(3 / 4)
    assert metrics["coverage_at_10"] == pytest.approx(10 / 60)


def test_more_relevant_movies_than_places() -> None:
    """The ideal list is no longer than ten, so a list of ten right movies is perfect."""
    metrics = measure({1: list(range(10))}, {1: set(range(25))})
    assert metrics["ndcg_at_10"] == pytest.approx(1)
    assert metrics["recall_at_10"] == pytest.approx(10 / 25)


def test_a_user_without_a_list_counts_as_shown_nothing_relevant() -> None:
    metrics = measure({1: [10]}, {1: {10}, 2: {10}})
    assert metrics["ndcg_at_10"] == metrics["recall_at_10"] == pytest.approx(0.5)
    assert metrics["users_with_relevant"] == 2


def test_a_movie_is_right_for_its_own_user_only() -> None:
    assert measure({1: [10], 2: [20]}, {1: {20}, 2: {10}})["ndcg_at_10"] == 0


def test_without_relevant_movies_there_is_coverage_only() -> None:
    assert measure({1: [10, 11]}, {}) == {"coverage_at_10": 0.02, "users_with_relevant": 0.0}


def test_figures_do_not_depend_on_the_order_of_rows() -> None:
    """Not even in their last bits: a run again gives the same metrics.json."""
    rng = np.random.default_rng(0)
    shown = {user: rng.permutation(200)[:50].tolist() for user in range(1500)}
    relevant = {user: set(rng.permutation(200)[: rng.integers(1, 30)].tolist()) for user in range(1500)}
    lists, right = lists_frame(shown), relevant_frame(relevant)
    figures = {
        tuple(list_metrics(lists.sample(fraction=1, shuffle=True, seed=seed), right, 200).items()) for seed in range(8)
    }
    assert len(figures) == 1


def slow_metrics(shown: Shown, relevant: Relevant) -> dict[str, float]:
    """The definitions once more, one user at a time, in plain Python."""
    users = [user for user, movies in relevant.items() if movies]
    ndcg = recall = 0.0
    for user in users:
        found = [movie in relevant[user] for movie in shown.get(user, [])]
        ideal = sorted((True for _ in relevant[user]), reverse=True)
        ndcg += dcg(found[:10]) / dcg(ideal[:10])
        recall += sum(found[:10]) / len(relevant[user])
    return {"ndcg_at_10": ndcg / len(users), "recall_at_10": recall / len(users)}


def dcg(found: Iterable[bool]) -> float:
    return sum(hit / math.log2(place + 2) for place, hit in enumerate(found))


MOVIES = st.integers(1, 30)
SHOWN = st.dictionaries(st.integers(1, 6), st.lists(MOVIES, max_size=15, unique=True), min_size=1)
RELEVANT = st.dictionaries(st.integers(1, 6), st.sets(MOVIES, max_size=14), min_size=1)


@given(shown=SHOWN, relevant=RELEVANT.filter(lambda relevant: any(relevant.values())))
def test_lists_against_a_slow_implementation(shown: Shown, relevant: Relevant) -> None:
    metrics = measure(shown, relevant)
    for name, value in slow_metrics(shown, relevant).items():
        assert metrics[name] == pytest.approx(value)
        assert 0 <= metrics[name] <= 1 + 1e-12
