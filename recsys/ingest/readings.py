"""Records the snapshot of each source, so that a source is read only once."""

import hashlib
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from recsys.files import read_sealed, write_sealed
from recsys.forgotten import Forgotten
from recsys.ingest.snapshot import Snapshot
from recsys.settings import RatingScale

SCHEMA_VERSION = 2  # increase it whenever the same source would give different rows

READINGS = ".readings"  # folder beside the snapshots of a dataset


@dataclass(frozen=True)
class Source:
    """What a snapshot is made of: the bytes of a source, except for forgotten users and rows dated after `now`."""

    sha256: str
    forgotten: Forgotten
    scale: RatingScale
    now: datetime  # UTC


def find_snapshot(source: Source, folder: Path) -> Snapshot | None:
    """Returns the snapshot made from this source by the same version of the code, if it still exists.

    A source with rows dated in the future gives another snapshot once their time has come.

    Its files may be damaged.
    """
    reading = read_reading(reading_path(source, folder))
    if not reading or _is_outdated(reading, source.now):
        return None
    known = Snapshot(folder / reading["snapshot"])
    return known if known.folder.exists() else None


def record_reading(source: Source, snapshot: Snapshot, next_change: str | None) -> None:
    """Writes a record next to the snapshots of the dataset. It holds until `next_change`, in ISO 8601."""
    reading = {
        "snapshot": snapshot.snapshot_id,
        "forgotten_sha256": source.forgotten.digest,
        "next_change": next_change,
    }
    write_sealed(reading_path(source, snapshot.folder.parent), reading)


def reading_path(source: Source, folder: Path) -> Path:
    inputs = f"{SCHEMA_VERSION} {source.sha256} {source.forgotten.digest} {source.scale}"
    return folder / READINGS / f"{hashlib.sha256(inputs.encode()).hexdigest()[:24]}.json"


def read_reading(path: Path) -> dict[str, Any] | None:
    """Returns a record written by `record_reading`; None if it does not exist or cannot be read."""
    try:
        reading = read_sealed(path)
        return {name: reading[name] for name in ("snapshot", "forgotten_sha256", "next_change")}
    except (FileNotFoundError, ValueError, LookupError, TypeError):
        return None


def _is_outdated(reading: dict[str, Any], now: datetime) -> bool:
    return bool(reading["next_change"]) and datetime.fromisoformat(reading["next_change"]) <= now


def is_free_of(snapshot: Snapshot, forgotten: Forgotten) -> bool:
    """Whether a snapshot is known to have been made without these users."""
    readings = map(read_reading, (snapshot.folder.parent / READINGS).glob("*.json"))
    return (snapshot.snapshot_id, forgotten.digest) in {
        (reading["snapshot"], reading["forgotten_sha256"]) for reading in readings if reading
    }
