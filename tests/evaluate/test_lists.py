import math
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import torch

from recsys.encode.features import NO_FEATURES, Feature, Features
from recsys.encode.vocabulary import Vocabulary
from recsys.evaluate.lists import ListQuality, compare_lists, gather_catalogue, judge_lists
from recsys.evaluate.slices import measure_list_slices
from recsys.metrics.bootstrap import bootstrap_interval
from recsys.metrics.lists import list_metrics, user_metrics
from recsys.models import Interactions
from tests.support.planted import FEATURES, LEVELS, rows_of

# Ids are ten times their indices; movie 5 is known but not rated.
VOCABULARY = Vocabulary(np.arange(10, 50, 10, dtype=np.int32), np.arange(10, 60, 10, dtype=np.int32))
GENRES = Feature(("Comedy", "Drama"), torch.tensor([0, 1, 2, 4, 5, 6, 7]), torch.tensor([0, 1, 1, 2, 2, 0, 1]))


def rated(*pairs: tuple[int, int]) -> Interactions:
    user_idx, item_idx = torch.tensor(pairs).unbind(1)
    return rows_of(user_idx, item_idx, torch.full_like(user_idx, len(LEVELS) - 1))


TRAIN = rated((1, 1), (1, 2), (2, 1), (2, 1), (3, 3), (3, 4), (4, 1))
LISTS = {
    "network": pl.DataFrame(
        {"user_id": [10, 10, 20, 30, 40], "rank": [1, 2, 1, 1, 1], "movie_id": [30, 40, 20, 10, 20]}
    ),
    "popularity": pl.DataFrame({"user_id": [10, 20, 30, 40], "rank": [1, 1, 1, 1], "movie_id": [40, 30, 20, 30]}),
}
RELEVANT = pl.DataFrame({"user_id": [10, 20, 30], "movie_id": [40, 20, 20]})

LISTABLE = torch.arange(VOCABULARY.n_movies) > 0  # all but the unknown


def test_the_catalogue_has_the_listable_movies() -> None:
    catalogue = gather_catalogue(TRAIN, VOCABULARY, Features({}, {"genres": GENRES}), LISTABLE)
    # a repeated pair counts as one user
    assert catalogue.movies.rows() == [
        (10, 3),
        (20, 1),
        (30, 1),
        (40, 1),
        (50, 0),
    ]
    assert catalogue.n_users == 4
    named = {10: ["Comedy"], 20: ["Comedy", "Drama"], 30: ["Drama"], 50: ["Comedy"]}
    assert sorted(catalogue.genres.rows()) == [(movie, genre) for movie, names in named.items() for genre in names]
    assert gather_catalogue(TRAIN, VOCABULARY, NO_FEATURES, LISTABLE).genres.is_empty()


def test_metrics_of_all_lists_and_intervals_of_the_network() -> None:
    features = Features({}, {"genres": GENRES})
    quality = judge_lists(LISTS, RELEVANT, TRAIN, VOCABULARY, features, LISTABLE, seed=7)
    catalogue = gather_catalogue(TRAIN, VOCABULARY, features, LISTABLE)
    users = {name: user_metrics(frame, RELEVANT) for name, frame in LISTS.items()}
    expected = {name: list_metrics(users[name], frame, catalogue) for name, frame in LISTS.items()}
    assert quality.metrics["popularity"] == expected["popularity"]
    network = quality.metrics["network"]
    assert {name: network[name] for name in expected["network"]} == expected["network"]
    assert (network["users_with_relevant"], network["users_without_relevant"]) == (3, 1)
    of_users = ["ndcg_at_10", "recall_at_10", "recall_at_50", "mrr_at_50", "hit_rate_at_10"]
    ends = {f"{name}_{end}" for name in of_users for end in ("low", "high")}
    assert network.keys() - expected["network"].keys() == ends
    for name in of_users:
        interval = (network[f"{name}_low"], network[f"{name}_high"])
        assert interval == bootstrap_interval(users["network"][name].to_numpy(), seed=7)
    assert quality.slices == measure_list_slices(users["network"], TRAIN, VOCABULARY, features)


def test_hits_are_counted_by_film() -> None:
    """Movies 10 and 20 are one film: user 20 has rated it, and user 30, who finds 20 relevant, is shown 10."""
    vocabulary = replace(VOCABULARY, film_of={20: 10})
    quality = judge_lists(LISTS, RELEVANT, TRAIN, vocabulary, NO_FEATURES, LISTABLE, seed=7)
    relevant = pl.DataFrame({"user_id": [10, 30], "movie_id": [40, 10]})
    users = user_metrics(LISTS["network"], relevant)
    assert users["ndcg_at_10"].to_list() == pytest.approx([1 / math.log2(3), 1.0])
    assert quality.metrics["network"]["ndcg_at_10"] == users["ndcg_at_10"].mean()
    assert quality.metrics["network"]["users_with_relevant"] == 2
    assert quality.metrics["network"]["coverage_at_10"] == 4 / 5  # by movie_id


def test_the_networks_lists_are_compared_with_others_user_by_user() -> None:
    """Of 40 users, the first 30 find their movie in second place, and in first place of the most rated movies."""
    users = range(1, 41)
    relevant = pl.DataFrame({"user_id": users, "movie_id": [1] * 40})
    second = {"network": 30, "popularity": 0, "ease": 30}  # the first users, who find their movie in second place
    lists = {
        name: pl.DataFrame({"user_id": users, "rank": [2 if user <= n_second else 1 for user in users], "movie_id": 1})
        for name, n_second in second.items()
    }
    metrics = {name: user_metrics(frame, relevant) for name, frame in lists.items()}
    quality = ListQuality({}, {}, metrics)
    popular, ease = compare_lists(quality, ("popularity", "ease", "als"), error_rate=0.01, seed=0)
    loss = 30 / 40 * (1 / np.log2(3) - 1)
    assert (popular.metric, popular.slice) == ("ndcg_at_10", "popularity")
    assert popular.value == pytest.approx(loss)
    assert popular.low < loss < popular.high < 0
    assert (ease.slice, ease.value, ease.low, ease.high) == ("ease", 0, 0, 0)
    few = ListQuality({}, {}, {name: frame[:19] for name, frame in metrics.items()})
    assert compare_lists(few, ("popularity",), error_rate=0.01, seed=0) == ()


def test_without_relevant_movies_there_are_neither_intervals_nor_slices() -> None:
    quality = judge_lists(LISTS, RELEVANT.clear(), TRAIN, VOCABULARY, NO_FEATURES, LISTABLE, seed=7)
    assert not any(name.endswith(("_low", "_high")) for name in quality.metrics["network"])
    assert quality.metrics["network"]["users_without_relevant"] == 4
    assert quality.slices == {}


def test_figures_and_intervals_do_not_depend_on_the_order_of_rows() -> None:
    rng = np.random.default_rng(0)
    vocabulary = Vocabulary(np.arange(1, 61, dtype=np.int32), np.arange(1, 41, dtype=np.int32))
    train = rated(*((user, int(movie)) for user in range(1, 61) for movie in rng.permutation(40)[:20] + 1))
    shown = {user: (rng.permutation(40)[:30] + 1).tolist() for user in range(1, 61)}
    rows = [(user, rank, movie) for user, movies in shown.items() for rank, movie in enumerate(movies, start=1)]
    lists = pl.DataFrame(rows, ["user_id", "rank", "movie_id"], orient="row")
    relevant = lists.filter(pl.Series(rng.uniform(size=len(lists)) < 0.2)).select("user_id", "movie_id")
    figures = []
    for seed in range(4):
        mixed, right = (frame.sample(fraction=1, shuffle=True, seed=seed) for frame in (lists, relevant))
        order = torch.randperm(len(train), generator=torch.Generator().manual_seed(seed))
        figures.append(
            judge_lists(
                {"network": mixed}, right, train.take(order), vocabulary, FEATURES, torch.arange(41) > 0, seed=0
            )
        )
    assert all(one == figures[0] for one in figures)
    assert {"user_activity=1-20", "gender=F", "gender=M"} < figures[0].slices.keys()
    network = figures[0].metrics["network"]
    assert network["ndcg_at_10_low"] < network["ndcg_at_10"] < network["ndcg_at_10_high"]
    assert network["diversity_at_10"] == pytest.approx(0.9, abs=0.1)
