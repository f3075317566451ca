"""Converts ranked blocks of indices to tables of ids."""

from collections.abc import Iterator

import numpy as np
import polars as pl
import pyarrow as pa
from torch import Tensor

from recsys.encode.vocabulary import Vocabulary
from recsys.rank.films import films_of
from recsys.rank.place import Block, rank_alone, rank_users
from recsys.rank.popular import rank_popular
from recsys.rank.ranker import Ranker, make_new_user
from recsys.rank.similar import Similar
from recsys.retrieve.histories import Histories


def list_blocks(blocks: Iterator[Block], vocabulary: Vocabulary) -> Iterator[pl.DataFrame]:
    """Yields (user_id, rank, movie_id, score, rating_hat, because_movie_ids, served_by), ordered by user and rank."""
    for block in blocks:
        yield _ids(block.user_idx, block.rank, block.item_idx, vocabulary).with_columns(
            pl.Series("score", block.score.numpy()),
            pl.Series("rating_hat", block.rating_hat.numpy()),
            _movie_lists(block.because, vocabulary),
            pl.Series("served_by", block.served_by, dtype=pl.String),
        )


def list_alone(ranker: Ranker, retriever: str, n: int, vocabulary: Vocabulary) -> pl.DataFrame:
    """Returns (user_id, rank, movie_id) of the best unseen movies by a single retriever."""
    return pl.concat(_ids(*block, vocabulary) for block in rank_alone(ranker, retriever, n))


def list_for_segment(ranker: Ranker, stated: tuple[str, ...], n: int, vocabulary: Vocabulary) -> pl.DataFrame:
    """Returns (rank, movie_id, score) for an unknown user with these properties, e.g. gender=F."""
    block = rank_users(ranker, make_new_user(ranker, stated), n, reasons=0)
    movie_ids = vocabulary.movie_ids[block.item_idx.numpy() - 1]
    return pl.DataFrame({"rank": block.rank.int().numpy(), "movie_id": movie_ids, "score": block.score.numpy()})


def list_popular(histories: Histories, n: int, vocabulary: Vocabulary) -> pl.DataFrame:
    """Returns (user_id, rank, movie_id) of the most rated unseen movies of each user with ratings."""
    return pl.concat(_ids(*block, vocabulary) for block in rank_popular(histories, films_of(vocabulary), n))


def list_similar(blocks: Iterator[Similar], vocabulary: Vocabulary) -> Iterator[pl.DataFrame]:
    """Yields (movie_id, rank, similar_movie_id, similarity), ordered by movie and rank, block by block."""
    for block in blocks:
        yield pl.DataFrame(
            {
                "movie_id": vocabulary.movie_ids[block.item_idx.numpy() - 1],
                "rank": block.rank.int().numpy(),
                "similar_movie_id": vocabulary.movie_ids[block.similar_idx.numpy() - 1],
                "similarity": block.similarity.double().numpy(),
            }
        )


def _movie_lists(items: Tensor, vocabulary: Vocabulary) -> pl.Series:
    """Converts rows padded with zeros to a column of lists of movie ids. Vectorised, because there are millions."""
    is_there = items.numpy() > 0
    ends = np.concatenate([[0], is_there.sum(axis=1).cumsum()]).astype(np.int32)
    movie_ids = vocabulary.movie_ids[items.numpy()[is_there] - 1]
    return pl.Series("because_movie_ids", pa.ListArray.from_arrays(pa.array(ends), pa.array(movie_ids)))


def _ids(user_idx: Tensor, rank: Tensor, item_idx: Tensor, vocabulary: Vocabulary) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "user_id": vocabulary.user_ids[user_idx.numpy() - 1],
            "rank": rank.int().numpy(),
            "movie_id": vocabulary.movie_ids[item_idx.numpy() - 1],
        }
    )
