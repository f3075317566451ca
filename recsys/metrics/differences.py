"""Differences between two models on the same users, with confidence intervals.

Shapes: U users, C comparisons.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from recsys.metrics.bootstrap import RESAMPLES, Floats, bootstrap_ratios

MIN_USERS = 20  # per comparison; with fewer, the bootstrap is unreliable
TAIL = 10  # minimum number of resamples beyond each end of an interval; with fewer, the end would be too random


@dataclass(frozen=True)
class Paired:
    """One metric of two models, per user. All pairs of a night have the same users in the same order."""

    metric: str
    slice: str
    less_U: Floats  # sum of the candidate's values minus sum of the champion's
    count_U: Floats  # number of values; 0 for a user outside the slice


@dataclass(frozen=True)
class Difference:
    """The candidate's metric minus the champion's, with the ends of its interval."""

    metric: str
    slice: str
    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Comparison:
    """The differences between tonight's model and the champion, or the reason why they cannot be compared.

    `best` is the same for an earlier champion that is better than the present one, if there is one.
    """

    champion: str | None = None  # run_id of the published model
    why_not: str | None = None
    differences: tuple[Difference, ...] = ()  # candidate minus champion
    coverage: tuple[float, float] | None = None  # coverage@10 of the candidate and of the champion
    uncompared: str | None = None  # run_id of a published model that cannot be compared
    best: "Comparison | None" = None

    @property
    def overall(self) -> list[Difference]:
        return [one for one in self.differences if one.slice == "all"]

    @property
    def slices(self) -> list[Difference]:
        """Differences of slices, the most certain regression first."""
        return sorted((one for one in self.differences if one.slice != "all"), key=lambda one: -one.low)

    @property
    def coverage_ratio(self) -> float | None:
        """The coverage of the candidate divided by the champion's; None if that is unknown or 0."""
        return self.coverage[0] / self.coverage[1] if self.coverage and self.coverage[1] else None


def measure_differences(pairs: Sequence[Paired], error_rate: float, seed: int) -> tuple[Difference, ...]:
    """The difference of means of each pair, with an interval by bootstrap over users.

    The probability that any true difference is below its `low` is at most `error_rate`; the same holds for `high`. The
    error rate is divided equally among the comparisons (Bonferroni), so that more comparisons do not make a false
    difference more likely.
    """
    if not pairs:
        return ()
    less_UC = np.stack([pair.less_U for pair in pairs], axis=1)
    count_UC = np.stack([pair.count_U for pair in pairs], axis=1)
    share = error_rate / len(pairs)
    resamples = max(RESAMPLES, int(np.ceil(TAIL / share)))
    low_C, high_C = bootstrap_ratios(less_UC, count_UC, seed, share, resamples)
    value_C = less_UC.sum(axis=0) / count_UC.sum(axis=0)
    return tuple(
        Difference(pair.metric, pair.slice, *map(float, figures))
        for pair, *figures in zip(pairs, value_C, low_C, high_C, strict=True)
    )
