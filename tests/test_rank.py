import math
from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import planted
import pytest
import torch
from planted import SIZES, fit, interactions, parts, quick_config, ratings

from recsys import rank
from recsys.engine import fit_network, predict
from recsys.features import NO_FEATURES
from recsys.ingest.synthetic import checkerboard
from recsys.models import MODELS, Interactions, Pairs, RatingNetwork, Sizes
from recsys.rank import Block, Histories, Ranker, fit_ease, fit_ranker, gather_histories, rank_movies, rank_popular
from recsys.settings import RankConfig

Place = tuple[int, int, float]  # item_idx, rank, score

# users 1 to 4 of 6 movies; user 3 has rated all but one, user 4 nothing, movie 6 is rated by nobody
RATED = {1: [1, 2], 2: [1, 3], 3: [1, 2, 3, 4], 4: []}
N_USERS, N_ITEMS = 5, 7


def rows_of(rated: dict[int, list[int]]) -> Interactions:
    pairs = torch.tensor([(user, item) for user, items in rated.items() for item in items])
    return planted.rows_of(pairs[:, 0], pairs[:, 1], torch.full((len(pairs),), 4))


def indifferent(n_users: int, n_items: int) -> RatingNetwork:
    """Trained on nothing: the same expected stars for every pair."""
    config = quick_config("ordinal")
    network = MODELS["ordinal"].build(config, Sizes(n_users, n_items, SIZES.levels), NO_FEATURES)
    assert isinstance(network, RatingNetwork)
    with torch.no_grad():
        for weight in network.parameters():
            weight.zero_()
    return network


def hand_made(weights: dict[tuple[int, int], float], rated: dict[int, list[int]] = RATED) -> Ranker:
    """Item-item weights that are zero but for those given, and no opinion on stars."""
    weights_II = torch.zeros(N_ITEMS, N_ITEMS)
    for pair, weight in weights.items():
        weights_II[pair] = weight
    histories = gather_histories(rows_of(rated), N_USERS, N_ITEMS)
    return Ranker(indifferent(N_USERS, N_ITEMS), histories, weights_II, 0, RankConfig())


def lists_of(blocks: Iterable[Block]) -> dict[int, list[Place]]:
    lists: dict[int, list[Place]] = {}
    for block in blocks:
        columns = (block.user_idx, block.item_idx, block.rank, block.score)
        for user, *place in zip(*(column.tolist() for column in columns), strict=True):
            lists.setdefault(user, []).append(tuple(place))
    return lists


def items_of(blocks: Iterable[Block]) -> dict[int, list[int]]:
    return {user: [item for item, _, _ in places] for user, places in lists_of(blocks).items()}


@pytest.fixture(scope="module")
def ranker() -> Ranker:
    network, _ = fit("ordinal")
    return fit_ranker(network, parts()[0], RankConfig(ease_l2=20.0))


def test_histories_group_items_by_user() -> None:
    shuffled = planted.rows_of(torch.tensor([3, 1, 3, 1, 1]), torch.tensor([4, 2, 1, 5, 2]), torch.zeros(5))
    histories = gather_histories(shuffled, n_users=5, n_items=6)
    assert [histories.of(user).tolist() for user in range(5)] == [[], [2, 5], [], [1, 4], []]
    assert histories.sizes(1, 4).tolist() == [2, 0, 2]
    assert histories.counts().tolist() == [0, 1, 1, 0, 1, 1]
    assert histories.block(1, 4).to_dense().tolist() == [[0, 0, 1, 0, 0, 1], [0] * 6, [0, 1, 0, 0, 1, 0]]


def test_nobody_has_rated_the_unknown() -> None:
    histories = gather_histories(rows_of({1: [0, 2]}), n_users=2, n_items=3)
    assert histories.counts().tolist() == [0, 0, 1]


@pytest.mark.parametrize(("n_users", "n_items"), [(60, 25), (25, 60), (40, 40)])
def test_ease_is_the_closed_form(n_users: int, n_items: int) -> None:
    """Fewer users than movies, or more: two ways to the same weights."""
    seen_UI = np.random.default_rng(0).random((n_users, n_items)) < 0.3
    users, items = (torch.from_numpy(idx) for idx in seen_UI.nonzero())
    weights_II = fit_ease(gather_histories(planted.rows_of(users, items, users), n_users, n_items), l2=5.0)
    x_UI = seen_UI.astype(np.float64)
    p_II = np.linalg.inv(x_UI.T @ x_UI + 5.0 * np.eye(n_items))
    expected = np.eye(n_items) - p_II / np.diag(p_II)
    np.testing.assert_allclose(weights_II.numpy(), expected, atol=1e-4)
    assert (weights_II.diagonal() == 0).all()
    assert weights_II.dtype == torch.float32


def test_ease_is_the_ridge_regression_of_each_movie_on_the_others() -> None:
    seen_UI = (np.random.default_rng(1).random((50, 8)) < 0.4).astype(np.float64)
    users, items = (torch.from_numpy(idx) for idx in seen_UI.nonzero())
    weights_II = fit_ease(gather_histories(planted.rows_of(users, items, users), 50, 8), l2=3.0)
    for item in range(8):
        others = [other for other in range(8) if other != item]
        x = seen_UI[:, others]
        regression = np.linalg.solve(x.T @ x + 3.0 * np.eye(7), x.T @ seen_UI[:, item])
        np.testing.assert_allclose(weights_II[others, item].numpy(), regression, atol=1e-5)


@pytest.mark.parametrize("candidates", [1, 5, 15, 300])
@pytest.mark.parametrize("rating_weight", [0.0, 2.0])
def test_lists_against_a_slow_implementation(ranker: Ranker, candidates: int, rating_weight: float) -> None:
    config = RankConfig(candidates=candidates, rating_weight=rating_weight)
    turned = replace(ranker, config=config)
    lists = lists_of(rank_movies(turned, 5))
    assert len(lists) == SIZES.n_users - 1
    for user, places in lists.items():
        expected = slow_list(turned, user, 5)
        assert [(item, place) for item, place, _ in places] == [(item, place) for item, place, _ in expected]
        assert [score for *_, score in places] == pytest.approx([score for *_, score in expected], abs=1e-4)


def slow_list(ranker: Ranker, user: int, n: int) -> list[Place]:
    """One user, one movie at a time: candidates by EASE, ordered by log EASE and weighted log stars."""
    own, weights = ranker.histories.of(user).tolist(), ranker.weights_II.tolist()
    rated = {item for other in range(SIZES.n_users) for item in ranker.histories.of(other).tolist()}
    affinity = {item: sum(weights[mine][item] for mine in own) for item in rated - set(own)}
    best = sorted(affinity, key=lambda item: (-affinity[item], item))[: max(n, ranker.config.candidates)]
    score = {
        item: math.log(max(affinity[item], 1e-4)) + ranker.config.rating_weight * math.log(stars(ranker, user, item))
        for item in best
    }
    order = sorted(best, key=lambda item: (-score[item], item))[:n]
    return [(item, place, score[item]) for place, item in enumerate(order, start=1)]


def stars(ranker: Ranker, user: int, item: int) -> float:
    pair = Pairs(torch.tensor([user]), torch.tensor([item]), torch.tensor([ranker.rated_at]))
    return predict(ranker.network, pair).mean_B.item()


@pytest.mark.parametrize("n", [1, 7, 100])
def test_lists_are_whole_and_hold_nothing_seen(ranker: Ranker, n: int) -> None:
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


def test_blocks_hold_rows_by_user_and_rank_of_one_length(ranker: Ranker) -> None:
    for block in rank_movies(ranker, 5):
        columns = (block.user_idx, block.rank, block.item_idx, block.score, block.rating_hat, block.because)
        assert len({len(column) for column in columns}) == 1
        keys = list(zip(block.user_idx.tolist(), block.rank.tolist(), strict=True))
        assert keys == sorted(keys)


def test_rating_hat_is_expected_stars(ranker: Ranker) -> None:
    (block,) = rank_movies(ranker, 5)
    pairs = Pairs(block.user_idx, block.item_idx, torch.full_like(block.user_idx, ranker.rated_at))
    torch.testing.assert_close(block.rating_hat, predict(ranker.network, pairs).mean_B)


def test_ties_go_to_the_lower_index() -> None:
    weights = {(1, 5): 0.5, (1, 4): 0.5, (1, 2): 0.5, (1, 3): 0.7}
    rated = {1: [1], 2: [2, 3, 4, 5]}
    assert items_of(rank_movies(hand_made(weights, rated), 4))[1] == [3, 2, 4, 5]
    no_affinity = {(1, 2): -0.9, (1, 3): -0.1, (1, 4): -0.5}  # less than none counts as none
    assert items_of(rank_movies(hand_made(no_affinity, rated), 4))[1] == [2, 3, 4, 5]


def test_who_has_seen_nearly_everything_gets_what_is_left_and_strangers_get_nothing() -> None:
    ranker = hand_made({(1, 2): 0.3, (1, 3): 0.2, (1, 4): 0.1, (2, 3): 0.2})
    lists = items_of(rank_movies(ranker, 10))
    assert lists == {1: [3, 4], 2: [2, 4]}  # user 3 has seen all four that anybody has rated


def test_a_movie_without_affinity_is_ordered_by_stars_behind_the_others() -> None:
    ranker = hand_made({(1, 3): 0.5, (1, 4): -0.5})
    (item_3, _, score_3), (item_4, _, score_4) = lists_of(rank_movies(ranker, 10))[1]
    log_stars = math.log(stars(ranker, 1, 3))
    assert (item_3, item_4) == (3, 4)
    assert score_3 == pytest.approx(math.log(0.5) + 2 * log_stars)
    assert score_4 == pytest.approx(math.log(1e-4) + 2 * log_stars)


def test_reasons_by_hand() -> None:
    """Movie 5's affinity of 0.9 is 0.5 from movie 2, 0.3 from 4 and 0.2 from 1, less 0.1 from 3."""
    shares = {(2, 5): 0.5, (4, 5): 0.3, (1, 5): 0.2, (3, 5): -0.1, (2, 6): 0.0, (1, 6): 0.4}
    ranker = hand_made(shares, rated={3: [1, 2, 3, 4], 4: [5, 6]})
    block = next(iter(rank_movies(ranker, 2)))
    assert block.item_idx.tolist()[:2] == [5, 6]
    assert block.because[:2] == [[2, 4, 1], [1]]
    assert math.exp(block.score[0].item()) / stars(ranker, 3, 5) ** 2 == pytest.approx(0.9)
    assert next(iter(rank_movies(ranker, 2, reasons=1))).because[:2] == [[2], [1]]
    assert next(iter(rank_movies(ranker, 2, reasons=0))).because[:2] == [[], []]


def test_reasons_are_the_users_own_and_sorted_by_their_share(ranker: Ranker) -> None:
    for block in rank_movies(ranker, 5):
        rows = zip(block.user_idx.tolist(), block.item_idx.tolist(), block.because, strict=True)
        for user, item, because in rows:
            shares = {own: ranker.weights_II[own, item].item() for own in ranker.histories.of(user).tolist()}
            positive = sorted((share for share in shares.values() if share > 0), reverse=True)
            assert [shares[own] for own in because] == positive[:3]
            assert len(set(because)) == len(because)


@pytest.mark.parametrize("size", [1, 7, 59, 60])
def test_blocks_of_any_size_give_the_same_lists(ranker: Ranker, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = list(rank_movies(ranker, 5))
    popular = list(rank_popular(ranker.histories, 5))
    assert len(whole) == len(popular) == 1
    monkeypatch.setattr(rank, "USERS_PER_BLOCK", size)
    in_blocks = list(rank_movies(ranker, 5))
    assert len(in_blocks) == math.ceil(60 / size)
    for column in ("user_idx", "rank", "item_idx"):
        assert torch.equal(torch.cat([getattr(block, column) for block in in_blocks]), getattr(whole[0], column))
    # sums in another order of float32 products
    torch.testing.assert_close(torch.cat([block.score for block in in_blocks]), whole[0].score, rtol=2e-6, atol=0)
    assert [because for block in in_blocks for because in block.because] == whole[0].because
    columns = [torch.cat(parts) for parts in zip(*rank_popular(ranker.histories, 5), strict=True)]
    assert all(torch.equal(*pair) for pair in zip(columns, popular[0], strict=True))


def test_the_same_lists_twice(ranker: Ranker) -> None:
    first, second = (next(iter(rank_movies(ranker, 10))) for _ in range(2))
    assert torch.equal(first.item_idx, second.item_idx)
    assert torch.equal(first.score, second.score)
    assert first.because == second.because


def popular_lists(histories: Histories, n: int) -> dict[int, list[tuple[int, int]]]:
    lists: dict[int, list[tuple[int, int]]] = {}
    for block in rank_popular(histories, n):
        for user, place, item in zip(*(column.tolist() for column in block), strict=True):
            lists.setdefault(user, []).append((place, item))
    return lists


def test_popular_movies_by_hand() -> None:
    """Counts: movie 1 three, 2 and 3 two, 4 one, 5 and 6 none; the lower index wins a tie."""
    histories = gather_histories(rows_of(RATED), N_USERS, N_ITEMS)
    assert popular_lists(histories, 10) == {1: [(1, 3), (2, 4)], 2: [(1, 2), (2, 4)]}
    assert popular_lists(histories, 1) == {1: [(1, 3)], 2: [(1, 2)]}
    alone = gather_histories(rows_of({1: [1], 2: [3, 2, 4], 3: [4]}), N_USERS, N_ITEMS)
    assert popular_lists(alone, 3)[1] == [(1, 4), (2, 2), (3, 3)]


def test_popular_movies_against_a_slow_implementation() -> None:
    histories = gather_histories(interactions(ratings(800, seed=3)), SIZES.n_users, SIZES.n_items)
    counts = histories.counts().tolist()
    for user, places in popular_lists(histories, 6).items():
        seen = set(histories.of(user).tolist())
        unseen = [item for item in range(SIZES.n_items) if counts[item] and item not in seen]
        order = sorted(unseen, key=lambda item: (-counts[item], item))[:6]
        assert places == list(enumerate(order, start=1))


BOARDS = [("ordinal", 120, 80, 0.0), ("softmax", 120, 80, 0.0), ("ordinal", 120, 80, 0.2)]
BOARDS += [("ordinal", 300, 200, 0.5)]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "n_users", "n_movies", "disliked"), BOARDS)
def test_the_checkerboard_is_recommended_perfectly(name: str, n_users: int, n_movies: int, disliked: float) -> None:
    """Every place of every user's top 10 has the user's parity; with our network even where as many of the other were
    rated.
    """
    rated = checkerboard(n_users, n_movies, shown=0.5, disliked=disliked)
    train = interactions(rated)
    config = MODELS[name].configure(len(rated), 5)
    torch.manual_seed(0)
    network = MODELS[name].build(config, Sizes(n_users + 1, n_movies + 1, SIZES.levels), NO_FEATURES)
    assert isinstance(network, RatingNetwork)
    fit_network(network, train, config.training)
    assert shares_of_right_places(fit_ranker(network, train, RankConfig())) == [1.0] * n_users


def test_affinity_alone_cannot_tell_liked_from_disliked() -> None:
    """So the last two boards above are won by the rating network."""
    train = interactions(checkerboard(300, 200, shown=0.5, disliked=0.5))
    shares = shares_of_right_places(fit_ranker(indifferent(301, 201), train, RankConfig()))
    assert 0.4 < sum(shares) / len(shares) < 0.6


def shares_of_right_places(ranker: Ranker) -> list[float]:
    """Of each user's ten."""
    lists = items_of(rank_movies(ranker, 10))
    return [sum(item % 2 == user % 2 for item in items) / 10 for user, items in lists.items()]
