"""Hooks that send alerts about failed and crashed runs. Prefect calls them for every run, however it was started."""

import logging
from typing import Any, Protocol
from uuid import UUID

from prefect.client.schemas.objects import State
from prefect.settings import PREFECT_UI_URL, get_current_settings

from flows.failures import find_run, read_settings
from flows.show import has_server
from recsys.alerts.alert import Kind, make_alert
from recsys.alerts.scrub import find_secrets
from recsys.alerts.send import send
from recsys.errors import RecsysError
from recsys.home import Home
from recsys.runs.resume import read_step
from recsys.settings import Settings

KINDS: dict[str, Kind] = {"Data refused": "data refused", "Held back": "held back"}  # by the name of the state

READERS = {"nightly", "backfill", "check", "compare"}  # flows that read a source

logger = logging.getLogger("recsys.alerting")


class NamedFlow(Protocol):
    """The attribute of Prefect's flow that is used here."""

    name: str


class AnyFlowRun(Protocol):
    """The attributes of Prefect's flow run that are used here."""

    id: UUID
    parameters: dict[str, Any]
    parent_task_run_id: UUID | None


def alert_on_failure(flow: NamedFlow, flow_run: AnyFlowRun, state: State[Any]) -> None:
    """Hook: sends the alert about a run. Skips the nights of a backfill, because the backfill reports them."""
    if flow_run.parent_task_run_id is not None:
        return
    try:
        alert_about(flow.name, flow_run, state)
    except Exception as error:
        logger.error("the alert about %s failed: %s", state.message, error)
        logger.debug("traceback", exc_info=error)


ALERTING: dict[str, Any] = {"on_failure": [alert_on_failure], "on_crashed": [alert_on_failure]}  # for @flow(**ALERTING)


def alert_about(flow: str, flow_run: AnyFlowRun, state: State[Any]) -> None:
    """Sends the alert about a run that ended in this state."""
    settings = read_settings()
    home, error = home_of(flow_run.parameters), _error_of(state)
    run = find_run(flow, home, error)
    step = read_step(run) if run else None
    alert = make_alert(
        "crashed" if state.is_crashed() else KINDS.get(state.name or "", "failed"),
        home,
        flow=flow,
        reason=str(error) if isinstance(error, RecsysError) else state.message or "no reason was given",
        run=run,
        step=step.step if step else None,
        run_url=url_of(flow_run.id),
        source=source_of(flow, flow_run.parameters),
    )
    send(alert, settings, find_prefect_secrets())


def find_prefect_secrets() -> tuple[str, ...]:
    """Finds the secrets in Prefect's settings, which may come from a profile or from the environment."""
    return tuple(find_secrets(get_current_settings().to_environment_variables(exclude_unset=True)))


def home_of(parameters: dict[str, Any]) -> Home:
    """The home in the parameters of a run, else the home in the environment."""
    settings = parameters.get("settings")
    within = settings.get("home") if isinstance(settings, dict) else getattr(settings, "home", None)
    given = parameters.get("home") or within
    return Home((Settings(home=given) if given else Settings()).home.absolute())


def source_of(flow: str, parameters: dict[str, Any]) -> str | None:
    """The source in the parameters of a run, else the one in the environment; None for a flow that reads no source."""
    if flow not in READERS:
        return None
    settings = parameters.get("settings")
    given = settings.get("source") if isinstance(settings, dict) else getattr(settings, "source", None)
    return str(given or Settings().source)


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
