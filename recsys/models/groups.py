"""Sums of rows by group, on which histories and tiles are built.

Shapes: G groups, M members, R rows of a table or ids, E length of a row, N training ratings.
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
        # A table that requires a gradient is slower, even where none is recorded.
        return F.embedding_bag(
            self.members,
            rows_RE if torch.is_grad_enabled() else rows_RE.detach(),
            self.first,
            mode="sum",
            per_sample_weights=self.weights if weighted else None,
            include_last_offset=True,
        )


def offsets(sizes_G: Tensor) -> Tensor:
    """(G + 1,) int32: the first member of each group, if groups of these sizes follow each other; then the total."""
    return F.pad(sizes_G.cumsum(0), (1, 0)).int()


class Sorted:
    """The training ratings sorted by the ids of one side, users or movies."""

    def __init__(self, ids_N: Tensor, n_ids: int) -> None:
        self.counts_R = ids_N.bincount(minlength=n_ids)  # int64: the number of ratings of each id
        self.scale_R1 = self.counts_R[:, None].float().clamp(min=1).rsqrt()  # n^-½ for n ratings, 1 for none
        self.order_N = ids_N.argsort(stable=True)
        self._first_R = self.counts_R.cumsum(0) - self.counts_R

    def by(self, order_R: Tensor) -> Tensor:
        """(N,) int64: the ratings sorted by the position of their id in `order_R`, without sorting them again."""
        counts_R = self.counts_R[order_R]
        shift_R = self._first_R[order_R] - (counts_R.cumsum(0) - counts_R)
        positions_N = torch.arange(len(self.order_N), device=order_R.device)
        return self.order_N[positions_N + shift_R.repeat_interleave(counts_R)]

    def group(self, members_N: Tensor, weights_N: Tensor) -> Groups:
        """Groups the ratings by id. members_N, weights_N: of each rating."""
        return Groups(offsets(self.counts_R), members_N[self.order_N].int(), weights_N[self.order_N])


def decay(table: Tensor, l2: Tensor) -> None:
    """Adds the gradient of l2 · table² to that of the table."""
    assert table.grad is not None
    table.grad.addcmul_(l2, table.detach(), value=2.0)
