"""Snapshots from plain rows, in which a test can break a row with a known line number."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from recsys.checks import check
from recsys.home import Home, Run
from recsys.ingest.content import LINES
from recsys.ingest.snapshot import Snapshot
from recsys.schema import REJECTS, SUPERSEDED, TABLES
from tests.support.validators import count_offences

Row = dict[str, Any]
Tables = dict[str, list[Row]]

# As in recsys.checks, but without Great Expectations.
check_ratings = partial(check.check_ratings, validate=count_offences)

START = datetime(2000, 1, 1, tzinfo=UTC)
KEYS = {
    "ratings": ("user_id", "movie_id", "rated_at", "rating"),
    "movies": ("movie_id",),
    "users": ("user_id",),
    "tags": ("user_id", "movie_id", "tagged_at", "tag"),
    "links": ("movie_id",),
    "superseded": ("user_id", "movie_id", "rated_at", "rating"),
}


def make_run(home: Home, name: str = "20261121T030000Z-4f1c") -> Run:
    return Run(name, datetime(2026, 11, 21, 3, tzinfo=UTC), home)


def make_tables(n_users: int = 30, n_movies: int = 20) -> Tables:
    """Every user rates every movie, one per minute, and tags the first. Row i of a table is line i + 1 of its file."""
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
        "tags": [
            {"user_id": user, "movie_id": 1, "tag": f"tag {user}", "tagged_at": START + timedelta(minutes=10 * user)}
            for user in range(1, n_users + 1)
        ],
        "links": [{"movie_id": movie, "imdb_id": f"{movie:07}", "tmdb_id": movie} for movie in range(1, n_movies + 1)],
    }


def write_tables(
    folder: Path, tables: Tables, rejects: Sequence[Row] = (), superseded: Sequence[Row] = (), **manifest: Any
) -> Snapshot:
    """Writes a snapshot of `tables`, on a scale of 1 to 5 stars: the sorted tables and their source lines.

    Row i of a table is from line i + 1 of <table>.csv. Superseded ratings are from old.csv. `manifest` overrides
    entries of the manifest.
    """
    snapshot = Snapshot(folder)
    folder.mkdir(parents=True)
    for table, schema in TABLES.items():
        write_table(snapshot, table, schema, tables.get(table, []), f"{table}.csv")
    write_table(snapshot, "superseded", SUPERSEDED, superseded, "old.csv")
    pq.write_table(pa.Table.from_pylist(list(rejects), REJECTS), snapshot.rejects)
    rows = {table: len(tables.get(table, [])) for table in TABLES}
    content = {"dataset": "planted", "rating_scale": [1.0, 2.0, 3.0, 4.0, 5.0], "genres": None, "rows": rows}
    (folder / "manifest.json").write_text(json.dumps(content | manifest), encoding="utf-8")
    return snapshot


def write_table(snapshot: Snapshot, table: str, schema: pa.Schema, rows: Sequence[Row], file: str) -> None:
    numbered = [row | {"source_file": file, "source_line": line} for line, row in enumerate(rows, start=1)]
    numbered.sort(key=lambda row: [row[column] for column in KEYS[table]])
    pq.write_table(pa.Table.from_pylist(numbered, schema), snapshot.table(table))
    pq.write_table(pa.Table.from_pylist(numbered, LINES), snapshot.lines(table))


def reject(table: str, line: int, row: str = '{"line":"?"}') -> Row:
    """A line of <table>.csv that could not be read."""
    return {"source_table": table, "source_file": f"{table}.csv", "source_line": line, "rule": "unreadable", "row": row}
