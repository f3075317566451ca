"""Small planted data as tensors, and networks trained on them in a blink."""

import hashlib
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
SIZES = Sizes(n_users=61, n_items=41, levels=LEVELS)  # of plant(60, 40, ...), whose ids count from 1
RATERS = [name for name, variant in MODELS.items() if variant.rates]
ROOT = Path(__file__).parents[2]


def _features() -> Features:
    planted = plant(60, 40, 100)  # users and movies are the same for any number of ratings
    ids = (np.arange(1, size, dtype=np.int32) for size in (SIZES.n_users, SIZES.n_items))
    return fit_features(Vocabulary(*ids), planted.users, planted.movies)


def ratings(n: int = 1200, seed: int = 0) -> pl.DataFrame:
    """Planted ratings of 60 users and 40 movies, in the canonical columns."""
    return plant(60, 40, n, seed).ratings


def interactions(rated: pl.DataFrame) -> Interactions:
    """Ids as they are for indices, whole stars for levels."""
    columns = (rated["user_id"], rated["movie_id"], rated["rating"] - 1)
    moments = rated["rated_at"].dt.epoch("s")
    user_idx, item_idx, level_idx, rated_at = (
        torch.from_numpy(column.to_numpy().astype(np.int64)) for column in (*columns, moments)
    )
    return Interactions(user_idx, item_idx, rated_at, level_idx)


def pairs_of(user_idx: Tensor, item_idx: Tensor) -> Pairs:
    """At a moment that nobody knows."""
    return Pairs(user_idx, item_idx, torch.zeros_like(user_idx))


def rows_of(user_idx: Tensor, item_idx: Tensor, level_idx: Tensor) -> Interactions:
    """Rated nobody knows when."""
    return Interactions(user_idx, item_idx, torch.zeros_like(user_idx), level_idx)


def concat(first: Interactions, second: Interactions) -> Interactions:
    return Interactions(
        torch.cat([first.user_idx, second.user_idx]),
        torch.cat([first.item_idx, second.item_idx]),
        torch.cat([first.rated_at, second.rated_at]),
        torch.cat([first.level_idx, second.level_idx]),
    )


def parts() -> tuple[Interactions, Interactions]:
    """1,000 ratings to train on and 200 to validate on; every pair occurs once."""
    rows = interactions(ratings())
    return rows.take(torch.arange(1000)), rows.take(torch.arange(1000, 1200))


def quick_config(name: str, **training: object) -> NetworkConfig:
    """The network's own config for the planted ratings, with three epochs."""
    config = MODELS[name].configure(1000, len(LEVELS))
    return change(config, training=config.training.model_copy(update={"epochs": 3, **training}))


def change(config: NetworkConfig, **fields: object) -> NetworkConfig:
    """`config` with other values, validated as if they had been given at first."""
    return type(config).model_validate({**dict(config), **fields})


def build_any(name: str, config: NetworkConfig, seed: int = 0) -> Network:
    torch.manual_seed(seed)
    return MODELS[name].build(config, SIZES, FEATURES)


def build(name: str, config: NetworkConfig, seed: int = 0) -> RatingNetwork:
    """A network that predicts ratings."""
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
    """A network trained on the planted ratings, and its epochs."""
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
    """As `fit_any`, of a network that predicts ratings."""
    network, epochs = fit_any(name, config, train=train, validation=validation, stop_after=stop_after, seed=seed)
    return rating(network), epochs


FEATURES = _features()


def every_pair() -> Pairs:
    """Every user_idx with every item_idx, the unknown ones too."""
    pairs = torch.cartesian_prod(torch.arange(SIZES.n_users), torch.arange(SIZES.n_items))
    return pairs_of(pairs[:, 0], pairs[:, 1])


def predict_all(network: RatingNetwork) -> Tensor:
    """(B, K) for `every_pair()`."""
    return predict(network, every_pair()).p_BK


def answer_all(network: Network) -> Tensor:
    """(B, ...) for `every_pair()`: the distribution where there is one, else the score."""
    return predict_all(network) if isinstance(network, RatingNetwork) else score(network, every_pair())


def same_weights(first: Network, second: Network) -> bool:
    """Bit for bit."""
    ours, theirs = first.state_dict(), second.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[key], theirs[key]) for key in ours)


def fingerprint(name: str) -> str:
    """Of every bit of the weights that a training from seed 0 ends with."""
    network, _ = fit_any(name)
    digest = hashlib.sha256()
    for key, value in sorted(network.state_dict().items()):
        digest.update(key.encode() + value.numpy().tobytes())
    return digest.hexdigest()
