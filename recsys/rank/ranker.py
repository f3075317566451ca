"""The ranker: the rating network, the retrievers, and the data that both need to make lists.

Shapes: U users, I items (index 0 is "unknown"), G genres.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from recsys.models import RatingNetwork
from recsys.rank.common import middle_of
from recsys.rank.eligibility import Eligibility
from recsys.rank.films import Films
from recsys.rank.strangers import Strangers, fit_strangers
from recsys.rank.weights import Weights
from recsys.retrieve.histories import Histories
from recsys.retrieve.new_movies import NewMovies
from recsys.retrieve.popularity import Properties
from recsys.retrieve.retriever import Retriever, Users
from recsys.settings import RankConfig

STARS, LIKES = "stars", "likes"  # the parts that the rating network adds


@dataclass(frozen=True)
class Ranker:
    """Everything needed to make lists for any user."""

    network: RatingNetwork
    histories: Histories  # of all users
    properties: Properties
    retrievers: dict[str, Retriever]
    new_movies: NewMovies
    films: Films
    eligibility: Eligibility
    genres_IG: Tensor  # float32, used for diversity
    weights: Weights
    rated_at: int  # moment of predictions, in seconds since 1970: just after the newest known rating
    config: RankConfig
    saved_strangers: Strangers | None = None  # as saved with the ranker; None: computed when needed

    @property
    def device(self) -> torch.device:
        """The device of the network and the retrievers."""
        return self.network.levels().device

    @property
    def middle(self) -> float:
        """The middle of the rating scale, in stars."""
        return middle_of(self.network.sizes.levels)

    @cached_property
    def counts(self) -> Tensor:
        """(I,) the number of users who rated each item."""
        return self.histories.counts()

    @cached_property
    def listable(self) -> Tensor:
        """(I,) bool: items that lists may contain: rated ones, and new ones that are placed by their features."""
        is_rated_I = self.counts > 0
        return is_rated_I.index_fill(0, self.new_movies.item_M, True)

    @cached_property
    def rating_mean(self) -> float:
        """The mean of all ratings, in stars."""
        return self.histories.stars.double().mean().item() if len(self.histories.stars) else self.middle

    @cached_property
    def strangers(self) -> Strangers:
        """What the network predicts for users whom it does not know."""
        return self.saved_strangers or fit_strangers(
            self.network, self.histories, self.rated_at, self.config.relevant_from
        )

    @property
    def parts(self) -> tuple[str, ...]:
        """Names of the parts whose weighted sum is the score, in order."""
        return (*self.retrievers, STARS, LIKES)

    def users(self, user_idx: Tensor) -> Users:
        """Returns users known to the model, with their histories."""
        histories = self.histories.take(user_idx)
        return Users(user_idx, histories, self.properties.of_users_UF[user_idx], seen=histories)

    def without_disliked(self, users: Users) -> Users:
        """Returns the users as the retrievers see them: strangers without what they rated below the middle.

        A retriever counts who has rated a movie, whatever the stars. This is best for known users, who chose what they
        rated, but would recommend to a stranger the neighbours of a movie that they have just rejected.
        """
        own = users.histories
        is_known_N = (users.user_idx > 0)[own.user_of_each()]
        return replace(users, histories=own.keep(is_known_N | (own.stars >= self.middle)))


def make_new_user(ranker: Ranker, stated: Iterable[str] = (), ratings: Mapping[int, float] = {}) -> Users:
    """Describes a user unknown to the network: stated properties such as gender=F, and ratings (item_idx: stars)."""
    items = sorted(ratings)
    own = Histories(
        torch.tensor([0, len(items)]),
        torch.tensor(items, dtype=torch.int64),
        torch.tensor([ratings[item] for item in items], dtype=torch.float32),
        ranker.histories.n_items,
    )
    return Users(torch.zeros(1, dtype=torch.int64), own, ranker.properties.of(stated), seen=own)
