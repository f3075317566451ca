"""The steps of a night: what a step is, how it is executed, timed, limited and retried, and how its result is kept.

`recsys.steps` and the folders that it calls have the code of the steps. `recsys.nightly` has their order.
"""

import functools
import logging
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, Generic, ParamSpec, TypeVar, get_type_hints

from pydantic import TypeAdapter, ValidationError
from pydantic_core import to_jsonable_python

from recsys.errors import SourceOutage, StepTimeout, panics_as_errors
from recsys.files import read_json, write_json
from recsys.home import Run
from recsys.runs.resume import key_of
from recsys.runs.seal import seal

logger = logging.getLogger(__name__)

P = ParamSpec("P")
R = TypeVar("R")

HOUR = 3600.0  # seconds


@dataclass(frozen=True)
class Step(Generic[P, R]):
    """A plain function as a step of a night."""

    function: Callable[P, R]
    name: str
    hours: float = 1.0  # time limit of one attempt
    retry_delays: tuple[float, ...] = ()  # seconds to wait before each retry; only a SourceOutage is retried
    is_kept: bool = True  # whether a resumed night reuses its result; a cheap step runs again instead
    restore: Callable[[Any], R] | None = None  # converts JSON to the result, if the return type is not enough


@dataclass(frozen=True)
class Kept(Generic[R]):
    """The result of an earlier attempt."""

    value: R


class Executor:
    """Executes the steps of one run in this process, one after the other.

    The result of each finished step is kept as JSON in the run's folder until the night succeeds, so that a resumed
    night does not repeat it.
    """

    def __init__(self, run: Run) -> None:
        self.run = run
        self.key = key_of(read_json(run.inputs))

    def __call__(self, step: Step[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Returns the result of an earlier attempt if there is one; otherwise executes the step.

        Raises: StepTimeout if the step exceeds its limit; whatever the step raises.
        """
        kept = self.find_kept(step)
        if kept is not None:
            logger.info("%s: result kept from an earlier attempt", step.name)
            return kept.value
        for delay in step.retry_delays:
            try:
                return self.attempt(step, *args, **kwargs)
            except SourceOutage as error:
                logger.warning("%s: %s Retrying in %g s.", step.name, error, delay)
                time.sleep(delay)
        return self.attempt(step, *args, **kwargs)

    def attempt(self, step: Step[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Executes the step once and keeps its result."""
        with time_limit(step.hours * HOUR, step.name), panics_as_errors():
            result = timed(step.function, step.name)(*args, **kwargs)
        if step.is_kept:
            kept = {"result": to_jsonable_python(result, inf_nan_mode="constants")}
            write_json(self._path(step), kept, sort_keys=False)  # the order of a dict may matter, as in Weights
        seal(self.run)
        return result

    def find_kept(self, step: Step[..., R]) -> Kept[R] | None:
        """The result of an earlier attempt; None if there is none, or if it cannot be read."""
        path = self._path(step)
        if not step.is_kept or not path.exists():
            return None
        try:
            return Kept(restore(step, read_json(path)["result"]))
        except (OSError, ValueError, LookupError, ValidationError) as error:
            logger.warning("%s cannot be read (%s); step %s runs again", path, error, step.name)
            return None

    def _path(self, step: Step[..., Any]) -> Path:
        return self.run.results / f"{step.name}-{self.key}.json"


def restore(step: Step[..., R], value: Any) -> R:
    """A step's result from its JSON.

    Raises: ValidationError if it does not fit the return type of the step's function.
    """
    if step.restore:
        return step.restore(value)
    returned: R = TypeAdapter(get_type_hints(step.function)["return"]).validate_python(value)
    return returned


def timed(function: Callable[P, R], name: str | None = None) -> Callable[P, R]:
    """Wraps `function` so that its start and its duration are logged under `name` (default: the function's name).

    The run's log, underway.json and steps.json are made from these log records.
    """
    name = name or function.__name__

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        logger.info("%s ...", name, extra={"begun": name})
        start = time.monotonic()
        result = function(*args, **kwargs)
        seconds = time.monotonic() - start
        logger.info("%s: %.1f s", name, seconds, extra={"step": name, "seconds": seconds})
        return result

    return call


@contextmanager
def time_limit(seconds: float, name: str) -> Iterator[None]:
    """Ends the block with an error after `seconds`.

    The limit applies only in the main thread, where nights run. It takes effect between two lines of Python, so a call
    into a library returns first. An alarm that is already set, for example by a test, is kept.

    Raises: StepTimeout, which names the step and its limit.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    is_over = False

    def end(signum: int, frame: FrameType | None) -> None:
        nonlocal is_over
        is_over = True
        raise StepTimeout(describe_timeout(name, seconds))

    start, handler = time.monotonic(), signal.signal(signal.SIGALRM, end)
    left, interval = signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    except Exception as error:
        if is_over and not isinstance(error, StepTimeout):  # DuckDB raises its own error for a signal
            raise StepTimeout(describe_timeout(name, seconds)) from error
        raise
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)
        if left:
            signal.setitimer(signal.ITIMER_REAL, max(left - (time.monotonic() - start), 1e-3), interval)


def describe_timeout(name: str, seconds: float) -> str:
    """The message of a StepTimeout."""
    limit = f"{seconds / HOUR:g} hours" if seconds >= HOUR else f"{seconds:g} seconds"
    return (
        f"step {name} exceeded its limit of {limit} and was stopped; last night's tables are kept. Next: run the same "
        "command again to resume; if the step is too slow, use fewer candidates (RECSYS_CANDIDATES) or a faster machine"
    )
