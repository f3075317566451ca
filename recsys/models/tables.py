"""The base of the networks from write-ups that predict one number: tables of vectors, their penalty, unknown ids.

Shapes: B batch, R rows of a table, D its width.
"""

from abc import abstractmethod

import torch
from pydantic import Field
from torch import Tensor, nn

from recsys.models.network import Interactions, NetworkConfig, NumberNetwork, Sizes


class TableConfig(NetworkConfig):
    l2: float = Field(1e-6, ge=0, description="Penalty per step on the sum of squares of all tables.")


class TableNetwork(NumberNetwork):
    """A network that looks users and movies up in tables.

    Ids without a training rating get the mean row of the others, weighted by their numbers of ratings. Their prediction
    is then close to the mean rating; with a row of zeros, it would be arbitrary. The penalty is Keras's
    `embeddings_regularizer`: it applies to all rows in every step, independently of the batch.
    """

    def __init__(self, sizes: Sizes, l2: float) -> None:
        super().__init__(sizes)
        self.l2 = l2
        self._ratings: tuple[Tensor, Tensor] | None = None  # number per user, number per movie

    @abstractmethod
    def tables(self) -> tuple[list[nn.Embedding], list[nn.Embedding]]:
        """Returns the tables with a row per user, and those with a row per movie."""

    def prepare(self, train: Interactions) -> Interactions:
        n_users, n_items = self.sizes.n_users, self.sizes.n_items
        self._ratings = (
            torch.bincount(train.user_idx, minlength=n_users),
            torch.bincount(train.item_idx, minlength=n_items),
        )
        return train

    def penalty(self, batch: Interactions) -> Tensor:
        of_users, of_items = self.tables()
        return self.l2 * sum_of_squares([*of_users, *of_items])

    def freeze(self) -> None:
        assert self._ratings is not None, "prepare() comes before training"
        for tables, n_R in zip(self.tables(), self._ratings, strict=True):
            for table in tables:
                average_unseen(table.weight, n_R)


def sum_of_squares(tables: list[nn.Embedding]) -> Tensor:
    """(): sum over all tables. A matrix product is fastest; it is exempt from autocast to keep its precision."""
    flat = [table.weight.view(-1) for table in tables]
    with torch.autocast(flat[0].device.type, enabled=False):
        return torch.stack([numbers @ numbers for numbers in flat]).sum()


def average_unseen(weight: Tensor, n_R: Tensor) -> None:
    """Sets rows without a training rating to the mean of the others, weighted by their numbers of ratings n_R."""
    with torch.no_grad():
        weight[n_R == 0] = n_R.to(weight.dtype) @ weight / n_R.sum()
