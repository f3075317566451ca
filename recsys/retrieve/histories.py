"""Rated items by user, the format that all code for lists uses.

Shapes: U users, I items (index 0 of both is "unknown"), B users of one block, N ratings.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from recsys.models import Interactions, Sizes
from recsys.models.sparse import from_offsets


@dataclass(frozen=True)
class Histories:
    """One list of items per user, on the CPU. Those of user u are items[offsets[u]:offsets[u + 1]]."""

    offsets: Tensor  # (U + 1,) int64
    items: Tensor  # (N,) int64, ascending within a user
    stars: Tensor  # (N,) float32
    n_items: int

    def __len__(self) -> int:
        """Number of users, including the unknown one."""
        return len(self.offsets) - 1

    def of(self, user_idx: int) -> Tensor:
        return self.items[self.offsets[user_idx] : self.offsets[user_idx + 1]]

    def take(self, user_idx: Tensor) -> "Histories":
        """Returns the histories of these users. User b of the result is user_idx[b]."""
        sizes = self.sizes()[user_idx]
        offsets = _offsets(sizes)
        rows = torch.arange(int(offsets[-1])) + (self.offsets[user_idx] - offsets[:-1]).repeat_interleave(sizes)
        return Histories(offsets, self.items[rows], self.stars[rows], self.n_items)

    def shorten(self, n: int, seed: int) -> "Histories":
        """Keeps `n` ratings of each user, drawn by `seed`, or all of them if there are fewer."""
        users = self.user_of_each()
        order = torch.randperm(len(self.items), generator=torch.Generator().manual_seed(seed))
        order = order[users[order].argsort(stable=True)]  # by user, in random order within a user
        place = torch.arange(len(order)) - self.offsets[:-1].repeat_interleave(self.sizes())
        kept = order[place < n].sort().values
        return Histories(_offsets(self.sizes().clamp(max=n)), self.items[kept], self.stars[kept], self.n_items)

    def keep(self, is_kept_N: Tensor) -> "Histories":
        """Drops the other ratings."""
        sizes = torch.bincount(self.user_of_each()[is_kept_N], minlength=len(self))
        return Histories(_offsets(sizes), self.items[is_kept_N], self.stars[is_kept_N], self.n_items)

    def transpose(self) -> "Histories":
        """Returns one list of users per item."""
        order = self.items.argsort(stable=True)  # stable: users ascend within an item
        sizes = torch.bincount(self.items, minlength=self.n_items)
        return Histories(_offsets(sizes), self.user_of_each()[order], self.stars[order], len(self))

    def sizes(self) -> Tensor:
        """Returns (U,) the number of items that each user has rated."""
        return self.offsets.diff()

    def user_of_each(self) -> Tensor:
        """Returns (N,) the user of each rating."""
        return torch.arange(len(self)).repeat_interleave(self.sizes())

    def counts(self) -> Tensor:
        """Returns (I,) the number of users who rated each item; 0 for the unknown item."""
        counts = torch.bincount(self.items, minlength=self.n_items)
        counts[0] = 0
        return counts

    def seen(self) -> Tensor:
        """Returns (U, I) sparse, 1 where rated."""
        return from_offsets(self.offsets, self.items, torch.ones(len(self.items)), (len(self), self.n_items))

    def matrix(self) -> sparse.csr_array:
        """Returns (U, I) float32, 1 where rated, as a scipy matrix, whose products are faster."""
        ones = np.ones(len(self.items), dtype=np.float32)
        return sparse.csr_array((ones, self.items.numpy(), self.offsets.numpy()), shape=(len(self), self.n_items))


def gather_histories(train: Interactions, sizes: Sizes) -> Histories:
    """Groups interactions by user, with each (user, item) pair once. The last row of a repeated pair is used."""
    levels_K, n_users, n_items = torch.tensor(sizes.levels), sizes.n_users, sizes.n_items
    keys, order = (train.user_idx.cpu() * n_items + train.item_idx.cpu()).sort(stable=True)
    is_last = torch.ones(len(keys), dtype=torch.bool)
    is_last[:-1] = keys[1:] != keys[:-1]
    users, items = keys[is_last] // n_items, keys[is_last] % n_items
    stars = levels_K[train.level_idx.cpu()[order[is_last]]]
    return Histories(_offsets(torch.bincount(users, minlength=n_users)), items, stars, n_items)


def split_by_size(sizes_R: Tensor, limit: int, min_size: int = 0) -> Iterator[Tensor]:
    """Yields the rows of nonzero size in blocks of similar sizes, so that little padding is needed.

    A block has one row, or at most `limit` numbers after padding. A row counts as at least `min_size` numbers.
    """
    order = sizes_R.argsort(stable=True)
    sizes, first = sizes_R[order].tolist(), int((sizes_R == 0).sum())
    for last in range(first + 1, len(sizes) + 1):
        if last == len(sizes) or (last + 1 - first) * max(sizes[last], min_size) > limit:
            yield order[first:last]
            first = last


def _offsets(sizes: Tensor) -> Tensor:
    return torch.cat([torch.zeros(1, dtype=torch.int64), sizes.cumsum(0)])
