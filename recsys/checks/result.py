"""What a check leaves in its run: result.json, and whether an earlier one may stand for tonight's.

Checking the same snapshot by the same rules gives the same result. Where a run on this home has it already, tonight's
run takes its files over rather than working for them again.
"""

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa

import sql
from recsys import expect
from recsys.checks.admit import count_rows
from recsys.checks.findings import Finding, find_shifts
from recsys.checks.previous import Previous
from recsys.checks.rules import ALL_RULES, SCHEMAS
from recsys.files import hash_file, read_json, write_json
from recsys.home import Run
from recsys.ingest.snapshot import Snapshot
from recsys.settings import CheckConfig
from recsys.warehouse.outcome import MetricRow

logger = logging.getLogger(__name__)

AGE = "newest_rating_age_days"  # the one figure that the clock changes
SECONDS_PER_DAY = 86_400
MOMENTS = ("started_at", "newest_at", "as_of")


@dataclass(frozen=True)
class Result:
    """What the checks of one run found; written as result.json, after all else that a check writes."""

    run_id: str
    started_at: datetime
    dataset: str
    snapshot: str
    passed: bool
    reasons: Sequence[str]
    rules: Sequence[Finding]
    metrics: Sequence[MetricRow] = ()
    as_of: datetime | None = None
    key: str = ""  # equal for checks that cannot differ but by what they compare with and by the clock
    previous: str | None = None  # the snapshot that it was compared with
    compared: str = ""  # the same in words
    newest_at: datetime | None = None  # the newest moment that the snapshot names
    admitted: Mapping[str, str] = field(default_factory=dict)  # as `admit` returns it
    counts: Mapping[str, int] = field(default_factory=dict)  # rows of the admitted tables and of the quarantine
    reused_from: str | None = None  # the run that did the work


def write_result(result: Result, run: Run) -> None:
    stored = asdict(result)
    moments = {name: stored[name] and stored[name].isoformat() for name in MOMENTS}
    write_json(run.findings, stored | moments)


def read_result(path: Path) -> Result:
    """Raises: KeyError, TypeError or ValueError for one that other code has written."""
    stored: dict[str, Any] = read_json(path)
    moments = {name: _moment(stored[name]) for name in MOMENTS}
    rules = [Finding(**rule) for rule in stored["rules"]]
    metrics = [MetricRow(**row) for row in stored["metrics"]]
    return Result(**(stored | moments | {"rules": rules, "metrics": metrics}))


def _moment(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None


def describe_metrics(measures: Mapping[str, float | None], findings: Sequence[Finding]) -> list[MetricRow]:
    """What the table `metrics` gets: the figures of the whole snapshot, and the share refused of each table."""
    shares = {f"quarantined_share_{found.table}": found.share for found in findings if found.rule == ALL_RULES}
    figures = {**measures, **shares}
    known = {name: float(value) for name, value in figures.items() if value is not None}
    return [MetricRow("snapshot", "source", "all", name, value) for name, value in known.items()]


def hash_check(snapshot: Snapshot, config: CheckConfig, as_of: datetime | None) -> str:
    """The key of a check: what is read, what is asked of it, and the code that asks."""
    folders = (Path(__file__).parent, Path(expect.__file__).parent)
    ours = sorted(path for folder in folders for path in folder.iterdir() if path.is_file())
    asked = {
        "manifest": hash_file(snapshot.folder / "manifest.json"),
        "snapshot": snapshot.snapshot_id,
        "config": config.model_dump(mode="json"),
        "as_of": as_of and as_of.isoformat(),
        "statements": {path.name: hash_file(path) for path in sorted(sql.FOLDER.glob("*.sql"))},
        "code": {f"{path.parent.name}/{path.name}": hash_file(path) for path in ours},
    }
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()


def reuse(key: str, snapshot: Snapshot, previous: Previous, config: CheckConfig, run: Run) -> Result | None:
    """Gives `run` the files of an earlier check that cannot differ, and its result; None where there is none.

    A snapshot that is being published already may be taken as it passed then, whatever it was compared with.
    """
    for earlier, found in _list_results(run):
        may_stand = found.previous == previous.snapshot_id or (previous.is_same and found.passed)
        if found.key != key or not may_stand or not _is_timeless(found, run) or not _is_complete(earlier, found):
            continue
        renewed = _renew(found, config, run)
        if [finding.verdict for finding in renewed.rules] == [finding.verdict for finding in found.rules]:
            _take_over(earlier, run)
            logger.info("nothing has changed since %s, whose result stands", renewed.reused_from)
            return replace(renewed, compared=found.compared if previous.is_same else previous.note)
    return None


def _list_results(run: Run) -> Iterator[tuple[Run, Result]]:
    """The runs of this home that have a result, newest first."""
    for folder in sorted(run.home.runs.glob("*"), reverse=True):
        earlier = Run(folder.name, run.started_at, run.home)
        if folder.name == run.run_id or not earlier.findings.exists():
            continue
        try:
            yield earlier, read_result(earlier.findings)
        except (KeyError, TypeError, ValueError):  # written by other code, so its key would be another
            continue


def _is_timeless(found: Result, run: Run) -> bool:
    """No rule that looks at the clock could have said or can say anything but yes."""
    return found.newest_at is None or found.newest_at <= min(found.started_at, run.started_at)


def _is_complete(earlier: Run, found: Result) -> bool:
    """Every file that the result speaks of is there and as long as it was."""
    files = {earlier.quarantine: found.counts["quarantine"]}
    files |= {earlier.checked / f"{table}.parquet": found.counts[table] for table in _copied(found)}
    return (earlier.data_docs / "index.html").exists() and all(_has_rows(path, rows) for path, rows in files.items())


def _copied(found: Result) -> list[str]:
    return [table for table in SCHEMAS if found.admitted.get(table) == "checked"]


def _has_rows(path: Path, rows: int) -> bool:
    try:
        return count_rows(path) == rows
    except (OSError, pa.ArrowException):
        return False


def _renew(found: Result, config: CheckConfig, run: Run) -> Result:
    """The same result for this run; the newest rating is older by now."""
    days = (run.started_at - found.started_at).total_seconds() / SECONDS_PER_DAY
    metrics = [replace(row, value=row.value + days) if row.metric == AGE else row for row in found.metrics]
    measures = {row.metric: row.value for row in metrics}
    shifts = {shift.rule: shift for shift in find_shifts(measures, config)}
    return replace(
        found,
        run_id=run.run_id,
        started_at=run.started_at,
        rules=[shifts.get(finding.rule, finding) for finding in found.rules],
        metrics=metrics,
        reused_from=found.reused_from or found.run_id,
    )


def _take_over(earlier: Run, run: Run) -> None:
    """Files are only ever replaced, never changed, so two runs may share them."""
    for mine, theirs in ((run.validation, earlier.validation), (run.checked, earlier.checked)):
        shutil.rmtree(mine, ignore_errors=True)
        if theirs.exists():
            shutil.copytree(theirs, mine, copy_function=_link)


def _link(source: str | Path, target: str | Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without links
        shutil.copy2(source, target)
