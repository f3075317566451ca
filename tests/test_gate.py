import math
from dataclasses import replace

import pytest
from snapshots import make_run

from recsys.errors import GateHeld
from recsys.gate import check_gate
from recsys.home import Home
from recsys.settings import GateConfig
from recsys.warehouse.outcome import MetricRow

CONFIG = GateConfig(max_mae_median=0.9, must_beat_bias=True)


def metric_rows(mae_median: float = 0.7, rmse: float = 0.9, bias_rmse: float = 0.95) -> list[MetricRow]:
    """Of one night; the rows of validation and of a genre would break every limit."""
    return [
        MetricRow("softmax", "validation", "all", "mae_median", 9.0),
        MetricRow("ordinal", "validation", "all", "mae_median", 9.0),
        MetricRow("ordinal", "validation", "all", "rmse_mean", 9.0),
        MetricRow("ordinal", "holdout", "all", "mae_median", mae_median),
        MetricRow("ordinal", "holdout", "all", "rmse_mean", rmse),
        MetricRow("ordinal", "holdout", "genre=Drama", "mae_median", 9.0),
        MetricRow("ordinal", "holdout", "genre=Drama", "rmse_mean", 9.0),
        MetricRow("bias", "holdout", "all", "rmse_mean", bias_rmse),
        MetricRow("bias", "holdout", "genre=Drama", "rmse_mean", 0.1),
    ]


def reason(home: Home, rows: list[MetricRow], config: GateConfig = CONFIG) -> str:
    """Why the model is held back; empty if it is not."""
    try:
        check_gate(rows, make_run(home), config)
    except GateHeld as error:
        return str(error)
    return ""


def test_a_good_model_passes(home: Home) -> None:
    assert reason(home, metric_rows()) == ""


def test_a_holdout_by_time_is_judged_alike(home: Home) -> None:
    """Its rows carry another name."""
    rows = [replace(row, split="holdout_time") if row.split == "holdout" else row for row in metric_rows(rmse=0.96)]
    assert "holdout RMSE 0.9600 stars is not below 0.9500" in reason(home, rows)


def test_an_error_at_the_limit_passes(home: Home) -> None:
    assert reason(home, metric_rows(mae_median=0.9)) == ""


def test_a_large_error_alone_holds_back(home: Home) -> None:
    message = reason(home, metric_rows(mae_median=0.91234))
    assert "ordinal is held back: holdout MAE 0.9123 stars is above the gate 0.9000." in message
    assert "RMSE" not in message


@pytest.mark.parametrize("rmse", [0.95, 0.96])
def test_not_beating_plain_biases_alone_holds_back(home: Home, rmse: float) -> None:
    message = reason(home, metric_rows(rmse=rmse))
    assert f"ordinal is held back: holdout RMSE {rmse:.4f} stars is not below 0.9500, that of plain biases." in message
    assert "MAE 0" not in message


def test_the_limits_are_settings(home: Home) -> None:
    assert reason(home, metric_rows(mae_median=1.5), GateConfig(max_mae_median=2.0)) == ""
    assert reason(home, metric_rows(rmse=0.96), GateConfig(must_beat_bias=False)) == ""
    assert reason(home, metric_rows(mae_median=0.7), GateConfig(max_mae_median=0.6)) != ""


def test_every_broken_limit_is_told_and_what_to_do(home: Home) -> None:
    message = reason(home, metric_rows(mae_median=1.0, rmse=1.0))
    assert "MAE 1.0000 stars is above the gate 0.9000; holdout RMSE 1.0000 stars is not below 0.9500" in message
    assert "Last night's table is kept" in message
    assert str(make_run(home).metrics) in message
    assert "RECSYS_GATE__MAX_MAE_MEDIAN" in message
    assert "RECSYS_GATE__MUST_BEAT_BIAS" in message


@pytest.mark.parametrize("broken", ["mae_median", "rmse", "bias_rmse"])
def test_a_figure_that_is_not_a_number_holds_back(home: Home, broken: str) -> None:
    assert "nan" in reason(home, metric_rows(**{broken: math.nan}))


def test_held_back_is_exit_code_4(home: Home) -> None:
    with pytest.raises(GateHeld) as held:
        check_gate(metric_rows(mae_median=1.0), make_run(home), CONFIG)
    assert held.value.exit_code == 4
    assert held.value.verdict == "held back"
