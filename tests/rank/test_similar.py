import math
from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
import torch

from recsys.encode.features import NO_FEATURES
from recsys.models import Interactions, Pairs
from recsys.rank import similar as module
from recsys.rank.fit import fit_ranker
from recsys.rank.ranker import Ranker
from recsys.rank.similar import DOUBT, Similar, find_similar
from recsys.retrieve.new_movies import gather_content
from recsys.settings import AlsConfig, EaseConfig, RankConfig
from recsys.train.loop import predict
from tests.support.planted import FEATURES, SIZES, fit
from tests.support.rankers import LEARNER, indifferent, tastes, weights_of

CONFIG = RankConfig(ease=EaseConfig(l2=20.0), als=AlsConfig(embedding_dim=4))
Lists = dict[int, list[tuple[int, float]]]  # item_idx: (similar item_idx, similarity), best first


def fit_on(train: Interactions, config: RankConfig = CONFIG) -> Ranker:
    network, _ = fit("ordinal", train=train)
    return fit_ranker(network, train, LEARNER, config, weights_of(config))


@pytest.fixture(scope="module")
def ranker() -> Ranker:
    return fit_on(tastes()[0])


def lists_of(blocks: Iterable[Similar]) -> Lists:
    lists: Lists = {}
    for block in blocks:
        columns = (block.item_idx, block.rank, block.similar_idx, block.similarity)
        for item, rank, other, similarity in zip(*(column.tolist() for column in columns), strict=True):
            lists.setdefault(item, []).append((other, similarity))
            assert len(lists[item]) == rank
    return lists


def slow_similarity(ranker: Ranker) -> npt.NDArray[np.float64]:
    """Return (I, I) the similarity of row and column; columns are the similar movies."""
    rated = ranker.counts.nonzero().squeeze(1).numpy()
    parts = [centred_cosines(profile[rated]) for profile in (vectors(ranker), expected_stars(ranker))]
    support = ranker.counts.numpy()[rated] / (ranker.counts.numpy()[rated] + DOUBT)
    content = gather_content(FEATURES, SIZES.n_items).toarray()[rated].astype(np.float64)
    mean = (sum(part * support for part in parts) + content @ content.T) / 3
    similarity = np.full((SIZES.n_items, SIZES.n_items), -np.inf)
    similarity[np.ix_(rated, rated)] = mean
    np.fill_diagonal(similarity, -np.inf)
    return similarity


def vectors(ranker: Ranker) -> npt.NDArray[np.float64]:
    return ranker.retrievers["als"].tensors()["item_ID"].double().numpy()


def expected_stars(ranker: Ranker) -> npt.NDArray[np.float64]:
    """Return expected stars centred by movie. All users are included, because they are fewer than the sample size."""
    items, users = torch.arange(SIZES.n_items), torch.arange(SIZES.n_users)
    pairs = torch.cartesian_prod(items, users)
    moments = torch.full((len(pairs),), ranker.rated_at)
    stars = predict(ranker.network, Pairs(pairs[:, 1], pairs[:, 0], moments)).mean_B.double().numpy()
    table = stars.reshape(SIZES.n_items, SIZES.n_users)
    return np.asarray(table - table.mean(1, keepdims=True))


def centred_cosines(rows: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    rest = unit - unit.mean(0)
    rest /= np.linalg.norm(rest, axis=1, keepdims=True)
    return np.asarray(rest @ rest.T)


@pytest.mark.parametrize("n", [1, 5, 100])
def test_lists_equal_those_of_a_slow_implementation(ranker: Ranker, n: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SCORES_PER_BLOCK", 7 * SIZES.n_items)  # several blocks, the last one shorter
    lists, similarity = lists_of(find_similar(ranker, FEATURES, n)), slow_similarity(ranker)
    assert list(lists) == list(range(1, 39)), "39 and 40 have no ratings"
    for item, others in lists.items():
        expected = sorted(range(SIZES.n_items), key=lambda other: (-similarity[item, other], other))
        assert [other for other, _ in others] == expected[: min(n, 37)]
        assert [value for _, value in others] == pytest.approx(
            [similarity[item, other] for other, _ in others], abs=1e-4
        )


def test_blocks_of_any_size_give_the_same_movies(ranker: Ranker, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = lists_of(find_similar(ranker, FEATURES, 10))
    monkeypatch.setattr(module, "SCORES_PER_BLOCK", 1)
    in_blocks = lists_of(find_similar(ranker, FEATURES, 10))
    for item, others in whole.items():
        assert [other for other, _ in in_blocks[item]] == [other for other, _ in others]


def test_movies_are_not_similar_to_themselves_or_to_unrated_movies(ranker: Ranker) -> None:
    for item, others in lists_of(find_similar(ranker, FEATURES, 100)).items():
        found = {other for other, _ in others}
        assert found == set(range(1, 39)) - {item}
        assert all(-1 <= value <= 1 for _, value in others)


def test_closed_movies_are_not_similar_to_any(ranker: Ranker) -> None:
    """Closed movies still have similar movies themselves."""
    closed_I = torch.isin(torch.arange(SIZES.n_items), torch.tensor([0, 3, 4]))
    ruled = replace(ranker, eligibility=replace(ranker.eligibility, closed_I=closed_I))
    free = lists_of(find_similar(ranker, FEATURES, 100))
    expected = {item: [other for other, _ in others if other not in (3, 4)] for item, others in free.items()}
    for n in (1, 5, 100):
        lists = lists_of(find_similar(ruled, FEATURES, n))
        assert {item: [other for other, _ in lists[item]] for item in lists} == {
            item: others[:n] for item, others in expected.items()
        }


def test_similarity_is_symmetric_for_equal_numbers_of_ratings() -> None:
    rows = [(user, item) for user in range(1, 61) for item in range(1, 41) if (user + item // 4) % 2]
    user_idx, item_idx = torch.tensor(rows).unbind(1)
    train = Interactions(user_idx, item_idx, 1000 + torch.arange(len(rows)), torch.full((len(rows),), 4))
    ranker = fit_on(train)
    assert len(set(ranker.counts[1:].tolist())) == 1
    lists = lists_of(find_similar(ranker, FEATURES, 100))
    similarity = {(item, other): value for item, others in lists.items() for other, value in others}
    for (item, other), value in similarity.items():
        assert value == pytest.approx(similarity[other, item], abs=1e-5)


def test_movies_watched_and_liked_by_the_same_users_come_first(ranker: Ranker) -> None:
    """Users like movies of their own parity and rate them five times as often. Titles say nothing about parity."""
    lists = lists_of(find_similar(ranker, NO_FEATURES, 5))
    right = [(item - other) % 2 == 0 for item, others in lists.items() for other, _ in others]
    assert sum(right) / len(right) > 0.95


def test_a_movie_rated_by_all_users_is_not_similar_to_everything() -> None:
    """All users rated movie 6 equally. It is first in at most a tenth of the lists."""
    train = tastes()[0]
    others = train.take((train.item_idx != 6).nonzero().squeeze(1))
    users = torch.arange(1, 59)
    everybody = Interactions(*(torch.full_like(users, value) for value in (0, 6, 5000, 3)))
    everybody = replace(everybody, user_idx=users)
    parts = zip(vars(others).values(), vars(everybody).values(), strict=True)
    ranker = fit_on(Interactions(*(torch.cat(columns) for columns in parts)))
    assert ranker.counts.argmax() == 6
    lists = lists_of(find_similar(ranker, NO_FEATURES, 1))
    first = [others[0][0] for others in lists.values()]
    assert first.count(6) <= len(first) // 10


def test_similarities_to_rarely_rated_movies_are_shrunk() -> None:
    """Two movies with the same three raters have cosine 1, shrunk to 3 / 23."""
    train = tastes()[0]
    few = [(user, item) for user in (1, 3, 5) for item in (39, 40)]
    user_idx, item_idx = torch.tensor(few).unbind(1)
    rare = Interactions(user_idx, item_idx, torch.full_like(user_idx, 5000), torch.full_like(user_idx, 4))
    parts = zip(vars(train).values(), vars(rare).values(), strict=True)
    ranker = fit_on(Interactions(*(torch.cat(columns) for columns in parts)))
    similarity = dict(lists_of(find_similar(ranker, NO_FEATURES, 100))[39])[40]
    assert 0 < similarity <= 3 / 23 * 2 / 3 + 1e-6


@pytest.mark.parametrize(("retrievers", "n_parts"), [(("ease", "popularity"), 2), (("triplet", "ease"), 3)])
def test_vectors_come_from_als_or_towers(retrievers: tuple[str, ...], n_parts: int) -> None:
    """Without vectors, similarity is the mean of two cosines. Equal predictions leave only that of content."""
    config = RankConfig.model_validate({**dict(CONFIG), "retrievers": retrievers})
    ranker = fit_ranker(indifferent(SIZES.n_users, SIZES.n_items), tastes()[0], LEARNER, config, weights_of(config))
    best = lists_of(find_similar(ranker, FEATURES, 1))
    content = gather_content(FEATURES, SIZES.n_items).toarray()
    if n_parts == 2:  # equal predictions have a cosine of zero
        for item, [(other, value)] in best.items():
            assert value == pytest.approx(content[item] @ content[other] / 2, abs=1e-5)
    else:
        turned = replace(ranker, retrievers={"triplet": ranker.retrievers["triplet"]})
        assert lists_of(find_similar(turned, FEATURES, 1)) == best
        assert any(
            not math.isclose(value, content[item] @ content[other] / 3) for item, [(other, value)] in best.items()
        )


def test_ties_go_to_the_lower_index(ranker: Ranker) -> None:
    """All similarities are equal: there are no features and no vectors, and all predictions are equal."""
    bare = replace(
        ranker,
        network=indifferent(SIZES.n_users, SIZES.n_items),
        retrievers={"ease": ranker.retrievers["ease"]},
    )
    lists = lists_of(find_similar(bare, NO_FEATURES, 3))
    assert [other for other, _ in lists[2]] == [1, 3, 4]
    assert {value for others in lists.values() for _, value in others} == {0.0}
