"""Snapshots made from plain rows, so that a test can break one row and say which line it came from."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from recsys.home import Home, Run
from recsys.ingest.snapshot import Snapshot
from recsys.schema import MOVIES, RATINGS, REJECTS, USERS

Row = dict[str, Any]
Tables = dict[str, list[Row]]

START = datetime(2000, 1, 1, tzinfo=UTC)
SOURCE_LINES = pa.schema([pa.field("source_line", pa.int64(), nullable=False)])
SCHEMAS = {"ratings": RATINGS, "movies": MOVIES, "users": USERS}
KEYS = {"ratings": ("user_id", "movie_id", "rated_at", "rating"), "movies": ("movie_id",), "users": ("user_id",)}


def make_run(home: Home, name: str = "20261121T030000Z-4f1c") -> Run:
    return Run(name, datetime(2026, 11, 21, 3, tzinfo=UTC), home)


def make_tables(n_users: int = 30, n_movies: int = 20) -> Tables:
    """Every user has rated every movie, one a minute; row i of a table is line i + 1 of its source."""
    pairs = [(user, movie) for movie in range(1, n_movies + 1) for user in range(1, n_users + 1)]
    return {
        "ratings": [
            {
                "user_id": user,
                "movie_id": movie,
                "rating": float((user + movie) % 5 + 1),
                "rated_at": START + timedelta(minutes=minute),
            }
            for minute, (user, movie) in enumerate(pairs)
        ],
        "movies": [
            {"movie_id": movie, "title": f"Movie {movie}", "year": 1990 + movie % 10, "genres": ["Drama"]}
            for movie in range(1, n_movies + 1)
        ],
        "users": [
            {"user_id": user, "gender": "F", "age": 30, "occupation": "writer", "zip_code": "00000"}
            for user in range(1, n_users + 1)
        ],
    }


def write_tables(folder: Path, tables: Tables, rejects: Sequence[Row] = ()) -> Snapshot:
    """The snapshot of `tables`, whose scale is 1 to 5 stars: every table sorted, its source lines beside it."""
    snapshot = Snapshot(folder)
    folder.mkdir(parents=True)
    for table, rows, lines in (
        ("ratings", snapshot.ratings, snapshot.source_lines),
        ("movies", snapshot.movies, snapshot.movie_lines),
        ("users", snapshot.users, snapshot.user_lines),
    ):
        numbered = [row | {"source_line": line} for line, row in enumerate(tables[table], start=1)]
        numbered.sort(key=lambda row, table=table: [row[column] for column in KEYS[table]])  # type: ignore[misc]
        pq.write_table(pa.Table.from_pylist(numbered, SCHEMAS[table]), rows)
        pq.write_table(pa.Table.from_pylist(numbered, SOURCE_LINES), lines)
    pq.write_table(pa.Table.from_pylist(list(rejects), REJECTS), snapshot.rejects)
    manifest = {"dataset": "planted", "rating_scale": [1.0, 2.0, 3.0, 4.0, 5.0]}
    (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    return snapshot
