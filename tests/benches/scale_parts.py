"""The processes of `scale`. Each imports only the packages that it needs, because imports take memory.

python -m tests.benches.scale_parts inputs FOLDER THREADS USERS MOVIES DIM    vectors and histories as .npy files
python -m tests.benches.scale_parts ours FOLDER THREADS N                     ours.parquet (user_idx, rank, item_idx)
python -m tests.benches.scale_parts implicit FOLDER THREADS N                 implicit.parquet, the same

Shapes: U users, I items (index 0 of both is "unknown"), D dimensions, N places of a list.
"""

import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

RATINGS_PER_USER = 100
HEAD = 50  # movies of about equal popularity, then the skew of MovieLens
LISTS = pa.schema([("user_idx", pa.int32()), ("rank", pa.int32()), ("item_idx", pa.int32())])

Ints = npt.NDArray[np.int64]
Block = tuple[Any, Any, Any]  # user_idx, rank, item_idx as arrays


def make_inputs(folder: Path, n_users: int, n_movies: int, dim: int) -> dict[str, float]:
    """Write normally distributed vectors, and about 100 movies per user, popular ones more often.

    Every movie is rated at least once, because lists leave out unrated movies.
    """
    rng = np.random.default_rng(0)
    for name, rows in (("users", n_users + 1), ("movies", n_movies + 1)):
        np.save(folder / f"{name}.npy", rng.standard_normal((rows, dim), dtype=np.float32))
    popularity = (1 / (np.arange(n_movies) + HEAD)).cumsum()
    drawn = rng.random(n_users * RATINGS_PER_USER) * popularity[-1]
    item_idx = 1 + rng.permutation(n_movies)[np.searchsorted(popularity, drawn, side="right")]
    user_idx = np.arange(1, n_users + 1).repeat(RATINGS_PER_USER)
    once = np.arange(n_movies)
    keys = np.concatenate((user_idx * (n_movies + 1) + item_idx, (once % n_users + 1) * (n_movies + 1) + once + 1))
    keys = np.unique(keys)
    sizes = np.bincount(keys // (n_movies + 1), minlength=n_users + 1)
    np.save(folder / "offsets.npy", np.concatenate(([0], sizes.cumsum())))
    np.save(folder / "items.npy", keys % (n_movies + 1))
    return {"ratings": len(keys)}


def list_ours(folder: Path, threads: int, n: int) -> dict[str, float]:
    import torch

    from recsys.encode.features import NO_FEATURES
    from recsys.models import MODELS, RatingNetwork, Sizes
    from recsys.rank.eligibility import no_rules
    from recsys.rank.films import no_twins
    from recsys.rank.place import rank_alone
    from recsys.rank.ranker import Ranker
    from recsys.rank.weights import NO_WEIGHTS
    from recsys.retrieve.histories import Histories
    from recsys.retrieve.new_movies import NewMovies
    from recsys.retrieve.popularity import gather_properties
    from recsys.retrieve.towers import Towers
    from recsys.settings import RankConfig

    torch.set_num_threads(threads)
    user_UD, movie_ID, offsets, items = (torch.from_numpy(array) for array in _read(folder))
    histories = Histories(offsets, items, torch.ones(len(items)), len(movie_ID))
    unused = MODELS["dot"].build(MODELS["dot"].configure(1, 5), Sizes(1, 1, (1.0, 2.0, 3.0, 4.0, 5.0)), NO_FEATURES)
    assert isinstance(unused, RatingNetwork)
    no_items = torch.empty(0, 1, dtype=torch.int64)
    ranker = Ranker(
        network=unused,  # a ranker with a single retriever does not use it
        histories=histories,
        properties=gather_properties(NO_FEATURES, len(histories)),
        retrievers={"towers": Towers(user_UD, movie_ID)},
        new_movies=NewMovies(no_items[:, 0], no_items, no_items.float()),
        films=no_twins(len(movie_ID)),
        eligibility=no_rules(len(movie_ID)),
        genres_IG=torch.zeros(len(movie_ID), 1),
        weights=NO_WEIGHTS,
        rated_at=0,
        config=RankConfig(),
    )
    return _write(lambda: rank_alone(ranker, "towers", n), folder / "ours.parquet")


def list_implicit(folder: Path, threads: int, n: int) -> dict[str, float]:
    from implicit.cpu.als import AlternatingLeastSquares
    from scipy import sparse

    user_UD, movie_ID, offsets, items = _read(folder)
    ones, shape = np.ones(len(items), dtype=np.float32), (len(user_UD) - 1, len(movie_ID) - 1)
    seen_UI = sparse.csr_matrix((ones, (items - 1).astype(np.int32), offsets[1:].astype(np.int32)), shape=shape)
    model = AlternatingLeastSquares(factors=user_UD.shape[1], num_threads=threads)
    model.user_factors, model.item_factors = user_UD[1:], movie_ID[1:]
    del items

    def blocks() -> Iterator[Block]:
        """Yield a single block, because the package computes all lists at once."""
        item_UN, score_UN = model.recommend(np.arange(shape[0]), seen_UI, N=n, filter_already_liked_items=True)
        user, place = (score_UN > np.finfo(np.float32).min).nonzero()
        yield user + 1, place + 1, item_UN[user, place] + 1

    return _write(blocks, folder / "implicit.parquet")


def _read(folder: Path) -> tuple[npt.NDArray[Any], ...]:
    return tuple(np.load(folder / f"{name}.npy") for name in ("users", "movies", "offsets", "items"))


def _write(lists: Callable[[], Iterator[Block]], path: Path) -> dict[str, float]:
    """Write block by block; return the total seconds and those of writing."""
    start, writing = time.monotonic(), 0.0
    with pq.ParquetWriter(path, LISTS, compression="zstd") as writer:
        for block in lists():
            begun = time.monotonic()
            writer.write_table(
                pa.table([pa.array(np.asarray(column, dtype=np.int32)) for column in block], schema=LISTS)
            )
            writing += time.monotonic() - begun
    return {"seconds": time.monotonic() - start, "writing_seconds": writing}


def main(part: str, folder: str, threads: str, *numbers: str) -> None:
    given = [int(number) for number in numbers]
    if part == "inputs":
        measured = make_inputs(Path(folder), *given)
    else:
        measured = {"ours": list_ours, "implicit": list_implicit}[part](Path(folder), int(threads), *given)
    print(json.dumps(measured))


if __name__ == "__main__":
    main(*sys.argv[1:])
