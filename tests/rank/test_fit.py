import logging
import math
import re
from dataclasses import replace

import pytest
import torch

from recsys.encode.features import NO_FEATURES
from recsys.models import Interactions, RatingNetwork
from recsys.rank import fit as fit_module
from recsys.rank.fit import FULL_HISTORY, fit_ranker, learn_ranker_weights, learn_weights, prior_weights
from recsys.rank.fit import SIZES as TAUGHT_SIZES
from recsys.rank.place import rank_movies, rank_users
from recsys.rank.ranker import Ranker, make_new_user
from recsys.rank.score import find_candidates, score_parts
from recsys.rank.weights import NO_WEIGHTS, LabelledCandidates, Weights, fit_weights
from recsys.retrieve.retriever import Users
from recsys.settings import AlsConfig, EaseConfig, RankConfig
from tests.support.planted import LEVELS, SIZES, concat, fit
from tests.support.rankers import LEARNER, indifferent, items_of, rows_of, tastes

CONFIG = RankConfig(ease=EaseConfig(l2=20.0), als=AlsConfig(embedding_dim=4))
PARTS = ("ease", "als", "popularity", "stars", "likes")


@pytest.fixture(scope="module")
def network() -> RatingNetwork:
    return fit("ordinal", train=tastes()[0])[0]


@pytest.fixture(scope="module")
def ranker(network: RatingNetwork) -> Ranker:
    return fit_ranker(network, tastes()[0], LEARNER, CONFIG, NO_WEIGHTS)


@pytest.fixture(scope="module")
def learned(ranker: Ranker) -> Weights:
    return learn_ranker_weights(ranker, tastes()[1], seed=0)


def test_a_fitted_ranker_has_its_inputs(ranker: Ranker) -> None:
    train = tastes()[0]
    assert ranker.parts == PARTS
    assert ranker.rated_at == int(train.rated_at.max()) + 1
    assert len(ranker.histories.items) == len(train)
    assert ranker.listable.tolist() == [False, *[True] * 40]  # 39 and 40 have no ratings
    assert {name.partition("=")[0] for name in ranker.properties.names} == {"gender", "age", "occupation"}


def test_retrievers_are_in_the_order_of_the_setting() -> None:
    config = CONFIG.model_copy(update={"retrievers": ("popularity", "ease")})
    network = indifferent(SIZES.n_users, SIZES.n_items)
    turned = fit_ranker(network, tastes()[0], LEARNER, config, NO_WEIGHTS)
    assert turned.parts == ("popularity", "ease", "stars", "likes")


def test_a_kept_ranker_is_reused_once_for_the_same_inputs(network: RatingNetwork) -> None:
    train, other = tastes()[0], indifferent(SIZES.n_users, SIZES.n_items)
    first = fit_ranker(network, train, LEARNER, CONFIG, NO_WEIGHTS, keep=True)
    second, third = (fit_ranker(other, train, LEARNER, CONFIG, Weights({0: {}})) for _ in range(2))
    assert second.retrievers is first.retrievers
    assert (second.network, second.weights) == (other, Weights({0: {}}))
    assert third.retrievers is not first.retrievers
    flipped = train.take(torch.arange(len(train)).flip(0))
    for rows, learner, config in (
        (flipped, LEARNER, CONFIG),
        (train, replace(LEARNER, seed=1), CONFIG),
        (train, replace(LEARNER, features=NO_FEATURES), CONFIG),
        (train, LEARNER, CONFIG.model_copy(update={"als": AlsConfig(embedding_dim=5)})),
    ):
        kept = fit_ranker(network, train, LEARNER, CONFIG, NO_WEIGHTS, keep=True)
        assert fit_ranker(network, rows, learner, config, NO_WEIGHTS).retrievers is not kept.retrievers


def test_the_duration_of_each_retriever_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="recsys.rank.fit"):
        fit_ranker(indifferent(SIZES.n_users, SIZES.n_items), tastes()[0], LEARNER, CONFIG, NO_WEIGHTS)
    for name in CONFIG.retrievers:
        assert re.search(rf"retriever {name}: \d+\.\d s", caplog.text)


def test_there_are_weights_of_all_parts_for_every_size(learned: Weights) -> None:
    assert list(learned.by_size) == [0, 1, 3, 5, 10, 20]
    assert (*TAUGHT_SIZES, FULL_HISTORY) == (0, 1, 3, 5, 10, 20)
    for weights in learned.by_size.values():
        assert tuple(weights) == PARTS
        assert all(map(math.isfinite, weights.values()))


@pytest.fixture(scope="module")
def with_constant_stars(ranker: Ranker) -> Weights:
    """Weights learned with a network that predicts the same stars for every pair."""
    return learn_ranker_weights(replace(ranker, network=indifferent(SIZES.n_users, SIZES.n_items)), tastes()[1], seed=0)


def test_retrievers_that_read_ratings_have_weight_only_with_ratings(with_constant_stars: Weights) -> None:
    """Each user likes movies of one parity, and only ratings show which one."""
    assert with_constant_stars.by_size[0]["ease"] == with_constant_stars.by_size[0]["als"] == 0
    assert with_constant_stars.by_size[0]["popularity"] > 0
    assert with_constant_stars.by_size[20]["ease"] > 0.1


def test_a_network_has_a_weight_only_if_its_predictions_differ(with_constant_stars: Weights, learned: Weights) -> None:
    assert all(weights[name] == 0 for weights in with_constant_stars.by_size.values() for name in ("stars", "likes"))
    assert all(weights[name] != 0 for weights in learned.by_size.values() for name in ("stars", "likes"))


@pytest.mark.parametrize("size", [0, 3, FULL_HISTORY])
def test_weights_are_learned_from_the_candidates_of_these_users(size: int, ranker: Ranker, learned: Weights) -> None:
    """All unseen movies of users with a relevant rating are candidates. The held-out ones among them are relevant."""
    held_out = tastes()[1]
    liked = held_out.take((held_out.level_idx >= 3).nonzero().squeeze(1))
    asked = liked.user_idx.unique()
    users = ranker.users(asked)
    if size < FULL_HISTORY:
        short = ranker.histories.take(asked).shorten(size, seed=0)
        users = Users(torch.zeros_like(asked), short, users.properties_BF, seen=ranker.histories.take(asked))
    found = find_candidates(ranker, users, 300)
    right = {(user, item) for user, item in zip(liked.user_idx.tolist(), liked.item_idx.tolist(), strict=True)}
    is_relevant_BC = torch.tensor(
        [
            [(user, item) in right for item in row]
            for user, row in zip(asked.tolist(), found.item_BC.tolist(), strict=True)
        ]
    )
    assert is_relevant_BC.sum() == len(right)
    parts_BCP, _ = score_parts(ranker, users, found)
    before = torch.tensor(list(prior_weights(PARTS, size).values()))
    labelled = LabelledCandidates(parts_BCP, found.is_there, is_relevant_BC)
    expected = fit_weights(labelled, before, CONFIG.weights_doubt_users).tolist()
    assert list(learned.by_size[size].values()) == pytest.approx(expected, abs=1e-4)


def test_prior_weights_of_retrievers_that_read_ratings_grow_with_ratings() -> None:
    assert prior_weights(("ease", "als", "popularity", "stars", "likes"), 0) == {
        "ease": 0, "als": 0, "popularity": 1, "stars": 2, "likes": 1
    }  # fmt: skip
    many = prior_weights(("ease", "als", "popularity", "stars", "likes"), 57)
    assert (many["ease"], many["als"], many["popularity"]) == pytest.approx((0.95, 0.95, 0.05))
    assert prior_weights(("triplet", "stars", "likes"), 57)["triplet"] == pytest.approx(1.9)
    assert prior_weights(("popularity", "stars", "likes"), 57)["popularity"] == 1


@pytest.mark.parametrize("size", [0, 1, 5])
def test_hidden_ratings_are_not_candidates(size: int, ranker: Ranker) -> None:
    asked = torch.arange(1, 59)
    known = ranker.users(asked)
    users = replace(known, user_idx=torch.zeros_like(asked), histories=known.histories.shorten(size, seed=0))
    assert users.histories.sizes().max() == size
    found = find_candidates(ranker, users, 300)
    for user, items in zip(asked.tolist(), found.item_BC.tolist(), strict=True):
        shown = {item for item in items if item >= 0}
        assert shown == set(range(1, 41)) - set(ranker.histories.of(user).tolist())


def test_the_seed_draws_the_hidden_ratings(ranker: Ranker, learned: Weights) -> None:
    assert learn_ranker_weights(ranker, tastes()[1], seed=0) == learned
    other = learn_ranker_weights(ranker, tastes()[1], seed=1)
    assert other.by_size[1] != learned.by_size[1]
    assert other.by_size[FULL_HISTORY] == learned.by_size[FULL_HISTORY], "it uses all users and all of their ratings"


def test_the_number_of_users_to_learn_from_is_limited(
    ranker: Ranker, learned: Weights, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fit_module, "USERS", 20)
    first, again, other = (learn_ranker_weights(ranker, tastes()[1], seed).by_size[FULL_HISTORY] for seed in (0, 0, 1))
    assert first == again
    assert first != other
    assert first != learned.by_size[FULL_HISTORY]


def test_blocks_of_any_size_give_the_same_weights(
    ranker: Ranker, learned: Weights, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("recsys.rank.place.MIN_USERS_PER_BLOCK", 1)
    monkeypatch.setattr("recsys.rank.place.SCORES_PER_BLOCK", 7 * SIZES.n_items)
    in_blocks = learn_ranker_weights(ranker, tastes()[1], seed=0)
    for size, weights in learned.by_size.items():
        assert in_blocks.by_size[size] == pytest.approx(weights, rel=2e-3, abs=1e-3)


def test_disliked_movies_and_unknown_users_are_ignored(ranker: Ranker, learned: Weights) -> None:
    """Users without ratings, the unknown movie, and repeated pairs are ignored too."""
    held_out = tastes()[1]
    disliked = Interactions(
        held_out.user_idx, held_out.item_idx.flip(0), held_out.rated_at, torch.full_like(held_out.level_idx, 2)
    )
    strangers = Interactions(*(torch.tensor(column) for column in ([0, 59, 60, 1], [5, 5, 6, 0], [0] * 4, [4] * 4)))
    more = concat(concat(held_out, disliked), concat(strangers, held_out))
    assert learn_ranker_weights(ranker, more, seed=0) == learned


def test_padding_is_not_relevant(ranker: Ranker) -> None:
    """Padding (-1) must not match the key of another user's movie."""
    last = rows_of({user: [SIZES.n_items - 1] for user in range(1, 59)})
    weights = learn_ranker_weights(ranker, concat(tastes()[1], last), seed=0)
    assert all(of_size["stars"] != 0 and math.isfinite(of_size["stars"]) for of_size in weights.by_size.values())


def test_relevant_is_a_setting(ranker: Ranker, learned: Weights) -> None:
    any_stars = replace(ranker, config=CONFIG.model_copy(update={"relevant_from": 1.0}))
    assert learn_ranker_weights(any_stars, tastes()[1], seed=0) != learned


@pytest.mark.parametrize("rows", [[], [0, 1, 2]], ids=["no ratings", "no relevant ratings"])
def test_without_relevant_ratings_weights_are_the_prior(rows: list[int], ranker: Ranker) -> None:
    unseen = tastes()[1].take(torch.tensor(rows, dtype=torch.int64))
    disliked = Interactions(unseen.user_idx, unseen.item_idx, unseen.rated_at, torch.zeros_like(unseen.level_idx))
    weights = learn_ranker_weights(ranker, disliked, seed=0)
    for size, of_size in weights.by_size.items():
        assert of_size == {part: prior_weights(PARTS, size)[part] for part in PARTS}


def test_weights_are_learned_with_a_ranker_fitted_to_train_alone(network: RatingNetwork, learned: Weights) -> None:
    train, validation = tastes()
    assert learn_weights(network, train, validation, LEARNER, CONFIG) == learned


def test_learned_weights_improve_lists(ranker: Ranker, learned: Weights) -> None:
    """Their first five places have more held-out movies than lists by popularity alone."""
    held_out = tastes()[1]
    pairs = zip(held_out.user_idx.tolist(), held_out.item_idx.tolist(), held_out.level_idx.tolist(), strict=True)
    liked = {(user, item) for user, item, level in pairs if LEVELS[level] >= 4}
    popular = Weights({0: dict.fromkeys(PARTS, 0.0) | {"popularity": 1.0}})
    hits = []
    for weights in (learned, popular):
        lists = items_of(rank_movies(replace(ranker, weights=weights), 5))
        hits.append(sum((user, item) in liked for user, items in lists.items() for item in items))
    assert hits[0] > 1.2 * hits[1]


def test_new_users_get_lists_by_their_few_ratings(ranker: Ranker, learned: Weights) -> None:
    """After eight ratings of movies of one parity, most of the first eight movies have this parity."""
    ready = replace(ranker, weights=learned)
    for parity in (0, 1):
        rated = dict.fromkeys((item for item in range(3, 20) if item % 2 == parity), 5.0)
        block = rank_users(ready, make_new_user(ready, ratings=rated), 8)
        assert sum(item % 2 == parity for item in block.item_idx.tolist()) >= 6
