"""Makes lists of unseen movies: selects the best candidates of each user.

Shapes: B users of one block, C candidates, N places of a list.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from recsys.rank.common import REASONS, name_service
from recsys.rank.parallel import map_in_order
from recsys.rank.ranker import Ranker
from recsys.rank.reasons import find_reasons
from recsys.rank.score import blend, find_candidates, penalise, score_parts
from recsys.rank.selection import select_places
from recsys.retrieve.retriever import Users

# Movies times users in a block: 16 MB per retriever. Above 32 MB, malloc would map new memory for every block.
SCORES_PER_BLOCK = 2**22
MIN_USERS_PER_BLOCK = 64  # smaller blocks are slower


@dataclass(frozen=True)
class Block:
    """Lists of consecutive users, one row per place, ordered by user and rank. On the CPU."""

    user_idx: Tensor  # int64
    rank: Tensor  # int64, from 1
    item_idx: Tensor  # int64
    score: Tensor  # float64, defines the order
    rating_hat: Tensor  # float32, expected stars
    served_by: list[str]  # one per row
    because: Tensor  # (rows, R) int64: the strongest reasons among the user's own movies, padded with 0


def rank_movies(ranker: Ranker, n: int, *, reasons: int = REASONS) -> Iterator[Block]:
    """Yields the `n` best unseen movies of every user, block by block.

    Candidates are the best `config.candidates` movies by the mean of the retrievers. The score is the weighted sum of
    the logarithms of the retrievers' affinities, the expected stars and the probability of relevant stars; weights
    depend on the user's number of ratings. If several entries of a film are candidates, the one with the highest score
    can be listed. Lists are shorter for users who have rated almost all movies. Ties go to the lower index.
    """

    def rank(user_idx: Tensor) -> Block:
        return rank_users(ranker, ranker.users(user_idx), n, reasons=reasons)

    all_users = torch.arange(1, len(ranker.histories))  # index 0 is the unknown user
    yield from map_in_order(rank, all_users.split(block_size(ranker)), ranker.device)


def rank_users(ranker: Ranker, users: Users, n: int, *, reasons: int = REASONS) -> Block:
    """Returns the `n` best unseen movies of these users; see `rank_movies`."""
    places = _place(ranker, users, n, max(n, ranker.config.candidates))
    user, place = (places.item_BN >= 0).nonzero(as_tuple=True)
    items = places.item_BN[user, place]
    return Block(
        user_idx=users.user_idx[user],
        rank=place + 1,
        item_idx=items,
        score=places.score_BN[user, place],
        rating_hat=places.rating_hat_BN[user, place],
        served_by=name_services(users, user),
        because=find_reasons(
            ranker.retrievers,
            users.histories,
            user,
            items,
            reasons,
            films=ranker.films,
            middle=ranker.middle,
            rating_mean=ranker.rating_mean,
        ),
    )


def rank_alone(ranker: Ranker, retriever: str, n: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Yields user_idx, rank and item_idx of the `n` best unseen movies by a single retriever, block by block.

    Ties go to the lower index.
    """
    alone = replace(ranker, retrievers={retriever: ranker.retrievers[retriever]})

    def rank(user_idx: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        found = find_candidates(alone, alone.users(user_idx), n * ranker.films.most_entries)
        score_BC = found.affinity_BCP.squeeze(2).masked_fill(~found.is_there, -torch.inf)
        ranker.films.keep_best_(score_BC, found.item_BC)
        user, place, column = _best_places(score_BC, n)
        return user_idx[user], place + 1, found.item_BC[user, column]

    all_users = torch.arange(1, len(ranker.histories))
    yield from map_in_order(rank, all_users.split(block_size(ranker)), ranker.device)


def block_size(ranker: Ranker) -> int:
    """Returns the number of users whose scores of all movies are in memory at once."""
    return max(MIN_USERS_PER_BLOCK, SCORES_PER_BLOCK // ranker.histories.n_items)


@dataclass(frozen=True)
class _Places:
    """Lists of some users, best first, padded with -1 in `item_BN`."""

    item_BN: Tensor
    score_BN: Tensor
    rating_hat_BN: Tensor

    def replace(self, rows: Tensor, others: "_Places") -> None:
        for ours, theirs in zip(vars(self).values(), vars(others).values(), strict=True):
            ours[rows] = theirs


def _place(ranker: Ranker, users: Users, n: int, n_candidates: int) -> _Places:
    """Fills the lists from `n_candidates` per user. Retries with four times as many if a list stays too short.

    Caps, and several entries of a film, can leave too few candidates.
    """
    found = find_candidates(ranker, users, n_candidates)
    parts_BCP, rating_hat_BC = score_parts(ranker, users, found)
    score_BC = blend(ranker, users, parts_BCP)
    score_BC -= penalise(ranker, found.item_BC)
    score_BC.masked_fill_(~found.is_there, -torch.inf)
    ranker.films.keep_best_(score_BC, found.item_BC)
    column_BN = select_places(
        score_BC,
        found.item_BC.clamp(min=0),
        n,
        caps=ranker.eligibility.caps,
        vectors_ID=ranker.genres_IG,
        diversity=ranker.config.diversity,
    )
    is_place_BN, column_BN = column_BN >= 0, column_BN.clamp(min=0)
    # diversity only affects the selection of movies; the order is by score
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
    """Returns row, place (from 0) and column of the `n` largest finite scores of each row; ties: lower column first."""
    column_BN = score_BC.argsort(dim=1, descending=True, stable=True)[:, :n]
    row, place = (score_BC.gather(1, column_BN) > -torch.inf).nonzero(as_tuple=True)
    return row, place, column_BN[row, place]


def name_services(users: Users, user: Tensor) -> list[str]:
    """Returns `served_by` for each of these positions in `users`."""
    sizes, is_stated = users.histories.sizes(), users.properties_BF.any(1)
    known = zip(sizes.tolist(), is_stated.tolist(), strict=True)
    kinds = [name_service(size, is_stated=stated) for size, stated in known]
    return [kinds[place] for place in user.tolist()]
