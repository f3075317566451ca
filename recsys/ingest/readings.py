"""Records the snapshot of each source, so that a source is read only once."""

import hashlib
from pathlib import Path

from recsys.files import read_sealed, write_sealed
from recsys.forgotten import Forgotten
from recsys.ingest.snapshot import Snapshot

SCHEMA_VERSION = 2  # increase it whenever the same source would give different rows

READINGS = ".readings"  # folder beside the snapshots of a dataset


def find_snapshot(sha256: str, forgotten: Forgotten, folder: Path) -> Snapshot | None:
    """Returns the snapshot made from the source with this SHA-256 by the same version of the code, if it still exists.

    Its files may be damaged.
    """
    reading = read_reading(reading_path(sha256, forgotten, folder))
    known = reading and Snapshot(folder / reading["snapshot"])
    return known if known and known.folder.exists() else None


def record_reading(sha256: str, forgotten: Forgotten, snapshot: Snapshot) -> None:
    """Writes a record next to the snapshots of the dataset."""
    reading = {"snapshot": snapshot.snapshot_id, "forgotten_sha256": forgotten.digest}
    write_sealed(reading_path(sha256, forgotten, snapshot.folder.parent), reading)


def reading_path(sha256: str, forgotten: Forgotten, folder: Path) -> Path:
    reading = hashlib.sha256(f"{SCHEMA_VERSION} {sha256} {forgotten.digest}".encode()).hexdigest()
    return folder / READINGS / f"{reading[:24]}.json"


def read_reading(path: Path) -> dict[str, str] | None:
    """Returns a record written by `record_reading`; None if it does not exist or cannot be read."""
    try:
        reading = read_sealed(path)
        return {name: reading[name] for name in ("snapshot", "forgotten_sha256")}
    except (FileNotFoundError, ValueError, LookupError, TypeError):
        return None


def is_free_of(snapshot: Snapshot, forgotten: Forgotten) -> bool:
    """Whether a snapshot is known to have been made without these users."""
    readings = map(read_reading, (snapshot.folder.parent / READINGS).glob("*.json"))
    return (snapshot.snapshot_id, forgotten.digest) in {
        (reading["snapshot"], reading["forgotten_sha256"]) for reading in readings if reading
    }
