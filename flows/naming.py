"""What runs are called in Prefect: by what a person looks for, data and moment."""

from pathlib import PurePath
from typing import Any

from prefect.runtime import flow_run

from recsys.settings import Settings


def name_of_night() -> str:
    """As `ml-1m before 2003-01-01 00:00`, or `ml-100k, all ratings`."""
    return name_of(flow_run.parameters.get("settings"))


def name_of_backfill() -> str:
    """As `ml-1m from 1998-04-01 to 1998-04-07`."""
    given = flow_run.parameters
    first, last = (str(given[name])[:10] for name in ("first", "last"))
    return f"{_source_of(_known(given.get('settings')))} from {first} to {last}"


def name_of(given: Any) -> str:
    """The same of settings, of what will become some, or of those of the environment if there are none."""
    settings = _known(given)
    moment = f" before {settings.as_of:%Y-%m-%d %H:%M}" if settings.as_of else ", all ratings"
    return f"{_source_of(settings)}{moment}"


def _known(given: Any) -> Settings:
    return given if isinstance(given, Settings) else Settings.model_validate(given or {})


def _source_of(settings: Settings) -> str:
    return PurePath(settings.source).name
