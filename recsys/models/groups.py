"""Sums of rows by group, on which histories and tiles are built.

Shapes: G groups, M members, R rows of a table, E length of a row.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class Groups:
    """Group g has the members members[first[g] : first[g + 1]], which are rows of a table, each with a weight."""

    first: Tensor  # (G + 1,) int32
    members: Tensor  # (M,) int32: with 32-bit indices, bags are three times as fast on a CPU as sparse products
    weights: Tensor  # (M,) float32

    def part(self, groups: slice, members: slice) -> "Groups":
        """Neighbouring groups and their members. Only the offsets are copied."""
        first = self.first[groups.start : groups.stop + 1] - members.start
        return Groups(first, self.members[members], self.weights[members])

    def sum(self, rows_RE: Tensor, *, weighted: bool) -> Tensor:
        """(R, E) -> (G, E): sums over the members of each group, or sums weighted by the weights."""
        weights = self.weights if weighted else None
        with torch.autocast(rows_RE.device.type, enabled=False):
            return F.embedding_bag(
                self.members,
                rows_RE.float(),
                self.first,
                mode="sum",
                per_sample_weights=weights,
                include_last_offset=True,
            )


def offsets(sizes_G: Tensor) -> Tensor:
    """(G + 1,) int32: the first member of each group, if groups of these sizes follow each other; then the total."""
    return F.pad(sizes_G.cumsum(0), (1, 0)).int()


def group(keys: Tensor, members: Tensor, weights: Tensor, n_groups: int) -> Groups:
    """Groups `members` by key, in ascending order. keys, members: (M,) int64."""
    order = (keys * (int(members.max()) + 1) + members).argsort()
    return Groups(offsets(keys.bincount(minlength=n_groups)), members[order].int(), weights[order])


def decay(table: Tensor, l2: Tensor) -> None:
    """Adds the gradient of l2 · table² to that of the table."""
    assert table.grad is not None
    table.grad.addcmul_(l2, table.detach(), value=2.0)
