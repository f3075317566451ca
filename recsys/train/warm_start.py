"""A network that begins where the one being served ended: rows by id, shared weights as they are.

Ids are carried over, not indices: each night has a vocabulary of its own, in which forgotten users are no more.

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
    """The network being served, all that must be known of it to begin there, and how to go on."""

    run_id: str
    model: str
    config: NetworkConfig
    network: Network
    vocabulary: Vocabulary
    schedule: WarmStartConfig


def check_alike(model: str, config: NetworkConfig, champion: Champion) -> None:
    """Raises: ModelError if the champion is another network, or one of other sizes.

    Penalties and other fractions may differ, since they follow the number of ratings; so may the training.
    """
    ours, theirs = _structure(config), _structure(champion.config)
    differing = [
        f"{name} {theirs.get(name)} there and {value} here" for name, value in ours.items() if theirs.get(name) != value
    ]
    if model != champion.model:
        differing = [f"{champion.model} there and {model} here"]
    if differing:
        raise ModelError(
            f"no warm start from run {champion.run_id}, whose network is another one: {', '.join(differing)}. Next: "
            "train from scratch; what is published then can be begun from"
        )


def _structure(config: NetworkConfig) -> dict[str, object]:
    return {name: "a number" if isinstance(value, float) else value for name, value in config if name != "training"}


def shorten(training: TrainingConfig, epochs: int, config: WarmStartConfig) -> TrainingConfig:
    """The training of a warm start where one from scratch would end after `epochs`."""
    shorter = max(1, round(epochs * config.epoch_share))
    rate = training.learning_rate * config.learning_rate_share
    return training.model_copy(update={"epochs": shorter, "learning_rate": rate})


@torch.no_grad()
def warm_start(network: Network, train: Interactions, vocabulary: Vocabulary, champion: Champion) -> None:
    """Puts the champion's weights into a `network` of the same kind, which is prepared for `train`.

    Tables: the rows of ids that both know are carried over, and so are those of whatever else rows may stand for, as a
    user's day. New users and movies get the mean of the rows carried over; who has no rating in `train` stays as
    prepared, like the unknown. All other weights, and the averages of batch norm, are copied. What the champion lacks,
    as where a users table has come, and what has another shape or other columns, as after a new genre, stays as
    prepared and is named in the log.
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
        if weight.shape[is_table:] != there.shape[is_table:]:  # of a table, all but the number of rows
            left.append(name)
        elif is_table:
            of_ids = keys[name] is users or keys[name] is items
            _carry_over(weight, there, keys[name], their_keys[name], fill=of_ids)
        else:
            weight.copy_(there)
    _copy_averages(network, champion.network)
    _log(vocabulary, champion, left)


def _keys(ids: Ids, seen_idx: Tensor | None = None) -> Keys:
    """(R,): ids by index, 0 for the unknown; those that were not seen become negative, and so nobody's."""
    keys = np.concatenate(([0], ids)).astype(np.int64)
    if seen_idx is None:
        return keys
    seen = np.isin(np.arange(len(keys)), seen_idx.cpu().numpy())
    return np.where(seen, keys, -keys)


def _carry_over(ours: Tensor, theirs: Tensor, keys: Keys, their_keys: Keys, *, fill: bool) -> None:
    """Rows of the same key; with `fill`, other rows of a positive key get the mean of those that have one."""
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
        "warm start from run %s: %d of %d users and %d of %d movies are known there%s",
        champion.run_id,
        users,
        len(vocabulary.user_ids),
        movies,
        len(vocabulary.movie_ids),
        f"; not there, or of another size, so begun from scratch: {', '.join(left)}" if left else "",
    )
