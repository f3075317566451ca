"""Finds the rated movies that contribute most to each recommendation.

Shapes: P places, B users, R rated movies per user, N places per user.
"""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from recsys.rank.common import liked_from
from recsys.rank.films import Films
from recsys.retrieve.ease import Ease
from recsys.retrieve.histories import Histories, split_by_size
from recsys.retrieve.retriever import Retriever

SHARES_AT_ONCE = 2**20  # including padding: 4 MB, and twice as much for their positions


def find_reasons(
    retrievers: Mapping[str, Retriever],
    histories: Histories,
    user_P: Tensor,
    item_P: Tensor,
    n: int,
    *,
    films: Films,
    middle: float,
    rating_mean: float,
) -> Tensor:
    """Returns (P, n) int64: the user's movies with the largest positive shares in the EASE affinity of each place.

    The largest share comes first. Rows are padded with 0. `user_P` must be ascending. Movies that the user rated below
    `liked_from` are not reasons. Of several entries of a film, only the one with the largest share is a reason. Without
    EASE, there are no exact shares and therefore no reasons.
    """
    because_PN = torch.zeros(len(user_P), n, dtype=torch.int64)
    ease = next((one for one in retrievers.values() if isinstance(one, Ease)), None)
    if ease is None or not n or not len(user_P):
        return because_PN
    users, n_places_B = torch.unique_consecutive(user_P, return_counts=True)
    first_B = n_places_B.cumsum(0) - n_places_B
    liked = _liked(histories, middle, rating_mean)
    sizes_B = liked.sizes()[users]
    for rows_B in split_by_size(sizes_B * int(n_places_B.max()), SHARES_AT_ONCE):
        own_BR = _pad(liked.items, liked.offsets[users[rows_B]], sizes_B[rows_B])
        place_BN = first_B[rows_B, None] + torch.arange(int(n_places_B[rows_B].max()))
        is_place_BN = place_BN < (first_B + n_places_B)[rows_B, None]
        item_BN = torch.where(is_place_BN, item_P[place_BN.clamp(max=len(item_P) - 1)], 0)
        because_BNn = _largest_shares(ease.shares(own_BR, item_BN), own_BR, n, films)
        because_PN[place_BN[is_place_BN]] = because_BNn[is_place_BN]
    return because_PN


def _liked(histories: Histories, middle: float, rating_mean: float) -> Histories:
    """Drops the movies that cannot be reasons."""
    users, sizes = histories.user_of_each(), histories.sizes()
    sums_U = torch.zeros(len(histories), dtype=torch.float64).index_add_(0, users, histories.stars.double())
    least_U: Tensor = liked_from(sums_U, sizes, middle, rating_mean)
    return histories.keep(histories.stars >= least_U[users])


def _pad(items: Tensor, first_B: Tensor, sizes_B: Tensor) -> Tensor:
    """Returns (B, R) each user's own items, ascending, padded with zeros."""
    place_R = torch.arange(int(sizes_B.max()))
    at_BR = (first_B[:, None] + place_R).clamp(max=len(items) - 1)
    return torch.where(place_R < sizes_B[:, None], items[at_BR], 0)


def _largest_shares(shares_BNR: Tensor, own_BR: Tensor, n: int, films: Films) -> Tensor:
    """Returns (B, N, n) by descending share. Ties go to the lower index. For small n, argmax is faster than sorting."""
    shares, own = shares_BNR.numpy(), own_BR.numpy()
    users = np.arange(len(own))[:, None]
    film_BR = films.film_I.numpy()[own]
    has_twins = bool(films.has_twin[own_BR].any())
    because_BNn = np.zeros((*shares.shape[:2], n), dtype=np.int64)
    for nth in range(min(n, own.shape[1])):
        best_BN = shares.argmax(axis=2)
        largest_BN1 = np.take_along_axis(shares, best_BN[:, :, None], axis=2)
        because_BNn[:, :, nth] = np.where(largest_BN1[:, :, 0] > 0, own[users, best_BN], 0)
        np.put_along_axis(shares, best_BN[:, :, None], -np.inf, axis=2)
        if has_twins:
            shares[film_BR[users, best_BN][:, :, None] == film_BR[:, None, :]] = -np.inf
    return torch.from_numpy(because_BNn)
