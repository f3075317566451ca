"""Metrics by slice: errors by genre, by activity and popularity, and by true rating; lists by slice of users.

Shapes: B ratings or users, K levels.
"""

from collections.abc import Iterator

import polars as pl
import torch
from torch import Tensor

from recsys.encode.features import Feature, Features
from recsys.encode.vocabulary import Vocabulary
from recsys.metrics.decode import Prediction
from recsys.metrics.errors import prediction_metrics
from recsys.metrics.lists import mean_metrics
from recsys.models import Interactions

# Lowest count of each bucket. A count of 0 is a new user or movie. Buckets are fixed, so that nights can be compared.
USER_ACTIVITY = (1, 21, 51, 101, 201, 501)  # training ratings of the user; MovieLens asks every user for twenty
MOVIE_POPULARITY = (1, 11, 51, 201, 1001)  # training ratings of the movie
USER_GROUPS = ("gender", "age")  # user features that lists are sliced by
LIST_METRICS = ("ndcg_at_10", "recall_at_10", "hit_rate_at_10")


def measure_slices(
    prediction: Prediction, train: Interactions, holdout: Interactions, levels_K: Tensor, features: Features
) -> dict[str, dict[str, float]]:
    """Returns the metrics of `prediction` for each nonempty slice of `holdout`, with its number of rows `n`.

    Tensors must be on the CPU. A rating counts in each genre of its movie. Slices by true rating show which ratings
    have large errors. They do not measure how predictable ratings are, because a predictor does not have the true
    rating.
    """
    measured = {}
    for name, rows in rating_slices(train, holdout, levels_K, features):
        if len(rows):
            part = Prediction(prediction.p_BK[rows], prediction.mean_B[rows])
            metrics = prediction_metrics(part, holdout.level_idx[rows], levels_K)
            measured[name] = {"n": float(len(rows)), **metrics}
    return measured


def measure_list_slices(
    users: pl.DataFrame, train: Interactions, vocabulary: Vocabulary, features: Features
) -> dict[str, dict[str, float]]:
    """Returns the means of `LIST_METRICS` for each nonempty slice of `users`, with their number `users_with_relevant`.

    `users` are those with a relevant movie, as `user_metrics` returns them. Slices are by number of ratings in
    `train`, and by gender and age where known.
    """
    measured = {}
    for name, rows in _user_slices(users, train, vocabulary, features):
        if len(rows):
            part = users[rows.numpy()].select("user_id", *LIST_METRICS)
            measured[name] = {"users_with_relevant": float(len(rows)), **mean_metrics(part)}
    return measured


def _user_slices(
    users: pl.DataFrame, train: Interactions, vocabulary: Vocabulary, features: Features
) -> Iterator[tuple[str, Tensor]]:
    """Yields (name, positions in `users`) of every slice."""
    user_idx = torch.from_numpy(vocabulary.encode_users(users["user_id"].to_numpy()))
    yield from _buckets("user_activity", _counts(train.user_idx, user_idx), USER_ACTIVITY)
    for name in USER_GROUPS:
        if name in features.user:
            yield from _values(name, features.user[name], user_idx)


def rating_slices(
    train: Interactions, holdout: Interactions, levels_K: Tensor, features: Features
) -> Iterator[tuple[str, Tensor]]:
    """Yields (name, positions in `holdout`) of every slice."""
    known_of_user = _counts(train.user_idx, holdout.user_idx)
    known_of_item = _counts(train.item_idx, holdout.item_idx)
    yield "new_user", _places(known_of_user == 0)
    yield from _buckets("user_activity", known_of_user, USER_ACTIVITY)
    yield "new_movie", _places(known_of_item == 0)
    yield from _buckets("movie_popularity", known_of_item, MOVIE_POPULARITY)
    if "genres" in features.item:
        yield from _values("genre", features.item["genres"], holdout.item_idx)
    for index, level in enumerate(levels_K.tolist()):
        yield f"rating={level:g}", _places(holdout.level_idx == index)


def _counts(train_idx: Tensor, asked_idx: Tensor) -> Tensor:
    """Returns (B,) the number of times that each of `asked_idx` occurs in `train_idx`; 0 for the unknown index 0."""
    counts = torch.bincount(train_idx, minlength=int(asked_idx.max()) + 1 if len(asked_idx) else 0)
    return torch.where(asked_idx == 0, 0, counts[asked_idx])


def _buckets(name: str, counts_B: Tensor, firsts: tuple[int, ...]) -> Iterator[tuple[str, Tensor]]:
    for first, after in zip(firsts, (*firsts[1:], None), strict=True):
        if after is None:
            yield f"{name}={first}+", _places(counts_B >= first)
        else:
            yield f"{name}={first}-{after - 1}", _places((counts_B >= first) & (counts_B < after))


def _values(name: str, feature: Feature, idx_B: Tensor) -> Iterator[tuple[str, Tensor]]:
    """Yields one slice per value of a feature; users or movies with several values are in several slices."""
    n_rows = len(feature.offsets) - 1
    has_value = torch.zeros(n_rows, feature.n_values, dtype=torch.bool)
    has_value[feature.rows(), feature.values] = True
    for value, called in enumerate(feature.names, start=1):
        yield f"{name}={called}", _places(has_value[idx_B, value])


def _places(is_in_B: Tensor) -> Tensor:
    return is_in_B.nonzero().squeeze(1)
