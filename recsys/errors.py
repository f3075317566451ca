"""Every error that a user can cause or has to act on, in one tree.

    RecsysError             exit 1   base class; never raised itself
    ├── UsageError          exit 2   an invalid argument or setting
    ├── SourceError         exit 1   a source cannot be found, fetched or opened
    │   └── SourceOutage    exit 1   a source cannot be reached at the moment: a retry may succeed
    ├── DataRefused         exit 3   the data were read, but are not good enough to publish from
    ├── StepTimeout         exit 1   a step exceeded its time limit
    ├── ModelError          exit 1   training diverged, or a saved model cannot be used
    ├── GateHeld            exit 4   tonight's model is not good enough to replace last night's table
    ├── PublishError        exit 1   the tables about to be published failed their audit
    ├── DiskFull            exit 1   the disk of the home is full
    ├── NotPublished        exit 1   the queried tables do not exist yet
    └── HomeBusy            exit 1   another process is using the same home or folder

A message names the thing, its value, the limit and the next step. Our own bugs raise AssertionError instead.
"""

import difflib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import ClassVar

from recsys.home import Run

MAX_NAME_LENGTH = 50  # characters of a name for which a similar one is sought; longer ones take long


class RecsysError(Exception):
    """Base of every error above. The command line exits with `exit_code`; the table `runs` records `verdict`."""

    exit_code: ClassVar[int] = 1
    verdict: ClassVar[str] = "failed"
    run: Run | None = None  # the night that this error ended, if any


class UsageError(RecsysError):
    exit_code = 2


class SourceError(RecsysError):
    pass


class SourceOutage(SourceError):
    pass


class DataRefused(RecsysError):
    exit_code = 3
    verdict = "data refused"


class StepTimeout(RecsysError):
    pass


class ModelError(RecsysError):
    pass


class GateHeld(RecsysError):
    exit_code = 4
    verdict = "held back"


class PublishError(RecsysError):
    pass


class DiskFull(RecsysError):
    pass


class NotPublished(RecsysError):
    pass


class HomeBusy(RecsysError):
    pass


def is_interruption(error: BaseException) -> bool:
    """Whether a person or the machine stopped the run: by a signal, or by cancelling it.

    DuckDB raises its own error if the signal arrives during a query.
    """
    return "Query interrupted" in str(error) if isinstance(error, Exception) else not is_panic(error)


def is_panic(error: BaseException) -> bool:
    """Whether a library in Rust (polars, safetensors) failed. Its PanicException is no Exception."""
    return type(error).__name__ == "PanicException"  # every library has a class of its own


def describe_error(error: BaseException) -> str:
    """The message of an error, with its type unless the error is one of the tree above."""
    return str(error) if isinstance(error, RecsysError) else f"{type(error).__name__}: {error}".rstrip(": ")


@contextmanager
def panics_as_errors() -> Iterator[None]:
    """Raises a RuntimeError in place of a panic, so that a failed library is handled like any other error."""
    try:
        yield
    except BaseException as error:
        if not is_panic(error):
            raise
        raise RuntimeError(f"a library panicked: {error}") from error


def suggest(name: str, known: Iterable[str]) -> str:
    """Returns " Did you mean X?" with the known name that is most similar, or nothing if none is similar."""
    names = {one.casefold(): one for one in known}
    close = difflib.get_close_matches(name.casefold()[:MAX_NAME_LENGTH], names, n=1)
    return f" Did you mean {names[close[0]]}?" if close else ""
