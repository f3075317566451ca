"""Ranked lists as tables of ids, from the blocks of indices that ranking yields."""

from collections.abc import Iterator
from itertools import chain

import numpy as np
import polars as pl
import pyarrow as pa
from torch import Tensor

from recsys.rank import Block, Histories, rank_popular
from recsys.vocabulary import Vocabulary


def list_blocks(blocks: Iterator[Block], vocabulary: Vocabulary) -> Iterator[pl.DataFrame]:
    """(user_id, rank, movie_id, score, rating_hat, because_movie_ids), ordered by user and rank, block by block."""
    for block in blocks:
        yield _ids(block.user_idx, block.rank, block.item_idx, vocabulary).with_columns(
            pl.Series("score", block.score.numpy()),
            pl.Series("rating_hat", block.rating_hat.numpy()),
            _movie_lists(block.because, vocabulary),
        )


def _movie_lists(items: list[list[int]], vocabulary: Vocabulary) -> pl.Series:
    """A column of lists of movie ids; built flat, since a million short lists one by one take seconds."""
    ends = np.cumsum([0, *map(len, items)], dtype=np.int32)
    flat = np.fromiter(chain.from_iterable(items), dtype=np.int64, count=int(ends[-1]))
    lists = pa.ListArray.from_arrays(pa.array(ends), pa.array(vocabulary.movie_ids[flat - 1]))
    return pl.Series("because_movie_ids", lists)


def list_popular(histories: Histories, n: int, vocabulary: Vocabulary) -> pl.DataFrame:
    """(user_id, rank, movie_id) of the most rated movies that each user with a history has not seen."""
    return pl.concat(_ids(*block, vocabulary) for block in rank_popular(histories, n))


def _ids(user_idx: Tensor, rank: Tensor, item_idx: Tensor, vocabulary: Vocabulary) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "user_id": vocabulary.user_ids[user_idx.numpy() - 1],
            "rank": rank.int().numpy(),
            "movie_id": vocabulary.movie_ids[item_idx.numpy() - 1],
        }
    )


def list_popular_for(user_ids: pl.Series, histories: Histories, n: int, vocabulary: Vocabulary) -> pl.DataFrame:
    """(user_id, rank, movie_id, score) for users without a history: the most rated movies; score is log count."""
    counts = histories.counts()
    items = counts.argsort(descending=True, stable=True)[: min(n, int((counts > 0).sum()))]
    popular = pl.DataFrame(
        {
            "rank": pl.int_range(1, len(items) + 1, dtype=pl.Int32, eager=True),
            "movie_id": vocabulary.movie_ids[items.numpy() - 1],
            "score": counts[items].double().log().numpy(),
        }
    )
    return user_ids.unique().sort().to_frame("user_id").join(popular, how="cross")
