"""A night as a whole: its name, its lock, its log, and its row in `runs`, whether it succeeds or fails."""

import logging
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from recsys.errors import HomeBusy, RecsysError, UsageError, is_interruption
from recsys.files import read_json, write_json
from recsys.home import RUN_ID, Home, Run
from recsys.printable import Escaping
from recsys.runs.metrics import read_metrics
from recsys.runs.resume import (
    describe_inputs,
    find_last,
    find_unfinished,
    mark_begun,
    mark_ended,
    mark_step,
    read_failure,
    read_step,
)
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
    PublishError if its warehouse cannot be read, before any work is done.
    """
    home = Home(settings.home.absolute())
    with locked(home, "a night"):
        check_present(home)
        inputs = describe_inputs(settings, home)
        with _opened(home, settings, unfinished=find_unfinished(inputs, home, settings.resume_hours)) as run:
            mark_begun(run, inputs)
            try:
                yield run
                mark_ended(run, "succeeded")
            except BaseException as error:
                _record_failure(run, error)
                raise
            finally:
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


def describe_run(run: Run, *, verdict: str, reason: str | None) -> Outcome:
    """The run's row in `runs`, from the files that its folder has so far."""
    settings = read_json(run.config)
    checked = _read(run.findings, {})
    choice = _read(run.choice, {})
    gate = _read(run.gate, {})
    if verdict == "published" and gate.get("forced"):
        reason = f"published against the gate: {'; '.join(gate['broken'])}"
    if verdict == "published" and not reason and (failure := read_failure(run)):
        reason = f"resumed after it had failed: {failure}"
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
        seconds=_read(run.steps, {}),
    )


@contextmanager
def locked(home: Home, what: str) -> Iterator[None]:
    """Holds the home's lock for `what`. The operating system releases it when the process ends, also after a kill.

    Raises: HomeBusy, naming the holder, if another process has it; UsageError if the home cannot be written.
    """
    lock = FileLock(home.lock, timeout=0)
    try:
        home.create()
        lock.acquire()
        since = datetime.now(UTC).isoformat(timespec="seconds")
        write_json(home.holder, {"what": what, "pid": os.getpid(), "host": socket.gethostname(), "since": since})
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


def unwritable(home: Home, error: OSError) -> UsageError:
    """The error for a home in which a folder or a file cannot be created."""
    where = error.filename or home.root
    return UsageError(
        f"home {home.root} cannot be written: {error.strerror or error} ({where}). Next: choose a writable folder with "
        "--home"
    )


@contextmanager
def _opened(home: Home, settings: Settings, suffix: str = "", unfinished: Run | None = None) -> Iterator[Run]:
    """Yields a new run, or the unfinished one, after writing its settings and opening its log."""
    run = unfinished or _open_run(home, suffix)
    named = {"config_hash": settings.config_hash(), "code_version": code_version()}
    write_json(run.config, settings.model_dump(mode="json") | named)
    with _logged(run):
        if unfinished:
            done = ", ".join(_read(run.steps, {})) or "none"
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
    reason = str(error) if isinstance(error, RecsysError) else f"{type(error).__name__}: {error}".rstrip(": ")
    if isinstance(error, RecsysError):
        error.run = run
    logger.error("the night ends: %s", verdict)
    logger.debug("reason: %s", reason)  # for night.log; the caller shows it
    mark_ended(run, verdict, reason, counts=not is_interruption(error))
    try:
        outcome = describe_run(run, verdict=verdict, reason=reason)
        record(outcome, run.home, read_metrics(run), run.quarantine if run.quarantine.exists() else None)
    except Exception as second:
        # the user has to act on the first error, so it must not be hidden
        logger.error("the run could not be recorded in %s: %s", run.home.warehouse, second)
        logger.debug("traceback", exc_info=second)


@contextmanager
def _logged(run: Run) -> Iterator[None]:
    """Copies the project's log to the run's night.log, and the seconds of each step to its steps.json."""
    handlers = (logging.FileHandler(run.log, encoding="utf-8"), _StepSeconds(run))
    formatter = logging.Formatter("%(asctime)sZ %(levelname)-7s %(name)s  %(message)s", "%Y-%m-%dT%H:%M:%S")
    formatter.converter = time.gmtime
    handlers[0].setFormatter(formatter)
    handlers[0].addFilter(Escaping())
    project = logging.getLogger("recsys")
    level = project.level
    project.setLevel(logging.DEBUG)
    for handler in handlers:
        project.addHandler(handler)
    try:
        yield
    finally:
        for handler in handlers:
            project.removeHandler(handler)
            handler.close()
        project.setLevel(level)


class _StepSeconds(logging.Handler):
    """Writes the records of `recsys.runs.step.timed`: the current step, and the seconds of each finished one."""

    def __init__(self, run: Run) -> None:
        super().__init__()
        self.run = run
        self.seconds: dict[str, float] = _read(run.steps, {})

    def emit(self, record: logging.LogRecord) -> None:
        if begun := getattr(record, "begun", None):
            mark_step(self.run, begun)
        step = getattr(record, "step", None)
        if step is not None:
            self.seconds[step] = round(record.__dict__["seconds"], 3)
            write_json(self.run.steps, self.seconds)


def _read(path: Path, otherwise: Any) -> Any:
    return read_json(path) if path.exists() else otherwise
