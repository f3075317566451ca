"""Splits ratings into train, validation and holdout, by seed or by time. The order of rows does not matter."""

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow.parquet as pq

from recsys.checks.check import Checked
from recsys.errors import DataRefused
from recsys.files import read_table, replacing
from recsys.home import Run
from recsys.schema import RATINGS
from recsys.settings import SplitConfig

logger = logging.getLogger(__name__)

HOLDOUT_SALT = 1  # the salts differ, because the two draws must be independent
VALIDATION_SALT = 2
TIE_SALT = 3

Hashes = npt.NDArray[np.uint64]
Cut = tuple[pl.DataFrame, pl.DataFrame]


@dataclass(frozen=True)
class Split:
    """Three disjoint files of ratings in `folder`, canonical columns, sorted by user_id and movie_id."""

    folder: Path

    @property
    def train(self) -> Path:
        return self.folder / "train.parquet"

    @property
    def validation(self) -> Path:
        """Cut from the ratings outside the holdout; networks and epochs are chosen on it."""
        return self.folder / "validation.parquet"

    @property
    def holdout(self) -> Path:
        """Used once, after everything is chosen."""
        return self.folder / "holdout.parquet"

    def read_rest(self) -> pl.DataFrame:
        """Train and validation together, in a fixed order, so that training gives the same weights every time."""
        return pl.concat([read_table(self.train), read_table(self.validation)]).sort("user_id", "movie_id")


def split_ratings(checked: Checked, run: Run, config: SplitConfig, seed: int) -> Split:
    """Writes the three parts of the admitted ratings.

    Raises: DataRefused if there are so few ratings that a part would be empty.
    """
    split = Split(run.split)
    rest, holdout = cut_holdout(read_table(checked.ratings), config, seed)
    train, validation = cut_validation(rest, config, seed)
    for part, path in ((train, split.train), (validation, split.validation), (holdout, split.holdout)):
        _write_part(part, path)
        logger.info("%s: %d ratings", path.stem, len(part))
    return split


def cut_holdout(ratings: pl.DataFrame, config: SplitConfig, seed: int) -> Cut:
    """Splits `ratings` (canonical columns) into (rest, holdout), each sorted by user_id and movie_id.

    Raises: DataRefused if there are so few ratings that a part would be empty.
    """
    return _cut(ratings, config, config.holdout_share, seed, HOLDOUT_SALT)


def cut_validation(ratings: pl.DataFrame, config: SplitConfig, seed: int) -> Cut:
    """Splits the rest into (train, validation), in the same way as the holdout was cut.

    Raises: DataRefused if there are so few ratings that a part would be empty.
    """
    return _cut(ratings, config, config.validation_share, seed, VALIDATION_SALT)


def split_validation(ratings: pl.DataFrame, share: float, seed: int) -> Cut:
    """Splits `ratings` (user_id, movie_id and any other columns) at random into (train, validation), sorted by key.

    Raises: DataRefused if there are so few ratings that a part would be empty.
    """
    return _draw(ratings, share, seed, VALIDATION_SALT)


def _cut(ratings: pl.DataFrame, config: SplitConfig, share: float, seed: int, salt: int) -> Cut:
    if config.kind == "time":
        return _newest(ratings, share)
    if config.kind == "last":
        return _last_of_each(ratings, config.last_k)
    return _draw(ratings, share, seed, salt)


def _newest(ratings: pl.DataFrame, share: float) -> Cut:
    """(rest, newest): `newest` is the `share` of the rows rated last. Ties: see `_with_tie`."""
    by_time = _with_tie(ratings).sort("rated_at", "tie").drop("tie")
    n_before = len(by_time) - _count(by_time, share)
    return by_time[:n_before].sort("user_id", "movie_id"), by_time[n_before:].sort("user_id", "movie_id")


def _last_of_each(ratings: pl.DataFrame, k: int) -> Cut:
    """(rest, held): `held` are the `k` latest ratings of each user. Ties: see `_with_tie`.

    All ratings of users with at most `k` stay in the rest, because otherwise nothing could be learned about them.
    """
    by_time = _with_tie(ratings).sort("user_id", "rated_at", "tie").drop("tie")
    from_end = pl.len().over("user_id") - pl.int_range(pl.len()).over("user_id")  # 1 is a user's last
    is_held = (from_end <= k) & (pl.len().over("user_id") > k)
    marked = by_time.with_columns(is_held=is_held).sort("user_id", "movie_id")
    rest, held = (marked.filter(part).drop("is_held") for part in (~pl.col("is_held"), pl.col("is_held")))
    if held.is_empty():
        raise DataRefused(
            f"no user has more than {k} ratings, so holding out the last {k} of each user would leave nothing to learn "
            "from. Next: provide more ratings or a lower last_k (RECSYS_SPLIT__LAST_K)"
        )
    return rest, held


def _with_tie(ratings: pl.DataFrame) -> pl.DataFrame:
    """Adds a column by which ratings of the same second are ordered: a hash of both ids.

    The ids themselves carry information: low movie_ids are the oldest and best-known movies. If they decided which of
    the ratings of one second are held out, the figures of popularity would depend on them.
    """
    hashes = _hash_pairs(ratings["user_id"].to_numpy(), ratings["movie_id"].to_numpy(), 0, TIE_SALT)
    return ratings.with_columns(tie=pl.Series(hashes))


def _count(ratings: pl.DataFrame, share: float) -> int:
    """The number of rows in the `share`, rounded."""
    n_drawn = round(share * len(ratings))
    if not 0 < n_drawn < len(ratings):
        raise DataRefused(
            f"{len(ratings)} ratings cannot be split at a share of {share:g}: one part would be empty. "
            "Next: provide more ratings or another share"
        )
    return n_drawn


def _draw(ratings: pl.DataFrame, share: float, seed: int, salt: int) -> Cut:
    """(rest, drawn): `drawn` is the `share` of the rows whose (user_id, movie_id) come first in a seeded order."""
    ordered = ratings.sort("user_id", "movie_id", *sorted({*ratings.columns} - {"user_id", "movie_id"}))
    n_drawn = _count(ordered, share)
    hashes = _hash_pairs(ordered["user_id"].to_numpy(), ordered["movie_id"].to_numpy(), seed, salt)
    drawn = np.zeros(len(ordered), dtype=np.bool_)
    drawn[np.argsort(hashes, kind="stable")[:n_drawn]] = True
    return ordered.filter(~drawn), ordered.filter(drawn)


def _hash_pairs(user_ids: npt.NDArray[np.int32], movie_ids: npt.NDArray[np.int32], seed: int, salt: int) -> Hashes:
    """One hash per pair, (B,) uint64. Every step is invertible, so different pairs have different hashes."""
    pairs = (user_ids.astype(np.uint64) << np.uint64(32)) | movie_ids.astype(np.uint32)
    key = splitmix64(splitmix64(np.array([seed], dtype=np.uint64)) ^ np.uint64(salt))
    return splitmix64(splitmix64(pairs) ^ key)


def splitmix64(values: Hashes) -> Hashes:
    """The output of the generator splitmix64 for each state, (B,) uint64 -> (B,) uint64, one to one.

    Implemented here because the hashes of Python, Polars and DuckDB may change between versions.

    Source: Steele, Lea and Flood, "Fast Splittable Pseudorandom Number Generators", OOPSLA 2014, figure 16.
    """
    z = values + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def _write_part(part: pl.DataFrame, path: Path) -> None:
    with replacing(path) as aside:
        pq.write_table(part.select(RATINGS.names).to_arrow().cast(RATINGS), aside, compression="zstd")
