from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import torch

from recsys.encode.vocabulary import Vocabulary
from recsys.rank.lists import list_alone, list_blocks, list_for_segment, list_popular
from recsys.rank.place import Block, rank_movies
from recsys.rank.weights import Weights
from recsys.retrieve.popularity import Properties, fit_popularity
from recsys.settings import PopularityConfig
from tests.support.rankers import CPU, hand_made, histories_of, ranker_of

VOCABULARY = Vocabulary(np.array([10, 20, 30], np.int32), np.array([100, 200, 300, 400, 2**31 - 1], np.int32))


def blocks() -> Iterator[Block]:
    yield Block(
        user_idx=torch.tensor([1, 1]),
        rank=torch.tensor([1, 2]),
        item_idx=torch.tensor([5, 1]),
        score=torch.tensor([0.5, -1.5], dtype=torch.float64),
        rating_hat=torch.tensor([4.5, 3.25]),
        served_by=["history", "history"],
        because=torch.tensor([[2, 3, 4], [0, 0, 0]]),
    )
    yield Block(
        user_idx=torch.tensor([3]),
        rank=torch.tensor([1]),
        item_idx=torch.tensor([2]),
        score=torch.tensor([0.25], dtype=torch.float64),
        rating_hat=torch.tensor([2.0]),
        served_by=["few ratings"],
        because=torch.tensor([[1, 0, 0]]),
    )


def empty_block() -> Iterator[Block]:
    none = torch.empty(0, dtype=torch.int64)
    yield Block(none, none, none, none.double(), none.float(), [], none.view(0, 3))


def test_indices_become_ids_block_by_block() -> None:
    first, second = list_blocks(blocks(), VOCABULARY)
    assert first.schema == {
        "user_id": pl.Int32,
        "rank": pl.Int32,
        "movie_id": pl.Int32,
        "score": pl.Float64,
        "rating_hat": pl.Float32,
        "because_movie_ids": pl.List(pl.Int32),
        "served_by": pl.String,
    }
    assert first.rows() == [
        (10, 1, 2**31 - 1, 0.5, 4.5, [200, 300, 400], "history"),
        (10, 2, 100, -1.5, 3.25, [], "history"),
    ]
    assert second.rows() == [(30, 1, 200, 0.25, 2.0, [100], "few ratings")]


def test_a_block_without_lists_has_the_same_columns() -> None:
    (nothing,) = list_blocks(empty_block(), VOCABULARY)
    assert nothing.is_empty()
    assert nothing.schema == next(list_blocks(blocks(), VOCABULARY)).schema


# user 10 has rated 100 and 200, user 20 has rated 200 and 400; user 30 and the last movie have no ratings
HISTORIES = histories_of({1: [1, 2], 2: [2, 4]}, n_users=4, n_items=6)
SHARES = {(1, 4): 0.5, (2, 4): 0.25, (4, 1): 0.25}


def test_lists_of_all_users_have_reasons_and_served_by() -> None:
    (lists,) = list_blocks(rank_movies(hand_made(SHARES, HISTORIES), 2), VOCABULARY)
    columns = ("user_id", "rank", "movie_id", "because_movie_ids", "served_by")
    assert lists.select(columns).rows() == [
        (10, 1, 400, [100, 200], "few ratings"),
        (20, 1, 100, [400], "few ratings"),
        (30, 1, 100, [], "default"),
        (30, 2, 200, [], "default"),
    ]


def test_lists_of_one_retriever_alone() -> None:
    ranker = hand_made(SHARES, HISTORIES)
    lists = list_alone(ranker, "ease", 1, VOCABULARY)
    assert lists.schema == {"user_id": pl.Int32, "rank": pl.Int32, "movie_id": pl.Int32}
    assert lists.rows() == [(10, 1, 400), (20, 1, 100), (30, 1, 100)]


def test_popular_lists_of_users_with_a_history() -> None:
    assert list_popular(HISTORIES, 3, VOCABULARY).rows() == [(10, 1, 400), (20, 1, 100)]


def test_lists_for_users_without_ratings() -> None:
    """Both women have rated the second movie, one of them also the first. The only man has rated the first and last."""
    histories = histories_of({1: [1, 2], 2: [2], 3: [1, 5]}, n_users=4, n_items=6)
    values_UF = torch.tensor([[0.0, 0.0], [1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    properties = Properties(("gender=F", "gender=M"), values_UF)
    popularity = fit_popularity(histories, properties, PopularityConfig(l2=0.1), CPU)
    weights = Weights({0: {"popularity": 1.0, "stars": 0.0, "likes": 0.0}})
    ranker = replace(ranker_of(histories, {"popularity": popularity}, weights), properties=properties)
    for_women, for_men, for_all = (
        list_for_segment(ranker, stated, 10, VOCABULARY) for stated in (("gender=F",), ("gender=M",), ())
    )
    assert for_women.schema == {"rank": pl.Int32, "movie_id": pl.Int32, "score": pl.Float64}
    assert for_women["movie_id"].to_list() == [200, 100, 2**31 - 1]
    assert for_men["movie_id"].to_list() == [100, 2**31 - 1, 200]
    assert for_all["movie_id"].to_list() == [100, 200, 2**31 - 1]
    assert for_all["rank"].to_list() == [1, 2, 3]
    assert for_all["score"].to_list() == pytest.approx([np.log(2 / 3), np.log(2 / 3), np.log(1 / 3)], abs=1e-6)
    assert list_for_segment(ranker, (), 2, VOCABULARY).equals(for_all.head(2))
