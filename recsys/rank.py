"""Ordering unseen movies: candidates from an item-item model, the order from it and the rating network together.

Shapes: U users, I items (index 0 is "unknown"), B users of one block, C candidates, N places of a list.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from recsys.engine import predict
from recsys.errors import ModelError
from recsys.models import Interactions, Pairs, RatingNetwork
from recsys.models.sparse import from_offsets
from recsys.settings import RankConfig

USERS_PER_BLOCK = 1024  # a block's scores of every movie are in memory at once: 40 MB at 10,000 movies
MIN_EASE = 1e-4  # what a movie without affinity counts as, so that its logarithm exists
MAX_ITEMS = 25_000  # fitting EASE holds three square float32 matrices of so many movies: 7.5 GB
REASONS = 3  # because-movies per recommendation


@dataclass(frozen=True)
class Histories:
    """Whose ratings are known, as one list of items per user: user u's are items[offsets[u]:offsets[u + 1]]."""

    offsets: Tensor  # (U + 1,) int64
    items: Tensor  # int64, ascending within a user
    n_items: int

    def of(self, user_idx: int) -> Tensor:
        return self.items[self.offsets[user_idx] : self.offsets[user_idx + 1]]

    def block(self, first: int, last: int) -> Tensor:
        """(last - first, I) sparse, 1 where rated."""
        offsets = self.offsets[first : last + 1]
        items = self.items[offsets[0] : offsets[-1]]
        return from_offsets(offsets - offsets[0], items, torch.ones(len(items)), (last - first, self.n_items))

    def sizes(self, first: int, last: int) -> Tensor:
        """(last - first,) how many items each user has rated."""
        return self.offsets[first + 1 : last + 1] - self.offsets[first:last]

    def counts(self) -> Tensor:
        """(I,) how many users rated each item; none rated item 0, the unknown."""
        counts = torch.bincount(self.items, minlength=self.n_items)
        counts[0] = 0
        return counts


@dataclass(frozen=True)
class Ranker:
    """What ordering needs: the rating network, who rated what, and the item-item weights learned from that."""

    network: RatingNetwork
    histories: Histories
    weights_II: Tensor
    rated_at: int  # seconds since 1970 for which stars are predicted: right after the newest rating known
    config: RankConfig


@dataclass(frozen=True)
class Block:
    """Lists of consecutive users, one row per place; rows are ordered by user and rank."""

    user_idx: Tensor  # int64
    rank: Tensor  # int64, from 1
    item_idx: Tensor  # int64
    score: Tensor  # float64, orders the list
    rating_hat: Tensor  # float32, expected stars
    because: list[list[int]]  # item_idx of the user's own rated movies that speak loudest for the place


def gather_histories(train: Interactions, n_users: int, n_items: int) -> Histories:
    """Known interactions grouped by user, each (user, item) once."""
    keys = torch.unique(train.user_idx.cpu() * n_items + train.item_idx.cpu())
    users, items = keys // n_items, keys % n_items
    offsets = torch.zeros(n_users + 1, dtype=torch.int64)
    offsets[1:] = torch.bincount(users, minlength=n_users).cumsum(0)
    return Histories(offsets, items, n_items)


def check_catalogue(n_items: int) -> None:
    """Says before hours of training that the item-item model would not fit in memory.

    Raises: ModelError if there are more than `MAX_ITEMS`.
    """
    if n_items > MAX_ITEMS:
        raise ModelError(
            f"{n_items:,} rated movies are too many for the item-item model, which holds three square matrices of them "
            f"({12 * n_items**2 / 1e9:.0f} GB); the limit is {MAX_ITEMS:,}. Take a source with fewer movies."
        )


def fit_ease(histories: Histories, l2: float) -> Tensor:
    """(I, I) float32 weights with zero diagonal: a movie's score for a user is the sum over the movies they rated.

    The ridge regression of every movie on all others, in closed form from P = (XᵀX + l2)⁻¹. With fewer users than
    movies the same P comes from the smaller inverse of XXᵀ + l2.

    Source: Steck, "Embarrassingly Shallow Autoencoders for Sparse Data" (WWW 2019).

    Raises: ModelError if there are more than `MAX_ITEMS` items.
    """
    check_catalogue(histories.n_items)
    n_users, n_items = len(histories.offsets) - 1, histories.n_items
    x_UI = histories.block(0, n_users).to_dense()
    if n_items <= n_users:
        p_II = _inverse(x_UI.T @ x_UI, l2)
    else:
        p_II = -(x_UI.T @ (_inverse(x_UI @ x_UI.T, l2) @ x_UI))
        p_II.diagonal().add_(1.0)
        p_II /= l2
    weights_II = p_II / -p_II.diagonal()
    weights_II.fill_diagonal_(0.0)
    return weights_II


def fit_ranker(network: RatingNetwork, train: Interactions, config: RankConfig) -> Ranker:
    """The item-item model of the same interactions beside the network they trained."""
    histories = gather_histories(train, network.sizes.n_users, network.sizes.n_items)
    moment = int(train.rated_at.max()) + 1 if len(train) else 0
    return Ranker(network, histories, fit_ease(histories, config.ease_l2), moment, config)


def rank_movies(ranker: Ranker, n: int, *, reasons: int = REASONS) -> Iterator[Block]:
    """The `n` best unseen movies of every user with a history, block by block.

    score = log EASE score + rating_weight · log expected stars, over the best `config.candidates` by EASE. Only movies
    that somebody rated can be shown; a user who has rated nearly all of them gets what is left. Candidates of equal
    scores: the lower index first.
    """
    for first, last in _blocks(ranker.histories):
        yield _rank_block(ranker, first, last, n, reasons)


def rank_popular(histories: Histories, n: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """user_idx, rank and item_idx of the `n` most rated unseen movies, for every user with a history, block by block.

    Equal counts: the lower index first.
    """
    counts = histories.counts()
    place_I = torch.empty_like(counts)
    place_I[counts.argsort(descending=True, stable=True)] = torch.arange(len(counts))
    for first, last in _blocks(histories):
        place_BI = place_I.repeat(last - first, 1)
        place_BI[histories.block(first, last).to_dense() > 0] = len(counts)
        place_BI[:, counts == 0] = len(counts)
        place_BI[histories.sizes(first, last) == 0] = len(counts)
        top = place_BI.topk(min(n, len(counts)), dim=1, largest=False, sorted=True)
        user, place = (top.values < len(counts)).nonzero(as_tuple=True)
        yield user + first, place + 1, top.indices[user, place]


def _blocks(histories: Histories) -> Iterator[tuple[int, int]]:
    """First and past-the-last user_idx of each block; index 0, the unknown user, is in none."""
    n_users = len(histories.offsets) - 1
    for first in range(1, n_users, USERS_PER_BLOCK):
        yield first, min(first + USERS_PER_BLOCK, n_users)


def _rank_block(ranker: Ranker, first: int, last: int, n: int, reasons: int) -> Block:
    affinity_BC, item_BC = _candidates(ranker, first, last, max(n, ranker.config.candidates))
    known_BC = affinity_BC > -torch.inf
    user, column = known_BC.nonzero(as_tuple=True)
    rating_hat_BC = torch.zeros_like(affinity_BC)
    rating_hat_BC[user, column] = _expected_stars(ranker, user + first, item_BC[user, column])
    score_BC = affinity_BC.clamp(min=MIN_EASE).log().double()
    score_BC += ranker.config.rating_weight * rating_hat_BC.clamp(min=MIN_EASE).log().double()
    score_BC[~known_BC] = -torch.inf
    # candidates stand in order of index, so a stable sort breaks ties by it
    column_BN = score_BC.argsort(dim=1, descending=True, stable=True)[:, :n]
    user, place = known_BC.gather(1, column_BN).nonzero(as_tuple=True)
    column = column_BN[user, place]
    items = item_BC[user, column]
    return Block(
        user_idx=user + first,
        rank=place + 1,
        item_idx=items,
        score=score_BC[user, column],
        rating_hat=rating_hat_BC[user, column],
        because=_reasons(ranker, user + first, items, reasons),
    )


def _candidates(ranker: Ranker, first: int, last: int, n: int) -> tuple[Tensor, Tensor]:
    """(B, C) EASE scores, -inf where there is no candidate, and (B, C) item_idx, ascending in each row."""
    histories = ranker.histories
    seen_BI = histories.block(first, last)
    affinity_BI = seen_BI @ ranker.weights_II
    affinity_BI[seen_BI.to_dense() > 0] = -torch.inf
    affinity_BI[:, histories.counts() == 0] = -torch.inf
    affinity_BI[histories.sizes(first, last) == 0] = -torch.inf
    item_BC = affinity_BI.topk(min(n, histories.n_items), dim=1).indices.sort(dim=1).values
    return affinity_BI.gather(1, item_BC), item_BC


def _expected_stars(ranker: Ranker, user_idx: Tensor, item_idx: Tensor) -> Tensor:
    """(B,) int64, (B,) int64 -> (B,) float32 on the CPU."""
    pairs = Pairs(user_idx, item_idx, torch.full_like(user_idx, ranker.rated_at))
    return predict(ranker.network, pairs.to(ranker.network.levels().device)).mean_B.cpu()


def _reasons(ranker: Ranker, user_idx: Tensor, item_idx: Tensor, n: int) -> list[list[int]]:
    """For each place the user's own movies with the largest positive share in its EASE score, largest first."""
    if n == 0:
        return [[] for _ in range(len(user_idx))]
    because: list[list[int]] = []
    users, places = torch.unique_consecutive(user_idx, return_counts=True)
    for user, items in zip(users.tolist(), item_idx.split(places.tolist()), strict=True):
        own = ranker.histories.of(user)
        shares = ranker.weights_II[own[:, None], items[None, :]]
        top = shares.topk(min(n, len(own)), dim=0)
        for movies, values in zip(own[top.indices].T.tolist(), top.values.T.tolist(), strict=True):
            because.append([movie for movie, value in zip(movies, values, strict=True) if value > 0])
    return because


def _inverse(gram: Tensor, l2: float) -> Tensor:
    """(gram + l2)⁻¹ of a symmetric positive semi-definite matrix."""
    gram.diagonal().add_(l2)
    return torch.cholesky_inverse(torch.linalg.cholesky(gram))
