"""What a snapshot is: a folder of immutable canonical Parquet and its manifest, named by what it says."""

from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from recsys.errors import SourceError
from recsys.files import read_json
from recsys.schema import REJECTS, SUPERSEDED, TABLES

STORED = {**TABLES, "superseded": SUPERSEDED, "rejects": REJECTS}  # its tables


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


def list_snapshots(folder: Path) -> list[Snapshot]:
    """The snapshots of one dataset, in the order of their names."""
    return [Snapshot(path.parent) for path in sorted(folder.glob("[!.]*/manifest.json"))]


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
