"""The mapping from MovieLens ids to contiguous indices into embedding tables; index 0 is the unknown id."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from recsys.files import read_table, replacing

Ids = npt.NDArray[np.int32]
Indices = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)  # comparing arrays does not give a single bool; compare content_hash() instead
class Vocabulary:
    """The known ids as strictly ascending int32 arrays; the index of `user_ids[i]` is i + 1."""

    user_ids: Ids
    movie_ids: Ids

    def __post_init__(self) -> None:
        for ids in (self.user_ids, self.movie_ids):
            assert ids.dtype == np.int32, f"vocabulary ids must be int32, not {ids.dtype}"
            assert bool((np.diff(ids.astype(np.int64)) > 0).all()), "vocabulary ids must be ascending and unique"

    @property
    def n_users(self) -> int:
        """Number of rows of a user embedding table: the known users and the unknown one."""
        return len(self.user_ids) + 1

    @property
    def n_movies(self) -> int:
        """Number of rows of a movie embedding table: the known movies and the unknown one."""
        return len(self.movie_ids) + 1

    def encode_users(self, ids: npt.ArrayLike) -> Indices:
        """`user_idx` of each integer id, 0 if unknown: (B,) -> (B,) int64."""
        return _encode(np.asarray(ids), self.user_ids)

    def encode_movies(self, ids: npt.ArrayLike) -> Indices:
        """`item_idx` of each integer id, 0 if unknown: (B,) -> (B,) int64."""
        return _encode(np.asarray(ids), self.movie_ids)

    def content_hash(self) -> str:
        """A hash of all ids: 12 hexadecimal digits."""
        digest = hashlib.sha256(f"{self.n_users} {self.n_movies} ".encode())
        for ids in (self.user_ids, self.movie_ids):
            digest.update(ids.astype("<i4").tobytes())  # independent of the byte order of the machine
        return digest.hexdigest()[:12]

    def save(self, folder: Path) -> None:
        """Writes `users.parquet` and `movies.parquet`, each (id int32, idx int64)."""
        _write_ids(self.user_ids, folder / "users.parquet")
        _write_ids(self.movie_ids, folder / "movies.parquet")

    @classmethod
    def load(cls, folder: Path) -> "Vocabulary":
        """Reads the files that `save` wrote to `folder`."""
        return cls(_read_ids(folder / "users.parquet"), _read_ids(folder / "movies.parquet"))


def fit_vocabulary(ratings: pl.DataFrame) -> Vocabulary:
    """The vocabulary of all users and movies in `ratings` (columns user_id and movie_id, which may be null)."""
    columns = (ratings[name].drop_nulls().unique().sort().cast(pl.Int32) for name in ("user_id", "movie_id"))
    return Vocabulary(*(column.to_numpy() for column in columns))


def _encode(ids: npt.NDArray[np.integer], known: Ids) -> Indices:
    """The index of a known id is the number of known ids up to and including it."""
    idx = np.searchsorted(known, ids, side="right")
    id_at = np.concatenate(([0], known))  # the value at 0 does not matter, since idx 0 already means unknown
    return np.where(id_at[idx] == ids, idx, 0)


def _write_ids(ids: Ids, path: Path) -> None:
    idx = np.arange(1, len(ids) + 1)
    with replacing(path) as aside:
        pl.DataFrame({"id": ids, "idx": idx}).write_parquet(aside)


def _read_ids(path: Path) -> Ids:
    return read_table(path).sort("idx")["id"].to_numpy()
