"""EASE: every movie is regressed on all others. A movie's score is a sum over the movies that the user has rated.

Shapes: I items, B users of one block, H items of the head, T items of the tail, W weights kept per tail item.
"""

import logging
from functools import cached_property

import numpy as np
import numpy.typing as npt
import torch
from scipy import sparse
from torch import Tensor
from torch.nn import functional as F

from recsys.models.sparse import from_offsets
from recsys.retrieve.histories import Histories
from recsys.retrieve.retriever import Retriever, Users, log_affinity
from recsys.settings import EaseConfig

logger = logging.getLogger(__name__)

TAIL_BLOCK = 512  # tail items per regression
TAIL_WEIGHTS = 100  # strongest weights kept per tail item


class Ease(Retriever):
    """Item-item weights with a zero diagonal: dense among the head items, a few for each tail item.

    With up to `EaseConfig.max_items` items, all items are head items, and this is plain EASE. In a larger catalogue,
    the head consists of the most rated items. Every tail item is regressed on the head and keeps its strongest weights.
    Ratings of tail items do not contribute to scores.

    Source: Steck, "Embarrassingly Shallow Autoencoders for Sparse Data" (WWW 2019).
    """

    def __init__(self, head_H: Tensor, weights_HH: Tensor, tail_T: Tensor, from_TW: Tensor, weights_TW: Tensor) -> None:
        """head_H, tail_T: (H,), (T,) ascending item_idx. from_TW: positions in the head, ascending within a row."""
        self.head_H, self.weights_HH = head_H, weights_HH
        self.tail_T, self.from_TW, self.weights_TW = tail_T, from_TW, weights_TW

    def log_affinity(self, users: Users) -> Tensor:
        return log_affinity(self.affinity(users.histories))

    def affinity(self, histories: Histories) -> Tensor:
        """Returns (B, I) float32, near 1 for items the user has almost certainly rated; 0 for items without ratings."""
        device, head_of_each, offsets = self.weights_HH.device, *self._in_head(histories)
        # embedding_bag with 32-bit indices is three times as fast on a CPU as a sparse matrix product
        affinity_BH = F.embedding_bag(
            head_of_each.to(device, torch.int32), self.weights_HH, offsets[:-1].to(device, torch.int32), mode="sum"
        )
        if len(self.head_H) == histories.n_items:
            return affinity_BH
        affinity_BI = torch.zeros(len(histories), histories.n_items, device=device)
        affinity_BI[:, self.head_H.to(device)] = affinity_BH
        seen_BH = from_offsets(offsets, head_of_each, torch.ones(len(head_of_each)), (len(histories), len(self.head_H)))
        affinity_BI[:, self.tail_T.to(device)] = (self._tail_weights().to(device) @ seen_BH.to_dense().to(device).T).T
        return affinity_BI

    def shares(self, rated: Tensor, item: Tensor) -> Tensor:
        """Returns (…, N, R) float32 on the CPU: the share of each rated movie in each item's affinity.

        The shares sum to the affinity over R. rated: (…, R), item: (…, N) item_idx, for one user or a batch. The
        unknown item has no shares.
        """
        from_, is_head_from = _places(self.head_H, rated)
        to, is_head_to = _places(self.head_H, item)
        # gathering from the flat matrix in numpy is many times as fast as in torch
        flat = to.numpy()[..., :, None] * len(self.head_H) + from_.numpy()[..., None, :]
        shares = self._weights_to.ravel().take(flat)
        if is_head_to.all() and is_head_from.all():
            return torch.from_numpy(shares)
        shares[~is_head_to.numpy()] = 0.0
        if len(self.tail_T):
            self._add_tail(shares, from_.numpy(), item)
        return torch.from_numpy(shares).mul_(is_head_from[..., None, :])

    def _add_tail(self, shares: npt.NDArray[np.float32], from_: npt.NDArray[np.int64], item: Tensor) -> None:
        """Fills in the shares of tail items."""
        in_tail, is_tail = _places(self.tail_T, item)
        for *user, place in is_tail.nonzero().tolist():
            tail = in_tail[(*user, place)]
            row_H = np.zeros(len(self.head_H), dtype=np.float32)
            row_H[self.from_TW[tail].numpy()] = self.weights_TW[tail].numpy()
            shares[(*user, place)] = row_H[from_[tuple(user)]]

    @cached_property
    def _weights_to(self) -> npt.NDArray[np.float32]:
        """(H, H): row h has the weight of each item in the affinity of h. Contiguous, because `shares` reads rows."""
        return np.ascontiguousarray(self.weights_HH.cpu().numpy().T)

    def tensors(self) -> dict[str, Tensor]:
        return {name: getattr(self, name) for name in ("head_H", "weights_HH", "tail_T", "from_TW", "weights_TW")}

    def _in_head(self, histories: Histories) -> tuple[Tensor, Tensor]:
        """Returns the head positions of the rated head items, and the (B + 1,) offsets of each user's items."""
        if len(self.head_H) == histories.n_items:
            return histories.items, histories.offsets
        places, is_head = _places(self.head_H, histories.items)
        sizes = torch.bincount(histories.user_of_each()[is_head], minlength=len(histories))
        return places[is_head], torch.cat([torch.zeros(1, dtype=torch.int64), sizes.cumsum(0)])

    def _tail_weights(self) -> Tensor:
        """(T, H) sparse."""
        offsets = torch.arange(len(self.tail_T) + 1) * self.from_TW.shape[1]
        shape = (len(self.tail_T), len(self.head_H))
        return from_offsets(offsets, self.from_TW.flatten(), self.weights_TW.flatten(), shape)


def fit_ease(histories: Histories, config: EaseConfig, device: torch.device) -> Ease:
    """Fits the ridge regression of every movie on all others, in closed form from P = (XᵀX + l2)⁻¹.

    Memory: three float32 matrices of H x H. A catalogue that is larger than the head is logged.
    """
    l2 = config.l2 or 500 * max(1.0, len(histories.items) / 100_000) ** 0.3
    head_H, tail_T = _part(histories.counts(), config.max_items)
    matrix = histories.matrix()
    of_head, of_tail = matrix[:, head_H.numpy()], matrix[:, tail_T.numpy()]
    inverse_HH = _inverse(_gram(of_head, of_head), l2, device)
    strongest = [  # at least one block, so that an empty tail has the right shape
        _strongest(inverse_HH @ _gram(of_head, of_tail[:, first : first + TAIL_BLOCK]).to(device))
        for first in range(0, max(1, len(tail_T)), TAIL_BLOCK)
    ]
    from_TW, weights_TW = (torch.cat(parts) for parts in zip(*strongest, strict=True))
    return Ease(head_H, _without_own(inverse_HH), tail_T, from_TW, weights_TW)


def _part(counts_I: Tensor, max_items: int) -> tuple[Tensor, Tensor]:
    """Splits items into head and tail, ascending. A small catalogue has no tail: all items are in the head."""
    if len(counts_I) <= max_items:
        return torch.arange(len(counts_I)), torch.empty(0, dtype=torch.int64)
    by_count = counts_I.argsort(descending=True, stable=True)[: int((counts_I > 0).sum())]
    head_H, tail_T = by_count[:max_items].sort().values, by_count[max_items:].sort().values
    if len(tail_T):
        logger.info(
            "EASE: %d rated movies exceed the limit of %d: the most rated, with %.1f%% of the ratings, are regressed "
            "on each other; every other movie is regressed on these and keeps its %d strongest weights",
            len(by_count),
            max_items,
            100 * counts_I[head_H].sum() / counts_I.sum(),
            TAIL_WEIGHTS,
        )
    return head_H, tail_T


def _gram(left: sparse.csr_array, right: sparse.csr_array) -> Tensor:
    """Returns the number of users who rated both items of each pair, dense, by a sparse product on the CPU."""
    return torch.from_numpy((left.T @ right).toarray())


def _inverse(gram_HH: Tensor, l2: float, device: torch.device) -> Tensor:
    gram_HH.diagonal().add_(l2)
    return torch.cholesky_inverse(torch.linalg.cholesky(gram_HH.to(device)))


def _without_own(inverse_HH: Tensor) -> Tensor:
    """Returns the regression of each item on the others; modifies its argument."""
    inverse_HH /= -inverse_HH.diagonal().clone()
    return inverse_HH.fill_diagonal_(0.0).contiguous()  # contiguous rows, because scoring sums rows


def _strongest(weights_HT: Tensor) -> tuple[Tensor, Tensor]:
    """Returns (T, W) positions in the head, ascending within a row, and (T, W) their weights."""
    weights_TH = weights_HT.T.cpu()
    places_TW = weights_TH.abs().topk(min(TAIL_WEIGHTS, weights_TH.shape[1]), dim=1).indices.sort(dim=1).values
    return places_TW, weights_TH.gather(1, places_TW)


def _places(sorted_K: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the position of each wanted number in `sorted_K`, and whether it is present."""
    if not len(sorted_K):
        return torch.zeros_like(wanted), torch.zeros_like(wanted, dtype=torch.bool)
    if int(sorted_K[-1]) == len(sorted_K) - 1:  # every index is at its own position
        return wanted, torch.ones_like(wanted, dtype=torch.bool)
    places = torch.searchsorted(sorted_K, wanted).clamp(max=len(sorted_K) - 1)
    return places, torch.eq(sorted_K[places], wanted)
