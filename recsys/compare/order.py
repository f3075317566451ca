"""How well a score alone orders all the movies that a user has not rated: no candidates, nothing mixed in.

Ordering by expected stars alone makes poor lists (a movie that few have seen, and loved, comes first); what a night
publishes is ordered otherwise, see `rank`.

Shapes: B users, C movies somebody rated in training, N places of a list.
"""

from collections.abc import Callable, Iterator

import polars as pl
import torch
from torch import Tensor

from recsys.metrics.lists import mean_metrics, user_metrics
from recsys.models import Interactions, Pairs, Sizes
from recsys.retrieve.histories import Histories, gather_histories

SAMPLE = 1_000  # users: scoring every movie for every user would take longer than training
PAIRS_PER_BLOCK = 2_000_000
PLACES = 10

Score = Callable[[Pairs], Tensor]


def measure_order(
    score: Score, train: Interactions, holdout: Interactions, sizes: Sizes, relevant_from: float, seed: int
) -> float | None:
    """NDCG@10 of lists of unseen movies in the order of `score`; None where no user has a relevant movie.

    The mean over at most `SAMPLE` users, drawn by `seed`, with a training rating and a relevant movie in the holdout:
    one of `relevant_from` stars or more. Movies of equal scores: the lower index first. All on the CPU.
    """
    histories = gather_histories(train, sizes)
    liked = torch.tensor(sizes.levels)[holdout.level_idx] >= relevant_from
    is_known = torch.zeros(sizes.n_users, dtype=torch.bool)
    is_known[train.user_idx] = True
    rows = holdout.take((liked & is_known[holdout.user_idx]).nonzero().squeeze(1))
    users = _sample(rows.user_idx.unique(), seed)
    if not len(users):
        return None
    moment = int(train.rated_at.max()) + 1
    lists = pl.concat(_lists(score, users, histories, moment))
    relevant = pl.DataFrame({"user_id": rows.user_idx.numpy(), "movie_id": rows.item_idx.numpy()}).unique()
    relevant = relevant.filter(pl.col("user_id").is_in(users.tolist()))
    return mean_metrics(user_metrics(lists, relevant))["ndcg_at_10"]


def _sample(users: Tensor, seed: int) -> Tensor:
    order = torch.randperm(len(users), generator=torch.Generator().manual_seed(seed))
    return users[order[:SAMPLE]].sort().values


def _lists(score: Score, users: Tensor, histories: Histories, moment: int) -> Iterator[pl.DataFrame]:
    """(user_id, rank, movie_id), all indices, of some users at a time."""
    counts = histories.counts()
    item_C = (counts > 0).nonzero().squeeze(1)
    column_I = torch.zeros_like(counts)
    column_I[item_C] = torch.arange(len(item_C))
    for user_B in users.split(max(1, PAIRS_PER_BLOCK // len(item_C))):
        user_idx, item_idx = torch.cartesian_prod(user_B, item_C).unbind(1)
        score_BC = score(Pairs(user_idx, item_idx, torch.full_like(user_idx, moment))).view(len(user_B), -1).clone()
        for row, user in enumerate(user_B.tolist()):
            score_BC[row, column_I[histories.of(user)]] = -torch.inf
        best_BN = score_BC.argsort(dim=1, descending=True, stable=True)[:, :PLACES]
        in_row, place = (score_BC.gather(1, best_BN) > -torch.inf).nonzero(as_tuple=True)
        yield pl.DataFrame(
            {
                "user_id": user_B[in_row].numpy(),
                "rank": (place + 1).numpy(),
                "movie_id": item_C[best_BN[in_row, place]].numpy(),
            }
        )
