"""The gate: decides whether tonight's model may replace last night's tables."""

import logging
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from recsys.errors import GateHeld
from recsys.files import write_json
from recsys.home import Run
from recsys.metrics.differences import Comparison, Difference
from recsys.settings import GateConfig
from recsys.warehouse.lookup import find_held
from recsys.warehouse.outcome import AGAINST, MetricRow

logger = logging.getLogger(__name__)

DIGITS = 4  # decimal places of the limits that messages suggest

PARTS = {"popularity": "the most rated movies", "ease": "EASE alone"}  # lists that tonight's must not be worse than

Figures = dict[tuple[str, str], float]  # by model and metric


@dataclass(frozen=True)
class BrokenLimit:
    """A limit that tonight's model violates, and the setting that would let it pass."""

    what: str
    next_step: str = "no limit lets it pass"

    def __str__(self) -> str:
        return f"{self.what} ({self.next_step})"


def check_gate(metrics: Iterable[MetricRow], comparison: Comparison, run: Run, config: GateConfig) -> None:
    """Holds the model back if it breaks a limit of `config`, or after a rollback that is not released yet.

    Limits apply to the figures of the model and to their differences from the champion. The findings are written to
    gate.json first. With `force_publish`, they are only logged.

    Raises: GateHeld with every broken limit.
    """
    # the split is holdout, or holdout_time if the newest ratings were held out
    on_holdout = [row for row in metrics if row.split.startswith("holdout")]
    of_holdout = [row for row in on_holdout if row.slice == "all"]
    figures = {(row.model, row.metric): row.value for row in of_holdout}
    network = next(row.model for row in of_holdout if row.metric == "mae_median")
    best = comparison.best
    broken = [
        *_after_rollback(run),
        *_find_broken(figures, network, config),
        *_find_worse_lists(on_holdout, figures, network, config.max_ndcg_below_parts),
        *find_regressions(comparison, config),
        *(find_regressions(best, config, " (the best of the last published ones)") if best else ()),
    ]
    found = {
        "champion": comparison.champion,
        "best": best.champion if best else None,
        "not_compared": comparison.why_not,
        "uncompared": {one.uncompared: one.why_not for one in (comparison, best) if one and one.uncompared},
        "broken": [one.what for one in broken],
        "forced": bool(broken) and config.force_publish,
    }
    write_json(run.gate, found)
    if not broken:
        return
    reasons = "; ".join(map(str, broken))
    if config.force_publish:
        logger.warning("%s is published against the gate: %s", network, reasons)
        return
    raise GateHeld(
        f"{network} is held back: {reasons}. Last night's table is kept; the figures are in {run.metrics}. Next: find "
        "out what changed, or apply the setting in brackets, or publish anyway with `recsys nightly --force-publish`, "
        "which is recorded"
    )


def _after_rollback(run: Run) -> Iterator[BrokenLimit]:
    reason = find_held(run.home)
    if reason:
        yield BrokenLimit(
            f"the tables were rolled back {reason}, and nights do not publish until the rollback is released",
            f"`recsys rollback --release --home {run.home.root}` lets nights publish again",
        )


def _find_broken(figures: Figures, network: str, config: GateConfig) -> Iterator[BrokenLimit]:
    """Yields the broken limits on tonight's own figures, not those relative to the champion. NaN breaks every limit."""
    mae_median = figures[network, "mae_median"]
    if not mae_median <= config.max_mae_median:
        yield BrokenLimit(
            f"holdout MAE {mae_median:.4f} stars is above the gate {config.max_mae_median:.4f}",
            _raise_limit("MAX_MAE_MEDIAN", mae_median),
        )
    rmse, bias_rmse = figures[network, "rmse_mean"], figures["bias", "rmse_mean"]
    if config.must_beat_bias and not rmse < bias_rmse:
        yield BrokenLimit(
            f"holdout RMSE {rmse:.4f} stars is not below {bias_rmse:.4f}, that of the bias baseline",
            "RECSYS_GATE__MUST_BEAT_BIAS=false",
        )
    coverage, least = figures[network, "coverage_at_10"], config.min_popularity_coverage_ratio
    popular = figures["popularity", "coverage_at_10"]
    if not coverage >= least * popular:
        yield BrokenLimit(
            f"holdout coverage@10 {coverage:.4f} is below {least:g} of {popular:.4f}, that of lists of the most rated "
            "movies",
            _lower_limit("MIN_POPULARITY_COVERAGE_RATIO", coverage / popular),
        )


def _find_worse_lists(
    rows: Iterable[MetricRow], figures: Figures, network: str, allowed: float
) -> Iterator[BrokenLimit]:
    """Yields the lists that are better than tonight's by more than `allowed`, with the confidence of the interval."""
    high = {row.slice: row.value for row in rows if row.metric == "ndcg_at_10_difference_high"}
    for part, name in PARTS.items():
        at_least = -high.get(f"{AGAINST}{part}", 0.0)
        if not at_least <= allowed:
            ours, theirs = figures[network, "ndcg_at_10"], figures[part, "ndcg_at_10"]
            yield BrokenLimit(
                f"holdout NDCG@10 {ours:.4f} is worse than {theirs:.4f}, that of lists of {name}, by "
                f"{theirs - ours:.4f} (at least {at_least:.4f}); the limit is {allowed:g}",
                _raise_limit("MAX_NDCG_BELOW_PARTS", at_least),
            )


def find_regressions(comparison: Comparison, config: GateConfig, which: str = "") -> Iterator[BrokenLimit]:
    """Yields regressions whose whole bootstrap interval exceeds the limit, and a loss of coverage beyond the limit.

    `which` is added to the name of the run in messages.
    """
    champion = f"run {comparison.champion}{which}"
    for one in comparison.overall:
        if one.metric == "mae_median" and not one.low <= config.max_mae_regression:
            yield _worse("holdout MAE", one, champion, config.max_mae_regression, "MAX_MAE_REGRESSION")
        if one.metric == "ndcg_at_10" and not -one.high <= config.max_ndcg_regression:
            yield _worse("holdout NDCG@10", one, champion, config.max_ndcg_regression, "MAX_NDCG_REGRESSION")
    worse = [one for one in comparison.slices if not one.low <= config.max_slice_mae_regression]
    if worse:
        others = f" (of {len(worse)} slices above the limit)" if len(worse) > 1 else ""
        what = f"holdout MAE of {worse[0].slice}{others}"
        yield _worse(what, worse[0], champion, config.max_slice_mae_regression, "MAX_SLICE_MAE_REGRESSION")
    ratio, least = comparison.coverage_ratio, config.min_coverage_ratio
    if ratio is not None and comparison.coverage and not ratio >= least:
        ours, theirs = comparison.coverage
        yield BrokenLimit(
            f"holdout coverage@10 {ours:.4f} is {ratio:.4f} of {theirs:.4f}, that of {champion}, and below the limit "
            f"of {least:g}",
            _lower_limit("MIN_COVERAGE_RATIO", ratio),
        )


def _worse(what: str, one: Difference, champion: str, allowed: float, setting: str) -> BrokenLimit:
    by, at_least = (one.value, one.low) if one.metric == "mae_median" else (-one.value, -one.high)
    return BrokenLimit(
        f"{what} is worse than that of {champion} by {by:.4f} (at least {at_least:.4f}); the limit is {allowed:g}",
        _raise_limit(setting, at_least),
    )


def _raise_limit(setting: str, value: float) -> str:
    """Names the setting that lets `value`, rounded up, pass."""
    return (
        _passes(setting, math.ceil(value * 10**DIGITS) / 10**DIGITS) if math.isfinite(value) else BrokenLimit.next_step
    )


def _lower_limit(setting: str, value: float) -> str:
    return (
        _passes(setting, math.floor(value * 10**DIGITS) / 10**DIGITS) if math.isfinite(value) else BrokenLimit.next_step
    )


def _passes(setting: str, value: float) -> str:
    return f"RECSYS_GATE__{setting}={value:g} lets it pass"
