"""The watchdog: finds runs without a process, and nights that never came, and tells people of each once."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Failed
from pydantic import Field
from pydantic.json_schema import SkipJsonSchema

from flows.alerting import read_settings, tell_of_zombie
from flows.endings import ending_in_words
from flows.show import has_server
from flows.zombies import close_zombies
from recsys.alerts.alert import make_alert
from recsys.alerts.send import send
from recsys.errors import NotPublished
from recsys.files import read_json, write_json
from recsys.home import Home
from recsys.settings import Settings
from recsys.warehouse.status import Status, render, status

MAX_AGE_HOURS = 26.0  # a night a day, and two hours of grace


@flow(name="watch", description=__doc__)
@ending_in_words
def watch(
    max_age_hours: Annotated[float, Field(gt=0, description="Hours that the last good night may be old.")] = (
        MAX_AGE_HOURS
    ),
    home: Annotated[
        Path | SkipJsonSchema[None], Field(description="Folder of warehouse.duckdb. Left empty: the worker's setting.")
    ] = None,
) -> Any:
    """Returns what `recsys status --max-age` says; as the state Late if the last good night is too old."""
    found = patrol(Home((home or Settings().home).absolute()), max_age_hours)
    return render(found) if found.ok else _late(found)


def patrol(home: Home, max_age_hours: float) -> Status:
    """Closes runs without a process, where there is a server, and looks whether what is served is fresh; people are
    told of each such run, and once of each night that is missing.

    Raises: NotPublished if there is a warehouse that cannot be read, of which they are told as well.
    """
    if has_server():
        for zombie in close_zombies():
            tell_of_zombie(zombie)
    try:
        found = status(home, max_age_hours)
    except NotPublished as error:
        _tell_once(home, None, str(error), max_age_hours)
        raise
    if found.ok:
        home.last_late_alert.unlink(missing_ok=True)
    else:
        _tell_once(home, _last_success(found), render(found), max_age_hours)
    return found


def _tell_once(home: Home, last_success: str | None, reason: str, max_age_hours: float) -> None:
    """Of the night that is missing after `last_success`; again when it has been missing for another night's time."""
    if home.last_late_alert.exists():
        told = read_json(home.last_late_alert)
        since = datetime.now(UTC) - datetime.fromisoformat(told["at"])
        if told["last_success"] == last_success and since < timedelta(hours=max_age_hours):
            return
    answers = send(make_alert("late", home, flow="watch", reason=reason), read_settings())
    if not answers or None in answers.values():  # else nobody knows yet
        write_json(home.last_late_alert, {"last_success": last_success, "at": datetime.now(UTC).isoformat()})


def _last_success(found: Status) -> str | None:
    return found.last_success["run_id"] if found.last_success else None


def _late(found: Status) -> State[Any]:
    return Failed(name="Late", message=render(found))
