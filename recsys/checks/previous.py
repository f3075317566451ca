"""Finds the last published snapshot, so that the new one can be compared with it."""

import logging
from dataclasses import dataclass

import pyarrow as pa

from recsys.checks.rules import list_wrong_columns
from recsys.datasets import describe_dataset
from recsys.errors import NotPublished
from recsys.home import Home
from recsys.ingest.snapshot import Snapshot, find_damage
from recsys.schema import RATINGS
from recsys.warehouse.lookup import find_published

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Previous:
    """The snapshot of the newest published run of a dataset, if the new snapshot can be compared with it.

    `note` describes the comparison, or the reason why there is none.
    """

    note: str
    snapshot: Snapshot | None = None
    is_same: bool = False  # the run published the same snapshot

    @property
    def snapshot_id(self) -> str | None:
        return self.snapshot.snapshot_id if self.snapshot else None


def find_previous(snapshot: Snapshot, home: Home) -> Previous:
    """Finds the snapshot to compare `snapshot` with. There is none if `snapshot` itself was published last."""
    previous = _find(snapshot, home)
    logger.info("%s", previous.note)
    return previous


def _find(snapshot: Snapshot, home: Home) -> Previous:
    try:
        published = find_published(home, snapshot.dataset)
    except NotPublished as error:
        return Previous(f"not compared: {error}")
    if published is None:
        return Previous(f"not compared: no run of {describe_dataset(snapshot.dataset)} has been published yet")
    run_id, snapshot_id = published
    if snapshot_id == snapshot.snapshot_id:
        return Previous(f"unchanged since run {run_id}, which published snapshot {snapshot_id}", is_same=True)
    before = Snapshot(snapshot.folder.with_name(snapshot_id))
    fault = _find_fault(before)
    if fault:
        return Previous(f"not compared: {before.folder}, which run {run_id} published, {fault}")
    note = f"compared with snapshot {snapshot_id}, which run {run_id} published"
    if snapshot.rating_scale != before.rating_scale:
        scales = (", ".join(f"{stars:g}" for stars in each.rating_scale) for each in (before, snapshot))
        note += "; the rating scale has changed from {} to {} stars".format(*scales)
    return Previous(note, before)


def _find_fault(before: Snapshot) -> str | None:
    """The reason why a snapshot cannot be used for comparison, as text that follows its name; None if it can."""
    missing = [path.name for path in (before.ratings, before.folder / "manifest.json") if not path.exists()]
    if missing:
        return f"lacks {missing[0]}"
    try:
        _ = before.rating_scale
        if "files" in before.manifest and (damage := find_damage(before, before.ratings.name)):
            return f"is damaged ({damage})"
        return "has other columns" if list_wrong_columns(before.ratings, RATINGS) else None
    except (OSError, ValueError, LookupError, pa.ArrowException) as error:
        return f"is damaged ({' '.join(str(error).split())})"
