"""Names of flow runs in the Prefect UI: the source and the moment of a night."""

from pathlib import PurePath
from typing import Any

from prefect.runtime import flow_run

from recsys.settings import Settings


def name_of_night() -> str:
    """For example `ml-1m before 2003-01-01 00:00`, or `ml-100k, all ratings`."""
    return name_of(flow_run.parameters.get("settings"))


def name_of_backfill() -> str:
    """For example `ml-1m from 1998-04-01 to 1998-04-07`."""
    given = flow_run.parameters
    first, last = (str(given[name])[:10] for name in ("first", "last"))
    return f"{_source_of(_parse_settings(given.get('settings')))} from {first} to {last}"


def name_of(given: Any) -> str:
    """The name for settings, or for a dict of settings. None means the settings in the environment."""
    settings = _parse_settings(given)
    moment = f" before {settings.as_of:%Y-%m-%d %H:%M}" if settings.as_of else ", all ratings"
    return f"{_source_of(settings)}{moment}"


def _parse_settings(given: Any) -> Settings:
    return given if isinstance(given, Settings) else Settings.model_validate(given or {})


def _source_of(settings: Settings) -> str:
    return PurePath(settings.source).name
