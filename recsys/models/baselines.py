"""Baselines that every network must beat: means of the training ratings, and damped user and movie biases."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:  # a circular import at runtime: networks import this module
    from recsys.models.network import Interactions, Sizes

MOVIE_DAMPING = 25.0  # every movie gets this many additional ratings at the global mean
USER_DAMPING = 10.0  # the same for every user; both values are from Koren and Bell, see `fit_baselines`

RATING_BASELINES = ("global_mean", "user_mean", "movie_mean", "bias")
BASELINES = (*RATING_BASELINES, "popularity")  # popularity ranks movies but predicts no stars

Predict = Callable[[Tensor, Tensor], Tensor]  # user_idx (B,), item_idx (B,) -> stars (B,)


def fit_baselines(train: "Interactions", sizes: "Sizes") -> dict[str, Predict]:
    """Fits every rating baseline to `train` and returns them by name. Ids without a rating get the global mean.

    Source of `bias`: Koren and Bell, "Advances in Collaborative Filtering", Recommender Systems Handbook (2011),
    section 5.2.1.
    """
    stars = torch.tensor(sizes.levels, device=train.level_idx.device)[train.level_idx]
    mean = stars.mean()
    user_mean = mean + _shrunk_mean(train.user_idx, stars - mean, sizes.n_users, 0.0)
    movie_mean = mean + _shrunk_mean(train.item_idx, stars - mean, sizes.n_items, 0.0)
    movie_bias = _shrunk_mean(train.item_idx, stars - mean, sizes.n_items, MOVIE_DAMPING)
    left_over = stars - mean - movie_bias[train.item_idx]
    user_bias = _shrunk_mean(train.user_idx, left_over, sizes.n_users, USER_DAMPING)
    return {
        "global_mean": lambda users, items: mean.repeat(len(users)),
        "user_mean": lambda users, items: user_mean[users],
        "movie_mean": lambda users, items: movie_mean[items],
        "bias": lambda users, items: mean + user_bias[users] + movie_bias[items],
    }


def _shrunk_mean(group_idx: Tensor, values: Tensor, n_groups: int, damping: float) -> Tensor:
    """(n_groups,) sum of a group's values divided by its size plus `damping`; 0 for a group without values."""
    totals = torch.zeros(n_groups, device=values.device).index_add_(0, group_idx, values)
    counts = torch.bincount(group_idx, minlength=n_groups)
    return totals / (counts + damping).clamp(min=1.0)
