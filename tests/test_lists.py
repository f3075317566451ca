from collections.abc import Iterator

import numpy as np
import polars as pl
import torch
from planted import rows_of

from recsys.lists import list_blocks, list_popular, list_popular_for
from recsys.rank import Block, gather_histories
from recsys.vocabulary import Vocabulary

VOCABULARY = Vocabulary(np.array([10, 20, 30], np.int32), np.array([100, 200, 300, 400, 2**31 - 1], np.int32))


def blocks() -> Iterator[Block]:
    yield Block(
        user_idx=torch.tensor([1, 1]),
        rank=torch.tensor([1, 2]),
        item_idx=torch.tensor([5, 1]),
        score=torch.tensor([0.5, -1.5], dtype=torch.float64),
        rating_hat=torch.tensor([4.5, 3.25]),
        because=[[2, 3, 4], []],
    )
    yield Block(
        user_idx=torch.tensor([3]),
        rank=torch.tensor([1]),
        item_idx=torch.tensor([2]),
        score=torch.tensor([0.25], dtype=torch.float64),
        rating_hat=torch.tensor([2.0]),
        because=[[1]],
    )


def empty_block() -> Iterator[Block]:
    none = torch.empty(0, dtype=torch.int64)
    yield Block(none, none, none, none.double(), none.float(), [])


def test_indices_become_ids_block_by_block() -> None:
    first, second = list_blocks(blocks(), VOCABULARY)
    assert first.schema == {
        "user_id": pl.Int32,
        "rank": pl.Int32,
        "movie_id": pl.Int32,
        "score": pl.Float64,
        "rating_hat": pl.Float32,
        "because_movie_ids": pl.List(pl.Int32),
    }
    assert first.rows() == [
        (10, 1, 2**31 - 1, 0.5, 4.5, [200, 300, 400]),
        (10, 2, 100, -1.5, 3.25, []),
    ]
    assert second.rows() == [(30, 1, 200, 0.25, 2.0, [100])]


def test_a_block_without_lists_has_the_same_columns() -> None:
    (nothing,) = list_blocks(empty_block(), VOCABULARY)
    assert nothing.is_empty()
    assert nothing.schema == next(list_blocks(blocks(), VOCABULARY)).schema


# user 10 has rated 100 and 200, user 20 200 and 400; user 30 and the last movie have no rating
HISTORIES = gather_histories(
    rows_of(torch.tensor([1, 1, 2, 2]), torch.tensor([1, 2, 2, 4]), torch.zeros(4)), n_users=4, n_items=6
)


def test_popular_lists_of_users_with_a_history() -> None:
    assert list_popular(HISTORIES, 3, VOCABULARY).rows() == [(10, 1, 400), (20, 1, 100)]


def test_popular_lists_for_users_without_one() -> None:
    lists = list_popular_for(pl.Series([77, 5, 77], dtype=pl.Int32), HISTORIES, 2, VOCABULARY)
    assert lists.rows() == [
        (5, 1, 200, np.log(2)),
        (5, 2, 100, 0.0),  # one rating each: the lower index first
        (77, 1, 200, np.log(2)),
        (77, 2, 100, 0.0),
    ]


def test_only_rated_movies_are_popular() -> None:
    lists = list_popular_for(pl.Series([5], dtype=pl.Int32), HISTORIES, 10, VOCABULARY)
    assert lists["movie_id"].to_list() == [200, 100, 400]
    assert list_popular_for(pl.Series([], dtype=pl.Int32), HISTORIES, 10, VOCABULARY).is_empty()
