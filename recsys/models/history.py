"""Sums of vectors over each user's movies and over each movie's users in the training ratings.

Shapes: B batch, U users, I items, E length of a row, N training ratings.
"""

import torch
from torch import Tensor

from recsys.models.baselines import fit_baselines
from recsys.models.groups import Sorted
from recsys.models.network import Interactions, Sizes


class History:
    """Training ratings grouped by user and by item.

    The opinion of a rating is the difference between its stars and the prediction of the bias baseline. A sum over n
    movies or users is multiplied by n^-½.
    """

    def __init__(self, train: Interactions, sizes: Sizes) -> None:
        self.train = train
        users, items = train.user_idx, train.item_idx
        levels_K = torch.tensor(sizes.levels, device=train.level_idx.device)
        self.opinion_N = levels_K[train.level_idx] - fit_baselines(train, sizes)["bias"](users, items)
        self.by_user, self.by_item = Sorted(users, sizes.n_users), Sorted(items, sizes.n_items)
        self._of_users = self.by_user.group(items, self.opinion_N)
        self._of_items = self.by_item.group(users, self.opinion_N)

    def sum_over_items(self, vectors_IE: Tensor, *, by_opinion: bool = False) -> Tensor:
        """(I, E) -> (U, E): sums over each user's movies, optionally weighted by the user's opinions."""
        return self.by_user.scale_R1 * self._of_users.sum(vectors_IE, weighted=by_opinion)

    def sum_over_users(self, vectors_UE: Tensor, *, by_opinion: bool = False) -> Tensor:
        """(U, E) -> (I, E): sums over each movie's users, optionally weighted by their opinions."""
        return self.by_item.scale_R1 * self._of_items.sum(vectors_UE, weighted=by_opinion)
