"""Alerts about failed runs: their settings, and the alerts for runs without Prefect.

The hooks for runs with Prefect are in `flows.alerting`.
"""

import logging
import os
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

from recsys.alerts.alert import Kind, make_alert
from recsys.alerts.send import send
from recsys.errors import DataRefused, GateHeld, HomeBusy, RecsysError, UsageError, describe_error, is_interruption
from recsys.home import Home, Run
from recsys.runs.resume import find_last, is_unfinished, read_step

PREFIX = "RECSYS_ALERT"  # of the environment variables that AlertSettings reads
RUN_FLOWS = {"nightly", "backfill"}  # flows that may leave an unfinished run
KINDS: dict[type[RecsysError], Kind] = {DataRefused: "data refused", GateHeld: "held back"}

logger = logging.getLogger("recsys.alerting")


def alert_about_error(flow: str, home: Home, error: BaseException, source: str | None = None) -> None:
    """Sends the alert about a run in this process that ended with `error`; `source` is that of its settings.

    A failure to send it is only logged. No alert is sent for Ctrl-C, because a person is present. None is sent for a
    busy home, because another run does the same work.
    """
    if isinstance(error, KeyboardInterrupt | HomeBusy):
        return
    try:
        run = find_run(flow, home, error)
        step = read_step(run) if run else None
        alert = make_alert(
            "crashed" if is_interruption(error) else KINDS.get(type(error), "failed"),  # type: ignore[arg-type]
            home,
            flow=flow,
            reason=describe_error(error),
            run=run,
            step=step.step if step else None,
            source=source,
        )
        send(alert, read_settings())
    except Exception as second:
        logger.error("the alert about %s failed: %s", error, second)
        logger.debug("traceback", exc_info=second)


def find_run(flow: str, home: Home, error: object) -> Run | None:
    """Finds the run that ended with `error`: the run that the error names, else the home's newest run if unfinished."""
    if isinstance(error, RecsysError) and error.run:
        return error.run
    last = None
    if flow in RUN_FLOWS:
        with suppress(OSError, ValueError):
            last = find_last(home)
    return last if last and is_unfinished(last) else None


def read_settings() -> Any:
    """Reads the settings in the environment. A misspelt variable is only logged, so that the other sinks still work.

    Raises: UsageError for invalid settings. The message does not contain their values, which may be secrets.
    """
    from pydantic import ValidationError

    from recsys.alerts.settings import AlertSettings

    for problem in _find_misspelt(AlertSettings.model_fields):
        logger.error("alerts: %s", problem)
    try:
        return AlertSettings()
    except ValidationError as error:
        problems = "; ".join(
            f"{_variable(*one['loc'])}: {one['msg'].removeprefix('Value error, ')}" for one in error.errors()
        )
        raise UsageError(f"{problems}. No alert is sent until this is fixed; see docs/operations.md") from None


def _variable(*loc: int | str) -> str:
    return "_".join((PREFIX, *map(str, loc))).upper()


def _find_misspelt(fields: Iterable[str]) -> list[str]:
    """Returns a message for each RECSYS_ALERT variable that is not a setting."""
    known = {_variable(field) for field in fields}
    given = {name.upper() for name in os.environ if name.upper().startswith(f"{PREFIX}_")}
    return [f"{name} is not a setting; the settings are {', '.join(sorted(known))}" for name in sorted(given - known)]
