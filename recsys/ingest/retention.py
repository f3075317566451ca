"""Which snapshots stay on disk: what there is, how large and how old, and what a night may delete when it is over."""

import logging
import shutil
from datetime import UTC, datetime
from pathlib import Path

import polars as pl

from recsys.forgotten import read_forgotten
from recsys.home import Home, Run
from recsys.ingest.readings import is_free_of
from recsys.ingest.snapshot import Snapshot, list_snapshots
from recsys.settings import SnapshotConfig

log = logging.getLogger(__name__)

LISTED: dict[str, pl.DataType | type[pl.DataType]] = {
    "dataset": pl.String,
    "snapshot": pl.String,
    "made_at": pl.Datetime("us", "UTC"),
    "age_days": pl.Float64,
    "bytes": pl.Int64,
    "ratings": pl.Int64,
    "last_rated_at": pl.String,
    "source": pl.String,
    "folder": pl.String,
}


def list_local(home: Home, *, in_words: bool = False) -> pl.DataFrame:
    """One row per snapshot of the home, datasets by name, newest first; `in_words` for a table that people read."""
    now = datetime.now(UTC)
    folders = sorted(home.snapshots.glob("[!.]*")) if home.snapshots.exists() else []
    rows = [describe(snapshot, now) for folder in folders for snapshot in list_snapshots(folder)]
    listed = pl.DataFrame(rows, schema=LISTED).sort(["dataset", "made_at"], descending=[False, True])
    return in_short(listed) if in_words else listed


def in_short(listed: pl.DataFrame) -> pl.DataFrame:
    return listed.select(
        "dataset",
        "snapshot",
        "ratings",
        pl.col("last_rated_at").str.head(10).alias("last rated"),
        (pl.col("bytes") / 1e6).round(1).alias("MB"),
        pl.col("age_days").alias("age, days"),
        "source",
    )


def describe(snapshot: Snapshot, now: datetime) -> dict[str, object]:
    manifest = snapshot.manifest
    return {
        "dataset": snapshot.dataset,
        "snapshot": snapshot.snapshot_id,
        "made_at": snapshot.made_at,
        "age_days": round((now - snapshot.made_at).total_seconds() / 86_400, 1),
        "bytes": size_bytes(snapshot.folder),
        "ratings": manifest["rows"]["ratings"],
        "last_rated_at": manifest["last_rated_at"],
        "source": manifest["source"]["name"],
        "folder": str(snapshot.folder),
    }


def size_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def retain_snapshots(present: Snapshot, run: Run, config: SnapshotConfig) -> int:
    """Deletes the dataset's snapshots beyond the newest `config.keep`, and everything in which a user may still be who
    has asked to be forgotten since: snapshots and the folders of earlier runs. Returns the bytes that this freed.

    `present` and `run`, tonight's, always stay.
    """
    forgotten = read_forgotten(run.home)
    snapshots = sorted(list_snapshots(present.folder.parent), key=lambda one: (one.made_at, one.snapshot_id))
    others = [one for one in reversed(snapshots) if one.folder != present.folder]
    beyond = others[config.keep - 1 :]
    gone = {one.folder: "beyond the newest" for one in beyond}
    if forgotten.newest:
        everywhere = [one for folder in run.home.snapshots.glob("[!.]*") for one in list_snapshots(folder)]
        gone |= {one.folder: "of forgotten users" for one in everywhere if not is_free_of(one, forgotten)}
        gone |= {
            folder: "of forgotten users"
            for folder in run.home.runs.iterdir()
            if folder != run.folder and started_before(folder, forgotten.newest)
        }
    return sum(remove(folder, why) for folder, why in sorted(gone.items()) if folder != present.folder)


def started_before(folder: Path, moment: datetime) -> bool:
    """Whether a run, whose folder is named by its start, began before `moment`."""
    return folder.name < moment.strftime("%Y%m%dT%H%M%SZ")


def remove(folder: Path, why: str) -> int:
    freed = size_bytes(folder)
    shutil.rmtree(folder)
    log.info("removed %s/%s (%s): %.1f MB", folder.parent.name, folder.name, why, freed / 1e6)
    return freed
