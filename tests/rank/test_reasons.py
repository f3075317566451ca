import math
from dataclasses import replace
from typing import TypedDict

import pytest
import torch

from recsys.rank.common import middle_of
from recsys.rank.films import Films, no_twins
from recsys.rank.place import rank_movies, rank_users
from recsys.rank.ranker import make_new_user
from recsys.rank.reasons import find_reasons
from recsys.retrieve.als import fit_als
from recsys.retrieve.ease import fit_ease
from recsys.retrieve.histories import Histories
from recsys.retrieve.retriever import Retriever
from recsys.settings import AlsConfig, EaseConfig
from tests.support.planted import SIZES
from tests.support.rankers import CPU, ease_of, hand_made, histories_of, random_histories

# movie 5's affinity of 0.9 is the sum of 0.5 from movie 2, 0.3 from 4, 0.2 from 1 and -0.1 from 3
SHARES = {(2, 5): 0.5, (4, 5): 0.3, (1, 5): 0.2, (3, 5): -0.1, (2, 6): 0.0, (1, 6): 0.4}
HISTORIES = histories_of({3: [1, 2, 3, 4], 4: [5, 6]}, 5, 7)


class Liking(TypedDict):
    films: Films
    middle: float
    rating_mean: float


def liking(n_items: int) -> Liking:
    return {"films": no_twins(n_items), "middle": 3.0, "rating_mean": 3.5}


LIKING = liking(7)


def test_reasons_by_hand() -> None:
    ranker = hand_made(SHARES, HISTORIES)
    block = rank_users(ranker, ranker.users(torch.tensor([3])), 2)
    assert block.item_idx.tolist() == [5, 6]
    assert block.because.tolist() == [[2, 4, 1], [1, 0, 0]]
    assert block.because.dtype == torch.int64
    assert math.exp(block.score[0].item()) / block.rating_hat[0].item() ** 2 == pytest.approx(0.9)
    for n, because in ((1, [[2], [1]]), (0, [[], []]), (6, [[2, 4, 1, 0, 0, 0], [1, 0, 0, 0, 0, 0]])):
        assert next(iter(rank_movies(ranker, 2, reasons=n))).because[4:6].tolist() == because


def test_new_users_get_reasons_from_their_own_ratings() -> None:
    ranker = hand_made(SHARES, HISTORIES)
    block = rank_users(ranker, make_new_user(ranker, ratings={4: 5.0, 1: 5.0}), 1)
    assert (block.item_idx.tolist(), block.because.tolist()) == ([5], [[4, 1, 0]])
    disliked = rank_users(ranker, make_new_user(ranker, ratings={4: 1.0, 1: 5.0}), 1)
    assert (disliked.item_idx.tolist(), disliked.because.tolist()) == ([6], [[1, 0, 0]]), "without the 0.3 from movie 4"
    assert rank_users(ranker, make_new_user(ranker), 2).because.tolist() == [[0, 0, 0], [0, 0, 0]]


@pytest.mark.parametrize(
    ("stars", "reasons"),
    [
        ([5.0, 5.0], [1, 2]),
        ([5.0, 4.0], [1]),  # below the user's own mean of 4.5, above the damped mean of 3.79
        ([3.0, 3.0], []),  # the user's own mean, but below the damped mean of 3.36
        ([3.5, 3.5], [1, 2]),
        ([1.0, 2.0], []),  # below the middle of the scale
        ([2.9, 1.0], []),
    ],
    ids=str,
)
def test_what_was_not_liked_is_no_reason(stars: list[float], reasons: list[int]) -> None:
    ease = ease_of(torch.full((7, 7), 0.25))
    own = Histories(torch.tensor([0, 0, 2]), torch.tensor([1, 2]), torch.tensor(stars), 7)
    because = find_reasons({"ease": ease}, own, torch.tensor([1]), torch.tensor([5]), 2, **LIKING)
    assert [item for item in because[0].tolist() if item] == reasons


def test_the_middle_is_that_of_the_scale() -> None:
    assert (middle_of((1.0, 2.0, 3.0, 4.0, 5.0)), middle_of(tuple(half / 2 for half in range(1, 11)))) == (3.0, 2.75)


def test_a_film_is_a_reason_once() -> None:
    """Movies 2 and 4 are one film, then 1, 2 and 4: its entry with the largest share is named."""
    ranker = hand_made(SHARES, HISTORIES)
    for film_I, because in (([0, 1, 2, 3, 2, 5, 6], [2, 1, 0]), ([0, 1, 1, 3, 1, 5, 6], [2, 0, 0])):
        twins = replace(ranker, films=Films(torch.tensor(film_I)))
        block = rank_users(twins, twins.users(torch.tensor([3])), 1)
        assert (block.item_idx.tolist(), block.because.tolist()) == ([5], [because])


def test_ties_between_shares_go_to_the_lower_index() -> None:
    ease = ease_of(torch.full((7, 7), 0.25))
    because = find_reasons({"ease": ease}, HISTORIES, torch.tensor([3]), torch.tensor([5]), 3, **LIKING)
    assert because.tolist() == [[1, 2, 3]]


@pytest.mark.parametrize("max_items", [15, 100])
@pytest.mark.parametrize("n", [1, 3, 40])
@pytest.mark.parametrize("at_once", [1, 500, 2**20])
def test_reasons_equal_those_of_a_slow_implementation(
    max_items: int, n: int, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some users have no places. Blocks have one, some or all users."""
    monkeypatch.setattr("recsys.rank.reasons.SHARES_AT_ONCE", at_once)
    histories = random_histories(SIZES.n_users, SIZES.n_items)
    ease = fit_ease(histories, EaseConfig(l2=20.0, max_items=max_items), CPU)
    generator = torch.Generator().manual_seed(0)
    user_P = torch.randint(0, SIZES.n_users, (200,), generator=generator).sort().values
    item_P = torch.randint(1, SIZES.n_items, (200,), generator=generator)
    because_PN = find_reasons({"ease": ease}, histories, user_P, item_P, n, **liking(SIZES.n_items))
    assert because_PN.shape == (200, n)
    for user, item, because in zip(user_P.tolist(), item_P.tolist(), because_PN.tolist(), strict=True):
        own = histories.of(user)
        shares = dict(zip(own.tolist(), ease.shares(own, torch.tensor([item]))[0].tolist(), strict=True))
        strongest = sorted((one for one in shares if shares[one] > 0), key=lambda one: (-shares[one], one))[:n]
        assert because == strongest + [0] * (n - len(strongest))


def test_without_ease_there_are_no_reasons() -> None:
    histories = random_histories(20, 10)
    retrievers: dict[str, Retriever] = {"als": fit_als(histories, AlsConfig(embedding_dim=2), CPU, 0)}
    because = find_reasons(retrievers, histories, torch.tensor([1, 1, 2]), torch.tensor([1, 2, 3]), 3, **liking(10))
    assert because.tolist() == [[0, 0, 0]] * 3


def test_without_places_there_are_no_reasons() -> None:
    none = torch.empty(0, dtype=torch.int64)
    assert find_reasons({"ease": ease_of(torch.zeros(7, 7))}, HISTORIES, none, none, 3, **LIKING).shape == (0, 3)
