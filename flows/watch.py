"""The watchdog: closes runs whose process is gone, notices missing nights, and sends one alert for each."""

import hashlib
import logging
import os
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.runtime import deployment
from prefect.states import Completed, Failed
from pydantic import Field
from pydantic.json_schema import SkipJsonSchema

from flows.endings import with_final_states
from flows.failures import read_settings
from flows.naming import name_of_watch
from flows.show import attempt, has_server
from flows.zombies import close_zombies, delete_runs, send_alert_of
from recsys.alerts.alert import make_alert
from recsys.alerts.send import send
from recsys.errors import NotPublished
from recsys.files import read_json, write_json
from recsys.home import Home
from recsys.printable import printable_lines
from recsys.settings import Settings
from recsys.warehouse.status import Status, render, status

logger = logging.getLogger("recsys.watch")

MAX_AGE_HOURS = 26.0  # one night a day, and two hours of slack
FRESH = "Fresh"  # the state of a run that found nothing wrong


@flow(name="watch", description=__doc__, flow_run_name=name_of_watch)
@with_final_states
def watch(
    max_age_hours: Annotated[float, Field(gt=0)] = MAX_AGE_HOURS, home: Path | SkipJsonSchema[None] = None
) -> Any:
    """Ends in the state Fresh or Late, with the text of `recsys status --max-age`.

    Its earlier runs in the state Fresh are deleted: one every five minutes would hide the nights in the list of runs.

    Args:
        max_age_hours: Maximum age of the last good night, in hours.
        home: Folder of warehouse.duckdb. If empty: the setting of the worker.
    """
    found = run_watchdog(Home((home or Settings().home).absolute()), max_age_hours)
    if deployment.id:
        attempt(delete_runs, deployment.id, FRESH)
    return _end(found)


def run_watchdog(home: Home, max_age_hours: float) -> Status:
    """Closes runs whose process is gone, if there is a server, and checks the age of the published tables.

    Sends an alert for each closed run, and one for each missing night.

    Raises: NotPublished, after an alert, if the warehouse exists but cannot be read.
    """
    if has_server():
        for zombie in close_zombies():
            send_alert_of(zombie)
    try:
        found = status(home, max_age_hours)
    except NotPublished as error:
        _send_late_alert(home, None, str(error), max_age_hours)
        raise
    if found.ok:
        _remove_marks(home)
    else:
        _send_late_alert(home, _last_success(found), render(found), max_age_hours)
    return found


def _send_late_alert(home: Home, last_success: str | None, reason: str, max_age_hours: float) -> None:
    """Sends one alert for the missing night after `last_success`, and repeats it every `max_age_hours`."""
    for mark in _marks(home):
        sent = _read_mark(mark)
        if sent.get("last_success", "") == last_success and _is_recent(str(sent.get("at")), max_age_hours):
            return
    problems = send(make_alert("late", home, flow="watch", reason=reason), read_settings())
    if not problems or None in problems.values():  # if every sink failed, the next call tries again
        _write_mark(home, {"last_success": last_success, "at": datetime.now(UTC).isoformat()})


def _marks(home: Home) -> tuple[Path, Path]:
    """The record of the last alert, and where it is written instead if the home is full or cannot be written.

    Without a record, the alert would be repeated at each call.
    """
    name = hashlib.sha256(str(home.root).encode()).hexdigest()[:12]
    return home.last_late_alert, Path(tempfile.gettempdir()) / f"recsys-late-{os.getuid()}-{name}.json"


def _remove_marks(home: Home) -> None:
    for path in _marks(home):
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            logger.warning("%s cannot be removed: %s", path, error)


def _read_mark(path: Path) -> dict[str, Any]:
    """The content of a mark; empty if there is none, if it is damaged, or if another user has written it."""
    try:
        mark = read_json(path) if path.exists() and path.stat().st_uid == os.getuid() else {}
    except (OSError, ValueError) as error:
        logger.warning("%s cannot be read (%s), so the alert is sent again", path, error)
        return {}
    return mark if isinstance(mark, dict) else {}


def _is_recent(moment: str, max_age_hours: float) -> bool:
    try:
        age = datetime.now(UTC) - datetime.fromisoformat(moment)
    except (ValueError, TypeError):
        return False
    return timedelta(0) <= age < timedelta(hours=max_age_hours)


def _write_mark(home: Home, mark: dict[str, str | None]) -> None:
    for path in _marks(home):
        try:
            write_json(path, mark)
        except OSError as error:
            logger.warning("%s cannot be written: %s", path, error)
        else:
            return


def _last_success(found: Status) -> str | None:
    return found.last_success["run_id"] if found.last_success else None


def _end(found: Status) -> State[Any]:
    words = printable_lines(render(found))
    return Completed(name=FRESH, message=words) if found.ok else Failed(name="Late", message=words)
