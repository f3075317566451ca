"""Finds the best of the last published models, so that losses below the gate's allowances cannot add up."""

from recsys.files import read_json
from recsys.home import Home, Run
from recsys.settings import GateConfig
from recsys.warehouse.lookup import Losses

SMALLEST = 1e-4  # of an allowance, which may be 0


def find_best(served: str, losses: Losses, home: Home, config: GateConfig) -> str | None:
    """The run from which `served` differs most for the worse; None if none of the last `config.best_of` is better.

    Every night is compared with the champion on the same holdout, so the differences along the chain of champions
    (`losses`) add up to the difference from each of them. They are measured in units of the allowances. The chain ends
    at a run that was not compared, and at one that a person published against the gate. Runs without a model are
    passed over.
    """
    mae = ndcg = most = 0.0
    best, run_id = None, served
    for _ in range(config.best_of - 1):
        if run_id not in losses or _was_forced(home.run(run_id)):
            break
        champion, mae_loss, ndcg_loss = losses[run_id]
        mae, ndcg = mae + mae_loss, ndcg + ndcg_loss
        loss = max(mae / max(config.max_mae_regression, SMALLEST), ndcg / max(config.max_ndcg_regression, SMALLEST))
        if loss > most and (home.run(champion).holdout_model / "meta.json").exists():
            best, most = champion, loss
        run_id = champion
    return best


def _was_forced(run: Run) -> bool:
    """Whether a person published the run against the gate. Also true if that is unknown."""
    try:
        return bool(read_json(run.gate)["forced"])
    except (OSError, ValueError, LookupError, TypeError):
        return True
