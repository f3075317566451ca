"""Trains a network on any set of ratings."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch

from recsys.encode.features import NO_FEATURES, Features
from recsys.encode.vocabulary import Vocabulary
from recsys.models import MODELS, Interactions, Network, NetworkConfig, Pairs, RatingNetwork, Sizes
from recsys.settings import DeviceName, TunedConfig
from recsys.train import ahead
from recsys.train.checkpoint import open_checkpoint
from recsys.train.device import pick_device, seeded
from recsys.train.loop import Epoch, fit_network
from recsys.train.tuned import check_config
from recsys.train.warm_start import Champion, check_alike, shorten, warm_start
from recsys.version import code_hash


@dataclass(frozen=True)
class Learner:
    """The data and options that all training runs of a night share."""

    vocabulary: Vocabulary
    levels: tuple[float, ...]  # possible ratings in stars, ascending
    seed: int
    device: DeviceName
    features: Features = NO_FEATURES
    checkpoints: Path | None = None  # folder for checkpoints of training runs; None: no checkpoints
    processes: int = 1  # number of networks that are trained at the same time on a CPU, at most 2; see `train.ahead`

    def sizes(self) -> Sizes:
        return Sizes(self.vocabulary.n_users, self.vocabulary.n_movies, self.levels)

    def encode(self, ratings: pl.DataFrame) -> Interactions:
        """Converts canonical ratings to indices. Ids outside the vocabulary become 0, unknown. rated_at is optional."""
        level_idx = np.searchsorted(np.array(self.levels, dtype=np.float32), ratings["rating"].to_numpy())
        known = torch.from_numpy(level_idx.clip(max=len(self.levels) - 1))
        pairs = self.encode_pairs(ratings)
        return Interactions(pairs.user_idx, pairs.item_idx, pairs.rated_at, known)

    def encode_pairs(self, pairs: pl.DataFrame) -> Pairs:
        """Converts (user_id, movie_id[, rated_at]) rows without ratings to indices."""
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
    """The network, config and number of epochs chosen on validation. `tried` has the metrics of every candidate, and
    `failures` the errors of those that could not be trained.
    """

    model: str
    config: NetworkConfig
    epochs: int
    tried: dict[str, dict[str, float]]
    failures: dict[str, str] = field(default_factory=dict)

    @classmethod
    def from_json(cls, described: Any) -> "Choice":
        """Parses a choice from its fields as JSON."""
        config = MODELS[described["model"]].config_type.model_validate(described["config"])
        return cls(described["model"], config, described["epochs"], described["tried"], described["failures"])


def learn(
    choice: Choice, ratings: pl.DataFrame, learner: Learner, label: str, *, champion: Champion | None = None
) -> RatingNetwork:
    """Like `learn_any`, for a network that predicts ratings."""
    network = learn_any(choice, ratings, learner, label, champion=champion)
    assert isinstance(network, RatingNetwork), f"{choice.model} predicts no ratings"
    return network


def learn_any(
    choice: Choice, ratings: pl.DataFrame, learner: Learner, label: str, *, champion: Champion | None = None
) -> Network:
    """Trains the chosen network on `ratings` for the number of epochs chosen on validation.

    With a champion, training starts from its weights and runs for a share of these epochs.

    Raises: ModelError if the champion is a different network.
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
    keep_checkpoint: bool = False,
) -> tuple[Network, list[Epoch]]:
    """Trains a network from the learner's seed, independently of earlier random draws. Returns it and its epochs.

    See `fit_network`. If the learner has a checkpoint folder, a killed training is resumed from its last epoch. If a
    training with this label runs ahead, its end is waited for. With a champion, which must be the same kind of network,
    training starts from its weights and has fewer epochs.
    """
    ahead.wait(label)
    device = pick_device(learner.device)
    rows, unseen = train.to(device), validation.to(device) if validation else None
    description = _describe_training(name, config, learner, device, stop_after, champion)
    data = [*vars(train).values(), *(vars(validation).values() if validation else ())]
    training, start = config.training, None
    if champion:
        data += champion.network.state_dict().values()
        training, stop_after = shorten(training, stop_after or training.epochs, champion.schedule), None
        start = partial(warm_start, train=rows, vocabulary=learner.vocabulary, champion=champion)
    with seeded(learner.seed):  # once: a second block would repeat the draws of the first, and tables would be alike
        network = MODELS[name].build(config, learner.sizes(), learner.features).to(device)
        epochs = fit_network(
            network,
            rows,
            training,
            validation=unseen,
            stop_after=stop_after,
            label=label,
            checkpoint=open_checkpoint(learner.checkpoints, description, data, keep=keep_checkpoint),
            start=start,
            watch=watch,
        )
    return network, epochs


def _describe_training(
    name: str,
    config: NetworkConfig,
    learner: Learner,
    device: torch.device,
    stop_after: int | None,
    champion: Champion | None,
) -> dict[str, object]:
    """Returns everything that determines the result of a training, except the data. It identifies a checkpoint."""
    description: dict[str, object] = {
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
    if champion:
        ids = [each.content_hash() for each in (learner.vocabulary, champion.vocabulary)]
        description |= {"champion": champion.run_id, "schedule": champion.schedule.model_dump(), "vocabularies": ids}
    return description


def configure(name: str, n_ratings: int, learner: Learner, tuned: TunedConfig | None = None) -> NetworkConfig:
    """Returns the tuned config if there is one, else the network's default config for this number of ratings.

    Raises: UsageError if `tuned` is not a valid config of its network.
    """
    return check_config(tuned) if tuned else MODELS[name].configure(n_ratings, len(learner.levels))
