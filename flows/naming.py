"""What runs are called in Prefect: by what a person looks for, data and moment."""

from pathlib import PurePath
from typing import Any

from prefect.runtime import flow_run

from recsys.settings import Settings


def name_of_night() -> str:
    """As `ml-1m before 2003-01-01 00:00`, or `ml-100k, all ratings`."""
    return name_of(flow_run.parameters.get("settings") or Settings())


def name_of_backfill() -> str:
    """As `ml-1m from 1998-04-01 to 1998-04-07`."""
    given = flow_run.parameters
    first, last = (str(given[name])[:10] for name in ("first", "last"))
    return f"{_source_of(given.get('settings') or Settings())} from {first} to {last}"


def name_of(settings: Any) -> str:
    """The same of settings, or of what will become some."""
    known = settings if isinstance(settings, Settings) else Settings.model_validate(settings)
    moment = f" before {known.as_of:%Y-%m-%d %H:%M}" if known.as_of else ", all ratings"
    return f"{_source_of(known)}{moment}"


def _source_of(settings: Any) -> str:
    known = settings if isinstance(settings, Settings) else Settings.model_validate(settings)
    return PurePath(known.source).name
