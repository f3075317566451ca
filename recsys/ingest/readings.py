"""Which source was read to which snapshot: several can say the same, and each is read once."""

import hashlib
from pathlib import Path

from recsys.files import read_json, write_json
from recsys.forgotten import Forgotten
from recsys.ingest.snapshot import Snapshot, check_whole

SCHEMA_VERSION = 2  # raise it whenever the same source would be read differently

READINGS = ".readings"  # folder beside the snapshots of a dataset


def find_snapshot(sha256: str, forgotten: Forgotten, folder: Path) -> Snapshot | None:
    """The snapshot that was made from a source of this SHA-256 by the same reading, if it is still there.

    Raises: SourceError when it is damaged.
    """
    reading = read_reading(reading_path(sha256, forgotten, folder))
    known = reading and Snapshot(folder / reading["snapshot"])
    if not known or not known.folder.exists():
        return None
    check_whole(known)
    return known


def record_reading(sha256: str, forgotten: Forgotten, snapshot: Snapshot) -> None:
    """Leaves a record beside the snapshots of the dataset."""
    reading = {"snapshot": snapshot.snapshot_id, "forgotten_sha256": forgotten.digest}
    write_json(reading_path(sha256, forgotten, snapshot.folder.parent), reading)


def reading_path(sha256: str, forgotten: Forgotten, folder: Path) -> Path:
    reading = hashlib.sha256(f"{SCHEMA_VERSION} {sha256} {forgotten.digest}".encode()).hexdigest()
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
