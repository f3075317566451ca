"""The movies a user has rated that speak loudest for each recommendation.

Shapes: P places, R rated movies of one user, N places of one user.
"""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from recsys.histories import Histories
from recsys.rank.common import ROUNDING
from recsys.retrieve import Retriever
from recsys.retrieve.ease import Ease


def find_reasons(
    retrievers: Mapping[str, Retriever], histories: Histories, user_P: Tensor, item_P: Tensor, n: int
) -> Tensor:
    """(P, n) int64: for each place the user's own movies with the largest positive shares in its affinity by EASE,
    the largest first; 0 where there are fewer. `user_P` ascends.

    Movies that a user has given fewer stars than their mean are no reason to show them anything. Without an item-item
    model there are no exact shares, and no reasons are given.
    """
    because_PN = torch.zeros(len(user_P), n, dtype=torch.int64)
    ease = next((one for one in retrievers.values() if isinstance(one, Ease)), None)
    if ease is None or not n:
        return because_PN
    users, places = torch.unique_consecutive(user_P, return_counts=True)
    last = places.cumsum(0)
    offsets, liked = _liked(histories)
    for user, begin, end in zip(users.tolist(), (last - places).tolist(), last.tolist(), strict=True):
        own_R = liked[offsets[user] : offsets[user + 1]]
        if len(own_R):
            because_PN[begin:end] = _loudest(ease.shares(own_R, item_P[begin:end]), own_R, n)
    return because_PN


def _liked(histories: Histories) -> tuple[list[int], Tensor]:
    """Offsets of every user's, and the movies that they have not given less than their mean."""
    users, sizes = histories.user_of_each(), histories.sizes()
    sums_U = torch.zeros(len(histories), dtype=torch.float64).index_add_(0, users, histories.stars.double())
    is_liked = histories.stars >= (sums_U / sizes.clamp(min=1))[users] - ROUNDING
    kept_U = torch.bincount(users[is_liked], minlength=len(histories))
    return [0, *kept_U.cumsum(0).tolist()], histories.items[is_liked]


def _loudest(shares_NR: Tensor, own_R: Tensor, n: int) -> Tensor:
    """(N, n), of equal shares the lower index first. One maximum after the other: for a few, faster than sorting."""
    shares, own, places = shares_NR.numpy(), own_R.numpy(), np.arange(len(shares_NR))
    because_Nn = np.zeros((len(shares), n), dtype=np.int64)
    for nth in range(min(n, len(own))):
        best = shares.argmax(axis=1)
        because_Nn[:, nth] = np.where(shares[places, best] > 0, own[best], 0)
        shares[places, best] = -np.inf
    return torch.from_numpy(because_Nn)
