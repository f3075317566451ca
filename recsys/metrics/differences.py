"""By how much two models differ over the same users, and how far chance could have moved that; arithmetic only.

Shapes: U users, C comparisons.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from recsys.metrics.bootstrap import RESAMPLES, Floats, bootstrap_ratios

TAIL = 10  # resamples beyond each end, at least: with fewer the end itself is a matter of chance


@dataclass(frozen=True)
class Paired:
    """One figure of two models, user by user; every one of a night is of the same users in the same order."""

    metric: str
    slice: str
    less_U: Floats  # sum of the candidate's values less that of the champion's
    count_U: Floats  # of so many values; 0 for a user who is not in it


@dataclass(frozen=True)
class Difference:
    """The candidate's figure less the champion's, between the ends that chance leaves it."""

    metric: str
    slice: str
    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Comparison:
    """How tonight's model differs from the champion; or why that cannot be told."""

    champion: str | None = None  # the run that is served
    why_not: str | None = None
    differences: tuple[Difference, ...] = ()  # candidate less champion
    coverage: tuple[float, float] | None = None  # coverage@10 of the candidate's lists and of the champion's

    @property
    def overall(self) -> list[Difference]:
        return [one for one in self.differences if one.slice == "all"]

    @property
    def slices(self) -> list[Difference]:
        """The one of the surest regression first."""
        return sorted((one for one in self.differences if one.slice != "all"), key=lambda one: -one.low)

    @property
    def coverage_ratio(self) -> float | None:
        """The candidate's over the champion's; None if there is none to divide by."""
        return self.coverage[0] / self.coverage[1] if self.coverage and self.coverage[1] else None


def measure_differences(pairs: Sequence[Paired], error_rate: float, seed: int) -> tuple[Difference, ...]:
    """Each pair's difference of means, and its ends by the bootstrap over users.

    With a chance of `error_rate` at most, the true difference of any of them lies below its `low`; and with as much
    that of any lies above its `high`: each end has an equal share of that chance (Bonferroni), so that many comparisons
    do not make a difference likelier to be found where there is none.
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
