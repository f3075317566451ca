"""`fold_in` in numpy gives the same list as the saved ranker in torch."""

import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from recsys.ask.fold_in import SavedRanker, fold_in
from recsys.rank.common import name_service
from recsys.rank.fit import fit_ranker
from recsys.rank.place import rank_users
from recsys.rank.ranker import Ranker, make_new_user
from recsys.rank.read_rules import Rule, Rules
from recsys.rank.ruled import apply_rules
from recsys.rank.saved_ranker import save_ranker
from recsys.rank.weights import Weights
from recsys.settings import AlsConfig, EaseConfig, RankConfig
from tests.support.planted import fit
from tests.support.rankers import LEARNER, tastes, weights_of

ALL_THREE = RankConfig(ease=EaseConfig(l2=20.0), als=AlsConfig(embedding_dim=4))


def change(**fields: object) -> RankConfig:
    return RankConfig.model_validate({**dict(ALL_THREE), **fields})


CONFIGS = {
    "ease": change(retrievers=("ease",)),
    "ease with a tail": change(retrievers=("ease",), ease=EaseConfig(l2=20.0, max_items=15)),
    "als": change(retrievers=("als",)),
    "popularity": change(retrievers=("popularity",)),
    "towers": change(retrievers=("triplet",)),
    "all": change(retrievers=("ease", "als", "popularity", "triplet")),
    "few candidates": change(candidates=8),
    "unpopular": change(popularity_penalty=0.7),
    "ruled": ALL_THREE,
}
RULES = Rules(
    min_ratings=20,  # also closes 39 and 40, which have no ratings
    blocked=(Rule("blocked[0]", pl.DataFrame({"movie_id": [2, 9]}, schema={"movie_id": pl.Int32})),),
)
RATINGS: dict[str, dict[int, float]] = {
    "nothing": {},
    "one": {4: 5.0},
    "three": {4: 5.0, 7: 2.0, 20: 4.0},
    "three disliked": {4: 1.0, 7: 1.0, 39: 1.0},
    "fifteen": {item: 1.0 + item % 5 for item in range(1, 31, 2)},
    "all but two": dict.fromkeys(range(3, 41), 4.0),
}
STATED = {"none": (), "a woman": ("gender=F",), "a man of 25 who writes": ("gender=M", "age=25", "occupation=writer")}


@dataclass(frozen=True)
class Pair:
    ranker: Ranker
    saved: SavedRanker


@pytest.fixture(scope="module", params=CONFIGS)
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    config, folder = CONFIGS[request.param], tmp_path_factory.mktemp("ranker")
    network, _ = fit("ordinal", train=tastes()[0])
    ranker = fit_ranker(network, tastes()[0], LEARNER, config, weights_of(config))
    if request.param == "ruled":
        ranker = apply_rules(ranker, RULES, LEARNER)
    save_ranker(ranker, folder)
    return Pair(ranker, SavedRanker(folder))


@pytest.mark.parametrize("stated", STATED.values(), ids=STATED)
@pytest.mark.parametrize("ratings", RATINGS.values(), ids=RATINGS)
def test_fold_in_gives_the_same_list_as_the_ranker(
    ratings: Mapping[int, float], stated: tuple[str, ...], pair: Pair
) -> None:
    for n in (1, 10, 60):
        check_same(pair, ratings, stated, n)


def check_same(pair: Pair, ratings: Mapping[int, float], stated: tuple[str, ...], n: int) -> None:
    block = rank_users(pair.ranker, make_new_user(pair.ranker, stated, ratings), n)
    folded = fold_in(pair.saved, ratings, stated, n)
    assert folded.item_idx.tolist() == block.item_idx.tolist()
    # the logarithm of an affinity just above MIN_AFFINITY shows the rounding of float32
    np.testing.assert_allclose(folded.score, block.score.numpy(), rtol=0, atol=1e-3)
    np.testing.assert_allclose(folded.rating_hat, block.rating_hat.numpy(), rtol=0, atol=1e-5)
    assert folded.because == [[item for item in row if item] for row in block.because.tolist()]
    served_by = name_service(len(ratings), is_stated=bool(stated))
    assert block.served_by == [served_by] * len(block.item_idx)


def test_repeated_properties_count_once(pair: Pair) -> None:
    once, twice = (fold_in(pair.saved, {4: 5.0}, stated, 10) for stated in (["gender=F"], ["gender=F", "gender=F"]))
    assert once.item_idx.tolist() == twice.item_idx.tolist()
    assert once.score.tolist() == twice.score.tolist()


def test_served_by_depends_on_ratings_and_properties() -> None:
    assert [name_service(n, is_stated=False) for n in (0, 1, 9, 10)] == [
        "default",
        "few ratings",
        "few ratings",
        "history",
    ]
    assert [name_service(n, is_stated=True) for n in (0, 1, 10)] == ["features", "few ratings", "history"]


def test_disliked_movies_propose_nothing(pair: Pair) -> None:
    """Without the parts of the network, the list is that of someone without ratings, except for the rated movies."""
    by_size = pair.ranker.weights.by_size
    silent = Weights({size: row | {"stars": 0.0, "likes": 0.0} for size, row in by_size.items()})
    ranker = replace(pair.ranker, weights=silent)
    unrated, disliking = (
        rank_users(ranker, make_new_user(ranker, (), ratings), 60) for ratings in ({}, {4: 1.0, 7: 2.0})
    )
    unseen = [item for item in unrated.item_idx.tolist() if item not in (4, 7)]
    assert disliking.item_idx.tolist() == unseen
    assert not disliking.because.any()


def test_new_movies_are_listed_unless_rules_close_them(pair: Pair, request: pytest.FixtureRequest) -> None:
    """Movies 39 and 40 have no ratings. They are in every list that is long enough, unless rules close them."""
    listed = set(fold_in(pair.saved, {4: 5.0}, (), 60).item_idx.tolist())
    if request.node.callspec.params["pair"] == "ruled":
        counts = pair.ranker.counts
        assert listed == {item for item in range(1, 41) if counts[item] >= 20} - {2, 4, 9}
    elif request.node.callspec.params["pair"] == "few candidates":
        assert listed == set(range(1, 41)) - {4}, "there are at least n candidates"
    else:
        assert listed == set(range(1, 41)) - {4}


def test_ratings_and_properties_change_the_list() -> None:
    """The weights are those of the largest size reached. `weights_of` has the sizes 0, 1, 3 and 10."""
    by_size = weights_of(ALL_THREE).by_size
    assert list(by_size) == [0, 1, 3, 10]
    assert len({tuple(row.values()) for row in by_size.values()}) == 4


def test_torch_is_not_imported() -> None:
    """Importing torch takes seconds, and this list is computed while a person waits."""
    program = "import sys, recsys.ask.fold_in, recsys.ask.newcomer; print(*sys.modules, sep='\\n')"
    loaded = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2]
    ).stdout.splitlines()
    assert "recsys.ask.newcomer" in loaded
    assert not {"torch", "prefect"} & set(loaded)
