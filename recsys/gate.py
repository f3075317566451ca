"""May tonight's model replace last night's table?"""

from collections.abc import Iterable

from recsys.errors import GateHeld
from recsys.home import Run
from recsys.settings import GateConfig
from recsys.warehouse.outcome import MetricRow


def check_gate(metrics: Iterable[MetricRow], run: Run, config: GateConfig) -> None:
    """Holds a model back whose holdout errors break a limit of `config`.

    Raises: GateHeld with every broken limit.
    """
    # holdout, or holdout_time where the newest ratings were held out
    of_holdout = [row for row in metrics if row.split.startswith("holdout") and row.slice == "all"]
    holdout = {(row.model, row.metric): row.value for row in of_holdout}
    network = next(row.model for row in of_holdout if row.metric == "mae_median")
    broken = []
    mae_median = holdout[network, "mae_median"]
    if not mae_median <= config.max_mae_median:
        broken.append(f"holdout MAE {mae_median:.4f} stars is above the gate {config.max_mae_median:.4f}")
    rmse, bias_rmse = holdout[network, "rmse_mean"], holdout["bias", "rmse_mean"]
    if config.must_beat_bias and not rmse < bias_rmse:
        broken.append(f"holdout RMSE {rmse:.4f} stars is not below {bias_rmse:.4f}, that of plain biases")
    if broken:
        raise GateHeld(
            f"{network} is held back: {'; '.join(broken)}. Last night's table is kept; see {run.metrics}. "
            "The limits are settings: RECSYS_GATE__MAX_MAE_MEDIAN, RECSYS_GATE__MUST_BEAT_BIAS."
        )
