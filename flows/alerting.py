"""Alerts of runs that did not go well, whoever started them: Prefect calls these hooks when a flow ends so."""

import logging
import os
from collections.abc import Iterable
from typing import Any, Protocol
from uuid import UUID

from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State
from prefect.settings import PREFECT_UI_URL

from flows.show import has_server
from flows.zombies import Zombie
from recsys.alerts.alert import Kind, make_alert
from recsys.alerts.send import send
from recsys.errors import RecsysError, UsageError
from recsys.home import Home, Run
from recsys.runs.resume import find_last, is_unfinished, read_step
from recsys.settings import Settings

KINDS: dict[str, Kind] = {"Data refused": "data refused", "Held back": "held back"}  # by the name of the state
PREFIX = "RECSYS_ALERT"  # of the variables that AlertSettings reads
WITH_A_NIGHT = {"nightly", "backfill"}  # flows that leave a run which they have not ended

logger = logging.getLogger("recsys.alerting")


class AFlow(Protocol):
    name: str


class AFlowRun(Protocol):
    """What is read of Prefect's flow run."""

    id: UUID
    parameters: dict[str, Any]
    parent_task_run_id: UUID | None


def tell(flow: AFlow, flow_run: AFlowRun, state: State[Any]) -> None:
    """A hook. A night within a backfill is not told: the backfill says what became of each."""
    if flow_run.parent_task_run_id is not None:
        return
    try:
        tell_of(flow.name, flow_run, state)
    except Exception as error:
        logger.error("no alert could be made of %s: %s", state.message, error)
        logger.debug("traceback", exc_info=error)


ALERTING: dict[str, Any] = {"on_failure": [tell], "on_crashed": [tell]}  # for @flow(**ALERTING)


def tell_of(flow: str, flow_run: AFlowRun, state: State[Any]) -> None:
    """Sends the alert that the state deserves."""
    settings = read_settings()
    home, error = home_of(flow_run.parameters), _error_of(state)
    run = error.run if isinstance(error, RecsysError) else None
    if run is None and flow in WITH_A_NIGHT:
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
    send(alert, settings)


def tell_of_zombie(zombie: Zombie) -> None:
    """Of a run that was closed because its process was gone; those within another run end with that."""
    with get_client(sync_client=True) as client:
        flow_run = client.read_flow_run(zombie.flow_run_id)
        name = client.read_flow(flow_run.flow_id).name
    logger.warning("closed %s, a run of %s: %s", zombie.name, name, zombie.message)
    if flow_run.state and flow_run.parent_task_run_id is None:
        tell_of(name, flow_run, flow_run.state)


def read_settings() -> Any:
    """What the environment says. A misspelt variable is told in the log alone: the sinks that are set right are of use.

    Raises: UsageError for settings that cannot be meant, without their values, which are secrets.
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
        raise UsageError(
            f"{problems}. Nobody is told of anything before that is put right; see docs/operations.md"
        ) from None


def _variable(*loc: int | str) -> str:
    return "_".join((PREFIX, *map(str, loc))).upper()


def _find_misspelt(fields: Iterable[str]) -> list[str]:
    """A variable that no setting reads is an alert that nobody gets."""
    known = {_variable(field) for field in fields}
    given = {name.upper() for name in os.environ if name.upper().startswith(f"{PREFIX}_")}
    return [f"{name} is no setting; there are {', '.join(sorted(known))}" for name in sorted(given - known)]


def home_of(parameters: dict[str, Any]) -> Home:
    """The home of a run, from the parameters it was given; else the environment's."""
    settings = parameters.get("settings")
    within = settings.get("home") if isinstance(settings, dict) else getattr(settings, "home", None)
    given = parameters.get("home") or within
    return Home((Settings(home=given) if given else Settings()).home.absolute())


def url_of(flow_run_id: UUID) -> str | None:
    """Of a run in Prefect's UI; None where nobody serves one."""
    address = PREFECT_UI_URL.value()
    return f"{str(address).rstrip('/')}/runs/flow-run/{flow_run_id}" if address and has_server() else None


def _error_of(state: State[Any]) -> object:
    """The exception that ended it; None where it is not in this process."""
    try:
        return state.result(raise_on_failure=False)
    except Exception:
        return None


def _find_unfinished(home: Home) -> Run | None:
    """The newest run, if it did not end well: the one that this flow was in."""
    last = find_last(home)
    return last if last and is_unfinished(last) else None
