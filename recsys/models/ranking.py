"""What networks that only order movies share: a vector of the user's moment, a table of movies, a dot product.

Shapes: B batch, N negatives of each row, U users, I items, R rows of either, W width of a row (a vector, then biases).
"""

from abc import abstractmethod

import torch
from torch import Tensor

from recsys.models.negatives import Watched, fixed_negatives
from recsys.models.network import Interactions, Network, Pairs, Sizes


class RankingNetwork(Network):
    """Learns from who watched what, whatever the stars.

    It is judged by the share of pairs in the wrong order: how often a movie that the user has not watched in training
    scores above the one that they did watch, a tie being half an error. That is one minus the area under the ROC curve.
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
        """(B, W): what the item's row of `item_table` is multiplied by."""

    def score(self, pairs: Pairs) -> Tensor:
        return (self.user_rows(pairs) * self.item_table[pairs.item_idx]).sum(1)

    def errors(self, rows: Interactions) -> Tensor:
        """The share of a row's fixed negatives that score above its own movie; a half where no negative counts."""
        user_BW = self.user_rows(rows)
        own_B = (user_BW * self.item_table[rows.item_idx]).sum(1)
        item_BN, counts_BN = fixed_negatives(rows, self.watched)
        # one column after the other: all vectors at once would take N times the memory of a prediction
        score_BN = torch.stack([(user_BW * self.item_table[item_B]).sum(1) for item_B in item_BN.unbind(1)], dim=1)
        wrong_BN = torch.where(score_BN == own_B[:, None], 0.5, (score_BN > own_B[:, None]).float()) * counts_BN
        n_B = counts_BN.sum(1)
        return torch.where(n_B > 0, wrong_BN.sum(1) / n_B.clamp(min=1), 0.5)


def mean_for_unseen(rows_RW: Tensor, count_R: Tensor) -> Tensor:
    """The same rows, with the mean of those that training saw in place of those that it did not, index 0 among these.

    The mean user likes what people like; the mean movie is one of the many that few watch.
    """
    seen_R1 = (count_R > 0)[:, None]
    mean_W = (rows_RW * seen_R1).sum(0) / seen_R1.sum().clamp(min=1)
    return torch.where(seen_R1, rows_RW, mean_W)
