"""Lists of the most rated movies: the baseline for all other lists.

Shapes: B users of one block, I items, N places of a list.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from recsys.retrieve.histories import Histories

USERS_PER_BLOCK = 1024


def rank_popular(histories: Histories, n: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Yields user_idx, rank and item_idx of the `n` most rated unseen movies of every user with ratings, in blocks.

    Ties go to the lower index.
    """
    counts = histories.counts()
    by_count = counts.argsort(descending=True, stable=True)
    # no user needs more movies than n plus the length of the longest history
    for user_idx in torch.arange(1, len(histories)).split(USERS_PER_BLOCK):
        own = histories.take(user_idx)
        candidate_C = by_count[: int(min(n + own.sizes().max(), (counts > 0).sum()))]
        is_seen_BI = own.seen().to_dense() > 0
        unseen_BC = ~is_seen_BI[:, candidate_C] & (own.sizes() > 0)[:, None]
        place_BC = unseen_BC.cumsum(1)
        user, column = (unseen_BC & (place_BC <= n)).nonzero(as_tuple=True)
        yield user_idx[user], place_BC[user, column], candidate_C[column]
