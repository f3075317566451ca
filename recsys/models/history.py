"""Sums of vectors over each user's movies and over each movie's users in the training ratings.

Shapes: B batch, U users, I items, E length of a row, N training ratings.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from recsys.models.baselines import fit_baselines
from recsys.models.network import Interactions, Sizes


class History:
    """Training ratings grouped by user and by item.

    The opinion of a rating is the difference between its stars and the prediction of the bias baseline. A sum over n
    movies or users is multiplied by n^-½.
    """

    def __init__(self, train: Interactions, sizes: Sizes) -> None:
        self._levels_K = torch.tensor(sizes.levels, device=train.level_idx.device)
        self._expected = fit_baselines(train, sizes)["bias"]
        users, items, opinion = train.user_idx, train.item_idx, self.opinion(train)
        self._by_user = _group(users, items, opinion, sizes.n_users)
        self._by_item = _group(items, users, opinion, sizes.n_items)
        self._scale_U1 = torch.bincount(users, minlength=sizes.n_users).float().clamp(min=1).rsqrt()[:, None]
        self._scale_I1 = torch.bincount(items, minlength=sizes.n_items).float().clamp(min=1).rsqrt()[:, None]

    def opinion(self, rows: Interactions) -> Tensor:
        """(B,): stars minus the prediction of the bias baseline."""
        return self._levels_K[rows.level_idx] - self._expected(rows.user_idx, rows.item_idx)

    def sum_over_items(self, vectors_IE: Tensor, *, by_opinion: bool = False) -> Tensor:
        """(I, E) -> (U, E): sums over each user's movies, optionally weighted by the user's opinions."""
        return self._scale_U1 * _sum(self._by_user, self._by_item, vectors_IE, by_opinion)

    def sum_over_users(self, vectors_UE: Tensor, *, by_opinion: bool = False) -> Tensor:
        """(U, E) -> (I, E): sums over each movie's users, optionally weighted by their opinions."""
        return self._scale_I1 * _sum(self._by_item, self._by_user, vectors_UE, by_opinion)

    def own_shares(self, rows: Interactions) -> tuple[Tensor, Tensor]:
        """(B, 1), (B, 1): the weights of each training rating in the opinion sums of its user and of its movie."""
        opinion_B1 = self.opinion(rows)[:, None]
        return opinion_B1 * self._scale_U1[rows.user_idx], opinion_B1 * self._scale_I1[rows.item_idx]


@dataclass(frozen=True)
class Groups:
    """The members of group g are members[starts[g]:starts[g + 1]], each with an opinion."""

    starts: Tensor  # (number of groups,) int32; the last group ends at N
    members: Tensor  # (N,) int32
    opinions: Tensor  # (N,) float32


def _group(keys: Tensor, members: Tensor, opinions: Tensor, n_groups: int) -> Groups:
    order = (keys * (int(members.max()) + 1) + members).argsort()
    sizes = torch.bincount(keys, minlength=n_groups)
    return Groups((sizes.cumsum(0) - sizes).int(), members[order].int(), opinions[order])


def _sum(groups: Groups, transposed: Groups, vectors: Tensor, by_opinion: bool) -> Tensor:
    return _GroupSum.apply(groups, transposed, vectors, by_opinion)  # type: ignore[no-any-return, no-untyped-call]


class _GroupSum(torch.autograd.Function):
    """Sums rows of `vectors` by group.

    An embedding bag with 32-bit indices is three times faster on a CPU than a sparse matrix product, but its gradient
    is slow. The gradient is therefore computed as the same kind of sum over the transposed groups.
    """

    @staticmethod
    def forward(ctx: Any, groups: Groups, transposed: Groups, vectors: Tensor, by_opinion: bool) -> Tensor:
        ctx.transposed, ctx.by_opinion = transposed, by_opinion
        return _add_up(groups, vectors, by_opinion)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, None, Tensor, None]:
        return None, None, _add_up(ctx.transposed, gradient.contiguous(), ctx.by_opinion), None


def _add_up(groups: Groups, vectors: Tensor, by_opinion: bool) -> Tensor:
    weights = groups.opinions if by_opinion else None
    with torch.autocast(vectors.device.type, enabled=False):
        return F.embedding_bag(groups.members, vectors.float(), groups.starts, mode="sum", per_sample_weights=weights)
