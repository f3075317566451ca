"""Bootstrap intervals of means and ratios over users.

`scipy.stats.bootstrap` gives the same intervals of means from the same draws. It is not used because it would not
shorten the code, refuses a single user and takes half a second to import.

Shapes: U users, R resamples, C comparisons, F columns of totals.
"""

import numpy as np
import numpy.typing as npt

RESAMPLES = 1000
LEVEL = 0.95
DRAWS_PER_BLOCK = 1_000_000  # limits memory to 16 MB for up to a million users
MAX_UNITS = 2048  # enough to estimate the spread within 2%; more would not make intervals more precise

Floats = npt.NDArray[np.float64]


def bootstrap_interval(
    values_U: Floats, seed: int, resamples: int = RESAMPLES, level: float = LEVEL
) -> tuple[float, float]:
    """The lower and upper end of the interval for the mean of `values_U`, one value per user.

    Users are drawn with replacement, `resamples` times; a share `level` of the resampled means lies between the ends.
    The interval covers the choice of users, but not the randomness of training or of the holdout. It depends on the
    order of the values; see `user_metrics`.

    Source: Efron, "Bootstrap methods: another look at the jackknife" (1979), the percentile interval.

    Raises: ValueError if there is no value.
    """
    if not len(values_U):
        raise ValueError("values_U is empty, so its mean has no interval")
    rng = np.random.default_rng(seed)
    rows = max(1, DRAWS_PER_BLOCK // len(values_U))
    means = [
        values_U[rng.integers(len(values_U), size=(min(rows, resamples - done), len(values_U)))].mean(axis=1)
        for done in range(0, resamples, rows)
    ]
    low, high = np.quantile(np.concatenate(means), [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def bootstrap_ratios(
    sums_UC: Floats, counts_UC: Floats, seed: int, share: float, resamples: int = RESAMPLES
) -> tuple[Floats, Floats]:
    """Lower and upper ends, (C,) each, of the intervals of C ratios: sum of `sums_UC` divided by sum of `counts_UC`.

    The true ratio lies beyond each end with probability `share`. Every column of counts must have a value above 0. A
    user is drawn with all C columns, so many comparisons cost one draw. If there are more than `MAX_UNITS` users, they
    are assigned randomly to `MAX_UNITS` groups, and groups are drawn instead. This gives the same spread at a bounded
    cost. Each end is that of the studentised or the percentile interval, whichever is farther from the ratio. The
    studentised interval keeps its coverage far in the tails and with few users.

    Source: Efron and Tibshirani, "An Introduction to the Bootstrap" (1993), sections 12.5 and 13.3; for the error of a
    ratio Cochran, "Sampling Techniques" (1977), section 6.4.
    """
    n_columns = sums_UC.shape[1]
    rng = np.random.default_rng(seed)
    if len(sums_UC) > MAX_UNITS:
        order = rng.permutation(len(sums_UC))
        firsts = np.linspace(0, len(order), MAX_UNITS, endpoint=False).astype(np.int64)
        sums_UC, counts_UC = (np.add.reduceat(values[order], firsts) for values in (sums_UC, counts_UC))
    columns = (sums_UC, counts_UC, sums_UC**2, sums_UC * counts_UC, counts_UC**2)
    totals = np.concatenate(columns, axis=1)
    ratio_C, error_C = _ratio_and_error(totals.sum(axis=0)[None], n_columns)
    rows = max(1, DRAWS_PER_BLOCK // len(totals))
    blocks = [min(rows, resamples - done) for done in range(0, resamples, rows)]
    drawn = (_ratio_and_error(_draw(rng, n, len(totals)) @ totals, n_columns) for n in blocks)
    ratio_RC, error_RC = (np.concatenate(parts) for parts in zip(*drawn, strict=True))
    off_RC = _divide(ratio_RC - ratio_C, error_RC)
    low_C, high_C = np.quantile(ratio_RC, [share, 1 - share], axis=0)
    off_low_C, off_high_C = np.quantile(off_RC, [share, 1 - share], axis=0)
    return (
        np.minimum(low_C, (ratio_C - off_high_C * error_C)[0]),
        np.maximum(high_C, (ratio_C - off_low_C * error_C)[0]),
    )


def _ratio_and_error(totals_RF: Floats, n_columns: int) -> tuple[Floats, Floats]:
    """(R, C) each: ratios and their standard errors, from totals of sums, counts, their squares and their product."""
    sums, counts, sums_2, product, counts_2 = np.split(totals_RF, totals_RF.shape[1] // n_columns, axis=1)
    ratio = _divide(sums, counts)
    squares = sums_2 - 2 * ratio * product + ratio**2 * counts_2
    return ratio, _divide(np.sqrt(squares.clip(min=0)), counts)


def _divide(over: Floats, under: Floats) -> Floats:
    """The quotient, or 0 where the divisor is 0."""
    ratios: Floats = np.divide(over, under, out=np.zeros_like(over), where=under > 0)
    return ratios


def _draw(rng: np.random.Generator, resamples: int, n_units: int) -> Floats:
    """(R, U): how often each unit is drawn."""
    drawn = rng.integers(n_units, size=(resamples, n_units)) + n_units * np.arange(resamples)[:, None]
    counts = np.bincount(drawn.ravel(), minlength=resamples * n_units)
    return counts.reshape(resamples, n_units).astype(np.float64)
