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


def bootstrap_ratios(
    sums_UC: Floats, counts_UC: Floats, seed: int, share: float, resamples: int = RESAMPLES
) -> tuple[Floats, Floats]:
    """(C,) the lower and (C,) the upper ends of ratios, of the sums of `sums_UC` to those of `counts_UC`: with a chance
    of `share` the truth lies beyond each. Every column of counts has one above 0.

    Users are drawn as in `bootstrap_interval`, each with all their C columns, so that many comparisons cost one draw.
    Beyond `MAX_UNITS` users, users are dealt into so many groups at random and groups are drawn: the same spread at a
    bounded cost. The ends are those of the studentised interval, which far in the tails and with few users keeps what
    the percentile interval promises; or those of the latter where they are further out.

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
    """(R, C) each: ratios and their standard errors, from totals of sums, counts, and their squares and product."""
    sums, counts, sums_2, product, counts_2 = np.split(totals_RF, totals_RF.shape[1] // n_columns, axis=1)
    ratio = _divide(sums, counts)
    squares = sums_2 - 2 * ratio * product + ratio**2 * counts_2
    return ratio, _divide(np.sqrt(squares.clip(min=0)), counts)


def _divide(over: Floats, under: Floats) -> Floats:
    """0 where there is nothing to divide by."""
    ratios: Floats = np.divide(over, under, out=np.zeros_like(over), where=under > 0)
    return ratios


def _draw(rng: np.random.Generator, resamples: int, n_units: int) -> Floats:
    """(R, U) how often each unit is drawn."""
    drawn = rng.integers(n_units, size=(resamples, n_units)) + n_units * np.arange(resamples)[:, None]
    counts = np.bincount(drawn.ravel(), minlength=resamples * n_units)
    return counts.reshape(resamples, n_units).astype(np.float64)
