"""A night as a whole: its name, its lock, its log, and its row in `runs`, whether it succeeds or fails."""

import logging
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from recsys.errors import DiskFull, HomeBusy, RecsysError, UsageError, describe_error, is_interruption
from recsys.files import read_json, write_json
from recsys.home import RUN_ID, Home, Run
from recsys.runs.log import logged, read_seconds
from recsys.runs.mend import mend_served
from recsys.runs.metrics import read_metrics
from recsys.runs.resume import (
    describe_inputs,
    find_last,
    find_unfinished,
    mark_begun,
    mark_ended,
    read_failure,
    read_number,
    read_step,
)
from recsys.runs.seal import seal
from recsys.runs.space import check_space, describe_full, explain, is_full, release_reserve, reserve
from recsys.settings import Settings
from recsys.version import code_version
from recsys.warehouse.outcome import Outcome
from recsys.warehouse.publish import check_present, record

logger = logging.getLogger(__name__)


@contextmanager
def night(settings: Settings, show: Callable[[Run], None] | None = None) -> Iterator[Run]:
    """Opens a run on the home and holds the home's lock during the block.

    If a recent run with the same inputs was killed or failed, it is resumed; see `recsys.runs.resume`. If the block
    raises, the verdict and everything known by then are recorded in `runs`, the served tables stay as they are, and the
    error is raised again. `show` is called with the run after it has ended, successfully or not.

    Raises: HomeBusy if another night is running on the same home; UsageError if the home cannot be written;
    PublishError if its warehouse cannot be read and DiskFull if its disk is too full, before any work is done.
    """
    home = Home(settings.home.absolute())
    with locked(home, "a night"):
        if damaged := check_present(home):
            mend_served(home, damaged)
        inputs = describe_inputs(settings, home)
        with _opened(home, settings, unfinished=find_unfinished(inputs, home, settings.resume_hours)) as run:
            mark_begun(run, inputs)
            seal(run)  # the settings and the inputs were written again
            try:
                check_space(home)
                reserve(home)
                yield run
                mark_ended(run, "succeeded")
            except BaseException as error:
                explained = explain(error, home)
                _record_failure(run, explained)
                if explained is not error:
                    raise explained from error
                raise
            finally:
                seal(run)
                if show:
                    show(run)


@contextmanager
def checking(settings: Settings) -> Iterator[Run]:
    """Opens a run that only checks data.

    It holds the home's lock, leaves a folder whose name ends in -check, and writes nothing to the warehouse.

    Raises: HomeBusy if a night is running on the same home; UsageError if the home cannot be written.
    """
    home = Home(settings.home.absolute())
    with locked(home, "a check"), _opened(home, settings, suffix="-check") as run:
        try:
            yield run
        except RecsysError as error:
            error.run = run
            logger.debug("%s: %s", error.verdict, error)  # for night.log; the caller shows it
            raise
        finally:
            seal(run)


def describe_run(run: Run, *, verdict: str, reason: str | None) -> Outcome:
    """The run's row in `runs`, from the files that its folder has so far."""
    settings = read_json(run.config)
    checked = _read(run.findings, {})
    choice = _read(run.choice, {})
    gate = _read(run.gate, {})
    if verdict == "published":
        reason = "; ".join((*([reason] if reason else []), *_list_notes(run, gate, choice))) or None
    as_of = checked.get("as_of") or settings["as_of"]
    return Outcome(
        run_id=run.run_id,
        as_of=datetime.fromisoformat(as_of) if as_of else None,
        started_at=run.started_at,
        finished_at=datetime.now(UTC),
        dataset=checked.get("dataset"),
        snapshot=checked.get("snapshot"),
        model=choice.get("model"),
        config_hash=settings["config_hash"],
        code_version=settings["code_version"],
        verdict=verdict,
        reason=reason,
        published=verdict == "published",
        champion=gate.get("champion"),
        seconds=read_seconds(run),
    )


def _list_notes(run: Run, gate: dict[str, Any], choice: dict[str, Any]) -> Iterator[str]:
    """What somebody should know about a run that succeeded."""
    if gate.get("forced"):
        yield f"published against the gate: {'; '.join(gate['broken'])}"
    elif failure := read_failure(run):
        yield f"resumed after it had failed: {failure}"
    for run_id, why_not in gate.get("uncompared", {}).items():
        yield f"not compared with run {run_id}, which was published before: {why_not}"
    for name, failure in choice.get("failures", {}).items():
        yield f"the candidate {name} was left out: {failure}"


@contextmanager
def locked(home: Home, what: str) -> Iterator[None]:
    """Holds the home's lock for `what`. The operating system releases it when the process ends, also after a kill.

    Raises: HomeBusy, naming the holder, if another process has it; UsageError if the home cannot be written.
    """
    lock = FileLock(home.lock, timeout=0)
    try:
        home.create()
        lock.acquire()
        _write_holder(home, what)
    except Timeout:
        raise HomeBusy(
            f"{_describe_holder(home)} is running on {home.root}, and only one may run at a time. Next: wait until it "
            "ends, or use another --home"
        ) from None
    except OSError as error:
        lock.release()
        raise unwritable(home, error) from error
    try:
        yield
    finally:
        home.holder.unlink(missing_ok=True)
        lock.release()


def _write_holder(home: Home, what: str) -> None:
    since = datetime.now(UTC).isoformat(timespec="seconds")
    holder = {"what": what, "pid": os.getpid(), "host": socket.gethostname(), "since": since}
    try:
        write_json(home.holder, holder)
    except OSError as error:
        if not is_full(error):
            raise
        release_reserve(home)  # for the record of this run, which will find the disk full
        write_json(home.holder, holder)


def _describe_holder(home: Home) -> str:
    """Describes the holder of the lock. Its files may be missing, because it may be ending at this moment."""
    try:
        holder = read_json(home.holder)
        words = f"{holder['what']} of process {holder['pid']} on {holder['host']}, since {holder['since']}"
        last = find_last(home) if holder["what"] == "a night" else None
        step = read_step(last) if last else None
        return f"{words} (run {last.run_id}, in step {step.step})," if last and step else f"{words},"
    except (OSError, ValueError, LookupError, TypeError):
        return "another night"


def unwritable(home: Home, error: OSError) -> RecsysError:
    """The error for a home in which a folder or a file cannot be created."""
    if is_full(error):
        return DiskFull(describe_full(home, "not even a small file can be written"))
    where = error.filename or home.root
    return UsageError(
        f"home {home.root} cannot be written: {error.strerror or error} ({where}). Next: choose a writable folder with "
        "--home"
    )


@contextmanager
def _opened(home: Home, settings: Settings, suffix: str = "", unfinished: Run | None = None) -> Iterator[Run]:
    """Yields a new run, or the unfinished one, after writing its settings and opening its log."""
    run = unfinished or _open_run(home, suffix)
    number = 1 + max((read_number(one) for one in home.list_runs() if one != run), default=0)
    named = {"number": number, "config_hash": settings.config_hash(), "code_version": code_version()}
    write_json(run.config, settings.model_dump(mode="json") | named)
    with logged(run):
        if unfinished:
            done = ", ".join(read_seconds(run)) or "none"
            logger.info("resuming run %s, which did not succeed; finished steps: %s", run.run_id, done)
        yield run


def _open_run(home: Home, suffix: str) -> Run:
    started_at = datetime.now(UTC).replace(microsecond=0)
    name = started_at.strftime(RUN_ID)
    taken = 1
    run = Run(f"{name}{suffix}", started_at, home)
    while run.folder.exists():
        taken += 1
        run = Run(f"{name}-{taken}{suffix}", started_at, home)
    try:
        run.folder.mkdir(parents=True)
    except OSError as error:
        raise unwritable(home, error) from error
    return run


def _record_failure(run: Run, error: BaseException) -> None:
    verdict = error.verdict if isinstance(error, RecsysError) else "failed"
    reason = describe_error(error)
    if isinstance(error, RecsysError):
        error.run = run
    logger.error("the night ends: %s", verdict)
    logger.debug("reason: %s", reason)  # for night.log; the caller shows it
    if isinstance(error, DiskFull):
        release_reserve(run.home)
    # the user has to act on the first error, so it must not be hidden
    try:
        mark_ended(run, verdict, reason, counts=not (is_interruption(error) or isinstance(error, DiskFull)))
        outcome = describe_run(run, verdict=verdict, reason=reason)
    except OSError as second:
        logger.error("the end of run %s could not be written: %s", run.run_id, second)
        return
    try:
        record(outcome, run.home, read_metrics(run), run.quarantine if run.quarantine.exists() else None)
    except Exception as second:
        logger.error("the run could not be recorded in %s, and the next one adds it: %s", run.home.warehouse, second)
        logger.debug("traceback", exc_info=second)
        _keep_outcome(outcome, run)


def _keep_outcome(outcome: Outcome, run: Run) -> None:
    """Writes the row for the next run, which adds it to the warehouse."""
    try:
        write_json(run.unrecorded, asdict(outcome))
    except OSError as error:
        logger.error("%s could not be written: %s", run.unrecorded, error)


def _read(path: Path, otherwise: Any) -> Any:
    return read_json(path) if path.exists() else otherwise
