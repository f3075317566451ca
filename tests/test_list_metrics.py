import math
from collections.abc import Iterable

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.list_metrics import list_metrics

Shown = dict[int, list[int]]  # movies per user, best first
Relevant = dict[int, set[int]]


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
