"""Finds the candidates of a list, and computes the parts of their scores.

Shapes: I items, B users of one block, C candidates, P parts of a score.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from recsys.models import Pairs
from recsys.rank.common import MIN_CHANCE, MIN_STARS
from recsys.rank.eligibility import MovieFilter
from recsys.rank.ranker import Ranker
from recsys.retrieve.retriever import Users
from recsys.retrieve.top_n import top_columns
from recsys.train.loop import predict


@dataclass(frozen=True)
class Candidates:
    """Candidates of some users, ascending by index, padded with -1 in `item_BC`. On the CPU."""

    item_BC: Tensor  # int64
    affinity_BCP: Tensor  # float32, one per retriever

    @property
    def is_there(self) -> Tensor:
        return self.item_BC >= 0


def find_candidates(ranker: Ranker, users: Users, n: int) -> Candidates:
    """Returns the `n` best unseen movies of each user, by the mean of the log-affinities of all retrievers.

    A movie is seen if any entry of its film is. Unseen entries of one film can all be candidates.
    """
    asked = ranker.without_disliked(users)
    by_retriever = [ranker.new_movies.place(one.log_affinity(asked)) for one in ranker.retrievers.values()]
    # the tensor of a single retriever is masked in place below, which does not affect the scores of candidates
    mean_BI = torch.stack(by_retriever).mean(0) if len(by_retriever) > 1 else by_retriever[0]
    device = mean_BI.device
    row, item = ranker.films.spread(users.seen.user_of_each(), users.seen.items)
    mean_BI[row.to(device), item.to(device)] = -torch.inf
    MovieFilter(~ranker.listable.to(device)).mask_(mean_BI, users.user_idx)
    ranker.eligibility.to(device).mask_(mean_BI, users.user_idx.to(device))
    item_BC = top_columns(mean_BI, n)
    affinity_BCP = torch.stack([affinity_BI.gather(1, item_BC) for affinity_BI in by_retriever], dim=2)
    item_BC.masked_fill_(mean_BI.gather(1, item_BC) == -torch.inf, -1)
    return Candidates(item_BC.cpu(), affinity_BCP.cpu())


def score_parts(ranker: Ranker, users: Users, found: Candidates) -> tuple[Tensor, Tensor]:
    """Returns (B, C, P) float64, the parts of each candidate's score, and (B, C) its expected stars."""
    user, column = found.is_there.nonzero(as_tuple=True)
    asked = users.user_idx[user]
    pairs = Pairs(asked, found.item_BC[user, column], torch.full_like(asked, ranker.rated_at))
    levels_K = ranker.network.levels()
    prediction = predict(ranker.network, pairs.to(levels_K.device))
    rating_hat_BC, likes_BC = (torch.ones_like(found.item_BC, dtype=torch.float32) for _ in range(2))
    rating_hat_BC[user, column] = prediction.mean_B.cpu()
    likes_BC[user, column] = prediction.p_BK[:, levels_K >= ranker.config.relevant_from].sum(1).cpu()
    rows_S = ((users.user_idx == 0) & (users.histories.sizes() > 0)).nonzero().squeeze(1)  # strangers with ratings
    if len(rows_S):
        items_SC, levels = found.item_BC[rows_S].clamp(min=0), ranker.network.sizes.levels
        factor_SD = ranker.strangers.place(users.histories.take(rows_S))
        stars_SC, likes_SC = ranker.strangers.predict(factor_SD, items_SC, levels)
        rating_hat_BC[rows_S], likes_BC[rows_S] = stars_SC.float(), likes_SC.float()
    of_network = (rating_hat_BC.clamp(min=MIN_STARS).log(), likes_BC.clamp(min=MIN_CHANCE).log())
    return torch.cat([found.affinity_BCP, torch.stack(of_network, dim=2)], dim=2).double(), rating_hat_BC


def blend(ranker: Ranker, users: Users, parts_BCP: Tensor) -> Tensor:
    """Returns (B, C) float64, the weighted sum of the parts; weights depend on the user's number of ratings."""
    weights_BP = ranker.weights.of(ranker.without_disliked(users).histories.sizes(), ranker.parts)
    return (parts_BCP @ weights_BP[:, :, None]).squeeze(2)


def penalise(ranker: Ranker, item_idx: Tensor) -> Tensor:
    """Returns the popularity penalty of each of these items, float64."""
    return ranker.config.popularity_penalty * ranker.counts.clamp(min=1).double().log()[item_idx]
