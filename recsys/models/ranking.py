"""The base of networks that only rank movies, by the dot product of a user's vector at a time and a movie's vector.

Shapes: B batch, N negatives of each row, U users, I items, R rows of either, W width of a row (a vector, then biases).
"""

from abc import abstractmethod

import torch
from torch import Tensor

from recsys.models.negatives import Watched, fixed_negatives
from recsys.models.network import BatchNetwork, Interactions, Pairs, Sizes


class RankingNetwork(BatchNetwork):
    """A network that learns who watched what, regardless of the rating.

    Its error is the share of pairs in the wrong order: how often a movie that the user has not watched scores above one
    that they have watched; a tie is half an error. It equals one minus the area under the ROC curve.
    """

    criterion = "share of pairs in the wrong order"
    item_table: Tensor  # (I, W), frozen

    def __init__(self, sizes: Sizes, width: int) -> None:
        super().__init__(sizes)
        self.register_buffer("item_table", torch.zeros(sizes.n_items, width))
        self._watched: Watched | None = None

    def prepare(self, train: Interactions) -> Interactions:
        self._watched = Watched(train, self.sizes)
        return train

    @property
    def watched(self) -> Watched:
        assert self._watched is not None, "prepare() comes before training and before errors()"
        return self._watched

    @abstractmethod
    def user_rows(self, pairs: Pairs) -> Tensor:
        """(B, W): the vectors that are multiplied with the items' rows of `item_table`."""

    def score(self, pairs: Pairs) -> Tensor:
        return (self.user_rows(pairs) * self.item_table[pairs.item_idx]).sum(1)

    def errors(self, rows: Interactions) -> Tensor:
        """The share of a row's fixed negatives that score above its own movie; 0.5 if no negative counts."""
        user_BW = self.user_rows(rows)
        own_B = (user_BW * self.item_table[rows.item_idx]).sum(1)
        item_BN, counts_BN = fixed_negatives(rows, self.watched)
        # column by column, because all vectors at once would take N times the memory of a prediction
        score_BN = torch.stack([(user_BW * self.item_table[item_B]).sum(1) for item_B in item_BN.unbind(1)], dim=1)
        wrong_BN = torch.where(score_BN == own_B[:, None], 0.5, (score_BN > own_B[:, None]).float()) * counts_BN
        n_B = counts_BN.sum(1)
        return torch.where(n_B > 0, wrong_BN.sum(1) / n_B.clamp(min=1), 0.5)


def mean_for_unseen(rows_RW: Tensor, count_R: Tensor) -> Tensor:
    """Replaces rows without a training event, including index 0, by the mean of the other rows.

    The mean user prefers popular movies; the mean movie is an unpopular one, like most movies.
    """
    seen_R1 = (count_R > 0)[:, None]
    mean_W = (rows_RW * seen_R1).sum(0) / seen_R1.sum().clamp(min=1)
    return torch.where(seen_R1, rows_RW, mean_W)
