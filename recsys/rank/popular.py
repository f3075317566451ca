"""Lists of the most rated movies: the baseline for all other lists.

Shapes: B users of one block, I items, N places of a list.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from recsys.rank.films import Films
from recsys.retrieve.histories import Histories

USERS_PER_BLOCK = 1024


def rank_popular(histories: Histories, films: Films, n: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Yields user_idx, rank and item_idx of the `n` most rated unseen movies of every user with ratings, in blocks.

    The most rated entry of a film stands for the film. Ties go to the lower index.
    """
    counts = histories.counts()
    most_1I = counts.where(counts > 0, -torch.inf)[None]
    films.keep_best_(most_1I, torch.arange(len(counts))[None])
    by_count = most_1I[0].argsort(descending=True, stable=True)[: int((most_1I > -torch.inf).sum())]
    # no user needs more movies than n plus the length of the longest history
    for user_idx in torch.arange(1, len(histories)).split(USERS_PER_BLOCK):
        own = histories.take(user_idx)
        candidate_C = by_count[: int(n + own.sizes().max())]
        is_seen_BI = torch.zeros(len(own), histories.n_items, dtype=torch.bool)
        is_seen_BI[films.spread(own.user_of_each(), own.items)] = True
        unseen_BC = ~is_seen_BI[:, candidate_C] & (own.sizes() > 0)[:, None]
        place_BC = unseen_BC.cumsum(1)
        user, column = (unseen_BC & (place_BC <= n)).nonzero(as_tuple=True)
        yield user_idx[user], place_BC[user, column], candidate_C[column]
