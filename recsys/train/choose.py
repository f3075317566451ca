"""Chooses a network on validation."""

import logging
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import polars as pl

from recsys.errors import ModelError, RecsysError
from recsys.metrics.errors import prediction_metrics
from recsys.models import Network, NetworkConfig, RatingNetwork
from recsys.settings import CANDIDATES, TunedConfig
from recsys.train import ahead
from recsys.train.device import pick_device
from recsys.train.learn import Choice, Learner, configure, fit_seeded
from recsys.train.loop import Epoch, best_epoch, predict
from recsys.train.tuned import list_names

logger = logging.getLogger(__name__)

OWN_ERROR = "own_error"  # metric of a network that predicts no ratings: the mean of its `errors`


def choose(
    model: str,
    train: pl.DataFrame,
    validation: pl.DataFrame,
    learner: Learner,
    *,
    candidates: Sequence[str] = CANDIDATES,
    tuned: TunedConfig | None = None,
) -> Choice:
    """Like `choose_trained`, but return the choice only."""
    return choose_trained(model, train, validation, learner, candidates=candidates, tuned=tuned)[0]


def choose_trained(
    model: str,
    train: pl.DataFrame,
    validation: pl.DataFrame,
    learner: Learner,
    *,
    candidates: Sequence[str] = CANDIDATES,
    tuned: TunedConfig | None = None,
) -> tuple[Choice, Network]:
    """Trains `model`, or every candidate for `auto`, on `train`. Chooses the lowest MAE of the median on `validation`.

    `tuned` overrides both `model` and `candidates`. A single model may be one that predicts no ratings. The returned
    network is trained on `train` only and has the weights of its best epoch. One of several candidates that cannot be
    trained, for example because it diverges, is left out and gets the metric `failed`.

    Raises: UsageError if `tuned` is not a valid config of its network, or belongs to a network other than `model`;
    ModelError if no candidate can be trained.
    """
    tried: dict[str, dict[str, float]] = {}
    failures: dict[str, str] = {}
    best: tuple[Choice, Network] | None = None
    names = list_names(model, candidates, tuned)
    for name in names:
        try:
            choice, network = _try_network(name, train, validation, learner, tuned)
            if len(names) > 1:
                _check_finite(choice.tried[name])
        except Exception as error:
            if len(names) == 1 or not _is_of_network(error):
                raise
            failures[name] = " ".join(f"{type(error).__name__}: {error}".split())
            tried[name] = {"failed": 1.0}
            logger.warning("%s is left out: %s", name, failures[name])
            logger.debug("traceback", exc_info=error)
            continue
        tried |= choice.tried
        if best is None or _error_of(choice) < _error_of(best[0]):
            best = choice, network
    if best is None:
        raise ModelError(f"no candidate could be trained: {'; '.join(map(': '.join, failures.items()))}")
    logger.info("chosen on validation: %s with %d epochs", best[0].model, best[0].epochs)
    return replace(best[0], tried=tried, failures=failures), best[1]


def _error_of(choice: Choice) -> float:
    return choice.tried[choice.model]["mae_median"]


def _check_finite(metrics: dict[str, float]) -> None:
    """Raises: ModelError if predictions are not finite. The median of such a prediction is some star level."""
    if not math.isfinite(metrics["rmse_mean"] + metrics["mae_median"]):
        raise ModelError(f"RMSE on validation is {metrics['rmse_mean']}, MAE {metrics['mae_median']}")


def _is_of_network(error: Exception) -> bool:
    """Whether another network may be trained without this error: not after a timeout, or on a full disk."""
    return isinstance(error, ModelError) or not isinstance(error, (RecsysError, OSError))


def _try_network(
    name: str, train: pl.DataFrame, validation: pl.DataFrame, learner: Learner, tuned: TunedConfig | None
) -> tuple[Choice, Network]:
    config = configure(name, len(train), learner, tuned)
    label = label_on_validation(name)
    network, best, metrics = fit_and_measure(name, config, train, validation, learner, label)
    logger.info("%s: validation %s %.4f in epoch %d", name, network.criterion, best.validation_error, best.number)
    return Choice(name, config, best.number, {name: metrics}), network


def label_on_validation(name: str) -> str:
    return f"{name} on validation"


def fit_and_measure(
    name: str,
    config: NetworkConfig,
    train: pl.DataFrame,
    validation: pl.DataFrame,
    learner: Learner,
    label: str,
    watch: Callable[[Epoch], None] | None = None,
) -> tuple[Network, Epoch, dict[str, float]]:
    """Trains a network with this config on `train`; returns it, its best epoch, and its metrics on `validation`."""
    known, unseen = learner.encode(train), learner.encode(validation)
    start = ahead.started(label)
    network, epochs = fit_seeded(name, config, known, learner, validation=unseen, label=label, watch=watch)
    best = best_epoch(epochs)
    metrics = {OWN_ERROR: best.validation_error or 0.0}
    if isinstance(network, RatingNetwork):
        asked = unseen.to(pick_device(learner.device))
        metrics = prediction_metrics(predict(network, asked), asked.level_idx, network.levels())
    return network, best, metrics | {"training_seconds": time.monotonic() - start}
