import numpy as np
import pytest

from recsys.metrics.bootstrap import MAX_UNITS, bootstrap_interval, bootstrap_ratios


def test_the_interval_of_two_users_by_hand() -> None:
    """Means of two draws from 0 and 1 are 0, 1/2 and 1 with probabilities 1/4, 1/2 and 1/4."""
    values = np.array([0.0, 1.0])
    assert bootstrap_interval(values, seed=0) == (0.0, 1.0)
    assert bootstrap_interval(values, seed=0, level=0.4) == (0.5, 0.5)


def test_for_many_users_the_interval_is_that_of_the_normal_approximation() -> None:
    values = np.random.default_rng(1).exponential(size=20_000)
    error = values.std() / np.sqrt(len(values))
    low, high = bootstrap_interval(values, seed=0)
    assert low == pytest.approx(values.mean() - 1.96 * error, abs=0.25 * error)
    assert high == pytest.approx(values.mean() + 1.96 * error, abs=0.25 * error)


@pytest.mark.parametrize("level", [0.5, 0.95])
def test_the_intervals_have_the_stated_coverage(level: float) -> None:
    """400 samples have 200 uniform values with mean 1/2. Two standard errors of the share are 0.05 and 0.022."""
    rng = np.random.default_rng(0)
    ends = [bootstrap_interval(rng.uniform(size=200), seed, 500, level) for seed in range(400)]
    share = np.mean([low <= 0.5 <= high for low, high in ends])
    assert share == pytest.approx(level, abs=2.5 * np.sqrt(level * (1 - level) / 400))


def test_the_interval_depends_on_the_seed_but_not_on_the_block_size(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(2).uniform(size=101)
    once = bootstrap_interval(values, seed=3)
    assert bootstrap_interval(values, seed=3) == once
    assert bootstrap_interval(values, seed=4) != once
    for draws in (1, 101 * 7):
        monkeypatch.setattr("recsys.metrics.bootstrap.DRAWS_PER_BLOCK", draws)
        assert bootstrap_interval(values, seed=3) == once


def test_without_values_there_is_no_interval() -> None:
    with pytest.raises(ValueError, match="values_U is empty"):
        bootstrap_interval(np.array([]), seed=0)


def test_ratios_of_two_users_by_hand() -> None:
    """The ratios are 1/1 and 2/3: 3/4 together, 1 or 2/3 if one user is drawn twice. Column 2 is twice column 1."""
    sums, counts = np.array([[1.0, 2.0], [2.0, 4.0]]), np.array([[1.0, 1.0], [3.0, 3.0]])
    low, high = bootstrap_ratios(sums, counts, seed=0, share=0.1)
    assert low[0] <= 2 / 3
    assert high[0] >= 1
    assert (low[1], high[1]) == pytest.approx((2 * low[0], 2 * high[0]))


@pytest.mark.parametrize("n_users", [500, 3 * MAX_UNITS + 1])
def test_intervals_of_ratios_are_those_of_the_normal_approximation(n_users: int) -> None:
    """Users are drawn one by one and, above `MAX_UNITS`, in groups."""
    rng = np.random.default_rng(0)
    counts = rng.integers(1, 20, size=(n_users, 1)).astype(float)
    sums = counts * rng.normal(0.2, 1.0, size=(n_users, 1))
    ratio = sums.sum() / counts.sum()
    error = np.sqrt(((sums - ratio * counts) ** 2).sum()) / counts.sum()
    (low,), (high,) = bootstrap_ratios(sums, counts, seed=0, share=0.025, resamples=4000)
    assert low == pytest.approx(ratio - 1.96 * error, abs=0.2 * error)
    assert high == pytest.approx(ratio + 1.96 * error, abs=0.2 * error)


def test_a_resample_may_have_a_count_of_zero() -> None:
    """Only one of three users has a count, so some resamples have none."""
    sums, counts = np.array([[0.5], [0.0], [0.0]]), np.array([[1.0], [0.0], [0.0]])
    (low,), (high,) = bootstrap_ratios(sums, counts, seed=0, share=0.1)
    assert (low, high) == (0.0, 0.5)
