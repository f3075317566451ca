import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.metrics.churn import PERSISTENCE as P
from recsys.metrics.churn import churn

Shown = dict[int, list[int]]  # movies per user, best first


def lists_frame(shown: Shown) -> pl.DataFrame:
    rows = [(user, rank, movie) for user, movies in shown.items() for rank, movie in enumerate(movies, start=1)]
    return pl.DataFrame(rows, {"user_id": pl.Int32, "rank": pl.Int32, "movie_id": pl.Int32}, orient="row")


def measure(before: Shown, now: Shown, n: int = 10) -> dict[str, float]:
    return churn(lists_frame(before), lists_frame(now), n)


def test_churn_by_hand() -> None:
    before = {
        1: [10, 11, 12, 13],  # later, 13 is not in the list, and two movies swap ranks
        2: [20, 21],  # unchanged
        3: [30, 31],  # in another order
        4: [40],  # no later list
    }
    now = {1: [11, 10, 12, 14], 2: [20, 21], 3: [31, 30], 5: [50]}
    common_1, common_3 = (0, 2, 3, 3), (0, 2)
    rbo_1 = (1 - P) * sum(P**d * common_1[d] / (d + 1) for d in range(4)) + P**4 * 3 / 4
    rbo_3 = (1 - P) * sum(P**d * common_3[d] / (d + 1) for d in range(2)) + P**2
    assert measure(before, now) == {
        "churn_at_10": pytest.approx((1 / 4 + 0 + 0) / 3),
        "changed_at_10": pytest.approx(2 / 3),
        "rbo_at_10": pytest.approx((rbo_1 + 1 + rbo_3) / 3),
        "users_with_both": 3.0,
    }


def test_only_the_first_n_ranks_count() -> None:
    before, now = {1: [1, 2, 3, 4]}, {1: [1, 2, 5, 6]}
    same = {"churn_at_2": 0.0, "changed_at_2": 0.0, "rbo_at_2": pytest.approx(1), "users_with_both": 1.0}
    assert measure(before, now, n=2) == same
    assert measure(before, now, n=3)["churn_at_3"] == pytest.approx(1 / 3)


def test_a_longer_list_is_changed_without_churn() -> None:
    longer = measure({1: [1, 2]}, {1: [1, 2, 3]})
    assert (longer["churn_at_10"], longer["changed_at_10"]) == (0, 1)
    assert measure({1: [1, 2, 3]}, {1: [1, 2]})["churn_at_10"] == pytest.approx(1 / 3)


def test_the_first_ranks_have_the_highest_weight() -> None:
    ten = list(range(10))
    first, last = [99, *ten[1:]], [*ten[:-1], 99]
    assert measure({1: ten}, {1: first})["rbo_at_10"] < 0.75
    assert 0.95 < measure({1: ten}, {1: last})["rbo_at_10"] < 1


def test_nights_without_a_common_user() -> None:
    assert measure({1: [1]}, {2: [1]}) == {"users_with_both": 0.0}


def test_the_order_of_rows_does_not_matter() -> None:
    rng = np.random.default_rng(0)
    before, now = ({user: rng.permutation(30)[:12].tolist() for user in range(500)} for _ in range(2))
    figures = {
        tuple(
            churn(
                lists_frame(before).sample(fraction=1, shuffle=True, seed=seed),
                lists_frame(now).sample(fraction=1, shuffle=True, seed=seed + 1),
            ).items()
        )
        for seed in range(8)
    }
    assert len(figures) == 1


def slow_overlap(one: list[int], other: list[int]) -> float:
    """The infinite sum of the definition, truncated where the weights are negligible (0.9 ** 400)."""
    shorter, longer = sorted((one, other), key=len)
    s = len(shorter)
    at_s = len(set(shorter) & set(longer[:s])) / s
    total = 0.0
    for depth in range(1, 400):
        d = min(depth, len(longer))
        agreed = len(set(shorter[:d]) & set(longer[:d])) + at_s * max(d - s, 0)
        total += (1 - P) * P ** (depth - 1) * agreed / d
    return total


LISTS = st.lists(st.integers(1, 14), min_size=1, max_size=12, unique=True)


@given(before=LISTS, now=LISTS)
def test_overlap_against_the_infinite_sum(before: list[int], now: list[int]) -> None:
    overlap = measure({1: before}, {1: now})["rbo_at_10"]
    assert overlap == pytest.approx(slow_overlap(before[:10], now[:10]), abs=1e-9)
    assert overlap == pytest.approx(measure({1: now}, {1: before})["rbo_at_10"], abs=1e-12)
    assert -1e-12 <= overlap <= 1 + 1e-12


def test_overlap_of_identical_and_of_disjoint_lists() -> None:
    assert measure({1: [1, 2, 3]}, {1: [1, 2, 3]})["rbo_at_10"] == pytest.approx(1)
    assert measure({1: [1, 2, 3]}, {1: [4, 5, 6]})["rbo_at_10"] == 0
