"""Runs past nights in order, one for each `as_of`."""

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from recsys.errors import DataRefused, GateHeld, RecsysError, UsageError
from recsys.home import Home
from recsys.ingest.fetch.fetch import fetch_archive
from recsys.nightly import run_night
from recsys.runs.summary import Summary
from recsys.settings import Settings
from recsys.warehouse.lookup import list_nights

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Filled:
    """The outcome of one night."""

    as_of: datetime  # UTC
    run_id: str | None
    verdict: str  # as in the table `runs`, or "there already"
    reason: str | None
    exit_code: int


def backfill(
    first: datetime,
    last: datetime,
    step: timedelta,
    settings: Settings,
    run: Callable[[Settings], Summary] = run_night,
) -> list[Filled]:
    """Runs the missing nights from `first` to `last`, both inclusive, in order. `run` runs a single night.

    A night that already has lists is skipped, so an interrupted backfill can be repeated. The backfill continues after
    a night that is refused or held back. A night is published only if it is later than the published one. Earlier
    nights are added to the history.

    Raises: UsageError for invalid moments; every error of a night except DataRefused and GateHeld.
    """
    moments = list(list_moments(first, last, step))
    home = Home(settings.home.absolute())
    existing = list_nights(home, fetch_archive(settings.source, home).dataset)
    outcomes = []
    for number, moment in enumerate(moments, start=1):
        logger.info("night %d of %d: as of %s", number, len(moments), moment.isoformat())
        if moment in existing:
            outcomes.append(Filled(moment, existing[moment], "there already", None, 0))
        else:
            outcomes.append(_fill(settings.model_copy(update={"as_of": moment}), moment, run))
        logger.info("as of %s: %s", moment.isoformat(), outcomes[-1].verdict)
    return outcomes


def list_moments(first: datetime, last: datetime, step: timedelta) -> Iterator[datetime]:
    """Yields `first` and every later `step` up to `last`, in UTC. A moment without a time zone is taken as UTC.

    Raises: UsageError if `last` is before `first`, or `step` is not positive.
    """
    first, last = (moment.replace(tzinfo=moment.tzinfo or UTC).astimezone(UTC) for moment in (first, last))
    if step <= timedelta(0):
        raise UsageError(f"--step {step} is not positive; pass a time such as 1d or 12h")
    if last < first:
        raise UsageError(f"--to {last.isoformat()} is before --from {first.isoformat()}; swap them")
    while first <= last:
        yield first
        first += step


def _fill(settings: Settings, moment: datetime, run: Callable[[Settings], Summary]) -> Filled:
    try:
        summary = run(settings)
    except (DataRefused, GateHeld) as error:
        return _describe_error(moment, error)
    return Filled(moment, summary.run_id, summary.verdict, summary.reason, 0)


def _describe_error(moment: datetime, error: RecsysError) -> Filled:
    return Filled(moment, error.run.run_id if error.run else None, error.verdict, str(error), error.exit_code)
