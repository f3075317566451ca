"""How a run ends in Prefect: each ending that a person has to tell from another is a state of its own, in words."""

import atexit
import functools
import os
import sys
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar, cast

from prefect.client.schemas.objects import State
from prefect.states import Cancelled, Failed

from recsys.errors import DataRefused, GateHeld, HomeBusy, RecsysError

P = ParamSpec("P")
R = TypeVar("R")

NAMES: dict[type[RecsysError], str] = {DataRefused: "Data refused", GateHeld: "Held back"}  # of states


def ending_in_words(function: Callable[P, R]) -> Callable[P, R]:
    """What a person can act on becomes a state whose message says it; who calls the flow gets the error all the same.

    A run that finds the home busy is cancelled: what it would do is being done.
    """

    @functools.wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        if "PREFECT__FLOW_RUN_ID" in os.environ:  # a process that a worker started for this run alone
            atexit.register(_hush_exit)
        try:
            return function(*args, **kwargs)
        except RecsysError as error:
            return cast(R, _state_of(error))

    return run


def _hush_exit() -> None:
    """Closes stderr to what the interpreter's end has to say: nanobind lists every DuckDB object that a thread of
    Prefect still holds, a page of alarm about nothing in the log of the worker.
    """
    sys.stderr.flush()
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)


def _state_of(error: RecsysError) -> State[Any]:
    if isinstance(error, HomeBusy):
        return Cancelled(name="Busy", message=str(error), data=error)
    return Failed(name=NAMES.get(type(error), "Failed"), message=str(error), data=error)
