"""Restores the lists of an earlier run, and holds nights back until the rollback is released."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import polars as pl

from recsys.errors import PublishError, UsageError
from recsys.expect.validate import Validate, validate_views
from recsys.home import RUN_ID, Home
from recsys.runs.night import locked
from recsys.runs.seal import find_damage
from recsys.version import code_version
from recsys.warehouse.lookup import find_held, list_published
from recsys.warehouse.outcome import Outcome
from recsys.warehouse.publish import is_copied, record, restore

SUFFIX = "-rollback"  # of the run_id of a rollback, which is not a night


@dataclass(frozen=True)
class RolledBack:
    """The run served before, the one served now, and the rows of each table."""

    run_id: str  # of the rollback itself, as in the table `runs`
    from_run: str
    to_run: str
    rows: dict[str, int]


def roll_back(home: Home, run_id: str | None = None, validate: Validate = validate_views) -> RolledBack:
    """Serves the lists of `run_id` again, by default those of the newest run before the served one.

    Nights are still evaluated and recorded, but the gate holds each of them back until `release`.

    Raises: NotPublished if nothing is served; UsageError if there is no such run; PublishError if its tables cannot be
    restored; HomeBusy if a night is running.
    """
    with locked(home, "a rollback"):
        targets = list_targets(home)
        target, served = _choose(targets, run_id, home), _served(targets)
        kept = home.run(target["run_id"])
        if damage := find_damage(kept, kept.served):
            others = targets.filter("is_kept", ~pl.col("run_id").is_in([served, kept.run_id]))
            raise PublishError(f"{damage}. The served tables stay as they are. {_others(others)}")
        outcome = _event(target, "rolled back", f"by hand, from run {served} to run {target['run_id']}", published=True)
        rows = restore(outcome, kept, home, validate)
    return RolledBack(outcome.run_id, served, target["run_id"], rows)


def release(home: Home) -> str:
    """Lets nights publish again after a rollback; returns the run that is served.

    Raises: NotPublished if nothing is served; UsageError if nothing was rolled back; HomeBusy if a night is running.
    """
    with locked(home, "a rollback"):
        targets = list_targets(home)
        served = next(row for row in targets.rows(named=True) if row["is_served"])
        if find_held(home) is None:
            raise UsageError(f"no rollback holds nights back on {home.root}, so there is nothing to release")
        reason = f"by hand: nights may replace run {served['run_id']} again"
        record(_event(served, "released", reason, published=False), home)
    return str(served["run_id"])


def list_targets(home: Home) -> pl.DataFrame:
    """The runs that published, newest first, with is_served and is_kept: whether their tables can still be restored.

    Raises: NotPublished if there are none.
    """
    published = list_published(home)
    kept = [is_copied(home.run(run_id)) for run_id in published["run_id"]]
    return published.with_columns(is_kept=pl.Series(kept, dtype=pl.Boolean))


def _choose(targets: pl.DataFrame, run_id: str | None, home: Home) -> dict[str, Any]:
    served = _served(targets)
    kept = targets.filter("is_kept", pl.col("run_id") != served)
    if run_id is None:
        ids = targets["run_id"].to_list()
        before = kept.filter(pl.col("run_id").is_in(ids[ids.index(served) + 1 :]))
        if before.is_empty():
            raise UsageError(
                f"no run before {served}, which is served, still has its tables in {home.runs}. {_others(kept)}"
            )
        return before.row(0, named=True)
    requested = targets.filter(pl.col("run_id") == run_id)
    if requested.is_empty():
        raise UsageError(f"no run {run_id} has published on {home.root}. {_others(kept)}")
    if run_id == served:
        raise UsageError(f"run {run_id} is already served. {_others(kept)}")
    return requested.row(0, named=True)


def _served(targets: pl.DataFrame) -> str:
    return str(targets.filter("is_served")["run_id"].item())


def _others(kept: pl.DataFrame) -> str:
    if kept.is_empty():
        return "Next: `recsys nightly --force-publish` makes new lists"
    return f"Next: choose one of {', '.join(kept['run_id'])}"


def _event(run: dict[str, Any], verdict: str, reason: str, *, published: bool) -> Outcome:
    """A row of `runs` for a rollback or a release; `run` is the row of the run that is served from now on."""
    now = datetime.now(UTC).replace(microsecond=0)
    about = {name: run[name] for name in ("as_of", "dataset", "snapshot", "model", "config_hash")}
    return Outcome(
        run_id=f"{now.strftime(RUN_ID)}{SUFFIX}",
        started_at=now,
        finished_at=datetime.now(UTC),
        code_version=code_version(),
        verdict=verdict,
        reason=reason,
        published=published,
        **about,
    )
