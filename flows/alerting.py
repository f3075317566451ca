"""Sends alerts about runs that failed or crashed: Prefect calls these hooks, whichever way the run was started."""

import logging
import os
from collections.abc import Iterable
from typing import Any, Protocol
from uuid import UUID

from prefect.client.schemas.objects import State
from prefect.settings import PREFECT_UI_URL, get_current_settings

from flows.show import has_server
from recsys.alerts.alert import Kind, make_alert
from recsys.alerts.scrub import find_secrets
from recsys.alerts.send import send
from recsys.errors import RecsysError, UsageError
from recsys.home import Home, Run
from recsys.runs.resume import find_last, is_unfinished, read_step
from recsys.settings import Settings

KINDS: dict[str, Kind] = {"Data refused": "data refused", "Held back": "held back"}  # by name of the state
PREFIX = "RECSYS_ALERT"  # of the environment variables that AlertSettings reads
RUN_FLOWS = {"nightly", "backfill"}  # flows that may leave an unfinished run

logger = logging.getLogger("recsys.alerting")


class AFlow(Protocol):
    name: str


class AFlowRun(Protocol):
    """The part of Prefect's flow run that is used here."""

    id: UUID
    parameters: dict[str, Any]
    parent_task_run_id: UUID | None


def alert_on_failure(flow: AFlow, flow_run: AFlowRun, state: State[Any]) -> None:
    """A hook. It ignores the nights of a backfill, because the backfill reports them."""
    if flow_run.parent_task_run_id is not None:
        return
    try:
        alert_about(flow.name, flow_run, state)
    except Exception as error:
        logger.error("the alert about %s failed: %s", state.message, error)
        logger.debug("traceback", exc_info=error)


ALERTING: dict[str, Any] = {"on_failure": [alert_on_failure], "on_crashed": [alert_on_failure]}  # for @flow(**ALERTING)


def alert_about(flow: str, flow_run: AFlowRun, state: State[Any]) -> None:
    """Sends the alert about a run that ended in this state."""
    settings = read_settings()
    home, error = home_of(flow_run.parameters), _error_of(state)
    run = error.run if isinstance(error, RecsysError) else None
    if run is None and flow in RUN_FLOWS:
        run = _find_unfinished(home)
    step = read_step(run) if run else None
    alert = make_alert(
        "crashed" if state.is_crashed() else KINDS.get(state.name or "", "failed"),
        home,
        flow=flow,
        reason=str(error) if isinstance(error, RecsysError) else state.message or "no reason was given",
        run=run,
        step=step.step if step else None,
        run_url=url_of(flow_run.id),
    )
    send(alert, settings, find_prefect_secrets())


def find_prefect_secrets() -> tuple[str, ...]:
    """The secrets in Prefect's settings: they may come from a profile, not only from the environment."""
    return tuple(find_secrets(get_current_settings().to_environment_variables(exclude_unset=True)))


def read_settings() -> Any:
    """The settings in the environment. A misspelt variable is only logged, so that the other sinks still work.

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
    """A message for each RECSYS_ALERT variable that is not a setting."""
    known = {_variable(field) for field in fields}
    given = {name.upper() for name in os.environ if name.upper().startswith(f"{PREFIX}_")}
    return [f"{name} is not a setting; the settings are {', '.join(sorted(known))}" for name in sorted(given - known)]


def home_of(parameters: dict[str, Any]) -> Home:
    """The home in the parameters of a run, or that of the environment."""
    settings = parameters.get("settings")
    within = settings.get("home") if isinstance(settings, dict) else getattr(settings, "home", None)
    given = parameters.get("home") or within
    return Home((Settings(home=given) if given else Settings()).home.absolute())


def url_of(flow_run_id: UUID) -> str | None:
    """The URL of a run in Prefect's UI; None if there is no UI."""
    address = PREFECT_UI_URL.value()
    return f"{str(address).rstrip('/')}/runs/flow-run/{flow_run_id}" if address and has_server() else None


def _error_of(state: State[Any]) -> object:
    """The exception that ended the run; None if it was raised in another process."""
    try:
        return state.result(raise_on_failure=False)
    except Exception:
        return None


def _find_unfinished(home: Home) -> Run | None:
    """The newest run, if it is unfinished: the one of this flow."""
    last = find_last(home)
    return last if last and is_unfinished(last) else None
