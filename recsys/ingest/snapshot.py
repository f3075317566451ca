"""A snapshot: a folder of immutable canonical Parquet files with a manifest. Its name is a hash of its content."""

from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from recsys import files
from recsys.errors import SourceError
from recsys.files import read_sealed
from recsys.schema import REJECTS, SUPERSEDED, TABLES

STORED = {**TABLES, "superseded": SUPERSEDED, "rejects": REJECTS}  # tables of a snapshot


@dataclass(frozen=True)
class Snapshot:
    """A snapshot's folder. Row i of `lines(table)` has the source file and line of row i of the table."""

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
        """Ratings that a later rating or a retraction replaced, with the time. An earlier `as_of` still uses them."""
        return self.folder / "superseded.parquet"

    @property
    def rejects(self) -> Path:
        """Lines that could not be parsed as a row, `schema.REJECTS`."""
        return self.folder / "rejects.parquet"

    def table(self, name: str) -> Path:
        """The file of a table in `schema.TABLES`."""
        return self.folder / f"{name}.parquet"

    def lines(self, name: str) -> Path:
        """The place in the source of each row of a table or of superseded: source_file, source_line."""
        return self.folder / f"{name}_lines.parquet"

    @cached_property
    def manifest(self) -> dict[str, Any]:
        """manifest.json: the source, content and licence of the data, and the SHA-256 of each file.

        Raises: ValueError if it is damaged.
        """
        return read_sealed(self.folder / "manifest.json")

    @property
    def dataset(self) -> str:
        return str(self.manifest["dataset"])

    @property
    def snapshot_id(self) -> str:
        """The first 12 hexadecimal digits of the SHA-256 of the content."""
        return self.folder.name

    @property
    def made_at(self) -> datetime:
        """The time at which it was written, in UTC. The first version of manifests did not record it."""
        written = datetime.fromtimestamp((self.folder / "manifest.json").stat().st_mtime, UTC).isoformat()
        return datetime.fromisoformat(self.manifest.get("made_at", written))

    @property
    def genres(self) -> list[str] | None:
        """The genres that a movie may have; None if the source does not list them."""
        genres: list[str] | None = self.manifest["genres"]
        return genres

    @property
    def rating_scale(self) -> tuple[float, ...]:
        """The possible ratings in stars, ascending."""
        return tuple(self.manifest["rating_scale"])


def list_snapshots(folder: Path) -> list[Snapshot]:
    """Returns the snapshots of one dataset, sorted by name."""
    return [Snapshot(path.parent) for path in sorted(folder.glob("[!.]*/manifest.json"))]


def find_damage(snapshot: Snapshot, *names: str) -> str | None:
    """Describes the first file that is not as it was written; None if there is none.

    names: the files to check besides manifest.json, by default all.
    """
    try:
        digests = snapshot.manifest["files"]
        return files.find_damage(snapshot.folder, {name: digests[name] for name in names or digests})
    except KeyError:
        return "manifest.json is of an older version, without the SHA-256 of each file"
    except (OSError, ValueError, TypeError) as error:
        return f"manifest.json cannot be read ({error})"


def damaged(snapshot: Snapshot, error: Exception) -> SourceError:
    words = " ".join(str(error).split())
    return SourceError(
        f"snapshot {snapshot.folder} is damaged: {words}. Nothing is published, and last night's table is kept. "
        "Next: run again: the files of the snapshot are checked, and damaged ones are written again from the source"
    )
