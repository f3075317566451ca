"""Resumes a night that was killed or failed: finds it by its inputs, and records its progress and its outcome."""

import hashlib
import logging
import platform
import shutil
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from pathlib import Path
from typing import Any

from recsys.errors import RecsysError
from recsys.files import hash_file, read_sealed, write_json, write_sealed
from recsys.home import Home, Run
from recsys.ingest.fetch.fetch import is_path, local_archive
from recsys.runs.seal import find_damage
from recsys.settings import RulesConfig, Settings
from recsys.version import code_hash, code_version
from recsys.warehouse.lookup import find_held, find_served

LIBRARIES = ("torch", "numpy", "polars", "duckdb")  # a step's result depends on their versions
MOST_FAILURES = 3  # of one run; then it is not resumed, because a damaged file may make every attempt fail

Inputs = dict[str, Any]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Underway:
    """The current step of a run, or its last one."""

    step: str
    since: str  # UTC, ISO 8601


def describe_inputs(settings: Settings, home: Home) -> Inputs:
    """Everything that determines a night's result, by content. Nights with equal inputs give the same tables.

    Raises: NotPublished if there is a warehouse that cannot be read.
    """
    served = find_served(home)
    return {
        "settings": settings.model_dump(mode="json", exclude={"home", "resume_hours"}),
        "source": _sign_source(settings.source),
        "rules": _sign_rules(settings.rules),
        "code": f"{code_version()} {code_hash()}",
        "libraries": [platform.python_version(), *(f"{name} {version(name)}" for name in LIBRARIES)],
        "forgotten": hash_file(home.forgotten) if home.forgotten.exists() else None,
        "served": served["run_id"] if served else None,
        "held": find_held(home),
    }


def find_unfinished(inputs: Inputs, home: Home, hours: float) -> Run | None:
    """The newest run with these inputs that was killed or failed and began at most `hours` ago.

    If a run was killed after it had published, it is the served run by now. This does not count as a difference. A run
    that began in the future is not resumed, because its age is unknown.
    """
    now = datetime.now(UTC)
    for run in list_newest(home):
        if not now - timedelta(hours=hours) <= run.started_at <= now:
            continue
        before = read_record(run.inputs)
        if before and is_unfinished(run) and _are_alike(before, inputs, run):
            damage = find_damage(run, run.folder)
            if damage is None:
                return run
            logger.warning("%s; it is not resumed, and the night starts over", damage)
    return None


def describe_interruption(home: Home) -> str:
    """The message after a person has stopped a night: the step that it was in, and how to resume it."""
    last = find_last(home)
    step = read_step(last) if last and is_unfinished(last) else None
    if last is None or step is None:
        return "interrupted before the night began; nothing has changed"
    return (
        f"interrupted in step {step.step} of run {last.run_id}; the tables that were served are kept. Next: run the "
        "same command again, and the run resumes with this step"
    )


def find_last(home: Home) -> Run | None:
    """The newest run of the home, however it ended; checks do not count."""
    return next((run for run in list_newest(home) if run.inputs.exists()), None)


def list_newest(home: Home) -> list[Run]:
    """The runs that have a folder, the newest first: in the order of their numbers, whatever the clock said.

    Runs of older versions have no number and are the oldest.
    """
    numbers = {run: read_number(run) for run in home.list_runs()}
    return sorted(numbers, key=lambda run: (numbers[run], run.run_id), reverse=True)


def read_number(run: Run) -> int:
    """The number of a run among those of its home, from 1; 0 if it is unknown."""
    number = read_record(run.config).get("number", 0)
    return number if isinstance(number, int) else 0


def mark_begun(run: Run, inputs: Inputs) -> None:
    """Marks the run as unfinished."""
    write_json(run.inputs, inputs)


def mark_ended(run: Run, verdict: str, reason: str | None = None, *, counts: bool = True) -> None:
    """Marks how the run ended. Only failed runs can be resumed, because any other verdict would be reached again.

    `counts` is False if a person or the machine interrupted the run, which does not count as a failure.
    """
    failures = read_record(run.ended).get("failures", 0) + (verdict == "failed" and counts)
    write_sealed(run.ended, {"verdict": verdict, "reason": reason, "failures": failures})
    if verdict != "failed":
        shutil.rmtree(run.results, ignore_errors=True)


def read_failure(run: Run) -> str | None:
    """The reason of the last failure; None if the run has not failed."""
    ended = read_record(run.ended)
    return str(ended["reason"]) if ended.get("verdict") == "failed" else None


def mark_step(run: Run, step: str) -> None:
    """Records the current step, for the messages about a busy home, an interruption or a kill."""
    since = datetime.now(UTC).isoformat(timespec="seconds")
    write_sealed(run.underway, {"step": step, "since": since})


def read_step(run: Run) -> Underway | None:
    """The run's current or last step."""
    record = read_record(run.underway)
    return Underway(record["step"], record["since"]) if {"step", "since"} <= record.keys() else None


def key_of(inputs: Inputs) -> str:
    """Hash of the inputs, except for the run that is served at the moment. 12 hexadecimal digits."""
    described = str(sorted((name, str(value)) for name, value in inputs.items() if name != "served"))
    return hashlib.sha256(described.encode()).hexdigest()[:12]


def is_unfinished(run: Run) -> bool:
    """Whether the run is running, was killed, or failed and can be resumed. With a damaged record, it cannot."""
    if not run.ended.exists():
        return True
    ended = read_record(run.ended)
    return ended.get("verdict") == "failed" and ended.get("failures", MOST_FAILURES) < MOST_FAILURES


def read_record(path: Path) -> dict[str, Any]:
    """The content of a record of a run; empty if it is missing, or damaged, which is logged."""
    if not path.exists():
        return {}
    try:
        return read_sealed(path)
    except (OSError, ValueError) as error:
        logger.warning("%s is damaged (%s) and is ignored. Next: remove the folder of this run", path, error)
    return {}


def _are_alike(before: Inputs, now: Inputs, run: Run) -> bool:
    differing = {name for name in {*before, *now} if before.get(name) != now.get(name)}
    if differing == {"served"} and now["served"] == run.run_id:
        return True
    if differing:
        logger.info("run %s is unfinished, but differs from tonight in: %s", run.run_id, ", ".join(sorted(differing)))
    return not differing


def _sign_source(source: str) -> str | None:
    """The hash of a local source, or the name of any other source, because those do not change.

    None if the source cannot be read; fetching it then reports the reason.
    """
    if not is_path(source):
        return source
    try:
        return local_archive(source, Path(source), "local file").sha256
    except (RecsysError, OSError):
        return None


def _sign_rules(config: RulesConfig) -> list[str]:
    entries = (*config.blocked, *config.eligible, *config.caps)
    return [hash_file(Path(entry)) for entry in entries if is_path(entry) and Path(entry).is_file()]
