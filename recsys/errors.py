"""Every error a person can cause or must act on, in one tree.

    RecsysError             exit 1   anything below; never raised itself
    ├── UsageError          exit 2   an argument or setting that cannot be meant
    ├── SourceError         exit 1   a source that cannot be found, fetched or opened
    │   └── SourceOutage    exit 1   one that could not be reached just now: worth another try
    ├── DataRefused         exit 3   data that were read and must not be published from
    ├── StepTimeout         exit 1   a step exceeded its time limit
    ├── ModelError          exit 1   training diverged, or a saved model that does not fit
    ├── GateHeld            exit 4   tonight's model is not good enough to replace last night's table
    ├── PublishError        exit 1   the tables about to be published failed their audit
    ├── NotPublished        exit 1   a question to tables that do not exist yet
    └── HomeBusy            exit 1   another night is running on the same home

A message names the thing, its value, the limit and the next step. Our own mistakes are `assert`s, not these.
"""

from typing import ClassVar

from recsys.home import Run


class RecsysError(Exception):
    """Base of every error above; `exit_code` is what the command line returns, `verdict` what `runs` records."""

    exit_code: ClassVar[int] = 1
    verdict: ClassVar[str] = "failed"
    run: Run | None = None  # the night that it ended, if any


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


class NotPublished(RecsysError):
    pass


class HomeBusy(RecsysError):
    pass


def is_interruption(error: BaseException) -> bool:
    """Whether somebody wanted the run to end. A signal that comes while DuckDB runs a query is an error of its own."""
    return not isinstance(error, Exception) or "Query interrupted" in str(error)
