"""Lists of unseen movies: candidates from retrievers, the order from them and the rating network together.

Shapes: U users, I items (index 0 is "unknown"), B users of one block, C candidates, N places of a list, P parts of a
score.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from recsys.eligibility.eligibility import Eligibility, MovieBar
from recsys.engine import predict
from recsys.histories import Histories
from recsys.models import Pairs, RatingNetwork
from recsys.rank.common import MIN_CHANCE, MIN_STARS, REASONS, name_service
from recsys.rank.reasons import find_reasons
from recsys.rank.weights import Weights
from recsys.retrieve import Retriever, Users
from recsys.retrieve.new_movies import NewMovies
from recsys.retrieve.popularity import Properties
from recsys.selection import select_places
from recsys.settings import RankConfig
from recsys.top_n import top_columns

SCORES_PER_BLOCK = 2**22  # of every movie for the users of a block: 16 MB for each retriever
MIN_USERS_PER_BLOCK = 64  # fewer rows cost time; more, above 32 MB, memory that is fetched anew for every block
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
        """Known ones, with their histories."""
        histories = self.histories.take(user_idx)
        return Users(user_idx, histories, self.properties.of_users_UF[user_idx], seen=histories)


@dataclass(frozen=True)
class Block:
    """Lists of consecutive users, one row per place; rows are ordered by user and rank. On the CPU."""

    user_idx: Tensor  # int64
    rank: Tensor  # int64, from 1
    item_idx: Tensor  # int64
    score: Tensor  # float64, orders the list
    rating_hat: Tensor  # float32, expected stars
    served_by: list[str]  # of each row
    because: Tensor  # (rows, R) int64: the user's own movies that speak loudest for the place; 0 where there are fewer


@dataclass(frozen=True)
class Candidates:
    """What may stand in the lists of some users, in order of index; -1 in `item_BC` where there is nothing more. On the
    CPU.
    """

    item_BC: Tensor  # int64
    affinity_BCP: Tensor  # float32, from each retriever

    @property
    def is_there(self) -> Tensor:
        return self.item_BC >= 0


def rank_movies(ranker: Ranker, n: int, *, reasons: int = REASONS) -> Iterator[Block]:
    """The `n` best unseen movies of every user, block by block.

    A score is the sum of the logarithms of the retrievers' affinities, of the expected stars and of the chance of
    stars that are relevant, each times its weight for users of so many ratings, over the best `config.candidates` by
    the mean of the retrievers. A user who has rated nearly everything gets what is left. Equal scores: the lower index
    first.
    """
    everybody = torch.arange(1, len(ranker.histories))  # index 0 is nobody
    for user_idx in everybody.split(block_size(ranker)):
        yield rank_users(ranker, ranker.users(user_idx), n, reasons=reasons)


def rank_alone(ranker: Ranker, retriever: str, n: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """user_idx, rank and item_idx of the `n` unseen movies that one retriever puts first for each user, block by block.

    Equal affinities: the lower index first.
    """
    alone = replace(ranker, retrievers={retriever: ranker.retrievers[retriever]})
    everybody = torch.arange(1, len(ranker.histories))
    for user_idx in everybody.split(block_size(ranker)):
        found = find_candidates(alone, alone.users(user_idx), n)
        score_BC = found.affinity_BCP.squeeze(2).masked_fill(~found.is_there, -torch.inf)
        user, place, column = _best_places(score_BC, n)
        yield user_idx[user], place + 1, found.item_BC[user, column]


@dataclass(frozen=True)
class _Places:
    """Lists of some users, best first; -1 in `item_BN` where nothing is left."""

    item_BN: Tensor
    score_BN: Tensor
    rating_hat_BN: Tensor

    def replace(self, rows: Tensor, others: "_Places") -> None:
        for ours, theirs in zip(vars(self).values(), vars(others).values(), strict=True):
            ours[rows] = theirs


def _place(ranker: Ranker, users: Users, n: int, n_candidates: int) -> _Places:
    """From so many candidates; from ever more of them for users whose lists caps leave short."""
    found = find_candidates(ranker, users, n_candidates)
    parts_BCP, rating_hat_BC = score_parts(ranker, users, found)
    score_BC = blend(ranker, users, parts_BCP)
    score_BC -= penalise(ranker, found.item_BC)
    score_BC.masked_fill_(~found.is_there, -torch.inf)
    column_BN = select_places(
        score_BC,
        found.item_BC.clamp(min=0),
        n,
        caps=ranker.eligibility.caps,
        vectors_ID=ranker.genres_IG,
        diversity=ranker.config.diversity,
    )
    is_place_BN, column_BN = column_BN >= 0, column_BN.clamp(min=0)
    # diversity decides which movies; their order is that of the scores, as everywhere
    order_BN = (
        score_BC.gather(1, column_BN).masked_fill(~is_place_BN, -torch.inf).argsort(dim=1, descending=True, stable=True)
    )
    column_BN, is_place_BN = column_BN.gather(1, order_BN), is_place_BN.gather(1, order_BN)
    places = _Places(
        found.item_BC.gather(1, column_BN).masked_fill(~is_place_BN, -1),
        score_BC.gather(1, column_BN),
        rating_hat_BC.gather(1, column_BN),
    )
    short = (~is_place_BN[:, -1] & found.is_there.all(1)).nonzero().squeeze(1)
    if len(short) and found.item_BC.shape[1] < ranker.histories.n_items:
        places.replace(short, _place(ranker, users.take(short), n, 4 * n_candidates))
    return places


def _best_places(score_BC: Tensor, n: int) -> tuple[Tensor, Tensor, Tensor]:
    """Row, place from 0 and column of the `n` largest scores above -inf of each row; of equal ones the lower column."""
    column_BN = score_BC.argsort(dim=1, descending=True, stable=True)[:, :n]
    row, place = (score_BC.gather(1, column_BN) > -torch.inf).nonzero(as_tuple=True)
    return row, place, column_BN[row, place]


def block_size(ranker: Ranker) -> int:
    """Users whose scores of every movie are in memory at once."""
    return max(MIN_USERS_PER_BLOCK, SCORES_PER_BLOCK // ranker.histories.n_items)


def rank_users(ranker: Ranker, users: Users, n: int, *, reasons: int = REASONS) -> Block:
    """The same of any users."""
    places = _place(ranker, users, n, max(n, ranker.config.candidates))
    user, place = (places.item_BN >= 0).nonzero(as_tuple=True)
    items = places.item_BN[user, place]
    return Block(
        user_idx=users.user_idx[user],
        rank=place + 1,
        item_idx=items,
        score=places.score_BN[user, place],
        rating_hat=places.rating_hat_BN[user, place],
        served_by=serve(users, user),
        because=find_reasons(ranker.retrievers, users.histories, user, items, reasons),
    )


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


def find_candidates(ranker: Ranker, users: Users, n: int) -> Candidates:
    """The `n` best unseen movies of each user by the mean of the retrievers, which are all asked about all movies."""
    by_retriever = [ranker.new_movies.place(one.log_affinity(users)) for one in ranker.retrievers.values()]
    # of a retriever alone what it says is written over, but for the candidates' scores
    mean_BI = torch.stack(by_retriever).mean(0) if len(by_retriever) > 1 else by_retriever[0]
    device = mean_BI.device
    mean_BI[users.seen.user_of_each().to(device), users.seen.items.to(device)] = -torch.inf
    MovieBar(~ranker.listable.to(device)).mask_(mean_BI, users.user_idx)
    ranker.eligibility.to(device).mask_(mean_BI, users.user_idx.to(device))
    item_BC = top_columns(mean_BI, n)
    affinity_BCP = torch.stack([affinity_BI.gather(1, item_BC) for affinity_BI in by_retriever], dim=2)
    item_BC.masked_fill_(mean_BI.gather(1, item_BC) == -torch.inf, -1)
    return Candidates(item_BC.cpu(), affinity_BCP.cpu())


def score_parts(ranker: Ranker, users: Users, found: Candidates) -> tuple[Tensor, Tensor]:
    """(B, C, P) float64 what the retrievers and the network say of each candidate, and (B, C) its expected stars."""
    user, column = found.is_there.nonzero(as_tuple=True)
    asked = users.user_idx[user]
    pairs = Pairs(asked, found.item_BC[user, column], torch.full_like(asked, ranker.rated_at))
    levels_K = ranker.network.levels()
    prediction = predict(ranker.network, pairs.to(levels_K.device))
    rating_hat_BC, likes_BC = (torch.ones_like(found.item_BC, dtype=torch.float32) for _ in range(2))
    rating_hat_BC[user, column] = prediction.mean_B.cpu()
    likes_BC[user, column] = prediction.p_BK[:, levels_K >= ranker.config.relevant_from].sum(1).cpu()
    of_network = (rating_hat_BC.clamp(min=MIN_STARS).log(), likes_BC.clamp(min=MIN_CHANCE).log())
    return torch.cat([found.affinity_BCP, torch.stack(of_network, dim=2)], dim=2).double(), rating_hat_BC


def blend(ranker: Ranker, users: Users, parts_BCP: Tensor) -> Tensor:
    """(B, C) float64: the parts times their weights for users of so many ratings."""
    weights_BP = ranker.weights.of(users.histories.sizes(), ranker.parts)
    return (parts_BCP @ weights_BP[:, :, None]).squeeze(2)


def penalise(ranker: Ranker, item_idx: Tensor) -> Tensor:
    """What popularity takes off the scores of these items; as many, float64."""
    return ranker.config.popularity_penalty * ranker.counts.clamp(min=1).double().log()[item_idx]


def serve(users: Users, user: Tensor) -> list[str]:
    """What stands behind the list of each of these places among `users`."""
    sizes, is_stated = users.histories.sizes(), users.properties_BF.any(1)
    known = zip(sizes.tolist(), is_stated.tolist(), strict=True)
    kinds = [name_service(size, is_stated=stated) for size, stated in known]
    return [kinds[place] for place in user.tolist()]
