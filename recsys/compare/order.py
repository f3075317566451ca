"""Measures how well a single score orders all movies that a user has not rated.

Expected stars alone make poor lists, because movies with a few high ratings come first. Published lists are ordered
differently; see `recsys.rank`. Entries of one film are separate movies here, as in the training of the networks.

Shapes: B users, C movies with a rating in train, N places of a list.
"""

from collections.abc import Callable, Iterator

import polars as pl
import torch
from torch import Tensor

from recsys.encode.vocabulary import Vocabulary
from recsys.metrics.lists import mean_metrics, user_metrics
from recsys.models import Interactions, Pairs
from recsys.retrieve.histories import Histories, gather_histories
from recsys.train.learn import Learner

SAMPLE = 1_000  # maximum number of users; scoring every movie for all users would take longer than training
PAIRS_PER_BLOCK = 2_000_000
PLACES = 10

Score = Callable[[Pairs], Tensor]


def measure_order(
    score: Score, train: Interactions, holdout: pl.DataFrame, learner: Learner, relevant_from: float
) -> float | None:
    """Returns the NDCG@10 of lists of unseen movies ordered by `score`, or None if no user has a relevant movie.

    It is the mean over users with a training rating and a relevant movie in `holdout` (user_id, movie_id, rating). A
    movie with `relevant_from` stars or more is relevant. If there are more than `SAMPLE` such users, the learner's seed
    draws a sample. Ties go to the lower movie index. Tensors must be on the CPU.
    """
    vocabulary, histories = learner.vocabulary, gather_histories(train, learner.sizes())
    relevant = holdout.filter(pl.col("rating") >= relevant_from).select("user_id", "movie_id").unique()
    asked = torch.from_numpy(vocabulary.encode_users(relevant["user_id"].unique().to_numpy()))
    users = _sample(asked[histories.sizes()[asked] > 0], learner.seed)
    if not len(users):
        return None
    moment = int(train.rated_at.max()) + 1
    lists = pl.concat(_lists(score, users, histories, moment, vocabulary))
    relevant = relevant.filter(pl.col("user_id").is_in(vocabulary.user_ids[users.numpy() - 1].tolist()))
    return mean_metrics(user_metrics(lists, relevant))["ndcg_at_10"]


def _sample(users: Tensor, seed: int) -> Tensor:
    users = users.sort().values
    order = torch.randperm(len(users), generator=torch.Generator().manual_seed(seed))
    return users[order[:SAMPLE]].sort().values


def _lists(
    score: Score, users: Tensor, histories: Histories, moment: int, vocabulary: Vocabulary
) -> Iterator[pl.DataFrame]:
    """Yields (user_id, rank, movie_id), one block of users at a time."""
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
                "user_id": vocabulary.user_ids[user_B[in_row].numpy() - 1],
                "rank": (place + 1).numpy(),
                "movie_id": vocabulary.movie_ids[item_C[best_BN[in_row, place]].numpy() - 1],
            }
        )
