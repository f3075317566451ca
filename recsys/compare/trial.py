"""One trial: trains a network or baseline on a split with a seed, and measures it on the holdout."""

import logging
import time
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

import torch

from recsys.compare.data import Parts
from recsys.compare.order import Score, measure_order
from recsys.compare.plan import Epochs
from recsys.errors import panics_as_errors
from recsys.evaluate.holdout import judge, mean_error
from recsys.evaluate.slices import measure_slices
from recsys.metrics.calibration import reliability
from recsys.metrics.errors import number_metrics
from recsys.models import Interactions, Network, RatingNetwork
from recsys.models.baselines import BASELINES, Predict, fit_baselines
from recsys.retrieve.histories import gather_histories
from recsys.settings import TunedConfig
from recsys.train.choose import OWN_ERROR, choose
from recsys.train.device import seeded
from recsys.train.learn import Choice, Learner, configure, learn_any
from recsys.train.loop import predict, score

logger = logging.getLogger(__name__)

Slices = dict[str, dict[str, float]]


@dataclass(frozen=True)
class Trial:
    """The result of a trial. If the trial failed, `failure` is its error."""

    split: str
    model: str
    seed: int
    metrics: dict[str, float] = field(default_factory=dict)
    slices: Slices = field(default_factory=dict)
    bins: list[dict[str, float]] = field(default_factory=list)  # fields of calibration.Bin
    criterion: str = ""  # meaning of own_error, for networks that predict no ratings
    failure: str | None = None

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Setting:
    """The data and options shared by all trials of one split and seed."""

    split: str
    parts: Parts
    learner: Learner
    epochs: Epochs
    relevant_from: float  # stars
    tuned: TunedConfig | None = None  # replaces the default config of its network


def run_trial(name: str, setting: Setting) -> Trial:
    """Runs a trial. Errors are recorded in the trial instead of raised, so that the other trials still run."""
    try:
        with panics_as_errors():
            return _run_baseline(name, setting) if name in BASELINES else _run_network(name, setting)
    except Exception as error:
        failure = " ".join(f"{type(error).__name__}: {error}".split())
        logger.warning("%s on %s, seed %d failed: %s", name, setting.split, setting.learner.seed, failure)
        logger.debug("traceback", exc_info=error)
        return Trial(setting.split, name, setting.learner.seed, failure=failure)


def train_network(name: str, setting: Setting) -> tuple[Network, Choice]:
    """Chooses epochs on validation, or takes them from the config. Then trains on everything except the holdout.

    The network is returned on the CPU.
    """
    parts, learner = setting.parts, setting.learner
    tuned = setting.tuned if setting.tuned and setting.tuned.model == name else None
    if setting.epochs == "chosen":
        choice = choose(name, parts.fitted, parts.validation, learner, tuned=tuned)
    else:
        config = configure(name, len(parts.train), learner, tuned)
        choice = Choice(name, config, config.training.epochs, tried={})
    return learn_any(choice, parts.train, learner, label=f"{name} on {setting.split}").cpu(), choice


def _run_network(name: str, setting: Setting) -> Trial:
    start = time.monotonic()
    network, choice = train_network(name, setting)
    seconds = time.monotonic() - start
    known, asked = (setting.learner.encode(part) for part in (setting.parts.train, setting.parts.holdout))
    measure = _measure_ratings if isinstance(network, RatingNetwork) else _measure_own_error
    measured = measure(network, known, asked, setting)
    order = _order(partial(score, network), known, setting)
    cost = {
        "parameters": float(sum(weight.numel() for weight in network.parameters())),
        "training_seconds": seconds,
        "epochs": float(choice.epochs),
    }
    return Trial(
        setting.split, name, setting.learner.seed, **(measured | {"metrics": measured["metrics"] | order | cost})
    )


def _measure_ratings(network: Network, known: Interactions, asked: Interactions, setting: Setting) -> dict[str, Any]:
    assert isinstance(network, RatingNetwork)
    prediction, levels_K = predict(network, asked), network.levels()
    metrics = judge(prediction, asked, levels_K)
    return {
        "metrics": metrics | {"mse_mean": metrics["rmse_mean"] ** 2},
        "slices": measure_slices(prediction, known, asked, levels_K, setting.learner.features),
        "bins": [asdict(one) for one in reliability(prediction.p_BK, asked.level_idx)],
    }


def _measure_own_error(network: Network, known: Interactions, asked: Interactions, setting: Setting) -> dict[str, Any]:
    with seeded(setting.learner.seed):  # some networks draw negatives to compute their error
        error = mean_error(network, asked)
    return {"metrics": {OWN_ERROR: error}, "criterion": network.criterion}


def _run_baseline(name: str, setting: Setting) -> Trial:
    known, asked = (setting.learner.encode(part) for part in (setting.parts.train, setting.parts.holdout))
    sizes = setting.learner.sizes()
    start = time.monotonic()
    fitted = {**fit_baselines(known, sizes), "popularity": _popularity(known, setting.learner)}[name]
    seconds = time.monotonic() - start
    metrics: dict[str, float] = {}
    if name != "popularity":
        levels_K = torch.tensor(sizes.levels)
        metrics = number_metrics(fitted(asked.user_idx, asked.item_idx), levels_K[asked.level_idx], levels_K)
        metrics["mse_mean"] = metrics["rmse_mean"] ** 2
    order = _order(lambda pairs: fitted(pairs.user_idx, pairs.item_idx), known, setting)
    return Trial(setting.split, name, setting.learner.seed, metrics=metrics | order | {"training_seconds": seconds})


def _popularity(known: Interactions, learner: Learner) -> Predict:
    counts = gather_histories(known, learner.sizes()).counts().float()
    return lambda users, items: counts[items]


def _order(by: Score, known: Interactions, setting: Setting) -> dict[str, float]:
    ndcg = measure_order(by, known, setting.parts.holdout, setting.learner, setting.relevant_from)
    return {} if ndcg is None else {"ndcg_at_10_by_score": ndcg}
