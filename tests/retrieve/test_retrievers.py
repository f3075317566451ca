"""The contract of all retrievers."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from recsys.models import Interactions
from recsys.rank.fit import fit_ranker
from recsys.rank.ranker import Ranker, make_new_user
from recsys.rank.weights import NO_WEIGHTS
from recsys.retrieve.retriever import Retriever, Users
from recsys.retrieve.scales import MIN_AFFINITY
from recsys.settings import AlsConfig, EaseConfig, RankConfig
from tests.support.planted import SIZES
from tests.support.rankers import LEARNER, indifferent, short_trainings, tastes

SMALL = RankConfig(ease=EaseConfig(l2=20.0), als=AlsConfig(embedding_dim=4))
CONFIGS = {
    **{name: SMALL.model_copy(update={"retrievers": (name,)}) for name in ("ease", "als", "popularity")},
    "ease with a tail": RankConfig(retrievers=("ease",), ease=EaseConfig(l2=20.0, max_items=15)),
    **{name: SMALL.model_copy(update={"retrievers": (name,)}) for name in ("triplet", "triplet_bpr", "sequence")},
}
BY_SHARES = ("ease", "als", "popularity", "ease with a tail")  # movies without ratings have the lowest affinity


def fit(name: str) -> Ranker:
    return fit_ranker(indifferent(SIZES.n_users, SIZES.n_items), tastes()[0], LEARNER, CONFIGS[name], NO_WEIGHTS)


@pytest.fixture(scope="module", params=CONFIGS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def ranker(name: str) -> Ranker:
    return fit(name)


@pytest.fixture(scope="module")
def retriever(ranker: Ranker) -> Retriever:
    (retriever,) = ranker.retrievers.values()
    return retriever


def all_users(ranker: Ranker) -> Users:
    return ranker.users(torch.arange(SIZES.n_users))


def tensors_in(users: Users) -> list[Tensor]:
    parts = (users.histories, users.seen)
    lists = [tensor for part in parts for tensor in (part.offsets, part.items, part.stars)]
    return [users.user_idx, users.properties_BF, *lists]


def test_every_movie_gets_a_finite_number(ranker: Ranker, retriever: Retriever) -> None:
    affinity_UI = retriever.log_affinity(all_users(ranker))
    assert affinity_UI.shape == (SIZES.n_users, SIZES.n_items)
    assert affinity_UI.dtype == torch.float32
    assert affinity_UI.isfinite().all()
    assert not affinity_UI.requires_grad


def test_learned_tensors_have_names(retriever: Retriever) -> None:
    tensors = retriever.tensors()
    assert tensors
    assert all(tensor.isfinite().all() and not tensor.requires_grad for tensor in tensors.values())


def test_users_are_independent(ranker: Ranker, retriever: Retriever) -> None:
    users = all_users(ranker)
    affinity_UI = retriever.log_affinity(users)
    for rows in ([0], [1], [17], [60], [5, 3, 5], list(range(60, -1, -1))):
        some = retriever.log_affinity(users.take(torch.tensor(rows)))
        torch.testing.assert_close(some, affinity_UI[rows], rtol=1e-4, atol=1e-4)


def test_an_empty_block_of_users(ranker: Ranker, retriever: Retriever) -> None:
    assert retriever.log_affinity(all_users(ranker).take(torch.empty(0, dtype=torch.int64))).shape == (0, SIZES.n_items)


def test_the_same_seed_gives_the_same_numbers(name: str, ranker: Ranker) -> None:
    with short_trainings("triplet", "triplet_bpr", "sequence"):
        first, again = (fit(name).retrievers[CONFIGS[name].retrievers[0]] for _ in range(2))
    assert torch.equal(first.log_affinity(all_users(ranker)), again.log_affinity(all_users(ranker)))


@pytest.mark.parametrize("ratings", [{}, {3: 5.0}, dict.fromkeys(range(1, 41), 4.0)], ids=["none", "one", "all"])
def test_new_users_are_scored(ratings: dict[int, float], ranker: Ranker, retriever: Retriever) -> None:
    affinity_1I = retriever.log_affinity(make_new_user(ranker, ratings=ratings))
    assert affinity_1I.shape == (1, SIZES.n_items)
    assert affinity_1I.isfinite().all()


def test_scoring_does_not_modify_the_retriever(ranker: Ranker, retriever: Retriever) -> None:
    users = all_users(ranker)
    given, learned = tensors_in(users), list(retriever.tensors().values())
    before = [tensor.clone() for tensor in given + learned]
    first = retriever.log_affinity(users)
    kept = first.clone()
    first.fill_(torch.nan)  # the result can be modified
    assert torch.equal(retriever.log_affinity(users), kept)
    assert all(torch.equal(*pair) for pair in zip(before, given + learned, strict=True))


def test_seen_movies_are_scored_like_the_others(ranker: Ranker, retriever: Retriever) -> None:
    users = all_users(ranker)
    none = users.seen.take(torch.zeros(len(users), dtype=torch.int64))
    assert torch.equal(retriever.log_affinity(replace(users, seen=none)), retriever.log_affinity(users))


def test_movies_without_ratings_have_the_lowest_affinity(name: str, ranker: Ranker, retriever: Retriever) -> None:
    if name in BY_SHARES:
        affinity_UI = retriever.log_affinity(all_users(ranker))
        assert affinity_UI.min() == pytest.approx(math.log(MIN_AFFINITY))
        assert (affinity_UI[:, [0, 39, 40]] == affinity_UI.min()).all()


def test_held_out_movies_score_above_the_others(ranker: Ranker, retriever: Retriever) -> None:
    assert share_in_order(ranker, retriever, tastes()[1]) > 0.6


def share_in_order(ranker: Ranker, retriever: Retriever, held_out: Interactions) -> float:
    """Return the share of pairs in which a held-out movie scores above another unseen one. Chance gives 0.5."""
    affinity_UI = retriever.log_affinity(all_users(ranker))
    is_other_UI = ranker.histories.seen().to_dense() == 0
    is_other_UI[held_out.user_idx, held_out.item_idx] = False
    is_other_UI &= ranker.listable
    own_B1 = affinity_UI[held_out.user_idx, held_out.item_idx][:, None]
    other_BI, counts_BI = affinity_UI[held_out.user_idx], is_other_UI[held_out.user_idx]
    right_BI = (own_B1 > other_BI).float() + 0.5 * (own_B1 == other_BI).float()
    return (right_BI[counts_BI]).mean().item()
