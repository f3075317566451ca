"""The final states of runs in Prefect. Each outcome that operators must distinguish has its own state."""

import atexit
import functools
import os
import sys
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar, cast

from prefect.client.schemas.objects import State
from prefect.states import Cancelled, Failed

from recsys.errors import DataRefused, GateHeld, HomeBusy, RecsysError, panics_as_errors

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
            atexit.register(_silence_exit)
        try:
            with panics_as_errors():
                return function(*args, **kwargs)
        except RecsysError as error:
            return cast(R, _state_of(error))

    return run


def _silence_exit() -> None:
    """Silences stderr while the interpreter exits.

    Otherwise, nanobind writes a page of harmless warnings to the log of the worker, one for every DuckDB object that a
    Prefect thread still holds.
    """
    sys.stderr.flush()
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)


def _state_of(error: RecsysError) -> State[Any]:
    if isinstance(error, HomeBusy):
        return Cancelled(name="Busy", message=str(error), data=error)
    return Failed(name=NAMES.get(type(error), "Failed"), message=str(error), data=error)
