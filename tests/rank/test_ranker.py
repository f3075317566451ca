import math
from dataclasses import replace

import pytest
import torch

from recsys.encode.features import NO_FEATURES
from recsys.ingest.synthetic.synthetic import checkerboard
from recsys.models import MODELS, Interactions, Pairs, RatingNetwork, Sizes
from recsys.rank import place as place_module
from recsys.rank.fit import fit_ranker
from recsys.rank.place import rank_alone, rank_movies, rank_users
from recsys.rank.ranker import Ranker, make_new_user
from recsys.rank.weights import Weights
from recsys.retrieve.als import fit_als
from recsys.retrieve.ease import fit_ease
from recsys.retrieve.histories import Histories, gather_histories
from recsys.retrieve.popularity import fit_popularity, gather_properties
from recsys.retrieve.retriever import Retriever
from recsys.settings import AlsConfig, EaseConfig, RankConfig
from recsys.train.loop import fit_network, predict
from tests.support.planted import LEVELS, SIZES, fit, interactions, parts
from tests.support.rankers import (
    BLENDED,
    CPU,
    LEARNER,
    Place,
    hand_made,
    histories_of,
    indifferent,
    items_of,
    lists_of,
    places_of,
    random_histories,
    ranker_of,
)

SMALL = RankConfig(ease=EaseConfig(l2=20.0), als=AlsConfig(embedding_dim=4))
PARTS = ("ease", "als", "popularity", "stars", "likes")
WEIGHTS = Weights(
    {
        0: dict(zip(PARTS, (0.0, 0.0, 1.0, 0.2, 0.1), strict=True)),
        1: dict(zip(PARTS, (0.5, 1.5, -0.2, 2.0, 0.7), strict=True)),
        17: dict(zip(PARTS, (1.0, 0.3, 0.1, 1.0, 0.2), strict=True)),
    }
)
# users 1 to 4 and 6 movies; user 3 has rated all four movies that have ratings, user 4 has rated none
RATED = {1: [1, 2], 2: [1, 3], 3: [1, 2, 3, 4], 4: []}
HISTORIES = histories_of(RATED, 5, 7)


@pytest.fixture(scope="module")
def ranker() -> Ranker:
    network, _ = fit("ordinal")
    return fit_ranker(network, parts()[0], LEARNER, SMALL, WEIGHTS)


@pytest.mark.parametrize("candidates", [1, 5, 15, 300])
@pytest.mark.parametrize("names", [PARTS[:3], ("ease",), ("popularity", "als")])
def test_lists_equal_those_of_a_slow_implementation(ranker: Ranker, candidates: int, names: tuple[str, ...]) -> None:
    retrievers = {name: ranker.retrievers[name] for name in names}
    turned = replace(ranker, retrievers=retrievers, config=RankConfig(candidates=candidates))
    lists = lists_of(rank_movies(turned, 5))
    assert len(lists) == SIZES.n_users - 1
    assert {size >= 17 for size in turned.histories.sizes()[1::3].tolist()} == {True, False}
    for user in range(1, SIZES.n_users, 3):
        places, expected = lists[user], slow_list(turned, user, 5)
        assert [(item, place) for item, place, _ in places] == [(item, place) for item, place, _ in expected]
        assert [score for *_, score in places] == pytest.approx([score for *_, score in expected], abs=1e-4)


def slow_list(ranker: Ranker, user: int, n: int) -> list[Place]:
    """Rank one movie at a time: candidates by the mean of the retrievers, ordered by the weighted parts."""
    own = ranker.histories.of(user).tolist()
    rated = sorted(set(ranker.histories.items.tolist()))
    asked = ranker.users(torch.tensor([user]))
    affinity = {name: retriever.log_affinity(asked)[0] for name, retriever in ranker.retrievers.items()}
    mean = torch.stack(list(affinity.values())).mean(0).tolist()
    unseen = [item for item in rated if item not in own]
    best = sorted(unseen, key=lambda item: (-mean[item], item))[: max(n, ranker.config.candidates)]
    weights = WEIGHTS.by_size[max(size for size in WEIGHTS.by_size if size <= len(own))]
    score = {}
    for item in best:
        stars, likes = opinion(ranker, user, item)
        of_network = {"stars": math.log(stars), "likes": math.log(max(likes, 1e-4))}
        value_by_part = {name: affinity[name][item].item() for name in affinity} | of_network
        score[item] = sum(weights[name] * value_by_part[name] for name in value_by_part)
    order = sorted(best, key=lambda item: (-score[item], item))[:n]
    return [(item, place, score[item]) for place, item in enumerate(order, start=1)]


def opinion(ranker: Ranker, user: int, item: int) -> tuple[float, float]:
    """Return the expected stars and the probability of four or more."""
    pair = Pairs(torch.tensor([user]), torch.tensor([item]), torch.tensor([ranker.rated_at]))
    prediction = predict(ranker.network, pair)
    return prediction.mean_B.item(), prediction.p_BK[0, [LEVELS.index(4.0), LEVELS.index(5.0)]].sum().item()


def test_relevant_from_is_a_setting(ranker: Ranker) -> None:
    """The probability of at least 1 star is 1, and its logarithm is 0."""
    likes = Weights({0: dict.fromkeys(PARTS, 0.0) | {"likes": 1.0}})
    blocks = [
        next(iter(rank_movies(replace(ranker, weights=likes, config=RankConfig(relevant_from=stars)), 5)))
        for stars in (1.0, 4.0)
    ]
    assert blocks[0].score.abs().max() < 1e-5
    assert (blocks[1].score < -0.01).all()


@pytest.mark.parametrize("n", [1, 7, 100, 1000])
def test_lists_are_full_and_have_no_seen_movies(ranker: Ranker, n: int) -> None:
    rated = set(ranker.histories.items.tolist())
    lists = lists_of(rank_movies(ranker, n))
    for user in range(1, SIZES.n_users):
        seen = set(ranker.histories.of(user).tolist())
        items = [item for item, _, _ in lists[user]]
        scores = [score for *_, score in lists[user]]
        assert set(items) <= rated - seen
        assert len(items) == len(set(items)) == min(n, len(rated - seen))
        assert [place for _, place, _ in lists[user]] == list(range(1, len(items) + 1))
        assert scores == sorted(scores, reverse=True)
    assert 0 not in lists


def test_rows_of_a_block_are_sorted_by_user_and_rank(ranker: Ranker) -> None:
    for block in rank_movies(ranker, 5):
        columns = (block.user_idx, block.rank, block.item_idx, block.score, block.rating_hat, block.served_by)
        assert len({len(column) for column in (*columns, block.because)}) == 1
        keys = list(zip(block.user_idx.tolist(), block.rank.tolist(), strict=True))
        assert keys == sorted(keys)
        assert (block.score.dtype, block.rating_hat.dtype) == (torch.float64, torch.float32)


def test_rating_hat_is_expected_stars(ranker: Ranker) -> None:
    (block,) = rank_movies(ranker, 5)
    pairs = Pairs(block.user_idx, block.item_idx, torch.full_like(block.user_idx, ranker.rated_at))
    torch.testing.assert_close(block.rating_hat, predict(ranker.network, pairs).mean_B)


def test_ties_go_to_the_lower_index() -> None:
    histories = histories_of({1: [1], 2: [2, 3, 4, 5]}, 5, 7)
    shares = {(1, 5): 0.5, (1, 4): 0.5, (1, 2): 0.5, (1, 3): 0.7}
    assert items_of(rank_movies(hand_made(shares, histories), 4))[1] == [3, 2, 4, 5]
    no_affinity = {(1, 2): -0.9, (1, 3): -0.1, (1, 4): -0.5}  # a negative affinity counts as zero
    assert items_of(rank_movies(hand_made(no_affinity, histories), 4))[1] == [2, 3, 4, 5]
    few = replace(hand_made(no_affinity, histories), config=RankConfig(candidates=1))
    assert items_of(rank_movies(few, 2))[1] == [2, 3]
    assert places_of(rank_alone(few, "ease", 3))[1] == [(1, 2), (2, 3), (3, 4)]


def test_lists_of_users_who_rated_nearly_everything_or_nothing() -> None:
    ranker = hand_made({(1, 2): 0.3, (1, 3): 0.2, (1, 4): 0.1, (2, 3): 0.2}, HISTORIES)
    lists = items_of(rank_movies(ranker, 10))
    assert lists == {1: [3, 4], 2: [2, 4], 4: [1, 2, 3, 4]}  # user 3 has seen all four rated movies
    assert {
        user: [item for _, item in places] for user, places in places_of(rank_alone(ranker, "ease", 10)).items()
    } == lists


def test_movies_without_affinity_come_last_ordered_by_stars() -> None:
    ranker = hand_made({(1, 3): 0.5, (1, 4): -0.5}, HISTORIES)
    (item_3, _, score_3), (item_4, _, score_4) = lists_of(rank_movies(ranker, 10))[1]
    log_stars = math.log(opinion(ranker, 1, 3)[0])
    assert (item_3, item_4) == (3, 4)
    assert score_3 == pytest.approx(math.log(0.5) + 2 * log_stars)
    assert score_4 == pytest.approx(math.log(1e-4) + 2 * log_stars)


def test_each_retriever_alone_orders_by_its_affinity(ranker: Ranker) -> None:
    rated = sorted(set(ranker.histories.items.tolist()))
    for name, retriever in ranker.retrievers.items():
        lists = places_of(rank_alone(ranker, name, 7))
        assert list(lists) == list(range(1, SIZES.n_users))
        for user, places in lists.items():
            affinity = retriever.log_affinity(ranker.users(torch.tensor([user])))[0].tolist()
            unseen = [item for item in rated if item not in ranker.histories.of(user).tolist()]
            order = sorted(unseen, key=lambda item: (-affinity[item], item))[:7]
            gaps = [affinity[one] - affinity[other] for one, (_, other) in zip(order, places, strict=True)]
            assert max(map(abs, gaps)) < 1e-4  # sums in another order of float32 products
            assert [place for place, _ in places] == list(range(1, 8))


def in_blocks_of(size: int, ranker: Ranker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(place_module, "MIN_USERS_PER_BLOCK", 1)
    monkeypatch.setattr(place_module, "SCORES_PER_BLOCK", size * ranker.histories.n_items)


@pytest.mark.parametrize("size", [0, 1, 7, 59, 60])
def test_blocks_of_any_size_give_the_same_lists(ranker: Ranker, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A block has at least one user, even at the smallest size."""
    (whole,) = rank_movies(ranker, 5)
    (alone,) = rank_alone(ranker, "ease", 5)
    in_blocks_of(size, ranker, monkeypatch)
    blocks = list(rank_movies(ranker, 5))
    assert len(blocks) == math.ceil(60 / max(1, size))
    for column in ("user_idx", "rank", "item_idx", "because"):
        assert torch.equal(torch.cat([getattr(block, column) for block in blocks]), getattr(whole, column))
    # sums in another order of float32 products
    torch.testing.assert_close(torch.cat([block.score for block in blocks]), whole.score, rtol=1e-5, atol=1e-5)
    assert [kind for block in blocks for kind in block.served_by] == whole.served_by
    columns = [torch.cat(parts) for parts in zip(*rank_alone(ranker, "ease", 5), strict=True)]
    assert all(torch.equal(*pair) for pair in zip(columns, alone, strict=True))


def test_lists_are_reproducible(ranker: Ranker) -> None:
    first, second = (next(iter(rank_movies(ranker, 10))) for _ in range(2))
    assert torch.equal(first.item_idx, second.item_idx)
    assert torch.equal(first.score, second.score)
    assert torch.equal(first.because, second.because)


def test_served_by_is_set(ranker: Ranker) -> None:
    kinds = {
        "default": make_new_user(ranker),
        "features": make_new_user(ranker, [ranker.properties.names[0]]),
        "few ratings": make_new_user(ranker, [ranker.properties.names[0]], dict.fromkeys(range(1, 10), 3.0)),
        "history": make_new_user(ranker, ratings=dict.fromkeys(range(1, 11), 3.0)),
    }
    for kind, stranger in kinds.items():
        assert rank_users(ranker, stranger, 2).served_by == [kind, kind]


def test_a_new_user_has_the_stated_properties(ranker: Ranker) -> None:
    stated = ranker.properties.names[2]
    stranger = make_new_user(ranker, [stated], {7: 2, 3: 4.5})
    assert stranger.histories.items.tolist() == stranger.seen.items.tolist() == [3, 7]
    assert stranger.histories.stars.tolist() == [4.5, 2.0]
    assert stranger.histories.stars.dtype == torch.float32
    assert stranger.user_idx.tolist() == [0]
    assert stranger.properties_BF.tolist() == [[float(name == stated) for name in ranker.properties.names]]
    assert make_new_user(ranker, ratings={7: 2}).histories.stars.dtype == torch.float32


def test_a_new_user_with_a_known_users_ratings_differs_only_in_the_network_parts(ranker: Ranker) -> None:
    """The network of this test was trained on neither user, and its scale has no rating below the middle."""
    network = indifferent(SIZES.n_users, SIZES.n_items)
    network.sizes = replace(network.sizes, levels=(-4.0, 2.0, 3.0, 4.0, 5.0))
    blind = replace(ranker, network=network)
    user = int(ranker.histories.sizes().argmax())
    stated = [
        name for name, has_it in zip(blind.properties.names, blind.properties.of_users_UF[user], strict=True) if has_it
    ]
    own = ranker.histories.take(torch.tensor([user]))
    ratings = dict(zip(own.items.tolist(), own.stars.tolist(), strict=True))
    known = rank_users(blind, blind.users(torch.tensor([user])), 10)
    stranger = rank_users(blind, make_new_user(blind, stated, ratings), 10)
    assert torch.equal(known.item_idx, stranger.item_idx)
    torch.testing.assert_close(known.score, stranger.score)
    assert torch.equal(known.because, stranger.because)


def test_new_users_are_not_shown_movies_they_rated(ranker: Ranker) -> None:
    rated = sorted(set(ranker.histories.items.tolist()))
    block = rank_users(ranker, make_new_user(ranker, ratings=dict.fromkeys(rated[:30], 5.0)), 100)
    assert sorted(block.item_idx.tolist()) == rated[30:]
    assert block.rank.tolist() == list(range(1, len(rated) - 29))


# ---- edge cases of catalogues and users


def fitted(histories: Histories) -> Ranker:
    properties = gather_properties(NO_FEATURES, len(histories))
    retrievers: dict[str, Retriever] = {
        "ease": fit_ease(histories, SMALL.ease, CPU),
        "als": fit_als(histories, SMALL.als, CPU, seed=0),
        "popularity": fit_popularity(histories, properties, SMALL.popularity, CPU),
    }
    return ranker_of(histories, retrievers, WEIGHTS, SMALL)


@pytest.mark.parametrize(
    ("rated", "n_users", "n_items", "lists"),
    [
        ({1: [1]}, 2, 2, {}),
        ({1: [1]}, 3, 3, {2: [1]}),
        ({1: [1, 2], 2: [1, 2]}, 3, 3, {}),
        ({1: [1, 2], 2: [1, 2], 3: [1, 2]}, 5, 6, {4: [1, 2]}),
        ({}, 4, 4, {}),
    ],
    ids=["one user, one movie", "one user without ratings", "all seen", "all equal", "no ratings"],
)
def test_small_catalogues(rated: dict[int, list[int]], n_users: int, n_items: int, lists: dict[int, list[int]]) -> None:
    ranker = fitted(histories_of(rated, n_users, n_items))
    for n in (1, 1000):
        expected = {user: items[:n] for user, items in lists.items()}
        assert items_of(rank_movies(ranker, n)) == expected
        assert {
            user: [item for _, item in places] for user, places in places_of(rank_alone(ranker, "als", n)).items()
        } == expected


def test_scores_are_finite_for_any_ratings() -> None:
    for share in (0.02, 0.5, 0.98):
        for block in rank_movies(fitted(random_histories(30, 20, share)), 1000):
            assert block.score.isfinite().all()


# ---- the checkerboard

BOARDS = [("softmax", 120, 80, 0.0), ("ordinal", 160, 100, 0.5)]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "n_users", "n_movies", "disliked"), BOARDS)
def test_the_checkerboard_is_recommended_perfectly(name: str, n_users: int, n_movies: int, disliked: float) -> None:
    """All top 10 lists have only movies of the user's parity. With `ordinal`, half of the ratings may be low."""
    train, histories = board(n_users, n_movies, disliked)
    config = MODELS[name].configure(len(train), 5)
    torch.manual_seed(0)
    network = MODELS[name].build(config, Sizes(n_users + 1, n_movies + 1, LEVELS), NO_FEATURES)
    assert isinstance(network, RatingNetwork)
    fit_network(network, train, config.training)
    ranker = ranker_of(histories, {"ease": fit_ease(histories, EaseConfig(), CPU)}, BLENDED)
    assert shares_of_right_places(replace(ranker, network=network)) == [1.0] * n_users


def test_affinity_alone_does_not_separate_liked_from_disliked() -> None:
    """So it is the rating network that solves the board with disliked movies above."""
    _, histories = board(160, 100, 0.5)
    ranker = ranker_of(histories, {"ease": fit_ease(histories, EaseConfig(), CPU)}, BLENDED)
    shares = shares_of_right_places(ranker)
    assert 0.4 < sum(shares) / len(shares) < 0.6


def board(n_users: int, n_movies: int, disliked: float) -> tuple[Interactions, Histories]:
    train = interactions(checkerboard(n_users, n_movies, shown=0.5, disliked=disliked))
    return train, gather_histories(train, Sizes(n_users + 1, n_movies + 1, LEVELS))


def shares_of_right_places(ranker: Ranker) -> list[float]:
    """Return the share of movies with the right parity in each top 10."""
    lists = items_of(rank_movies(ranker, 10))
    return [sum(item % 2 == user % 2 for item in items) / 10 for user, items in lists.items()]
