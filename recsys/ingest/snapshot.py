"""Turning an archive into a snapshot: immutable canonical Parquet, named by what it says rather than how it came."""

import hashlib
import json
import logging
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from recsys.files import read_json, sync, write_json
from recsys.home import Home
from recsys.ingest import synthetic
from recsys.ingest.datasets import DATASETS, HALF_STARS, WHOLE_STARS
from recsys.ingest.fetch import Archive
from recsys.ingest.formats import SOURCE_LINE, read_tables
from recsys.schema import MOVIES, RATINGS, REJECTS, USERS

log = logging.getLogger(__name__)

SCHEMA_VERSION = 1  # raise it whenever the same source would be read differently

LINES = pa.schema([SOURCE_LINE])
# Sorted by everything that counts, so that the order of the source does not; source_line last, for equal rows.
ORDERS = {
    "ratings": "user_id, movie_id, rated_at, rating, source_line",
    "movies": "movie_id, title, year, genres, source_line",
    "users": "user_id, gender, age, occupation, zip_code, source_line",
    "rejects": "source_table, row, source_line",
}


@dataclass(frozen=True)
class Snapshot:
    """A snapshot's folder. Row i of a table's source lines tells where row i of the table stood in the source."""

    folder: Path

    @property
    def ratings(self) -> Path:
        return self.folder / "ratings.parquet"

    @property
    def movies(self) -> Path:
        return self.folder / "movies.parquet"

    @property
    def users(self) -> Path:
        return self.folder / "users.parquet"

    @property
    def rejects(self) -> Path:
        """Lines that could not be read as a row at all, `schema.REJECTS`."""
        return self.folder / "rejects.parquet"

    @property
    def source_lines(self) -> Path:
        """Of ratings: one int64 column source_line."""
        return self.folder / "source_lines.parquet"

    @property
    def movie_lines(self) -> Path:
        return self.folder / "movie_lines.parquet"

    @property
    def user_lines(self) -> Path:
        """Of users; where the edition has no file of them, the line on which each first rates."""
        return self.folder / "user_lines.parquet"

    @cached_property
    def manifest(self) -> dict[str, Any]:
        """manifest.json: where the data come from, what is in them, under which licence."""
        manifest: dict[str, Any] = read_json(self.folder / "manifest.json")
        return manifest

    @property
    def dataset(self) -> str:
        return str(self.manifest["dataset"])

    @property
    def snapshot_id(self) -> str:
        """The first 12 hexadecimal digits of the SHA-256 of the content."""
        return self.folder.name

    @property
    def rating_scale(self) -> tuple[float, ...]:
        """The stars that can be given, ascending."""
        return tuple(self.manifest["rating_scale"])


def write_snapshot(archive: Archive, home: Home) -> Snapshot:
    """Reads `archive` and writes its snapshot, unless it is there already.

    Raises: SourceError when a file cannot be read; DataRefused when a file is not what its name says.
    """
    folder = home.snapshots / archive.dataset
    known = find_snapshot(archive, folder)
    if known is not None:
        log.info("snapshot %s of %s is there already", known.snapshot_id, archive.dataset)
        return known
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".", dir=folder) as scratch:
        # A folder inside, because the temporary one is its owner's alone, and the snapshot would stay so.
        aside = Snapshot(Path(scratch) / "snapshot")
        aside.folder.mkdir()
        with duckdb.connect(config={"temp_directory": f"{scratch}/spill"}) as connection:
            read_source(archive, connection)
            content_sha256 = write_tables(aside, connection)
            manifest = {**describe_source(archive), **describe_content(connection), "content_sha256": content_sha256}
        if archive.dataset in DATASETS:
            manifest["rating_scale"] = DATASETS[archive.dataset].rating_scale
        write_json(aside.folder / "manifest.json", manifest)
        return keep(aside, folder / content_sha256[:12])


def read_source(archive: Archive, connection: duckdb.DuckDBPyConnection) -> None:
    """Fills ratings, movies, users and rejects of `connection`, each with a source_line."""
    if archive.path and archive.layout:
        read_tables(archive.path, archive.layout, connection)
        return
    planted = synthetic.plant(*synthetic.parse_sizes(archive.source))
    for table, rows in (("ratings", planted.ratings), ("movies", planted.movies), ("users", planted.users)):
        connection.register(table, rows.with_row_index("source_line", offset=1).to_arrow())
    connection.register("rejects", REJECTS.empty_table())


def write_tables(snapshot: Snapshot, connection: duckdb.DuckDBPyConnection) -> str:
    """Writes the Parquet files; returns the SHA-256 of what they say, whatever order the source said it in."""
    digests = [
        *write_table("ratings", RATINGS, connection, snapshot.ratings, snapshot.source_lines),
        *write_table("movies", MOVIES, connection, snapshot.movies, snapshot.movie_lines),
        *write_table("users", USERS, connection, snapshot.users, snapshot.user_lines),
        *write_table("rejects", REJECTS, connection, snapshot.rejects),
    ]
    return hashlib.sha256("\n".join([f"schema {SCHEMA_VERSION}", *digests]).encode()).hexdigest()


def write_table(
    table: str, schema: pa.Schema, connection: duckdb.DuckDBPyConnection, path: Path, lines_path: Path | None = None
) -> list[str]:
    """Writes one table, and where its rows stood; returns one digest for each column but source_line."""
    digests = {name: hashlib.sha256(f"{table}.{name}".encode()) for name in schema.names if name != "source_line"}
    sorted_rows = connection.sql(f"select * from {table} order by {ORDERS[table]}")
    with ExitStack() as stack:
        writer = stack.enter_context(pq.ParquetWriter(path, schema, compression="zstd"))
        lines_writer = lines_path and stack.enter_context(pq.ParquetWriter(lines_path, LINES, compression="zstd"))
        for batch in sorted_rows.to_arrow_reader():
            rows = pa.Table.from_batches([batch])
            canonical = rows.select(schema.names).cast(schema)
            writer.write_table(canonical)
            for name, digest in digests.items():
                digest.update(column_bytes(canonical[name]))
            if lines_writer:
                lines_writer.write_table(rows.select(["source_line"]).cast(LINES))
    return [f"{table}.{name} {digest.hexdigest()}" for name, digest in digests.items()]


def column_bytes(column: pa.ChunkedArray) -> bytes:
    """Bytes that depend on the values alone: neither on batches nor on how Arrow holds them."""
    if not column.null_count and pa.types.is_primitive(column.type):
        return np.ascontiguousarray(column.to_numpy()).tobytes()
    return "".join(json.dumps(value) + "\n" for value in column.to_pylist()).encode()


def describe_source(archive: Archive) -> dict[str, Any]:
    edition = DATASETS.get(archive.dataset)
    return {
        "schema_version": SCHEMA_VERSION,
        "dataset": archive.dataset,
        "source": {
            "name": archive.path.name if archive.path else archive.source,
            "sha256": archive.sha256,
            "origin": archive.origin,
        },
        "licence": edition.licence if edition else None,
        "citation": edition.citation if edition else None,
    }


def describe_content(connection: duckdb.DuckDBPyConnection) -> dict[str, Any]:
    rows = {table: connection.execute(f"select count(*) from {table}").fetchall()[0][0] for table in ORDERS}
    first, last = connection.execute("select min(rated_at), max(rated_at) from ratings").fetchall()[0]
    n_half = connection.execute("select count(*) from ratings where rating % 1 = 0.5").fetchall()[0][0]
    return {
        "rows": rows,
        "first_rated_at": first and first.isoformat(),
        "last_rated_at": last and last.isoformat(),
        # a source that does not say gives whole stars, or half ones if there are any; what is off them is refused
        "rating_scale": HALF_STARS if n_half else WHOLE_STARS,
    }


def find_snapshot(archive: Archive, folder: Path) -> Snapshot | None:
    """The snapshot that was made from the same bytes by the same reading, if there is one."""
    for path in sorted(folder.glob("[!.]*/manifest.json")):
        manifest = read_json(path)
        if (manifest["schema_version"], manifest["source"]["sha256"]) == (SCHEMA_VERSION, archive.sha256):
            return Snapshot(path.parent)
    return None


def keep(aside: Snapshot, folder: Path) -> Snapshot:
    """Moves a complete snapshot to its name in one step; one of the same name has the same content and stays."""
    kept = Snapshot(folder)
    if folder.exists():
        log.info("snapshot %s: the source differs from last time, its content does not", folder.name)
        return kept
    for file in aside.folder.iterdir():
        sync(file)
    sync(aside.folder)
    aside.folder.rename(folder)
    sync(folder.parent)
    log.info("snapshot %s: %s", folder.name, ", ".join(f"{n:,} {name}" for name, n in kept.manifest["rows"].items()))
    return kept
