"""Writes Parquet files of ids: the lists of all users, default lists, similar movies, and inputs of the audit."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from recsys.encode.features import Features
from recsys.encode.vocabulary import Vocabulary
from recsys.files import read_table, replacing
from recsys.progress import progress
from recsys.rank.common import EVERYBODY
from recsys.rank.lists import list_blocks, list_for_segment, list_similar
from recsys.rank.place import rank_movies
from recsys.rank.ranker import Ranker
from recsys.rank.read_rules import Rules
from recsys.rank.ruled import count_available
from recsys.rank.similar import find_similar

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class AuditInputs:
    """Files in `folder` that the audit reads in addition to the lists."""

    folder: Path

    @property
    def available(self) -> Path:
        """(movie_id)"""
        return self.folder / "available.parquet"

    @property
    def shortened(self) -> Path:
        """(user_id, n_available)"""
        return self.folder / "shortened.parquet"

    @property
    def blocked(self) -> Path:
        """(user_id, movie_id, genre); null matches any value"""
        return self.folder / "blocked.parquet"

    @property
    def caps(self) -> Path:
        """(movie_id, group_name, at_most)"""
        return self.folder / "caps.parquet"


CROSSED = ("gender", "age")  # properties that segments combine; with occupations, there would be hundreds of segments
LISTS = pa.schema(
    [
        pa.field("user_id", pa.int32()),
        pa.field("rank", pa.int32()),
        pa.field("movie_id", pa.int32()),
        pa.field("score", pa.float64()),
        pa.field("rating_hat", pa.float32()),
        pa.field("because_movie_ids", pa.list_(pa.int32())),
        pa.field("served_by", pa.string()),
    ]
)
SIMILAR = pa.schema(
    [
        pa.field("movie_id", pa.int32()),
        pa.field("rank", pa.int32()),
        pa.field("similar_movie_id", pa.int32()),
        pa.field("similarity", pa.float64()),
    ]
)


def write_lists(ranker: Ranker, n: int, vocabulary: Vocabulary, path: Path) -> None:
    """Writes the `n` best unseen movies of every user, block by block."""
    with progress("lists", len(vocabulary.user_ids), "users", logger) as advance:

        def blocks() -> Iterator[pl.DataFrame]:
            for block in list_blocks(rank_movies(ranker, n), vocabulary):
                yield block
                advance(block["user_id"].n_unique(), "")

        _write(blocks(), LISTS, path)


def write_default_lists(ranker: Ranker, n: int, vocabulary: Vocabulary, path: Path) -> None:
    """Writes (segment, rank, movie_id, score): the `n` best movies for each segment of unknown users."""
    segments = name_segments(ranker.properties.names)
    lists = [
        list_for_segment(ranker, stated, n, vocabulary).select(
            pl.lit(" ".join(stated) or EVERYBODY).alias("segment"), "rank", "movie_id", "score"
        )
        for stated in segments
    ]
    with replacing(path) as aside:
        pl.concat(lists).write_parquet(aside)


def write_similar(ranker: Ranker, features: Features, n: int, vocabulary: Vocabulary, path: Path) -> None:
    """Writes (movie_id, rank, similar_movie_id, similarity): the `n` most similar movies of each rated movie."""
    _write(list_similar(find_similar(ranker, features, n), vocabulary), SIMILAR, path)


def write_audit_inputs(
    ranker: Ranker, rules: Rules, lists: Path, n: int, vocabulary: Vocabulary, to: AuditInputs
) -> None:
    """Writes the inputs of the audit: the movies that may be listed, users with fewer than `n` of them, and the rules.

    The movies that are left for a user are counted independently of the lists. With caps, they are counted from the
    lists, because only filling a list shows how many movies fit.
    """
    listable = ranker.listable & ~ranker.eligibility.closed_I
    available = pl.DataFrame({"movie_id": vocabulary.movie_ids[listable.nonzero().squeeze(1).numpy() - 1]})
    lengths = read_table(lists, columns=["user_id"]).group_by("user_id").len("n_available")
    all_users = pl.DataFrame({"user_id": vocabulary.user_ids}).join(lengths, on="user_id", how="left").fill_null(0)
    shortened = all_users.filter(pl.col("n_available") < n).sort("user_id").cast({"n_available": pl.Int64})
    if len(shortened) and not len(ranker.eligibility.caps.at_most_G):
        left = count_available(ranker, torch.from_numpy(vocabulary.encode_users(shortened["user_id"].to_numpy())))
        shortened = shortened.with_columns(n_available=pl.Series(left.numpy())).filter(pl.col("n_available") < n)
    frames = (available, shortened, rules.blocked_table(), rules.caps_table())
    for frame, path in zip(frames, (to.available, to.shortened, to.blocked, to.caps), strict=True):
        with replacing(path) as aside:
            frame.write_parquet(aside)


def name_segments(properties: tuple[str, ...]) -> list[tuple[str, ...]]:
    """Returns the properties of each segment: none, a single one, or a gender and an age."""
    crossed = [[name for name in properties if name.startswith(f"{kind}=")] for kind in CROSSED]
    return [(), *((name,) for name in properties), *product(*crossed)]


def _write(blocks: Iterator[pl.DataFrame], schema: pa.Schema, path: Path) -> None:
    with replacing(path) as aside, pq.ParquetWriter(aside, schema, compression="zstd") as writer:
        for block in blocks:
            writer.write_table(block.to_arrow().cast(schema))
