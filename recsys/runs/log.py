"""The log of a run in its folder, and the files that are made from it: the current step and the seconds of each."""

import logging
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from recsys.files import read_sealed, write_sealed
from recsys.home import Run
from recsys.printable import Escaping
from recsys.runs.resume import mark_step

logger = logging.getLogger(__name__)


@contextmanager
def logged(run: Run) -> Iterator[None]:
    """Copies the project's log to the run's night.log, and the seconds of each step to its steps.json."""
    handlers = (_NightLog(run.log, encoding="utf-8"), _StepSeconds(run))
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
            with suppress(OSError):  # on a full disk, the last lines cannot be written
                handler.close()
        project.setLevel(level)


class _NightLog(logging.FileHandler):
    """The file night.log. If it cannot be written, this is shown once, instead of a traceback for each line."""

    has_failed = False

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        if not self.has_failed:
            self.has_failed = True
            logger.warning("%s cannot be written: %s", self.baseFilename, sys.exc_info()[1])


class _StepSeconds(logging.Handler):
    """Writes the records of `recsys.runs.step.timed`: the current step, and the seconds of each finished one."""

    def __init__(self, run: Run) -> None:
        super().__init__()
        self.run = run
        self.seconds = read_seconds(run)

    def emit(self, record: logging.LogRecord) -> None:
        with suppress(OSError):  # a full disk ends the night where it matters, not here
            self._write(record)

    def _write(self, record: logging.LogRecord) -> None:
        if begun := getattr(record, "begun", None):
            mark_step(self.run, begun)
        step = getattr(record, "step", None)
        if step is not None:
            self.seconds[step] = round(record.__dict__["seconds"], 3)
            write_sealed(self.run.steps, self.seconds)


def read_seconds(run: Run) -> dict[str, float]:
    """The duration of each finished step; empty if they were damaged on disk."""
    try:
        return read_sealed(run.steps) if run.steps.exists() else {}
    except (OSError, ValueError) as error:
        logger.warning("the seconds of the steps are unknown: %s", error)
        return {}
