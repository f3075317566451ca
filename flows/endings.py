"""The final states of runs in Prefect. Each outcome that operators must distinguish has its own state."""

import atexit
import functools
import logging
import os
import sys
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar, cast

from prefect.client.schemas.objects import State
from prefect.exceptions import FailedRun
from prefect.states import Cancelled, Completed, Failed

from recsys.errors import DataRefused, GateHeld, HomeBusy, RecsysError, panics_as_errors
from recsys.forgotten import withhold
from recsys.printable import Escaping, printable_lines
from recsys.runs.summary import Summary

P = ParamSpec("P")
R = TypeVar("R")

NAMES: dict[type[RecsysError], str] = {DataRefused: "Data refused", GateHeld: "Held back"}  # names of states


def with_final_states(function: Callable[P, R]) -> Callable[P, R]:
    """Converts a RecsysError to a final state with its message. The caller of the flow still gets the error.

    If the home is busy, the run is cancelled, because another run is doing the same work.
    """

    @functools.wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        if "PREFECT__FLOW_RUN_ID" in os.environ:  # a worker has started this process for the run
            prepare_logs()
            hide_expected_tracebacks()
            atexit.register(_silence_exit)
        try:
            with panics_as_errors():
                return function(*args, **kwargs)
        except RecsysError as error:
            return cast(R, state_of(error))

    return run


def conclude(summary: Summary) -> Summary:
    """The state of a night that succeeded: Published, Unchanged or Backfilled. The flow's caller gets `summary`."""
    state: State[Any] = Completed(name=summary.verdict.capitalize(), message=describe_result(summary), data=summary)
    return cast(Summary, state)


def describe_result(summary: Summary) -> str:
    """One line: the reason of a verdict other than published, then the network and its figures."""
    figures = summary.holdout
    named = (("mae_median", "MAE {:.4f} stars"), ("ndcg_at_10", "NDCG@10 {:.4f}"))
    words = [f"{summary.model}", *(text.format(figures[metric]) for metric, text in named if metric in figures)]
    return printable_lines("; ".join([*([summary.reason] if summary.reason else []), ", ".join(words)]))


def state_of(error: RecsysError) -> State[Any]:
    """The final state of a run that ended with `error`. Rows of the source that the message quotes are left out."""
    message = printable_lines(withhold(str(error)))
    if isinstance(error, HomeBusy):
        return Cancelled(name="Busy", message=message, data=error)
    return Failed(name=NAMES.get(type(error), "Failed"), message=message, data=error)


def prepare_logs() -> None:
    """Escapes our lines in Prefect's log, and leaves out those below the level of Prefect's own lines."""
    level = logging.getLogger("prefect").getEffectiveLevel()  # PREFECT_LOGGING_LEVEL
    for handler in (*logging.getLogger("recsys").handlers, *logging.getLogger().handlers):
        handler.addFilter(Escaping())
        handler.setLevel(max(level, handler.level))


def hide_expected_tracebacks() -> None:
    """Drops Prefect's tracebacks of errors whose message the final state shows."""
    for name in ("prefect.flow_runs", "prefect.task_runs"):
        logging.getLogger(name).addFilter(_is_unexpected)


def _is_unexpected(record: logging.LogRecord) -> bool:
    """False for a traceback of a RecsysError, or of a Failed state that a flow or a task has returned."""
    if not record.exc_info:
        return True
    error = record.exc_info[1]
    return not (error is None or isinstance(error, RecsysError | FailedRun))


def _silence_exit() -> None:
    """Silences stderr while the interpreter exits.

    Otherwise, nanobind writes a page of harmless warnings to the log of the worker, one for every DuckDB object that a
    Prefect thread still holds.
    """
    sys.stderr.flush()
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
