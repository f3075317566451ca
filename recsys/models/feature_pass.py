"""The features of users or of movies in training, with their gradients by hand.

Shapes: R ids of a block, E length of a row, V values of all features.
"""

import torch
from torch import Tensor

from recsys.models.feature_tables import FeatureSum
from recsys.models.groups import decay
from recsys.models.tiles import Side


class FeaturePass:
    """A `FeatureSum` with at least one feature, in an epoch on tiles."""

    def __init__(self, features: FeatureSum, side: Side, l2: float) -> None:
        self._tables = features.weights()
        self._sizes = [len(table) for table in self._tables]
        self._l2_V1 = l2 * features.shares()[:, None]
        blocks = side.blocks
        self._groups = [features.groups(blocks.order[blocks.rows(block)]) for block in range(len(blocks.starts) - 1)]

    def add(self, block: int, vectors_RE: Tensor) -> None:
        """Adds the features of a block's ids to their vectors."""
        by_id, _ = self._groups[block]
        vectors_RE += by_id.sum(torch.cat(self._tables), weighted=True)

    def finish(self, block: int, slope_RE: Tensor) -> None:
        """Sets the gradients of all values. slope_RE: derivative of the loss by the vectors of a block's ids."""
        _, by_value = self._groups[block]
        slopes = by_value.sum(slope_RE, weighted=True).split(self._sizes)
        for table, slope, l2 in zip(self._tables, slopes, self._l2_V1.split(self._sizes), strict=True):
            table.grad = slope
            decay(table, l2)
