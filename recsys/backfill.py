"""Past nights in order: one night for each `as_of`."""

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
    """Runs the missing nights from `first` to `last`, both inclusive, in order; `run` runs one of them.

    Nights that have lists are skipped, so a backfill that was interrupted can be repeated. It continues after a night
    that is refused or held back. Only a night later than the published one is published; others go to the history.

    Raises: UsageError for invalid moments; every error of a night except DataRefused and GateHeld.
    """
    moments = list(list_moments(first, last, step))
    home = Home(settings.home.absolute())
    made = list_nights(home, fetch_archive(settings.source, home).dataset)
    filled = []
    for number, moment in enumerate(moments, start=1):
        logger.info("night %d of %d: as of %s", number, len(moments), moment.isoformat())
        if moment in made:
            filled.append(Filled(moment, made[moment], "there already", None, 0))
        else:
            filled.append(_fill(settings.model_copy(update={"as_of": moment}), moment, run))
        logger.info("as of %s: %s", moment.isoformat(), filled[-1].verdict)
    return filled


def list_moments(first: datetime, last: datetime, step: timedelta) -> Iterator[datetime]:
    """`first`, then every `step` up to `last`, in UTC; a moment without a time zone is UTC.

    Raises: UsageError if `last` is before `first`, or `step` is not positive.
    """
    first, last = (moment.replace(tzinfo=moment.tzinfo or UTC).astimezone(UTC) for moment in (first, last))
    if step <= timedelta(0):
        raise UsageError(f"--step {step} is not positive; give a time such as 1d or 12h")
    if last < first:
        raise UsageError(f"--to {last.isoformat()} is before --from {first.isoformat()}; swap them")
    while first <= last:
        yield first
        first += step


def _fill(settings: Settings, moment: datetime, run: Callable[[Settings], Summary]) -> Filled:
    try:
        summary = run(settings)
    except (DataRefused, GateHeld) as error:
        return _ended(moment, error)
    return Filled(moment, summary.run_id, summary.verdict, summary.reason, 0)


def _ended(moment: datetime, error: RecsysError) -> Filled:
    return Filled(moment, error.run.run_id if error.run else None, error.verdict, str(error), error.exit_code)
