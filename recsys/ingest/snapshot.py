"""Turning an archive into a snapshot: immutable canonical Parquet, named by what it says rather than how it came."""

import hashlib
import logging
import shutil
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from filelock import FileLock

from recsys.errors import SourceError
from recsys.files import read_json, sync, write_json
from recsys.forgotten import Forgotten, read_forgotten
from recsys.home import Home
from recsys.ingest import synthetic
from recsys.ingest.content import LINES, write_table
from recsys.ingest.datasets import DATASETS, HALF_STARS, WHOLE_STARS
from recsys.ingest.drops import read_drops
from recsys.ingest.fetch import Archive
from recsys.ingest.formats import read_tables
from recsys.schema import REJECTS, SUPERSEDED, TABLES

log = logging.getLogger(__name__)

SCHEMA_VERSION = 2  # raise it whenever the same source would be read differently

ASIDE = ".aside-"  # what is being written, until it has its name
READINGS = ".readings"  # which source was read to which snapshot

STORED = {**TABLES, "superseded": SUPERSEDED, "rejects": REJECTS}
# Sorted by everything that counts, so that the order of the source does not; where it stood last, for equal rows.
ORDERS = {
    "ratings": "user_id, movie_id, rated_at, rating, source_file, source_line",
    "movies": "movie_id, title, year, genres, source_file, source_line",
    "users": "user_id, gender, age, occupation, zip_code, source_file, source_line",
    "tags": "user_id, movie_id, tagged_at, tag, source_file, source_line",
    "links": "movie_id, imdb_id, tmdb_id, source_file, source_line",
    "superseded": "user_id, movie_id, rated_at, rating, until, source_file, source_line",
    "rejects": "source_table, row, rule, source_file, source_line",
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
    def tags(self) -> Path:
        return self.folder / "tags.parquet"

    @property
    def links(self) -> Path:
        return self.folder / "links.parquet"

    @property
    def superseded(self) -> Path:
        """Ratings that a later one or a retraction replaced, and when: what an earlier `as_of` still knows."""
        return self.folder / "superseded.parquet"

    @property
    def rejects(self) -> Path:
        """Lines that could not be read as a row at all, `schema.REJECTS`."""
        return self.folder / "rejects.parquet"

    def table(self, name: str) -> Path:
        """The file of a table in `schema.TABLES`."""
        return self.folder / f"{name}.parquet"

    def lines(self, name: str) -> Path:
        """Where each row of a table, or of superseded, stood in the source: source_file, source_line."""
        return self.folder / f"{name}_lines.parquet"

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
    def made_at(self) -> datetime:
        """When it was written, UTC; the first edition of manifests did not say."""
        written = datetime.fromtimestamp((self.folder / "manifest.json").stat().st_mtime, UTC).isoformat()
        return datetime.fromisoformat(self.manifest.get("made_at", written))

    @property
    def genres(self) -> list[str] | None:
        """The genres that a movie may have; None where the source does not say."""
        genres: list[str] | None = self.manifest["genres"]
        return genres

    @property
    def rating_scale(self) -> tuple[float, ...]:
        """The stars that can be given, ascending."""
        return tuple(self.manifest["rating_scale"])


def write_snapshot(archive: Archive, home: Home) -> Snapshot:
    """Reads `archive` and writes its snapshot, without the users of `home` who asked to be forgotten.

    One that was made from the same bytes is there already and returned as it is; none is ever changed.

    Raises: SourceError when a file cannot be read, or the snapshot not be written or is damaged; DataRefused when a
    file is not what its name says.
    """
    folder, forgotten = home.snapshots / archive.dataset, read_forgotten(home)
    try:
        known = find_snapshot(archive, forgotten, folder)
        if known is None:
            folder.mkdir(parents=True, exist_ok=True)
            with FileLock(folder.with_name(f".{folder.name}.lock")):
                # of two runs at once, the second finds here what the first has written
                known = find_snapshot(archive, forgotten, folder) or write_new(archive, forgotten, home, folder)
    except (OSError, duckdb.IOException) as error:
        raise SourceError(
            f"the snapshot of {archive.source} could not be written below {folder}: {error}. Next: make room there, or "
            "choose another --home"
        ) from error
    rows = ", ".join(f"{count:,} {table}" for table, count in known.manifest["rows"].items() if count)
    log.info("snapshot %s: %s", known.snapshot_id, rows)
    return known


def is_known(archive: Archive, home: Home) -> bool:
    """Whether `write_snapshot` would find the snapshot there already."""
    return find_snapshot(archive, read_forgotten(home), home.snapshots / archive.dataset) is not None


def write_new(archive: Archive, forgotten: Forgotten, home: Home, folder: Path) -> Snapshot:
    """The caller holds the lock, so whatever else lies aside was left by a run that was killed."""
    for leftover in folder.glob(f"{ASIDE}*"):
        shutil.rmtree(leftover)
    with tempfile.TemporaryDirectory(prefix=ASIDE, dir=folder) as scratch:
        # A folder inside, because the temporary one is its owner's alone, and the snapshot would stay so.
        aside = Snapshot(Path(scratch) / "snapshot")
        aside.folder.mkdir()
        with duckdb.connect(config={"temp_directory": f"{scratch}/spill"}) as connection:
            manifest = write_content(aside, archive, forgotten, home, connection)
        kept = keep(aside, folder / manifest["content_sha256"][:12])
    record_reading(archive, forgotten, kept)
    return kept


def write_content(
    aside: Snapshot, archive: Archive, forgotten: Forgotten, home: Home, connection: duckdb.DuckDBPyConnection
) -> dict[str, Any]:
    """Reads the source, writes tables and manifest; returns the manifest."""
    reading = read_source(archive, forgotten, home, connection)
    for notice in reading.get("notices", ()):
        log.warning("%s", notice)
    content_sha256 = write_tables(aside, forgotten, connection)
    manifest = {
        **describe_source(archive, forgotten),
        **describe_content(aside, archive.dataset, connection),
        **reading,
        "content_sha256": content_sha256,
    }
    write_json(aside.folder / "manifest.json", manifest)
    return manifest


def read_source(
    archive: Archive, forgotten: Forgotten, home: Home, connection: duckdb.DuckDBPyConnection
) -> dict[str, Any]:
    """Fills every table of STORED in `connection`, with source_file and source_line; returns notes for the manifest."""
    if archive.layout == "canonical" and archive.path and archive.path.is_dir():
        return read_drops(archive.path, home.parsed, forgotten, connection)
    connection.register("superseded", with_lines(SUPERSEDED).empty_table())
    if archive.path and archive.layout:
        return {"notices": read_tables(archive.path, archive.layout, connection)}
    planted = synthetic.plant(*synthetic.parse_sizes(archive.source))
    for table, rows in (("ratings", planted.ratings), ("movies", planted.movies), ("users", planted.users)):
        lines = rows.with_row_index("source_line", offset=1).with_columns(source_file=pl.lit(table))
        connection.register(table, lines.to_arrow())
    for table in ("tags", "links", "rejects"):
        connection.register(table, with_lines(STORED[table]).empty_table())
    return {"notices": []}


def with_lines(schema: pa.Schema) -> pa.Schema:
    """`schema` and where each row stood."""
    return pa.schema([*schema, *(field for field in LINES if field.name not in schema.names)])


def write_tables(snapshot: Snapshot, forgotten: Forgotten, connection: duckdb.DuckDBPyConnection) -> str:
    """Writes the Parquet files; returns the SHA-256 of what they say, whatever order the source said it in."""
    # As an enumeration a row's file costs one byte while 32 million rows are sorted.
    files = " union all ".join(f"select source_file from {table}" for table in STORED)
    connection.execute(f"create type file_name as enum (select distinct source_file from ({files}) order by all)")
    digests = []
    for table, schema in STORED.items():
        rows = select_rows(table, forgotten, connection)
        lines = None if table == "rejects" else snapshot.lines(table)
        digests += write_table(table, rows, schema, snapshot.table(table), lines)
    return hashlib.sha256("\n".join([f"schema {SCHEMA_VERSION}", *digests]).encode()).hexdigest()


def select_rows(table: str, forgotten: Forgotten, connection: duckdb.DuckDBPyConnection) -> duckdb.DuckDBPyRelation:
    """The rows of a table as they are stored: sorted, and without those of users who asked to be forgotten."""
    rows = connection.sql(f"from {table}")
    rows = rows.filter(forgotten.condition(table, rows.columns))
    return rows.project("* replace (source_file::file_name as source_file)").order(ORDERS[table])


def describe_source(archive: Archive, forgotten: Forgotten) -> dict[str, Any]:
    edition = DATASETS.get(archive.dataset)
    return {
        "schema_version": SCHEMA_VERSION,
        "dataset": archive.dataset,
        "source": {
            "name": archive.path.name if archive.path else archive.source,
            "sha256": archive.sha256,
            "origin": archive.origin,
        },
        "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "licence": edition.licence if edition else None,
        "citation": edition.citation if edition else None,
    }


def describe_content(snapshot: Snapshot, dataset: str, connection: duckdb.DuckDBPyConnection) -> dict[str, Any]:
    """What the written tables hold, and what may be in them."""
    ratings = connection.read_parquet(str(snapshot.ratings))
    aggregates = "min(rated_at), max(rated_at), count(*) filter (rating % 1 = 0.5)"
    first, last, n_half = ratings.aggregate(aggregates).fetchall()[0]
    edition = DATASETS.get(dataset)
    return {
        "rows": {table: pq.read_metadata(snapshot.table(table)).num_rows for table in STORED},
        "first_rated_at": first and first.isoformat(),
        "last_rated_at": last and last.isoformat(),
        # a source that does not say gives whole stars, or half ones if there are any; what is off them is refused
        "rating_scale": edition.rating_scale if edition else HALF_STARS if n_half else WHOLE_STARS,
        "genres": edition.genres if edition else None,
    }


def find_snapshot(archive: Archive, forgotten: Forgotten, folder: Path) -> Snapshot | None:
    """The snapshot that was made from the same bytes by the same reading, if it is still there."""
    reading = read_reading(reading_path(archive, forgotten, folder))
    known = reading and Snapshot(folder / reading["snapshot"])
    if not known or not known.folder.exists():
        return None
    check_whole(known)
    return known


def check_whole(snapshot: Snapshot) -> None:
    """Raises: SourceError unless every file of the snapshot is there, with as many rows as its manifest says."""
    try:
        for table, counted in snapshot.manifest["rows"].items():
            found = pq.read_metadata(snapshot.table(table)).num_rows
            if found != counted:
                raise ValueError(f"{table}.parquet has {found:,} rows, manifest.json says {counted:,}")
    except (OSError, ValueError, LookupError, pa.ArrowException) as error:
        raise damaged(snapshot, error) from error


def damaged(snapshot: Snapshot, error: Exception) -> SourceError:
    words = " ".join(str(error).split())
    return SourceError(
        f"snapshot {snapshot.folder} is damaged: {words}. Nothing is published, last night's table is kept. "
        "Next: remove that folder, so that the next run writes it anew"
    )


def record_reading(archive: Archive, forgotten: Forgotten, snapshot: Snapshot) -> None:
    """Several sources can say the same: each has a record of its own beside the one snapshot."""
    reading = {"snapshot": snapshot.snapshot_id, "source": archive.source, "forgotten_sha256": forgotten.digest}
    write_json(reading_path(archive, forgotten, snapshot.folder.parent), reading)


def reading_path(archive: Archive, forgotten: Forgotten, folder: Path) -> Path:
    reading = hashlib.sha256(f"{SCHEMA_VERSION} {archive.sha256} {forgotten.digest}".encode()).hexdigest()
    return folder / READINGS / f"{reading[:24]}.json"


def read_reading(path: Path) -> dict[str, str] | None:
    """A record of `record_reading`; None where there is none, or one that cannot be read: then nobody knows."""
    try:
        reading: dict[str, str] = read_json(path)
        return {name: reading[name] for name in ("snapshot", "forgotten_sha256")}
    except (FileNotFoundError, ValueError, LookupError, TypeError):
        return None


def is_free_of(snapshot: Snapshot, forgotten: Forgotten) -> bool:
    """Whether a snapshot is what some source said without these users; of any other nobody knows."""
    readings = map(read_reading, (snapshot.folder.parent / READINGS).glob("*.json"))
    return (snapshot.snapshot_id, forgotten.digest) in {
        (reading["snapshot"], reading["forgotten_sha256"]) for reading in readings if reading
    }


def list_snapshots(folder: Path) -> list[Snapshot]:
    """The snapshots of one dataset, in the order of their names."""
    return [Snapshot(path.parent) for path in sorted(folder.glob("[!.]*/manifest.json"))]


def keep(aside: Snapshot, folder: Path) -> Snapshot:
    """Moves a complete snapshot to its name in one step; one of the same name has the same content and stays."""
    kept = Snapshot(folder)
    if folder.exists():
        log.info("snapshot %s: the source differs from last time, its content does not", folder.name)
        check_whole(kept)
        return kept
    for file in aside.folder.iterdir():
        sync(file)
    sync(aside.folder)
    aside.folder.rename(folder)
    sync(folder.parent)
    return kept
