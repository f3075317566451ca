"""Writes the snapshot of an archive. Its name depends only on the content, not on the form of the archive."""

import hashlib
import logging
import shutil
import tempfile
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from filelock import FileLock, Timeout

from recsys.datasets import DATASETS
from recsys.errors import SourceError
from recsys.files import exact, hash_files, sync, write_sealed
from recsys.forgotten import Forgotten, read_forgotten
from recsys.home import Home
from recsys.ingest.content import LINES, write_table
from recsys.ingest.drops import read_drops
from recsys.ingest.fetch.fetch import Archive
from recsys.ingest.parse.formats import read_tables
from recsys.ingest.readings import SCHEMA_VERSION, Source, find_snapshot, record_reading
from recsys.ingest.scale import find_scale
from recsys.ingest.snapshot import STORED, Snapshot, find_damage
from recsys.ingest.synthetic import synthetic
from recsys.schema import SUPERSEDED
from recsys.settings import RatingScale

log = logging.getLogger(__name__)

ASIDE = ".aside-"  # prefix of a folder that is being written

# Sort order of each table: all content columns, so that the source's order does not matter, then file and line.
ORDERS = {
    "ratings": "user_id, movie_id, rated_at, rating, source_file, source_line",
    "movies": "movie_id, title, year, genres, source_file, source_line",
    "users": "user_id, gender, age, occupation, zip_code, source_file, source_line",
    "tags": "user_id, movie_id, tagged_at, tag, source_file, source_line",
    "links": "movie_id, imdb_id, tmdb_id, source_file, source_line",
    "superseded": "user_id, movie_id, rated_at, rating, until, source_file, source_line",
    "rejects": "source_table, row, rule, source_file, source_line",
}


def write_snapshot(archive: Archive, home: Home, scale: RatingScale = "auto", now: datetime | None = None) -> Snapshot:
    """Reads `archive` and writes its snapshot, without the forgotten users of `home`.

    If the same bytes were read before, returns the existing snapshot, after comparing each file with its SHA-256,
    unless one of their rows was dated in the future and its time has come by `now`, the start of a run. Snapshots are
    never changed, except that a damaged one is written again. `scale` applies to sources that are no edition.

    Raises: SourceError if a file cannot be read, or the snapshot cannot be written; DataRefused if a file is not the
    kind of file that its name says.
    """
    folder = home.snapshots / archive.dataset
    source = Source(archive.sha256, read_forgotten(home), scale, now or datetime.now(UTC))
    try:
        known = find_snapshot(source, folder)
        if known is None or find_damage(known):
            folder.mkdir(parents=True, exist_ok=True)
            with FileLock(lock_path(folder)):
                # of two concurrent runs, the second finds the snapshot of the first here
                known = find_snapshot(source, folder)
                damage = find_damage(known) if known else None
                if known is None or damage:
                    known = write_new(archive, source, home, folder, known, damage)
    except (OSError, duckdb.IOException) as error:
        raise SourceError(
            f"the snapshot of {archive.source} could not be written below {folder}: {error}. Next: free some space, or "
            "choose another --home"
        ) from error
    rows = ", ".join(f"{count:,} {table}" for table, count in known.manifest["rows"].items() if count)
    log.info("snapshot %s: %s", known.snapshot_id, rows)
    return known


def is_known(archive: Archive, home: Home, scale: RatingScale, now: datetime) -> bool:
    """Whether `write_snapshot` would return an existing snapshot."""
    source = Source(archive.sha256, read_forgotten(home), scale, now)
    known = find_snapshot(source, home.snapshots / archive.dataset)
    return known is not None and find_damage(known) is None


def lock_path(folder: Path) -> Path:
    """The lock held while a snapshot of the dataset is written."""
    return folder.with_name(f".{folder.name}.lock")


def is_idle(folder: Path) -> bool:
    """Whether no snapshot of the dataset is being written."""
    try:
        with FileLock(lock_path(folder), timeout=0):
            return True
    except Timeout:
        return False


def write_new(
    archive: Archive, source: Source, home: Home, folder: Path, damaged: Snapshot | None, damage: str | None
) -> Snapshot:
    """Writes a snapshot, in place of the `damaged` one if there is any.

    The caller holds the lock, so any folder with the prefix ASIDE is a leftover of a killed run or a damaged snapshot.
    """
    for leftover in folder.glob(f"{ASIDE}*"):
        shutil.rmtree(leftover)
    if damaged and damage:
        set_aside(damaged, damage)
    with tempfile.TemporaryDirectory(prefix=ASIDE, dir=folder) as scratch:
        # A folder inside, because the temporary one has mode 0700, which the snapshot would keep.
        aside = Snapshot(Path(scratch) / "snapshot")
        aside.folder.mkdir()
        with duckdb.connect(config={"temp_directory": f"{scratch}/spill"}) as connection:
            manifest = write_content(aside, archive, source, home, connection)
        kept = keep(aside, folder / manifest["content_sha256"][:12])
    record_reading(replace(source, sha256=manifest["source"]["sha256"]), kept, manifest.get("next_change"))
    return kept


def write_content(
    aside: Snapshot, archive: Archive, source: Source, home: Home, connection: duckdb.DuckDBPyConnection
) -> dict[str, Any]:
    """Reads the source, writes the tables and the manifest, and returns the manifest."""
    reading = read_source(archive, source, home, connection)
    for notice in reading.get("notices", ()):
        log.warning("%s", notice)
    digests = write_tables(aside, source.forgotten, connection)
    if source.scale != "auto":  # otherwise the scale follows from the rows
        digests.append(f"scale {source.scale}")
    manifest = {
        **describe_source(archive, reading.pop("sha256", archive.sha256)),
        **describe_content(aside, archive.dataset, connection),
        **reading,
        "content_sha256": hashlib.sha256("\n".join(digests).encode()).hexdigest(),
        "files": hash_files(sorted(aside.folder.iterdir())),
    }
    write_sealed(aside.folder / "manifest.json", manifest)
    return manifest


def read_source(archive: Archive, source: Source, home: Home, connection: duckdb.DuckDBPyConnection) -> dict[str, Any]:
    """Fills every table of STORED in `connection`, with source_file and source_line. Returns manifest entries."""
    if archive.layout == "canonical" and archive.path and archive.path.is_dir():
        return read_drops(archive.path, home.parsed, source, connection)
    connection.register("superseded", with_lines(SUPERSEDED).empty_table())
    if archive.path and archive.layout:
        notices = read_tables(archive.path, archive.layout, connection)
    else:
        notices = plant(archive, connection)
    edition = DATASETS.get(archive.dataset)
    ratings = connection.table("ratings")
    ratings = ratings.filter(source.forgotten.condition("ratings", ratings.columns))
    scale = edition.rating_scale if edition else find_scale(ratings, source.scale)
    return {"notices": notices, "rating_scale": scale}


def plant(archive: Archive, connection: duckdb.DuckDBPyConnection) -> list[str]:
    """Fills the tables with synthetic ratings."""
    planted = synthetic.plant(*synthetic.parse_sizes(archive.source))
    for table, rows in (("ratings", planted.ratings), ("movies", planted.movies), ("users", planted.users)):
        lines = rows.with_row_index("source_line", offset=1).with_columns(source_file=pl.lit(table))
        connection.register(table, lines.to_arrow())
    for table in ("tags", "links", "rejects"):
        connection.register(table, with_lines(STORED[table]).empty_table())
    return []


def with_lines(schema: pa.Schema) -> pa.Schema:
    """`schema` with the columns for source file and line."""
    return pa.schema([*schema, *(field for field in LINES if field.name not in schema.names)])


def write_tables(snapshot: Snapshot, forgotten: Forgotten, connection: duckdb.DuckDBPyConnection) -> list[str]:
    """Writes the Parquet files; returns digests of their content, which do not depend on the source's order."""
    # As an enum, the file name takes one byte per row while 32 million rows are sorted.
    files = " union all ".join(f"select source_file from {table}" for table in STORED)
    connection.execute(f"create type file_name as enum (select distinct source_file from ({files}) order by all)")
    digests = [f"schema {SCHEMA_VERSION}"]
    for table, schema in STORED.items():
        rows = select_rows(table, forgotten, connection)
        lines = None if table == "rejects" else snapshot.lines(table)
        digests += write_table(table, rows, schema, snapshot.table(table), lines)
    return digests


def select_rows(table: str, forgotten: Forgotten, connection: duckdb.DuckDBPyConnection) -> duckdb.DuckDBPyRelation:
    """The rows of a table as they are stored: sorted, without forgotten users."""
    rows = connection.sql(f"from {table}")
    rows = rows.filter(forgotten.condition(table, rows.columns)).project(forgotten.projection(table))
    return rows.project("* replace (source_file::file_name as source_file)").order(ORDERS[table])


def describe_source(archive: Archive, sha256: str) -> dict[str, Any]:
    edition = DATASETS.get(archive.dataset)
    return {
        "schema_version": SCHEMA_VERSION,
        "dataset": archive.dataset,
        "source": {
            "name": archive.path.name if archive.path else archive.source,
            "sha256": sha256,
            "origin": archive.origin,
        },
        "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "licence": edition.licence if edition else None,
        "citation": edition.citation if edition else None,
    }


def describe_content(snapshot: Snapshot, dataset: str, connection: duckdb.DuckDBPyConnection) -> dict[str, Any]:
    """Manifest entries on the content: rows, first and last rating, genres."""
    ratings = connection.read_parquet(exact(snapshot.ratings))
    first, last = ratings.aggregate("min(rated_at), max(rated_at)").fetchall()[0]
    edition = DATASETS.get(dataset)
    return {
        "rows": {table: pq.read_metadata(snapshot.table(table)).num_rows for table in STORED},
        "first_rated_at": first and first.isoformat(),
        "last_rated_at": last and last.isoformat(),
        "genres": edition.genres if edition else None,
    }


def keep(aside: Snapshot, folder: Path) -> Snapshot:
    """Renames a complete snapshot to its final name. An existing one of that name is kept; it has the same content."""
    kept = Snapshot(folder)
    if folder.exists():
        if (damage := find_damage(kept)) is None:
            log.info("snapshot %s: the source differs from last time, but its content does not", folder.name)
            return kept
        set_aside(kept, damage)
    for file in aside.folder.iterdir():
        sync(file)
    sync(aside.folder)
    aside.folder.rename(folder)
    sync(folder.parent)
    return kept


def set_aside(damaged: Snapshot, damage: str) -> None:
    """Renames a damaged snapshot. It is removed when the next snapshot of the dataset is written."""
    aside = damaged.folder.with_name(f"{ASIDE}{damaged.folder.name}")
    damaged.folder.rename(aside)
    log.warning(
        "snapshot %s: %s. It is written again from its source; the old files are in %s", damaged.folder, damage, aside
    )
