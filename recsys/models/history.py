"""Sums of vectors over each user's movies and over each movie's users in the training ratings.

Shapes: B batch, U users, I items, E length of a row, N training ratings.
"""

import torch
from torch import Tensor

from recsys.models.baselines import fit_baselines
from recsys.models.groups import group
from recsys.models.network import Interactions, Sizes


class History:
    """Training ratings grouped by user and by item.

    The opinion of a rating is the difference between its stars and the prediction of the bias baseline. A sum over n
    movies or users is multiplied by n^-½.
    """

    def __init__(self, train: Interactions, sizes: Sizes) -> None:
        users, items = train.user_idx, train.item_idx
        levels_K = torch.tensor(sizes.levels, device=train.level_idx.device)
        self.opinion_N = levels_K[train.level_idx] - fit_baselines(train, sizes)["bias"](users, items)
        self._by_user = group(users, items, self.opinion_N, sizes.n_users)
        self._by_item = group(items, users, self.opinion_N, sizes.n_items)
        self._scale_U1 = _scale(users, sizes.n_users)
        self._scale_I1 = _scale(items, sizes.n_items)

    def sum_over_items(self, vectors_IE: Tensor, *, by_opinion: bool = False) -> Tensor:
        """(I, E) -> (U, E): sums over each user's movies, optionally weighted by the user's opinions."""
        return self._scale_U1 * self._by_user.sum(vectors_IE, weighted=by_opinion)

    def sum_over_users(self, vectors_UE: Tensor, *, by_opinion: bool = False) -> Tensor:
        """(U, E) -> (I, E): sums over each movie's users, optionally weighted by their opinions."""
        return self._scale_I1 * self._by_item.sum(vectors_UE, weighted=by_opinion)


def _scale(ids_N: Tensor, n_ids: int) -> Tensor:
    """(n_ids, 1): n^-½ for an id with n ratings, 1 for one without."""
    return ids_N.bincount(minlength=n_ids)[:, None].float().clamp(min=1).rsqrt()
