"""Small planted data sets as tensors, and networks trained on them within a second.

The data are made once per process and shared: tests must not modify them.
"""

import hashlib
from functools import cache
from pathlib import Path

import numpy as np
import polars as pl
import torch
from torch import Tensor

from recsys.encode.features import Features, fit_features
from recsys.encode.vocabulary import Vocabulary
from recsys.ingest.synthetic.synthetic import plant
from recsys.models import MODELS, Interactions, Network, NetworkConfig, Pairs, RatingNetwork, Sizes
from recsys.train.loop import Epoch, fit_network, predict, score

LEVELS = (1.0, 2.0, 3.0, 4.0, 5.0)
SIZES = Sizes(n_users=61, n_items=41, levels=LEVELS)  # of plant(60, 40, ...), whose ids start at 1
RATERS = [name for name, variant in MODELS.items() if variant.rates]
# One variant of each network class: behaviour that variants share needs only one test.
CLASSES = [*{variant.build: name for name, variant in reversed(MODELS.items())}.values()][::-1]
RATER_CLASSES = [name for name in CLASSES if name in RATERS]
# Networks for tests of the training loop: one without random draws in its steps, one with dropout and batch norm, a
# recurrent one, and a ranking network that builds its own batches.
LOOP_NETWORKS = ["ordinal", "softmax", "recurrent", "sequence"]
ROOT = Path(__file__).parents[2]


def _features() -> Features:
    planted = plant(60, 40, 100)  # users and movies do not depend on the number of ratings
    ids = (np.arange(1, size, dtype=np.int32) for size in (SIZES.n_users, SIZES.n_items))
    return fit_features(Vocabulary(*ids), planted.users, planted.movies)


@cache
def ratings(n: int = 1200, seed: int = 0) -> pl.DataFrame:
    """Planted ratings of 60 users and 40 movies, in canonical columns."""
    return plant(60, 40, n, seed).ratings


def interactions(rated: pl.DataFrame) -> Interactions:
    """Use the ids as indices and whole stars as levels."""
    columns = (rated["user_id"], rated["movie_id"], rated["rating"] - 1)
    moments = rated["rated_at"].dt.epoch("s")
    user_idx, item_idx, level_idx, rated_at = (
        torch.from_numpy(column.to_numpy().astype(np.int64)) for column in (*columns, moments)
    )
    return Interactions(user_idx, item_idx, rated_at, level_idx)


def pairs_of(user_idx: Tensor, item_idx: Tensor) -> Pairs:
    """Pairs without a rating time."""
    return Pairs(user_idx, item_idx, torch.zeros_like(user_idx))


def rows_of(user_idx: Tensor, item_idx: Tensor, level_idx: Tensor) -> Interactions:
    """Ratings without a rating time."""
    return Interactions(user_idx, item_idx, torch.zeros_like(user_idx), level_idx)


def concat(first: Interactions, second: Interactions) -> Interactions:
    return Interactions(
        torch.cat([first.user_idx, second.user_idx]),
        torch.cat([first.item_idx, second.item_idx]),
        torch.cat([first.rated_at, second.rated_at]),
        torch.cat([first.level_idx, second.level_idx]),
    )


@cache
def parts() -> tuple[Interactions, Interactions]:
    """1,000 ratings for training and 200 for validation; every pair occurs once."""
    rows = interactions(ratings())
    return rows.take(torch.arange(1000)), rows.take(torch.arange(1000, 1200))


def quick_config(name: str, **training: object) -> NetworkConfig:
    """The network's default config for the planted ratings, with three epochs."""
    config = MODELS[name].configure(1000, len(LEVELS))
    return change(config, training=config.training.model_copy(update={"epochs": 3, **training}))


def change(config: NetworkConfig, **fields: object) -> NetworkConfig:
    """A validated copy of `config` with other values."""
    return type(config).model_validate({**dict(config), **fields})


def build_any(name: str, config: NetworkConfig, seed: int = 0) -> Network:
    torch.manual_seed(seed)
    return MODELS[name].build(config, SIZES, FEATURES)


def build(name: str, config: NetworkConfig, seed: int = 0) -> RatingNetwork:
    """Like `build_any`, for a network that predicts ratings."""
    return rating(build_any(name, config, seed))


def rating(network: Network) -> RatingNetwork:
    assert isinstance(network, RatingNetwork)
    return network


def fit_any(
    name: str,
    config: NetworkConfig | None = None,
    *,
    train: Interactions | None = None,
    validation: Interactions | None = None,
    stop_after: int | None = None,
    seed: int = 0,
) -> tuple[Network, list[Epoch]]:
    """Train a network on the planted ratings; return it and its epochs."""
    config = config or quick_config(name)
    network = build_any(name, config, seed)
    rows = train or parts()[0]
    return network, fit_network(network, rows, config.training, validation=validation, stop_after=stop_after)


def fit(
    name: str,
    config: NetworkConfig | None = None,
    *,
    train: Interactions | None = None,
    validation: Interactions | None = None,
    stop_after: int | None = None,
    seed: int = 0,
) -> tuple[RatingNetwork, list[Epoch]]:
    """Like `fit_any`, for a network that predicts ratings."""
    network, epochs = fit_any(name, config, train=train, validation=validation, stop_after=stop_after, seed=seed)
    return rating(network), epochs


@cache
def fitted(name: str) -> Network:
    """The network that `fit_any(name)` trains, shared by all tests that only read it."""
    return fit_any(name)[0]


FEATURES = _features()


def every_pair() -> Pairs:
    """Every user_idx with every item_idx, including the unknown ones."""
    pairs = torch.cartesian_prod(torch.arange(SIZES.n_users), torch.arange(SIZES.n_items))
    return pairs_of(pairs[:, 0], pairs[:, 1])


def predict_all(network: RatingNetwork) -> Tensor:
    """(B, K) for `every_pair()`."""
    return predict(network, every_pair()).p_BK


def answer_all(network: Network) -> Tensor:
    """(B, ...) for `every_pair()`: the distributions of a network that predicts ratings, else the scores."""
    return predict_all(network) if isinstance(network, RatingNetwork) else score(network, every_pair())


def same_weights(first: Network, second: Network) -> bool:
    """Whether all weights and buffers are bit-identical."""
    ours, theirs = first.state_dict(), second.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[key], theirs[key]) for key in ours)


def fingerprint(name: str) -> str:
    """A hash of all bits of the weights after one epoch from seed 0."""
    network, _ = fit_any(name, quick_config(name, epochs=1))
    digest = hashlib.sha256()
    for key, value in sorted(network.state_dict().items()):
        digest.update(key.encode() + value.numpy().tobytes())
    return digest.hexdigest()
