"""Names of flow runs in the Prefect UI: the day on which a run started, its source, and what is unusual about it."""

from datetime import UTC, date, datetime
from pathlib import PurePath
from typing import Any

from prefect.runtime import flow_run

from recsys.printable import printable
from recsys.settings import Settings

MAX_LENGTH = 80  # characters of a source


def name_of_night() -> str:
    """For example `2026-12-01 ml-100k`, or `2026-12-01 ml-1m before 2003-01-01, ordinal`."""
    return name_of(flow_run.parameters.get("settings"), _today())


def name_of_backfill() -> str:
    """For example `2026-12-01 ml-1m from 1998-04-01 to 1998-04-07`."""
    given = flow_run.parameters
    first, last = (str(given[name])[:10] for name in ("first", "last"))
    return f"{_today()} {_source_of(_parse_settings(given.get('settings')))} from {first} to {last}"


def name_of_rollback() -> str:
    """For example `2026-12-01 back to 20261121T030000Z`, or `2026-12-01 release`."""
    given = flow_run.parameters
    what = "release" if given.get("release") else f"back to {given.get('run_id') or 'the run before'}"
    return f"{_today()} {what}"


def name_of_watch() -> str:
    """For example `watch 2026-12-01 03:05`."""
    return f"watch {_started_at():%Y-%m-%d %H:%M}"


def name_of(given: Any, day: date) -> str:
    """The name for settings, or for a dict of settings. None means the settings in the environment."""
    settings = _parse_settings(given)
    moment = f" before {_describe_moment(settings.as_of)}" if settings.as_of else ""
    model = f", {settings.model}" if settings.model != Settings.model_fields["model"].default else ""
    return f"{day} {_source_of(settings)}{moment}{model}"


def _describe_moment(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d}" if moment.time() == datetime.min.time() else f"{moment:%Y-%m-%d %H:%M}"


def _today() -> date:
    return _started_at().date()


def _started_at() -> datetime:
    """When the run was to start, in UTC: for a night that was late, the day of its schedule."""
    return flow_run.scheduled_start_time.astimezone(UTC)  # type: ignore[no-any-return]


def _parse_settings(given: Any) -> Settings:
    return given if isinstance(given, Settings) else Settings.model_validate(given or {})


def _source_of(settings: Settings) -> str:
    return printable(PurePath(settings.source).name)[:MAX_LENGTH]
