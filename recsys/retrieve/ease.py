"""EASE: every movie regressed on all others. What a movie scores for a user is a sum over the movies they rated.

Shapes: I items, B users of one block, H items of the head, T of the tail, W weights that a tail item keeps.
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

TAIL_BLOCK = 512  # tail items regressed at once
TAIL_WEIGHTS = 100  # strongest weights that a tail item keeps


class Ease(Retriever):
    """Item-item weights without a diagonal: dense between the items of the head, a few for each item of the tail.

    Source: Steck, "Embarrassingly Shallow Autoencoders for Sparse Data" (WWW 2019). Up to `EaseConfig.max_items` rated
    items all are head, and this is it; in larger catalogues the head are the most rated, every other item is regressed
    on them and keeps its strongest weights, and that it was rated says nothing of others.
    """

    def __init__(self, head_H: Tensor, weights_HH: Tensor, tail_T: Tensor, from_TW: Tensor, weights_TW: Tensor) -> None:
        """head_H, tail_T: (H,), (T,) ascending item_idx. from_TW: places in the head, ascending in a row."""
        self.head_H, self.weights_HH = head_H, weights_HH
        self.tail_T, self.from_TW, self.weights_TW = tail_T, from_TW, weights_TW

    def log_affinity(self, users: Users) -> Tensor:
        return log_affinity(self.affinity(users.histories))

    def affinity(self, histories: Histories) -> Tensor:
        """(B, I) float32, near 1 for what such a user has surely rated; 0 for items that nobody has."""
        device, head_of_each, offsets = self.weights_HH.device, *self._in_head(histories)
        # a bag of 32-bit indices is three times as fast on a CPU as the product with a sparse matrix
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
        """(…, N, R) float32 on the CPU: what each rated movie adds to each movie's affinity, which is the sum over R.

        rated: (…, R), item: (…, N) item_idx, of one user or of many; what is the unknown adds nothing.
        """
        from_, is_head_from = _places(self.head_H, rated)
        to, is_head_to = _places(self.head_H, item)
        # numpy, by places in the flat matrix: the gathering is many times as fast as torch's
        flat = to.numpy()[..., :, None] * len(self.head_H) + from_.numpy()[..., None, :]
        shares = self._weights_to.ravel().take(flat)
        if is_head_to.all() and is_head_from.all():
            return torch.from_numpy(shares)
        shares[~is_head_to.numpy()] = 0.0
        if len(self.tail_T):
            self._add_tail(shares, from_.numpy(), item)
        return torch.from_numpy(shares).mul_(is_head_from[..., None, :])

    def _add_tail(self, shares: npt.NDArray[np.float32], from_: npt.NDArray[np.int64], item: Tensor) -> None:
        """The shares of items of the tail, which keep few weights, in their rows."""
        in_tail, is_tail = _places(self.tail_T, item)
        for *user, place in is_tail.nonzero().tolist():
            tail = in_tail[(*user, place)]
            row_H = np.zeros(len(self.head_H), dtype=np.float32)
            row_H[self.from_TW[tail].numpy()] = self.weights_TW[tail].numpy()
            shares[(*user, place)] = row_H[from_[tuple(user)]]

    @cached_property
    def _weights_to(self) -> npt.NDArray[np.float32]:
        """(H, H): row h is what each item adds to h; side by side in memory, which is how shares are read."""
        return np.ascontiguousarray(self.weights_HH.cpu().numpy().T)

    def tensors(self) -> dict[str, Tensor]:
        return {name: getattr(self, name) for name in ("head_H", "weights_HH", "tail_T", "from_TW", "weights_TW")}

    def _in_head(self, histories: Histories) -> tuple[Tensor, Tensor]:
        """The places in the head of what the users have rated there, and the (B + 1,) offsets of each user's."""
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
    """The ridge regression of every movie on all others, in closed form from P = (XᵀX + l2)⁻¹.

    Memory: three float32 matrices of H x H. What is left out of a large catalogue's head is said in the log.
    """
    l2 = config.l2 or 500 * max(1.0, len(histories.items) / 100_000) ** 0.3
    head_H, tail_T = _part(histories.counts(), config.max_items)
    matrix = histories.matrix()
    of_head, of_tail = matrix[:, head_H.numpy()], matrix[:, tail_T.numpy()]
    inverse_HH = _inverse(_gram(of_head, of_head), l2, device)
    strongest = [  # of one block at least, so that a tail of nothing has its columns
        _strongest(inverse_HH @ _gram(of_head, of_tail[:, first : first + TAIL_BLOCK]).to(device))
        for first in range(0, max(1, len(tail_T)), TAIL_BLOCK)
    ]
    from_TW, weights_TW = (torch.cat(parts) for parts in zip(*strongest, strict=True))
    return Ease(head_H, _without_own(inverse_HH), tail_T, from_TW, weights_TW)


def _part(counts_I: Tensor, max_items: int) -> tuple[Tensor, Tensor]:
    """The items of the head and those of the tail, ascending. A small catalogue is all head, what nobody rated too."""
    if len(counts_I) <= max_items:
        return torch.arange(len(counts_I)), torch.empty(0, dtype=torch.int64)
    by_count = counts_I.argsort(descending=True, stable=True)[: int((counts_I > 0).sum())]
    head_H, tail_T = by_count[:max_items].sort().values, by_count[max_items:].sort().values
    if len(tail_T):
        logger.info(
            "EASE: %d rated movies are more than %d, so the most rated, with %.1f%% of the ratings, are regressed on "
            "each other, and the others on them, with %d weights each",
            len(by_count),
            max_items,
            100 * counts_I[head_H].sum() / counts_I.sum(),
            TAIL_WEIGHTS,
        )
    return head_H, tail_T


def _gram(left: sparse.csr_array, right: sparse.csr_array) -> Tensor:
    """How many users rated both, for each pair of columns, dense; a product of sparse matrices on the CPU."""
    return torch.from_numpy((left.T @ right).toarray())


def _inverse(gram_HH: Tensor, l2: float, device: torch.device) -> Tensor:
    gram_HH.diagonal().add_(l2)
    return torch.cholesky_inverse(torch.linalg.cholesky(gram_HH.to(device)))


def _without_own(inverse_HH: Tensor) -> Tensor:
    """The regression of each item on the others; changes what it is given."""
    inverse_HH /= -inverse_HH.diagonal().clone()
    return inverse_HH.fill_diagonal_(0.0).contiguous()  # by rows, as sums over rows read it


def _strongest(weights_HT: Tensor) -> tuple[Tensor, Tensor]:
    """(T, W) places in the head, ascending in a row, and (T, W) their weights."""
    weights_TH = weights_HT.T.cpu()
    places_TW = weights_TH.abs().topk(min(TAIL_WEIGHTS, weights_TH.shape[1]), dim=1).indices.sort(dim=1).values
    return places_TW, weights_TH.gather(1, places_TW)


def _places(sorted_K: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
    """Where each wanted number stands in `sorted_K`, and whether it does."""
    if not len(sorted_K):
        return torch.zeros_like(wanted), torch.zeros_like(wanted, dtype=torch.bool)
    if int(sorted_K[-1]) == len(sorted_K) - 1:  # all indices, each in its own place
        return wanted, torch.ones_like(wanted, dtype=torch.bool)
    places = torch.searchsorted(sorted_K, wanted).clamp(max=len(sorted_K) - 1)
    return places, torch.eq(sorted_K[places], wanted)
