import math
from dataclasses import replace
from typing import Any

import pytest

from recsys.errors import GateHeld
from recsys.evaluate.gate import check_gate
from recsys.files import read_json
from recsys.home import Home
from recsys.metrics.differences import Comparison, Difference
from recsys.settings import GateConfig
from recsys.warehouse.outcome import MetricRow
from recsys.warehouse.publish import record
from tests.support.snapshots import make_run
from tests.support.warehouses import make_outcome

CONFIG = GateConfig(max_mae_median=0.9, must_beat_bias=True)
ALONE = Comparison(why_not="no run has published yet")


def metric_rows(
    mae_median: float = 0.7, rmse: float = 0.9, bias_rmse: float = 0.95, coverage: float = 0.2
) -> list[MetricRow]:
    """Return the rows of one night. Those of validation and of a genre exceed every limit, and must be ignored."""
    return [
        MetricRow("softmax", "validation", "all", "mae_median", 9.0),
        MetricRow("ordinal", "validation", "all", "mae_median", 9.0),
        MetricRow("ordinal", "validation", "all", "rmse_mean", 9.0),
        MetricRow("ordinal", "holdout", "all", "mae_median", mae_median),
        MetricRow("ordinal", "holdout", "all", "rmse_mean", rmse),
        MetricRow("ordinal", "holdout", "all", "coverage_at_10", coverage),
        MetricRow("popularity", "holdout", "all", "coverage_at_10", 0.02),
        MetricRow("ordinal", "holdout", "genre=Drama", "mae_median", 9.0),
        MetricRow("ordinal", "holdout", "genre=Drama", "rmse_mean", 9.0),
        MetricRow("bias", "holdout", "all", "rmse_mean", bias_rmse),
        MetricRow("bias", "holdout", "genre=Drama", "rmse_mean", 0.1),
    ]


def reason(home: Home, rows: list[MetricRow], config: GateConfig = CONFIG, comparison: Comparison = ALONE) -> str:
    """Return the reason why the model is held back. It is empty if the model passes."""
    try:
        check_gate(rows, comparison, make_run(home), config)
    except GateHeld as error:
        return str(error)
    return ""


def test_a_good_model_passes(home: Home) -> None:
    assert reason(home, metric_rows()) == ""


def test_a_holdout_by_time_is_checked_in_the_same_way(home: Home) -> None:
    """The split of its metrics has another name."""
    rows = [replace(row, split="holdout_time") if row.split == "holdout" else row for row in metric_rows(rmse=0.96)]
    assert "holdout RMSE 0.9600 stars is not below 0.9500" in reason(home, rows)


def test_an_error_at_the_limit_passes(home: Home) -> None:
    assert reason(home, metric_rows(mae_median=0.9)) == ""


def test_a_large_error_alone_is_held_back(home: Home) -> None:
    message = reason(home, metric_rows(mae_median=0.91234))
    assert "ordinal is held back: holdout MAE 0.9123 stars is above the gate 0.9000 (" in message
    assert "(RECSYS_GATE__MAX_MAE_MEDIAN=0.9124 lets it pass)" in message
    assert "RMSE" not in message


@pytest.mark.parametrize("rmse", [0.95, 0.96])
def test_an_error_above_the_bias_baseline_alone_is_held_back(home: Home, rmse: float) -> None:
    message = reason(home, metric_rows(rmse=rmse))
    assert (
        f"ordinal is held back: holdout RMSE {rmse:.4f} stars is not below 0.9500, that of the bias baseline ("
        in message
    )
    assert "MAE 0" not in message


def test_the_limits_are_settings(home: Home) -> None:
    assert reason(home, metric_rows(mae_median=1.5), GateConfig(max_mae_median=2.0)) == ""
    assert reason(home, metric_rows(rmse=0.96), GateConfig(must_beat_bias=False)) == ""
    assert reason(home, metric_rows(mae_median=0.7), GateConfig(max_mae_median=0.6)) != ""


def test_every_exceeded_limit_is_reported_with_a_next_step(home: Home) -> None:
    message = reason(home, metric_rows(mae_median=1.0, rmse=1.0))
    assert "MAE 1.0000 stars is above the gate 0.9000 (RECSYS_GATE__MAX_MAE_MEDIAN=1 lets it pass); " in message
    assert (
        "RMSE 1.0000 stars is not below 0.9500, that of the bias baseline (RECSYS_GATE__MUST_BEAT_BIAS=false)"
        in message
    )
    assert "Last night's table is kept" in message
    assert str(make_run(home).metrics) in message
    assert "recsys nightly --force-publish" in message


@pytest.mark.parametrize("broken", ["mae_median", "rmse", "bias_rmse", "coverage"])
def test_a_nan_metric_is_held_back(home: Home, broken: str) -> None:
    assert "nan" in reason(home, metric_rows(**{broken: math.nan}))


def test_held_back_is_exit_code_4(home: Home) -> None:
    with pytest.raises(GateHeld) as held:
        check_gate(metric_rows(mae_median=1.0), ALONE, make_run(home), CONFIG)
    assert held.value.exit_code == 4
    assert held.value.verdict == "held back"


def test_low_coverage_is_held_back(home: Home) -> None:
    assert reason(home, metric_rows(coverage=0.01)) == ""
    message = reason(home, metric_rows(coverage=0.0079))
    assert "coverage@10 0.0079 is below 0.5 of 0.0200, that of lists of the most rated movies" in message
    assert "RECSYS_GATE__MIN_POPULARITY_COVERAGE_RATIO=0.395 lets it pass" in message


def below(part: str, ours: float, theirs: float, at_least: float) -> list[MetricRow]:
    """Return the rows of lists whose NDCG@10 is below that of a part by at least this amount."""
    ends = {"": ours - theirs, "_low": 2 * (ours - theirs) + at_least, "_high": -at_least}
    differences = (
        MetricRow("ordinal", "holdout", f"against={part}", f"ndcg_at_10_difference{end}", value)
        for end, value in ends.items()
    )
    figures = (
        MetricRow(model, "holdout", "all", "ndcg_at_10", value) for model, value in (("ordinal", ours), (part, theirs))
    )
    return [*metric_rows(), *figures, *differences]


@pytest.mark.parametrize(("part", "name"), [("popularity", "the most rated movies"), ("ease", "EASE alone")])
def test_lists_below_their_parts_are_held_back_on_a_first_night(home: Home, part: str, name: str) -> None:
    message = reason(home, below(part, 0.2667, 0.3567, 0.00487))
    assert (
        f"ordinal is held back: holdout NDCG@10 0.2667 is worse than 0.3567, that of lists of {name}, by 0.0900 (at "
        "least 0.0049); the limit is 0 (RECSYS_GATE__MAX_NDCG_BELOW_PARTS=0.0049 lets it pass)"
    ) in message
    assert message.count("lets it pass") == 1
    assert reason(home, below(part, 0.2667, 0.3567, 0.00487), GateConfig(max_ndcg_below_parts=0.0049)) == ""


def test_lists_below_their_parts_within_chance_pass(home: Home) -> None:
    assert reason(home, below("popularity", 0.31, 0.32, -0.001)) == ""
    assert reason(home, below("popularity", 0.31, 0.31, 0.0)) == ""
    assert "(at least nan); the limit is 0 (no limit lets it pass)" in reason(home, below("ease", 0.3, 0.31, math.nan))


def against(coverage: tuple[float, float] = (0.2, 0.2), **low: float) -> Comparison:
    """Return a comparison in which tonight's model is worse by at least these amounts."""
    low = {"mae": 0.0, "ndcg": 0.0, "Drama": 0.0, "Horror": 0.0} | low
    differences = (
        Difference("mae_median", "all", low["mae"] + 0.002, low["mae"], low["mae"] + 0.004),
        Difference("ndcg_at_10", "all", -low["ndcg"] - 0.002, -low["ndcg"] - 0.004, -low["ndcg"]),
        *(Difference("mae_median", f"genre={name}", 1.0, low[name], 2.0) for name in ("Drama", "Horror")),
    )
    return Comparison("20261120T030000Z", None, differences, coverage)


REGRESSIONS: dict[str, tuple[dict[str, Any], str, str]] = {
    "mae": (
        {"mae": 0.00501},
        "MAE is worse than that of run 20261120T030000Z by 0.0070 (at least 0.0050); the limit is 0.005",
        "MAX_MAE_REGRESSION=0.0051",
    ),
    "ndcg": (
        {"ndcg": 0.02},
        "NDCG@10 is worse than that of run 20261120T030000Z by 0.0220 (at least 0.0200); the limit is 0.01",
        "MAX_NDCG_REGRESSION=0.02",
    ),
    "slice": (
        {"Horror": 0.05},
        "MAE of genre=Horror is worse than that of run 20261120T030000Z by 1.0000 (at least 0.0500); the limit is 0.03",
        "MAX_SLICE_MAE_REGRESSION=0.05",
    ),
    "slices": (
        {"Drama": 0.04, "Horror": 0.05},
        "MAE of genre=Horror (of 2 slices above the limit) is worse",
        "MAX_SLICE_MAE_REGRESSION=0.05",
    ),
    "coverage": (
        {"coverage": (0.13, 0.2)},
        "coverage@10 0.1300 is 0.6500 of 0.2000, that of run 20261120T030000Z, and below the limit of 0.7",
        "MIN_COVERAGE_RATIO=0.65",
    ),
}


@pytest.mark.parametrize("name", REGRESSIONS)
def test_a_regression_alone_is_held_back(home: Home, name: str) -> None:
    given, expected, setting = REGRESSIONS[name]
    message = reason(home, metric_rows(), CONFIG, against(**given))
    assert f"ordinal is held back: holdout {expected}" in message
    assert f"(RECSYS_GATE__{setting} lets it pass)" in message
    assert message.count("lets it pass") == 1


def test_regressions_within_the_limits_pass(home: Home) -> None:
    """Differences at the limits pass, and so do improvements."""
    at_limits = against(mae=0.005, ndcg=0.01, Drama=0.03, coverage=(0.14, 0.2))
    assert reason(home, metric_rows(), CONFIG, at_limits) == ""
    assert reason(home, metric_rows(), CONFIG, against(mae=-0.1, ndcg=-0.1, Drama=-0.1, coverage=(0.9, 0.2))) == ""
    assert reason(home, metric_rows(), CONFIG, against(coverage=(0.0, 0.0))) == ""


def test_the_regression_limits_are_settings(home: Home) -> None:
    worse = against(mae=0.1, ndcg=0.1, Drama=0.1, coverage=(0.1, 0.2))
    fields = ("max_mae_regression", "max_ndcg_regression", "max_slice_mae_regression")
    wide = CONFIG.model_copy(update=dict.fromkeys(fields, 0.1) | {"min_coverage_ratio": 0.5})
    assert reason(home, metric_rows(), wide, worse) == ""
    for field in fields:
        assert field.upper() in reason(home, metric_rows(), wide.model_copy(update={field: 0.09}), worse)
    assert "MIN_COVERAGE_RATIO" in reason(
        home, metric_rows(), wide.model_copy(update={"min_coverage_ratio": 0.6}), worse
    )


def test_a_nan_difference_is_held_back(home: Home) -> None:
    message = reason(home, metric_rows(), CONFIG, against(mae=math.nan))
    assert "(at least nan); the limit is 0.005 (no limit lets it pass)" in message


def test_the_findings_are_written_to_gate_json(home: Home) -> None:
    run = make_run(home)
    assert reason(home, metric_rows()) == ""
    why = "no run has published yet"
    nothing: dict[str, Any] = {"champion": None, "best": None, "uncompared": {}, "broken": [], "forced": False}
    assert read_json(run.gate) == nothing | {"not_compared": why}
    assert reason(home, metric_rows(mae_median=1.0), CONFIG, against()) != ""
    broken = ["holdout MAE 1.0000 stars is above the gate 0.9000"]
    assert read_json(run.gate) == nothing | {"champion": "20261120T030000Z", "not_compared": None, "broken": broken}


def test_a_regression_from_the_best_of_the_last_runs_is_held_back(home: Home) -> None:
    """Each night may lose less than the allowance, but not all of them together."""
    run, best = make_run(home), replace(against(mae=0.006), champion="20261101T030000Z")
    message = reason(home, metric_rows(), CONFIG, replace(against(mae=0.001), best=best))
    assert (
        "holdout MAE is worse than that of run 20261101T030000Z (the best of the last published ones) by 0.0080 (at "
        "least 0.0060); the limit is 0.005 (RECSYS_GATE__MAX_MAE_REGRESSION=0.006 lets it pass)"
    ) in message
    assert message.count("lets it pass") == 1
    gate = read_json(run.gate)
    assert (gate["champion"], gate["best"]) == ("20261120T030000Z", "20261101T030000Z")
    lost = Comparison(why_not="its files are gone", uncompared="20261101T030000Z")
    assert reason(home, metric_rows(), CONFIG, replace(against(), best=lost)) == ""
    assert read_json(run.gate)["uncompared"] == {"20261101T030000Z": "its files are gone"}


def test_force_publish_logs_the_exceeded_limits(home: Home, caplog: pytest.LogCaptureFixture) -> None:
    forcing = CONFIG.model_copy(update={"force_publish": True})
    assert reason(home, metric_rows(mae_median=1.0), forcing) == ""
    assert "ordinal is published against the gate: holdout MAE 1.0000 stars is above the gate 0.9000" in caplog.text
    assert read_json(make_run(home).gate)["forced"]
    assert reason(home, metric_rows(), forcing) == ""
    assert not read_json(make_run(home).gate)["forced"]


def test_nights_are_held_back_after_a_rollback(home: Home) -> None:
    rolled_back = make_outcome("20261122T090000Z", verdict="rolled back", reason="by hand, from run B to run A")
    record(rolled_back, home)
    message = reason(home, metric_rows())
    assert "the tables were rolled back by hand, from run B to run A, and nights do not publish until" in message
    assert "until the rollback is released" in message
    assert f"`recsys rollback --release --home {home.root}` lets nights publish again" in message
    assert reason(home, metric_rows(), CONFIG.model_copy(update={"force_publish": True})) == ""
    record(make_outcome("20261123T090000Z", verdict="released"), home)
    assert reason(home, metric_rows()) == ""
