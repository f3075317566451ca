"""Choosing a network on validation, and training the chosen one on any set of ratings."""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import polars as pl
import torch

from recsys.engine import best_epoch, fit_network, pick_device, predict
from recsys.features import NO_FEATURES, Features
from recsys.metrics import prediction_metrics
from recsys.models import MODELS, Interactions, NetworkConfig, Pairs, RatingNetwork, Sizes
from recsys.settings import DeviceName, ModelName
from recsys.vocabulary import Vocabulary

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Learner:
    """What every fit of a night shares."""

    vocabulary: Vocabulary
    levels: tuple[float, ...]  # stars that can be given, ascending
    seed: int
    device: DeviceName
    features: Features = NO_FEATURES

    def sizes(self) -> Sizes:
        return Sizes(self.vocabulary.n_users, self.vocabulary.n_movies, self.levels)

    def encode(self, ratings: pl.DataFrame) -> Interactions:
        """Canonical ratings as indices; ids that the vocabulary lacks become 0, the unknown; rated_at may lack."""
        level_idx = np.searchsorted(np.array(self.levels, dtype=np.float32), ratings["rating"].to_numpy())
        known = torch.from_numpy(level_idx.clip(max=len(self.levels) - 1))
        pairs = self.encode_pairs(ratings)
        return Interactions(pairs.user_idx, pairs.item_idx, pairs.rated_at, known)

    def encode_pairs(self, pairs: pl.DataFrame) -> Pairs:
        """(user_id, movie_id[, rated_at]) as indices, of what has no rating yet."""
        if "rated_at" in pairs.columns:
            rated_at = pairs["rated_at"].dt.epoch("s").cast(pl.Int64).to_numpy()
        else:
            rated_at = np.zeros(len(pairs), dtype=np.int64)
        return Pairs(
            torch.from_numpy(self.vocabulary.encode_users(pairs["user_id"].to_numpy())),
            torch.from_numpy(self.vocabulary.encode_movies(pairs["movie_id"].to_numpy())),
            torch.from_numpy(rated_at.copy()),
        )


@dataclass(frozen=True)
class Choice:
    """What validation decided: the network, its settings and its epochs; `tried` holds every candidate's metrics."""

    model: str
    config: NetworkConfig
    epochs: int
    tried: dict[str, dict[str, float]]


def choose(model: ModelName, train: pl.DataFrame, validation: pl.DataFrame, learner: Learner) -> Choice:
    """Trains `model` (`auto`: each one) on `train` and keeps what has the least MAE of the median on `validation`."""
    names = list(MODELS) if model == "auto" else [model]
    choices = [_try_network(name, train, validation, learner) for name in names]
    best = min(choices, key=lambda choice: choice.tried[choice.model]["mae_median"])
    tried = {name: metrics for choice in choices for name, metrics in choice.tried.items()}
    logger.info("chosen on validation: %s, %d epochs", best.model, best.epochs)
    return Choice(best.model, best.config, best.epochs, tried)


def learn(choice: Choice, ratings: pl.DataFrame, learner: Learner, label: str) -> RatingNetwork:
    """Trains the chosen network from scratch on `ratings`, for the epochs that validation chose."""
    device = pick_device(learner.device)
    train = learner.encode(ratings).to(device)
    network = _build(choice.model, choice.config, learner).to(device)
    with _seeded(learner.seed):
        fit_network(network, train, choice.config.training, stop_after=choice.epochs, label=label)
    return network


def _try_network(name: str, train: pl.DataFrame, validation: pl.DataFrame, learner: Learner) -> Choice:
    device = pick_device(learner.device)
    known = learner.encode(train).to(device)
    unseen = learner.encode(validation).to(device)
    config = MODELS[name].configure(len(known), len(learner.levels))
    network = _build(name, config, learner).to(device)
    start = time.monotonic()
    with _seeded(learner.seed):
        epochs = fit_network(network, known, config.training, validation=unseen, label=f"{name} on validation")
    metrics = prediction_metrics(predict(network, unseen), unseen.level_idx, network.levels())
    metrics["training_seconds"] = time.monotonic() - start
    logger.info("%s: validation MAE %.4f, RMSE %.4f", name, metrics["mae_median"], metrics["rmse_mean"])
    return Choice(name, config, best_epoch(epochs).number, {name: metrics})


def _build(name: str, config: NetworkConfig, learner: Learner) -> RatingNetwork:
    with _seeded(learner.seed):
        network = MODELS[name].build(config, learner.sizes(), learner.features)
    assert isinstance(network, RatingNetwork), f"{name} predicts no ratings"
    return network


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Every draw inside comes from `seed`; the generators outside go on as if nothing had happened."""
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(seed)
        yield
