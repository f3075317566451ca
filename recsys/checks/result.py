"""Writes and reads result.json of a check, and reuses the result of an earlier check.

The same snapshot checked with the same rules gives the same result. If a run of this home already has that result, the
new run links to its files instead of computing them again.
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
from recsys.runs.seal import find_damage
from recsys.settings import CheckConfig
from recsys.warehouse.outcome import MetricRow

logger = logging.getLogger(__name__)

AGE = "newest_rating_age_days"  # the one figure that changes with the clock
SECONDS_PER_DAY = 86_400
MOMENTS = ("started_at", "newest_at", "as_of")


@dataclass(frozen=True)
class Result:
    """The result of the checks of one run. It is written as result.json, after all other files of a check."""

    run_id: str
    started_at: datetime
    dataset: str
    snapshot: str
    passed: bool
    reasons: Sequence[str]
    rules: Sequence[Finding]
    metrics: Sequence[MetricRow] = ()
    as_of: datetime | None = None
    key: str = ""  # equal for checks that differ only in the previous snapshot or the clock
    previous: str | None = None  # id of the snapshot that it was compared with
    compared: str = ""  # description of the comparison
    newest_at: datetime | None = None  # the newest time in the snapshot
    admitted: Mapping[str, str] = field(default_factory=dict)  # as returned by `admit`
    counts: Mapping[str, int] = field(default_factory=dict)  # rows of the admitted tables and of the quarantine
    reused_from: str | None = None  # the run that computed it


def write_result(result: Result, run: Run) -> None:
    stored = asdict(result)
    moments = {name: stored[name] and stored[name].isoformat() for name in MOMENTS}
    write_json(run.findings, stored | moments)


def read_result(path: Path) -> Result:
    """Raises: KeyError, TypeError or ValueError for a file written by another version."""
    stored: dict[str, Any] = read_json(path)
    moments = {name: _moment(stored[name]) for name in MOMENTS}
    rules = [Finding(**rule) for rule in stored["rules"]]
    metrics = [MetricRow(**row) for row in stored["metrics"]]
    return Result(**(stored | moments | {"rules": rules, "metrics": metrics}))


def _moment(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None


def describe_metrics(measures: Mapping[str, float | None], findings: Sequence[Finding]) -> list[MetricRow]:
    """The rows for the table `metrics`: the figures of the whole snapshot, and the refused share of each table."""
    shares = {f"quarantined_share_{found.table}": found.share for found in findings if found.rule == ALL_RULES}
    figures = {**measures, **shares}
    known = {name: float(value) for name, value in figures.items() if value is not None}
    return [MetricRow("snapshot", "source", "all", name, value) for name, value in known.items()]


def hash_check(snapshot: Snapshot, config: CheckConfig, as_of: datetime | None) -> str:
    """The key of a check: a hash of the data, the settings, the SQL statements and the code."""
    folders = (Path(__file__).parent, Path(expect.__file__).parent)
    modules = sorted(path for folder in folders for path in folder.iterdir() if path.is_file())
    inputs = {
        "manifest": hash_file(snapshot.folder / "manifest.json"),
        "snapshot": snapshot.snapshot_id,
        "config": config.model_dump(mode="json"),
        "as_of": as_of and as_of.isoformat(),
        "statements": {path.name: hash_file(path) for path in sorted(sql.FOLDER.glob("*.sql"))},
        "code": {f"{path.parent.name}/{path.name}": hash_file(path) for path in modules},
    }
    return hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()


def reuse(key: str, snapshot: Snapshot, previous: Previous, config: CheckConfig, run: Run) -> Result | None:
    """Links the files of an equal earlier check into `run` and returns its result; None if there is none.

    If this snapshot itself was published last, the comparison of the earlier check does not have to match.
    """
    for earlier, found in _list_results(run):
        is_usable = found.previous == previous.snapshot_id or (previous.is_same and found.passed)
        if found.key != key or not is_usable or not _is_timeless(found, run) or not _is_complete(earlier, found):
            continue
        if damage := find_damage(earlier, earlier.validation, earlier.checked):
            logger.warning("%s; its checks are not reused", damage)
            continue
        renewed = _renew(found, config, run)
        if [finding.verdict for finding in renewed.rules] == [finding.verdict for finding in found.rules]:
            _link_files(earlier, run)
            logger.info("nothing has changed since %s, whose result is reused", renewed.reused_from)
            return replace(renewed, compared=found.compared if previous.is_same else previous.note)
    return None


def _list_results(run: Run) -> Iterator[tuple[Run, Result]]:
    """The other runs of this home that have a result, newest first."""
    for earlier in reversed(run.home.list_runs()):
        if earlier.run_id == run.run_id or not earlier.findings.exists():
            continue
        try:
            yield earlier, read_result(earlier.findings)
        except (KeyError, TypeError, ValueError):  # written by another version, so its key would differ anyway
            continue


def _is_timeless(found: Result, run: Run) -> bool:
    """Whether the rules that use the clock pass at both times, because every time in the snapshot is in the past."""
    return found.newest_at is None or found.newest_at <= min(found.started_at, run.started_at)


def _is_complete(earlier: Run, found: Result) -> bool:
    """Whether every file of the result exists and has the recorded number of rows."""
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
    """The same result for this run, with the age of the newest rating brought up to date."""
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


def _link_files(earlier: Run, run: Run) -> None:
    """Links the files of an earlier run. Runs can share files because files are never changed in place."""
    for target, source in ((run.validation, earlier.validation), (run.checked, earlier.checked)):
        shutil.rmtree(target, ignore_errors=True)
        if source.exists():
            shutil.copytree(source, target, copy_function=_link)


def _link(source: str | Path, target: str | Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without hard links
        shutil.copy2(source, target)
