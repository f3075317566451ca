"""Warm starts: starts training from the weights of the published network.

Table rows are matched by id, and other weights are copied. Indices cannot be used, because each night has its own
vocabulary, without forgotten users. Warm starts save time on large datasets: on ML-1M, 4 epochs of a warm start are as
accurate as 13 from scratch.

Shapes: R rows of any table.
"""

import logging
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from recsys.encode.vocabulary import Ids, Vocabulary
from recsys.errors import ModelError
from recsys.models import Interactions, Network, NetworkConfig, TrainingConfig
from recsys.models.rows import Keys, column_names, row_keys
from recsys.settings import WarmStartConfig

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Champion:
    """The published network, its config and vocabulary, and the schedule of the warm start."""

    run_id: str
    model: str
    config: NetworkConfig
    network: Network
    vocabulary: Vocabulary
    schedule: WarmStartConfig


def check_alike(model: str, config: NetworkConfig, champion: Champion) -> None:
    """Checks that the champion is the same kind of network with the same sizes.

    Penalties and other fractional values may differ, because they depend on the number of ratings. The training config
    may differ, too.

    Raises: ModelError if it is a different network or has other sizes.
    """
    ours, theirs = _structure(config), _structure(champion.config)
    differing = [
        f"{name} was {theirs.get(name)} and is now {value}" for name, value in ours.items() if theirs.get(name) != value
    ]
    if model != champion.model:
        differing = [f"{champion.model} was trained then and {model} is trained now"]
    if differing:
        raise ModelError(
            f"no warm start from run {champion.run_id}, whose network is different: {', '.join(differing)}. Next: "
            "train from scratch; later nights can start from the network published then"
        )


def _structure(config: NetworkConfig) -> dict[str, object]:
    return {name: "a number" if isinstance(value, float) else value for name, value in config if name != "training"}


def shorten(training: TrainingConfig, epochs: int, config: WarmStartConfig) -> TrainingConfig:
    """Returns the training config of a warm start, if training from scratch takes `epochs`."""
    shorter = max(1, round(epochs * config.epoch_share))
    rate = training.learning_rate * config.learning_rate_share
    return training.model_copy(update={"epochs": shorter, "learning_rate": rate})


@torch.no_grad()
def warm_start(network: Network, train: Interactions, vocabulary: Vocabulary, champion: Champion) -> None:
    """Copies the champion's weights into a `network` of the same kind that is prepared for `train`.

    Tables: rows whose key (user, movie, a user's day, ...) occurs in both networks are copied. New users and movies
    start at the mean of the copied rows. Users and movies without a rating in `train` keep their prepared rows, as does
    the unknown id. All other weights and the averages of batch norm are copied. Weights keep their prepared values and
    are logged if the champion lacks them (the source has a new users table), or if their shape or columns differ (the
    source has a new genre).
    """
    users = _keys(vocabulary.user_ids, train.user_idx)
    items = _keys(vocabulary.movie_ids, train.item_idx)
    keys = row_keys(network, users, items)
    their_keys = row_keys(champion.network, _keys(champion.vocabulary.user_ids), _keys(champion.vocabulary.movie_ids))
    columns, their_columns = column_names(network), column_names(champion.network)
    theirs = dict(champion.network.named_parameters())
    left = []
    for name, weight in network.named_parameters():
        if name not in theirs or columns.get(name) != their_columns.get(name):
            left.append(name)
            continue
        there, is_table = theirs[name].to(weight.device), name in keys
        if weight.shape[is_table:] != there.shape[is_table:]:  # a table may differ in its number of rows
            left.append(name)
        elif is_table:
            of_ids = keys[name] is users or keys[name] is items
            _carry_over(weight, there, keys[name], their_keys[name], fill=of_ids)
        else:
            weight.copy_(there)
    _copy_averages(network, champion.network)
    _log(vocabulary, champion, left)


def _keys(ids: Ids, seen_idx: Tensor | None = None) -> Keys:
    """Returns (R,), ids by index, 0 for the unknown. Ids not in `seen_idx` become negative and match no key."""
    keys = np.concatenate(([0], ids)).astype(np.int64)
    if seen_idx is None:
        return keys
    seen = np.isin(np.arange(len(keys)), seen_idx.cpu().numpy())
    return np.where(seen, keys, -keys)


def _carry_over(ours: Tensor, theirs: Tensor, keys: Keys, their_keys: Keys, *, fill: bool) -> None:
    """Copies rows with the same key. With `fill`, other rows with a positive key get the mean of the copied rows."""
    _, here, there = np.intersect1d(keys, their_keys, assume_unique=True, return_indices=True)
    ours[torch.from_numpy(here).to(ours.device)] = theirs[torch.from_numpy(there).to(ours.device)]
    if fill:
        known = here[keys[here] > 0]
        new = np.setdiff1d(np.flatnonzero(keys > 0), known)
        if len(known):
            ours[torch.from_numpy(new).to(ours.device)] = ours[torch.from_numpy(known).to(ours.device)].mean(0)


def _copy_averages(network: Network, champion: Network) -> None:
    there = dict(champion.named_modules())
    for name, ours in network.named_modules():
        theirs = there.get(name)
        if isinstance(ours, _BatchNorm) and isinstance(theirs, _BatchNorm) and ours.num_features == theirs.num_features:
            ours.load_state_dict(theirs.state_dict())


def _log(vocabulary: Vocabulary, champion: Champion, left: list[str]) -> None:
    users = len(np.intersect1d(vocabulary.user_ids, champion.vocabulary.user_ids))
    movies = len(np.intersect1d(vocabulary.movie_ids, champion.vocabulary.movie_ids))
    logger.info(
        "warm start from run %s, whose network has %d of %d users and %d of %d movies%s",
        champion.run_id,
        users,
        len(vocabulary.user_ids),
        movies,
        len(vocabulary.movie_ids),
        f"; missing or different there, so trained from scratch: {', '.join(left)}" if left else "",
    )
