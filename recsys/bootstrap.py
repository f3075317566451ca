"""How far a mean over users would be off with other users: percentile intervals of resampled users.

Shapes: U users, R resamples, C comparisons.
"""

import numpy as np
import numpy.typing as npt

RESAMPLES = 1000
LEVEL = 0.95
DRAWS_PER_BLOCK = 1_000_000  # 16 MB, whatever the number of users up to there
MAX_UNITS = 2048  # their spread is known to 2%; more would say no more of how far a mean may be off

Floats = npt.NDArray[np.float64]


def bootstrap_interval(
    values_U: Floats, seed: int, resamples: int = RESAMPLES, level: float = LEVEL
) -> tuple[float, float]:
    """The lower and upper end for the mean of `values_U`, one value a user; their order matters, see `user_metrics`.

    As many users are drawn with replacement as there are, `resamples` times: a `level` share of the means lie between
    the ends. It speaks of other users of the same kind, not of another training or another holdout.

    Source: Efron, "Bootstrap methods: another look at the jackknife" (1979), the percentile interval.

    Raises: ValueError if there is no value.
    """
    if not len(values_U):
        raise ValueError("values_U has no value, so there is no mean to give an interval for")
    rng = np.random.default_rng(seed)
    rows = max(1, DRAWS_PER_BLOCK // len(values_U))
    means = [
        values_U[rng.integers(len(values_U), size=(min(rows, resamples - done), len(values_U)))].mean(axis=1)
        for done in range(0, resamples, rows)
    ]
    low, high = np.quantile(np.concatenate(means), [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def bootstrap_difference(
    values_a: Floats, values_b: Floats, seed: int, resamples: int = RESAMPLES, level: float = LEVEL
) -> tuple[float, float, float]:
    """Mean of `values_a` less that of `values_b`, and the ends of its interval; both of the same users in one order.

    Users are drawn with both their values, so what makes a user easy or hard for both does not widen the interval.

    Raises: ValueError if there is no value, or the two are not as many.
    """
    if values_a.shape != values_b.shape:
        raise ValueError(f"values of {len(values_a)} and of {len(values_b)} users cannot be paired")
    low, high = bootstrap_interval(values_a - values_b, seed, resamples, level)
    return float(values_a.mean() - values_b.mean()), low, high


def bootstrap_ratios(sums_UC: Floats, counts_UC: Floats, seed: int, resamples: int = RESAMPLES) -> Floats:
    """(R, C) ratios of sums: those of `sums_UC` over those of `counts_UC`, of users drawn as in `bootstrap_interval`.

    A draw takes a user with all their C columns, so that comparisons of the same users cost one draw. Beyond
    `MAX_UNITS` users, users are dealt into so many groups at random and groups are drawn: the same spread at a bounded
    cost. A ratio with nothing to divide by is 0.

    Source: Efron and Tibshirani, "An Introduction to the Bootstrap" (1993), chapter 10, ratios.
    """
    both_U = np.concatenate([sums_UC, counts_UC], axis=1)
    rng = np.random.default_rng(seed)
    if len(both_U) > MAX_UNITS:
        dealt = np.array_split(both_U[rng.permutation(len(both_U))], MAX_UNITS)
        both_U = np.stack([group.sum(axis=0) for group in dealt])
    n_units = len(both_U)
    rows = max(1, DRAWS_PER_BLOCK // n_units)
    blocks = [min(rows, resamples - done) for done in range(0, resamples, rows)]
    sums, counts = np.split(np.concatenate([_drawn(rng, n, n_units) @ both_U for n in blocks]), 2, axis=1)
    ratios: Floats = np.divide(sums, counts, out=np.zeros_like(sums), where=counts > 0)
    return ratios


def _drawn(rng: np.random.Generator, resamples: int, n_units: int) -> Floats:
    """(R, U) how often each unit is drawn."""
    drawn = rng.integers(n_units, size=(resamples, n_units)) + n_units * np.arange(resamples)[:, None]
    counts = np.bincount(drawn.ravel(), minlength=resamples * n_units)
    return counts.reshape(resamples, n_units).astype(np.float64)
