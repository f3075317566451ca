"""Lists the snapshots on disk, and deletes old ones at the end of a night."""

import logging
import shutil
from datetime import UTC, datetime
from pathlib import Path

import polars as pl

from recsys.forgotten import Forgotten, read_forgotten
from recsys.home import RUN_ID, Home, Run
from recsys.ingest.drops import is_parsed_without
from recsys.ingest.readings import is_free_of
from recsys.ingest.snapshot import Snapshot, list_snapshots
from recsys.ingest.write import ASIDE, is_idle
from recsys.settings import SnapshotConfig
from recsys.warehouse.lookup import find_in_use

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
    """Returns one row per snapshot, sorted by dataset, newest first; with fewer columns if `in_words`."""
    now = datetime.now(UTC)
    folders = sorted(home.snapshots.glob("[!.]*")) if home.snapshots.exists() else []
    rows = [describe(snapshot, now) for folder in folders for snapshot in list_readable(folder)]
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
    """Deletes old snapshots of the dataset, and everything that may contain rows of users who asked to be forgotten.

    Keeps the newest `config.keep` snapshots, and always those of tonight (`present`, `run`). Returns the number of
    bytes freed. A folder that cannot be read or deleted is logged and skipped, because the tables are already published
    and the night must not fail.
    """
    forgotten = read_forgotten(run.home)
    reasons = dict.fromkeys(list_outdated(present, config.keep), "not among the newest")
    if forgotten.newest:
        reasons |= dict.fromkeys(list_unclean(run, forgotten), "of forgotten users")
    return sum(remove(folder, why) for folder, why in sorted(reasons.items()) if folder != present.folder)


def list_outdated(present: Snapshot, keep: int) -> list[Path]:
    """Lists the dataset's snapshots that are not among the newest `keep`, which always include `present`."""
    snapshots = [one for one in list_readable(present.folder.parent) if one.folder != present.folder]
    snapshots.sort(key=lambda one: (one.made_at, one.snapshot_id), reverse=True)
    return [one.folder for one in snapshots[keep - 1 :]]


def list_unclean(run: Run, forgotten: Forgotten) -> list[Path]:
    """Lists the folders that may have rows of forgotten users: snapshots, leftovers of killed runs, parsed drops, and
    earlier runs. A run that is still served is kept until another one is published.
    """
    assert forgotten.newest
    home, moment, now = run.home, forgotten.newest.strftime(RUN_ID), datetime.now(UTC).strftime(RUN_ID)
    datasets = list(home.snapshots.glob("[!.]*"))
    snapshots = [one for folder in datasets for one in list_snapshots(folder) if not is_free_of(one, forgotten)]
    leftovers = [path for folder in datasets for path in folder.glob(f"{ASIDE}*") if is_idle(folder)]
    parsed = [path for path in home.parsed.glob("*") if not is_parsed_without(path, forgotten)]
    others = [one for one in home.list_runs() if one.run_id != run.run_id]
    # a run in the future was made when the clock was wrong, maybe before the request
    earlier = [one for one in others if not moment < one.run_id[: len(moment)] <= now]
    in_use = find_in_use(run)
    runs = [one.folder for one in earlier if one.run_id not in in_use]
    for one in (one for one in earlier if one.run_id in in_use):
        log.warning(
            "run %s was made before the last request to forget and is still served; its folder is kept until another "
            "run is published",
            one.run_id,
        )
    for folder in home.list_strays():
        log.warning("%s was not written by a run and may contain rows of forgotten users. Next: remove it", folder)
    return [path for path in (*(one.folder for one in snapshots), *leftovers, *parsed, *runs) if path.is_dir()]


def list_readable(folder: Path) -> list[Snapshot]:
    """Lists the snapshots of a dataset that have a readable manifest, and logs the others."""
    readable = []
    for snapshot in list_snapshots(folder):
        try:
            describe(snapshot, datetime.now(UTC))
            readable.append(snapshot)
        except (OSError, ValueError, LookupError, TypeError) as error:
            log.warning("%s is damaged and is kept: %s. Next: remove it", snapshot.folder, error)
    return readable


def remove(folder: Path, why: str) -> int:
    try:
        freed = size_bytes(folder)
        shutil.rmtree(folder)
    except OSError as error:
        log.warning("%s cannot be removed (%s): %s. Next: remove it", folder, why, error)
        return 0
    log.info("removed %s/%s (%s): %.1f MB", folder.parent.name, folder.name, why, freed / 1e6)
    return freed
