"""What lists are made with: the rating network, the retrievers, and what both know of users and movies.

Shapes: U users, I items (index 0 is "unknown"), G genres.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from recsys.models import RatingNetwork
from recsys.rank.eligibility import Eligibility
from recsys.rank.weights import Weights
from recsys.retrieve.histories import Histories
from recsys.retrieve.new_movies import NewMovies
from recsys.retrieve.popularity import Properties
from recsys.retrieve.retriever import Retriever, Users
from recsys.settings import RankConfig

STARS, LIKES = "stars", "likes"  # the parts that the rating network adds


@dataclass(frozen=True)
class Ranker:
    """What ordering needs, at whatever moment and for whatever users."""

    network: RatingNetwork
    histories: Histories  # of every user_idx
    properties: Properties
    retrievers: dict[str, Retriever]
    new_movies: NewMovies
    eligibility: Eligibility
    genres_IG: Tensor  # float32, by which lists are made diverse
    weights: Weights
    rated_at: int  # seconds since 1970 for which stars are predicted: right after the newest rating known
    config: RankConfig

    @property
    def device(self) -> torch.device:
        """Where its network and retrievers compute."""
        return self.network.levels().device

    @cached_property
    def counts(self) -> Tensor:
        """(I,) how many users rated each item."""
        return self.histories.counts()

    @cached_property
    def listable(self) -> Tensor:
        """(I,) bool: what may stand in a list at all: what somebody has rated, and what is new and described."""
        is_rated_I = self.counts > 0
        return is_rated_I.index_fill(0, self.new_movies.item_M, True)

    @property
    def parts(self) -> tuple[str, ...]:
        """What a score is the weighted sum of, in order."""
        return (*self.retrievers, STARS, LIKES)

    def users(self, user_idx: Tensor) -> Users:
        """AuditInputs ones, with their histories."""
        histories = self.histories.take(user_idx)
        return Users(user_idx, histories, self.properties.of_users_UF[user_idx], seen=histories)


def describe_stranger(ranker: Ranker, stated: Iterable[str] = (), ratings: Mapping[int, float] = {}) -> Users:
    """One user whom the network does not know: what they state, e.g. gender=F, and their ratings: item_idx to stars."""
    items = sorted(ratings)
    own = Histories(
        torch.tensor([0, len(items)]),
        torch.tensor(items, dtype=torch.int64),
        torch.tensor([ratings[item] for item in items], dtype=torch.float32),
        ranker.histories.n_items,
    )
    return Users(torch.zeros(1, dtype=torch.int64), own, ranker.properties.of(stated), seen=own)
