"""Differences between two models by explicit arithmetic, and how often equal models fail the gate."""

from collections.abc import Iterator

import numpy as np
import pytest

from recsys.evaluate.gate import find_regressions
from recsys.metrics.bootstrap import Floats
from recsys.metrics.differences import Comparison, Difference, Paired, measure_differences
from recsys.settings import GateConfig

NIGHTS = 100
N_USERS = 150
WORSE = 0.1  # stars


def one(less_U: Floats, count_U: Floats | None = None, error_rate: float = 0.1) -> Difference:
    pair = Paired("mae_median", "all", less_U, np.ones_like(less_U) if count_U is None else count_U)
    return measure_differences([pair], error_rate, seed=0)[0]


def test_the_difference_of_means_by_hand() -> None:
    """The sum of errors is 0.5 lower over 3 ratings and 1.5 higher over 1 rating: in total 1 higher over 4 ratings."""
    found = one(np.array([-0.5, 1.5, 0.0]), np.array([3.0, 1.0, 0.0]))
    assert (found.value, found.metric, found.slice) == (0.25, "mae_median", "all")


def test_models_with_equal_errors_do_not_differ() -> None:
    found = one(np.zeros(50), np.arange(50.0))
    assert (found.value, found.low, found.high) == (0.0, 0.0, 0.0)


def test_a_difference_that_is_the_same_for_all_users_has_no_spread() -> None:
    counts = np.arange(1.0, 51.0)
    found = one(0.25 * counts, counts)
    assert (found.value, found.low, found.high) == pytest.approx((0.25, 0.25, 0.25))


def test_the_interval_of_a_mean_is_that_of_the_normal_distribution() -> None:
    values = np.random.default_rng(1).normal(0.1, 1.0, 900)
    found = one(values, error_rate=0.05)
    half = 1.645 * values.std() / 30
    assert found.low == pytest.approx(values.mean() - half, abs=0.1 * half)
    assert found.high == pytest.approx(values.mean() + half, abs=0.1 * half)


def test_more_comparisons_widen_each_interval() -> None:
    values = np.random.default_rng(1).normal(size=200)
    pair = Paired("mae_median", "all", values, np.ones(200))
    alone, among = (measure_differences([pair] * n, 0.05, seed=0)[0] for n in (1, 30))
    assert among.low < alone.low
    assert among.high > alone.high


def test_the_interval_depends_only_on_the_seed() -> None:
    pair = Paired("mae_median", "all", np.random.default_rng(1).normal(size=50), np.ones(50))
    first, again, other = (measure_differences([pair], 0.05, seed) for seed in (3, 3, 4))
    assert first == again != other


def test_without_pairs_there_are_no_differences() -> None:
    assert measure_differences([], 0.05, seed=0) == ()


def compare_equals(night: int, worse: float = 0.0) -> Iterator[Paired]:
    """Two models whose errors and lists have the same distributions for each user, so both have the same hard users.

    `worse` is added to every error of the second model. Each slice is a third of the users.
    """
    rng = np.random.default_rng(night)
    count_U = rng.geometric(0.05, N_USERS).astype(float)  # of ratings; a few users have very many
    hard_U, taste_U = rng.gamma(4.0, 0.17, N_USERS), rng.beta(2.0, 3.0, N_USERS)
    errors = [rng.gamma(2.0 * count_U, hard_U / 2.0) for _ in range(2)]  # a sum of errors with mean hard_U
    ndcgs = [rng.beta(8 * taste_U, 8 * (1 - taste_U)) for _ in range(2)]
    less_U = errors[1] - errors[0] + worse * count_U
    yield Paired("mae_median", "all", less_U, count_U)
    yield Paired("ndcg_at_10", "all", ndcgs[1] - ndcgs[0] - worse, np.ones(N_USERS))
    for third in range(3):
        is_in = np.arange(N_USERS) % 3 == third
        yield Paired("mae_median", f"third={third}", less_U * is_in, count_U * is_in)


def count_refusals(rate: float, worse: float = 0.0, nights: int = NIGHTS) -> int:
    """The number of nights that are held back if no regression is allowed."""
    nothing = dict.fromkeys(("max_mae_regression", "max_ndcg_regression", "max_slice_mae_regression"), 0.0)
    strict = GateConfig(false_refusals=rate, **nothing)
    refused = 0
    for night in range(nights):
        differences = measure_differences(list(compare_equals(night, worse)), rate, seed=night)
        refused += any(True for _ in find_regressions(Comparison("before", None, differences), strict))
    return refused


@pytest.mark.parametrize(("rate", "most"), [(0.01, 5), (0.2, 33)])
def test_equal_models_are_held_back_at_most_at_the_stated_rate(rate: float, most: int) -> None:
    """At the stated rate, the probability that more than `most` of 100 nights are held back is 0.1% (binomial)."""
    refused = count_refusals(rate)
    assert refused <= most
    if rate == 0.2:
        assert refused >= 5, "a gate that hardly ever refuses does not test the rate"


def test_a_worse_model_is_found() -> None:
    assert count_refusals(0.01, WORSE, nights=20) == 20
