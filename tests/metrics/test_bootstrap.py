import numpy as np
import pytest

from recsys.metrics.bootstrap import MAX_UNITS, bootstrap_difference, bootstrap_interval, bootstrap_ratios


def test_of_two_users_by_hand() -> None:
    """Means of two draws from 0 and 1 are 0, 1/2 and 1 with chances 1/4, 1/2 and 1/4."""
    values = np.array([0.0, 1.0])
    assert bootstrap_interval(values, seed=0) == (0.0, 1.0)
    assert bootstrap_interval(values, seed=0, level=0.4) == (0.5, 0.5)


def test_ends_are_those_of_the_normal_approximation_for_many_users() -> None:
    values = np.random.default_rng(1).exponential(size=20_000)
    error = values.std() / np.sqrt(len(values))
    low, high = bootstrap_interval(values, seed=0)
    assert low == pytest.approx(values.mean() - 1.96 * error, abs=0.25 * error)
    assert high == pytest.approx(values.mean() + 1.96 * error, abs=0.25 * error)


@pytest.mark.parametrize("level", [0.5, 0.95])
def test_so_many_intervals_hold_the_known_mean(level: float) -> None:
    """400 samples of 200 uniform values, whose mean is 1/2; two standard errors of the share are 0.05 and 0.022."""
    rng = np.random.default_rng(0)
    ends = [bootstrap_interval(rng.uniform(size=200), seed, 500, level) for seed in range(400)]
    share = np.mean([low <= 0.5 <= high for low, high in ends])
    assert share == pytest.approx(level, abs=2.5 * np.sqrt(level * (1 - level) / 400))


def test_the_seed_draws_and_blocks_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(2).uniform(size=101)
    once = bootstrap_interval(values, seed=3)
    assert bootstrap_interval(values, seed=3) == once
    assert bootstrap_interval(values, seed=4) != once
    for draws in (1, 101 * 7):
        monkeypatch.setattr("recsys.metrics.bootstrap.DRAWS_PER_BLOCK", draws)
        assert bootstrap_interval(values, seed=3) == once


def test_pairs_make_a_narrower_interval() -> None:
    """Some users are easy for both; that says nothing of which is better."""
    rng = np.random.default_rng(5)
    easy = rng.normal(size=500)
    ours, theirs = easy + 0.1 + rng.normal(size=500) / 10, easy + rng.normal(size=500) / 10
    difference, low, high = bootstrap_difference(ours, theirs, seed=0)
    assert difference == pytest.approx(ours.mean() - theirs.mean())
    assert 0 < low < difference < high
    apart = [bootstrap_interval(values, seed=0) for values in (ours, theirs)]
    assert apart[1][1] > apart[0][0]  # unpaired, they cannot be told apart
    assert 3 * (high - low) < min(end - start for start, end in apart)


def test_the_same_lists_do_not_differ() -> None:
    values = np.array([0.2, 0.4, 0.9])
    assert bootstrap_difference(values, values, seed=0) == (0.0, 0.0, 0.0)


def test_what_cannot_be_resampled() -> None:
    with pytest.raises(ValueError, match="no value"):
        bootstrap_interval(np.array([]), seed=0)
    with pytest.raises(ValueError, match="values of 2 and of 1 users"):
        bootstrap_difference(np.array([1.0, 2.0]), np.array([1.0]), seed=0)


def test_ratios_of_two_users_by_hand() -> None:
    """1/1 and 2/3: 3/4 together, 1 or 2/3 if one is drawn twice; the second column is twice the first."""
    sums, counts = np.array([[1.0, 2.0], [2.0, 4.0]]), np.array([[1.0, 1.0], [3.0, 3.0]])
    low, high = bootstrap_ratios(sums, counts, seed=0, share=0.1)
    assert low[0] <= 2 / 3
    assert high[0] >= 1
    assert (low[1], high[1]) == pytest.approx((2 * low[0], 2 * high[0]))


@pytest.mark.parametrize("n_users", [500, 3 * MAX_UNITS + 1])
def test_ends_of_ratios_are_those_of_the_normal_approximation(n_users: int) -> None:
    """However many users there are: beyond a number they are drawn in groups."""
    rng = np.random.default_rng(0)
    counts = rng.integers(1, 20, size=(n_users, 1)).astype(float)
    sums = counts * rng.normal(0.2, 1.0, size=(n_users, 1))
    ratio = sums.sum() / counts.sum()
    error = np.sqrt(((sums - ratio * counts) ** 2).sum()) / counts.sum()
    (low,), (high,) = bootstrap_ratios(sums, counts, seed=0, share=0.025, resamples=4000)
    assert low == pytest.approx(ratio - 1.96 * error, abs=0.2 * error)
    assert high == pytest.approx(ratio + 1.96 * error, abs=0.2 * error)


def test_ratios_of_which_a_draw_may_have_nothing() -> None:
    """One user of three counts, so many a draw divides by nothing."""
    sums, counts = np.array([[0.5], [0.0], [0.0]]), np.array([[1.0], [0.0], [0.0]])
    (low,), (high,) = bootstrap_ratios(sums, counts, seed=0, share=0.1)
    assert (low, high) == (0.0, 0.5)
