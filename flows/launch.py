"""Starts the work of a command: as a Prefect flow if a server answers, else as a plain function."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta

from flows.failures import alert_about_error
from flows.server import choose_server
from recsys.backfill import Filled
from recsys.home import Home
from recsys.runs.summary import Summary
from recsys.settings import Settings


def run_nightly(settings: Settings) -> Summary:
    """Runs one night, watched by Prefect if a server is configured and answers.

    Raises: the errors of `recsys.nightly.run_night`.
    """
    if choose_server():
        from flows.nightly import nightly

        return nightly(settings)
    from recsys.nightly import run_night

    with alerting("nightly", settings):
        return run_night(settings)


def run_backfill(first: datetime, last: datetime, step: timedelta, settings: Settings) -> list[Filled]:
    """Runs the missing nights between two moments, watched by Prefect if a server is configured and answers.

    Raises: the errors of `recsys.backfill.backfill`.
    """
    if choose_server():
        from flows.backfill import backfill

        return backfill(first, last, step, settings)
    from recsys.backfill import backfill as fill

    with alerting("backfill", settings):
        return fill(first, last, step, settings)


@contextmanager
def alerting(flow: str, settings: Settings) -> Iterator[None]:
    """Sends an alert if the block fails. It replaces the hooks, which Prefect does not call without a server."""
    try:
        yield
    except BaseException as error:
        alert_about_error(flow, Home(settings.home.absolute()), error, settings.source)
        raise
