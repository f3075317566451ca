"""Nights to publish, of any size. Every user has rated one movie, and the list holds the next ones by movie_id.

These are also the movies similar to it. The default list of all holds the first movies in order, that of a segment the
same movies in reverse.
"""

from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import numpy as np
import polars as pl

from recsys.encode.vocabulary import list_films
from recsys.runs import rollback as rollback_module
from recsys.warehouse import audit as audit_module
from recsys.warehouse import publish as publish_module
from recsys.warehouse.build import Tonight
from recsys.warehouse.outcome import MetricRow, Outcome
from tests.support.validators import count_offences

STARTED_AT = datetime(2026, 11, 21, 3, 0, tzinfo=UTC)

Frames = dict[str, pl.DataFrame]

# As in recsys.warehouse, but with plain SQL counts, which need a tenth of the CPU time of Great Expectations and no
# import of it. tests/warehouse/test_audit.py checks that both find the same.
audit = partial(audit_module.audit, validate=count_offences)
publish = partial(publish_module.publish, validate=count_offences)
backfill = partial(publish_module.backfill, validate=count_offences)
restore = partial(publish_module.restore, validate=count_offences)
roll_back = partial(rollback_module.roll_back, validate=count_offences)

AS_OF = datetime(1998, 4, 23, tzinfo=UTC)


def make_outcome(
    run_id: str, verdict: str = "published", reason: str | None = None, as_of: datetime = AS_OF
) -> Outcome:
    return Outcome(
        run_id=run_id,
        as_of=as_of,
        started_at=STARTED_AT,
        finished_at=datetime(2026, 11, 21, 3, 1, tzinfo=UTC),
        dataset="planted",
        snapshot="0123456789ab",
        model="ordinal",
        config_hash="ba9876543210",
        code_version="0.1.0",
        verdict=verdict,
        reason=reason,
        published=verdict == "published",
        seconds={"train": 2.5, "score": 1.0},
    )


def make_frames(n_users: int = 4, n_movies: int = 4, n: int = 2, rating_hat: float = 4.0) -> Frames:
    """User u has rated movie u % n_movies + 1. All rows have the same `rating_hat`, to detect a mixture of runs."""
    user_id = np.arange(1, n_users + 1, dtype=np.int32)
    movie_id = np.arange(1, n_movies + 1, dtype=np.int32)
    rated = user_id % n_movies + 1
    length, default_length = min(n, n_movies - 1), min(n, n_movies)
    rank = np.tile(np.arange(1, length + 1, dtype=np.int32), n_users)
    rated_again = rated.repeat(length)
    movie_rank = np.tile(np.arange(1, length + 1, dtype=np.int32), n_movies)
    movie_again = movie_id.repeat(length)
    return {
        "recommendations": pl.DataFrame(
            {
                "user_id": user_id.repeat(length),
                "rank": rank,
                "movie_id": (rated_again - 1 + rank) % n_movies + 1,
                "score": 1.0 / rank,
                "rating_hat": np.full(len(rank), rating_hat),
                "because_movie_ids": pl.Series(rated_again.reshape(-1, 1)).arr.to_list(),
                "served_by": ["history"] * len(rank),
            },
            schema_overrides={"movie_id": pl.Int32, "because_movie_ids": pl.List(pl.Int32)},
        ),
        "default_recommendations": pl.DataFrame(
            {
                "segment": ["all"] * default_length + ["gender=F age=25"] * default_length,
                "rank": [*range(1, default_length + 1)] * 2,
                "movie_id": [*range(1, default_length + 1), *range(default_length, 0, -1)],
                "score": [1 / place for place in range(1, default_length + 1)] * 2,
            },
            schema_overrides={"rank": pl.Int32, "movie_id": pl.Int32},
        ),
        "similar_movies": pl.DataFrame(
            {
                "movie_id": movie_again,
                "rank": movie_rank,
                "similar_movie_id": (movie_again - 1 + movie_rank) % n_movies + 1,
                "similarity": 1.0 / movie_rank,
            },
            schema_overrides={"similar_movie_id": pl.Int32},
        ),
        "movies": pl.DataFrame(
            {
                "movie_id": movie_id,
                "title": [f"Movie {movie}" for movie in movie_id],
                "year": np.full(n_movies, 1995, dtype=np.int16),
                "genres": [["Drama", "War"]] * n_movies,
            }
        ),
        "users": pl.DataFrame(
            {
                "user_id": user_id,
                "gender": ["F"] * n_users,
                "age": np.full(n_users, 25, dtype=np.int16),
                "occupation": ["artist"] * n_users,
                "zip_code": ["00100"] * n_users,
            }
        ),
        "ratings": pl.DataFrame(
            {
                "user_id": user_id,
                "movie_id": rated.astype(np.int32),
                "rating": np.full(n_users, 5.0, dtype=np.float32),
                "rated_at": [datetime(1998, 4, 22, tzinfo=UTC)] * n_users,
            }
        ),
        "links": pl.DataFrame(
            {
                "movie_id": movie_id,
                "imdb_id": [f"{movie:07}" for movie in movie_id],
                "tmdb_id": pl.Series(movie_id * 10, dtype=pl.Int32),
            }
        ),
        "quarantine": pl.DataFrame(
            {
                "source_table": ["ratings"],
                "source_file": ["u.data"],
                "source_line": [7],
                "rule": ["unreadable"],
                "row": ['{"line": "1\\t2"}'],
            }
        ),
    }


def write_night(folder: Path, frames: Frames, n: int = 2) -> Tonight:
    folder.mkdir(parents=True, exist_ok=True)
    paths = {name: folder / f"{name}.parquet" for name in frames}
    for name, frame in frames.items():
        frame.write_parquet(paths[name])
    films = folder / "films.parquet"
    list_films({}).write_parquet(films)
    return Tonight(
        recommendations=paths["recommendations"],
        movies=paths["movies"],
        films=films,
        users=paths["users"],
        ratings=paths["ratings"],
        quarantine=paths["quarantine"],
        metrics=(
            MetricRow("ordinal", "holdout", "all", "mae_median", 0.65),
            MetricRow("bias", "holdout", "all", "mae_median", 0.75),
        ),
        n=n,
        default_recommendations=paths["default_recommendations"],
        similar_movies=paths["similar_movies"],
        links=paths["links"],
    )
