"""Choosing a network on validation, and training the chosen one on any set of ratings."""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from pydantic import ValidationError

from recsys.encode.features import NO_FEATURES, Features
from recsys.encode.vocabulary import Vocabulary
from recsys.errors import UsageError
from recsys.metrics.errors import prediction_metrics
from recsys.models import MODELS, Interactions, Network, NetworkConfig, Pairs, RatingNetwork, Sizes
from recsys.settings import CANDIDATES, DeviceName, TunedConfig
from recsys.train.checkpoint import open_checkpoint
from recsys.train.device import pick_device, seeded
from recsys.train.loop import Epoch, best_epoch, fit_network, predict
from recsys.train.warm_start import Champion, check_alike, shorten, warm_start
from recsys.version import code_hash

logger = logging.getLogger(__name__)

OWN_ERROR = "own_error"  # metric: the mean of the `errors` of a network that predicts no ratings


@dataclass(frozen=True)
class Learner:
    """What every fit of a night shares."""

    vocabulary: Vocabulary
    levels: tuple[float, ...]  # stars that can be given, ascending
    seed: int
    device: DeviceName
    features: Features = NO_FEATURES
    checkpoints: Path | None = None  # folder in which trainings are kept that may be killed; None: nowhere

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

    @classmethod
    def from_json(cls, described: Any) -> "Choice":
        """The choice from its fields as JSON."""
        config = MODELS[described["model"]].config_type.model_validate(described["config"])
        return cls(described["model"], config, described["epochs"], described["tried"])


def choose(
    model: str,
    train: pl.DataFrame,
    validation: pl.DataFrame,
    learner: Learner,
    *,
    candidates: Sequence[str] = CANDIDATES,
    tuned: TunedConfig | None = None,
) -> Choice:
    """As `choose_trained`, without the network."""
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
    """Trains `model` (`auto`: each candidate) on `train`; keeps what has the least MAE of the median on `validation`.

    `tuned` takes the place of both. A single network may be one that predicts no ratings. The network that comes with
    the choice is that of its best epoch, trained on `train` alone.

    Raises: UsageError if `tuned` is no config of its network, or is of another one than `model`.
    """
    tried: dict[str, dict[str, float]] = {}
    best: tuple[Choice, Network] | None = None
    for name in _names(model, candidates, tuned):
        choice, network = _try_network(name, train, validation, learner, tuned)
        tried |= choice.tried
        if best is None or _error_of(choice) < _error_of(best[0]):
            best = choice, network
    assert best is not None, "there is at least one network to choose from"
    logger.info("chosen on validation: %s, %d epochs", best[0].model, best[0].epochs)
    return replace(best[0], tried=tried), best[1]


def _error_of(choice: Choice) -> float:
    return choice.tried[choice.model]["mae_median"]


def learn(
    choice: Choice, ratings: pl.DataFrame, learner: Learner, label: str, *, champion: Champion | None = None
) -> RatingNetwork:
    """As `learn_any`, of a network that predicts ratings."""
    network = learn_any(choice, ratings, learner, label, champion=champion)
    assert isinstance(network, RatingNetwork), f"{choice.model} predicts no ratings"
    return network


def learn_any(
    choice: Choice, ratings: pl.DataFrame, learner: Learner, label: str, *, champion: Champion | None = None
) -> Network:
    """Trains the chosen network on `ratings` for the epochs that validation chose: from scratch, or for a part of them
    from where the champion ended.

    Raises: ModelError if the champion is another network.
    """
    if champion:
        check_alike(choice.model, choice.config, champion)
    rows, epochs = learner.encode(ratings), choice.epochs
    return fit_seeded(choice.model, choice.config, rows, learner, stop_after=epochs, label=label, champion=champion)[0]


def fit_seeded(
    name: str,
    config: NetworkConfig,
    train: Interactions,
    learner: Learner,
    *,
    validation: Interactions | None = None,
    stop_after: int | None = None,
    label: str = "train",
    watch: Callable[[Epoch], None] | None = None,
    champion: Champion | None = None,
) -> tuple[Network, list[Epoch]]:
    """A network trained from the learner's seed, whatever was drawn before, and its epochs; see `fit_network`.

    With the learner's folder of checkpoints, it goes on where the same training was killed, if it was. With a champion,
    of the same kind, it begins where that one ended, and its training is as short as the champion says.
    """
    device = pick_device(learner.device)
    rows, unseen = train.to(device), validation.to(device) if validation else None
    with seeded(learner.seed):
        network = MODELS[name].build(config, learner.sizes(), learner.features).to(device)
    shaping = {
        "model": name,
        "config": config.model_dump(mode="json"),
        "sizes": asdict(learner.sizes()),
        "features": learner.features.content_hash(),
        "seed": learner.seed,
        "stop_after": stop_after,
        "device": device.type,
        "torch": torch.__version__,
        "code": code_hash(),
    }
    data = [*vars(train).values(), *(vars(validation).values() if validation else ())]
    training, start = config.training, None
    if champion:
        ids = [each.content_hash() for each in (learner.vocabulary, champion.vocabulary)]
        shaping |= {"champion": champion.run_id, "schedule": champion.schedule.model_dump(), "vocabularies": ids}
        data += champion.network.state_dict().values()
        training, stop_after = shorten(training, stop_after or training.epochs, champion.schedule), None
        start = partial(warm_start, train=rows, vocabulary=learner.vocabulary, champion=champion)
    with seeded(learner.seed):
        epochs = fit_network(
            network,
            rows,
            training,
            validation=unseen,
            stop_after=stop_after,
            label=label,
            checkpoint=open_checkpoint(learner.checkpoints, shaping, data),
            start=start,
            watch=watch,
        )
    return network, epochs


def configure(name: str, n_ratings: int, learner: Learner, tuned: TunedConfig | None = None) -> NetworkConfig:
    """The config that a network comes with for so many ratings, or the tuned one.

    Raises: UsageError if `tuned` is no config of its network.
    """
    return check_config(tuned) if tuned else MODELS[name].configure(n_ratings, len(learner.levels))


def check_config(tuned: TunedConfig) -> NetworkConfig:
    """The config in it. Raises: UsageError if it is none of its network."""
    try:
        return MODELS[tuned.model].config_type.model_validate(tuned.config)
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors())
        raise UsageError(
            f"this is no config of {tuned.model}: {problems}. Next: give one as `recsys networks {tuned.model} --json` "
            "or `recsys tune` writes it"
        ) from None


def check_rates(tuned: TunedConfig | None) -> None:
    """Raises: UsageError if a config is of a network that predicts no stars, where stars are needed."""
    if tuned and not MODELS[tuned.model].rates:
        raise UsageError(
            f"--config: {tuned.model} orders movies and predicts no stars, which every night publishes. Next: give the "
            "config of a network that does (recsys networks tells which), or compare it with recsys compare"
        )


def _names(model: str, candidates: Sequence[str], tuned: TunedConfig | None) -> Sequence[str]:
    if tuned is None:
        return candidates if model == "auto" else [model]
    if model not in ("auto", tuned.model):
        raise UsageError(f"the config given is of {tuned.model}, the model asked for is {model}; leave one of them out")
    return [tuned.model]


def _try_network(
    name: str, train: pl.DataFrame, validation: pl.DataFrame, learner: Learner, tuned: TunedConfig | None
) -> tuple[Choice, Network]:
    config = configure(name, len(train), learner, tuned)
    label = f"{name} on validation"
    network, best, metrics = fit_and_measure(name, config, train, validation, learner, label)
    logger.info("%s: validation %s %.4f in epoch %d", name, network.criterion, best.validation_error, best.number)
    return Choice(name, config, best.number, {name: metrics}), network


def fit_and_measure(
    name: str,
    config: NetworkConfig,
    train: pl.DataFrame,
    validation: pl.DataFrame,
    learner: Learner,
    label: str,
    watch: Callable[[Epoch], None] | None = None,
) -> tuple[Network, Epoch, dict[str, float]]:
    """Train a network with this config on `train`; return it, its best epoch, and its metrics on `validation`."""
    known, unseen = learner.encode(train), learner.encode(validation)
    start = time.monotonic()
    network, epochs = fit_seeded(name, config, known, learner, validation=unseen, label=label, watch=watch)
    best = best_epoch(epochs)
    metrics = {OWN_ERROR: best.validation_error or 0.0}
    if isinstance(network, RatingNetwork):
        asked = unseen.to(pick_device(learner.device))
        metrics = prediction_metrics(predict(network, asked), asked.level_idx, network.levels())
    return network, best, metrics | {"training_seconds": time.monotonic() - start}
