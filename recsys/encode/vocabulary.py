"""The mapping from MovieLens ids to contiguous indices into embedding tables; index 0 is the unknown id."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from recsys.files import read_table, replacing

FILMS = "films.parquet"

Ids = npt.NDArray[np.int32]
Indices = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)  # comparing arrays does not give a single bool; compare content_hash() instead
class Vocabulary:
    """The known ids as strictly ascending int32 arrays; the index of `user_ids[i]` is i + 1.

    Every entry of a film has its own index. `film_of` has the film_id of the movie_ids that differ from it.
    """

    user_ids: Ids
    movie_ids: Ids
    film_of: Mapping[int, int] = field(default_factory=dict, kw_only=True)

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

    def film_idx(self) -> Indices:
        """(n_movies,) int64: the lowest item_idx of the same film, by item_idx."""
        film_ids = [0, *(self.film_of.get(movie_id, movie_id) for movie_id in self.movie_ids.tolist())]
        _, first, film = np.unique(film_ids, return_index=True, return_inverse=True)
        return first[film]

    def content_hash(self) -> str:
        """A hash of all ids: 12 hexadecimal digits. Films do not count, because networks do not know them."""
        digest = hashlib.sha256(f"{self.n_users} {self.n_movies} ".encode())
        for ids in (self.user_ids, self.movie_ids):
            digest.update(ids.astype("<i4").tobytes())  # independent of the byte order of the machine
        return digest.hexdigest()[:12]

    def save(self, folder: Path) -> None:
        """Writes `users.parquet` and `movies.parquet`, each (id int32, idx int64), and `films.parquet`.

        The last has (movie_id int32, film_id int32) of the movies whose film_id is another movie_id.
        """
        _write_ids(self.user_ids, folder / "users.parquet")
        _write_ids(self.movie_ids, folder / "movies.parquet")
        with replacing(folder / FILMS) as aside:
            list_films(self.film_of).write_parquet(aside)

    @classmethod
    def load(cls, folder: Path) -> "Vocabulary":
        """Reads the files that `save` wrote to `folder`. Older versions wrote no `films.parquet`."""
        path = folder / FILMS
        film_of = dict(read_table(path).iter_rows()) if path.exists() else {}
        return cls(_read_ids(folder / "users.parquet"), _read_ids(folder / "movies.parquet"), film_of=film_of)


def fit_vocabulary(ratings: pl.DataFrame, film_of: Mapping[int, int] | None = None) -> Vocabulary:
    """The vocabulary of all users and movies in `ratings` (columns user_id and movie_id, which may be null).

    film_of: as returned by `find_films`; None: every movie_id is another film.
    """
    columns = (ratings[name].drop_nulls().unique().sort().cast(pl.Int32) for name in ("user_id", "movie_id"))
    return Vocabulary(*(column.to_numpy() for column in columns), film_of=film_of or {})


def list_films(film_of: Mapping[int, int]) -> pl.DataFrame:
    """(movie_id, film_id), by movie_id."""
    rows = sorted(film_of.items())
    return pl.DataFrame(rows, schema={"movie_id": pl.Int32, "film_id": pl.Int32}, orient="row")


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
