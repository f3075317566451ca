"""Whether the served tables are up to date, in one line for people and monitors."""

from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from recsys.datasets import name_data
from recsys.home import Home
from recsys.printable import printable
from recsys.warehouse.lookup import find_held, read_status
from recsys.warehouse.records import list_missed

SUCCESS = ("published", "unchanged")
NIGHT = ("run_id", "dataset", "snapshot", "as_of", "finished_at", "verdict", "reason")  # columns of a night
CLOCK_SLACK_HOURS = 0.1  # by which the clocks of two machines may differ
MAX_REASON = 300  # characters; `recsys runs` shows the whole reason


@dataclass(frozen=True)
class Status:
    """The served run, the age of the last success, and the last night."""

    ok: bool
    max_age_hours: float | None  # None: no limit
    age_hours: float | None  # since the end of the newest successful night; None: no night has succeeded
    data: str | None  # what the served data are called: the dataset, or a folder's name
    served: dict[str, Any] | None  # run_id, dataset, snapshot, as_of, finished_at, verdict, reason
    last_success: dict[str, Any] | None  # the same columns
    last_night: dict[str, Any] | None  # the same columns
    held: str | None  # the reason of the rollback that blocks publishing; None if none does
    next: str | None  # the command to run; None if there is nothing to do

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def status(home: Home, max_age_hours: float | None = None, now: datetime | None = None) -> Status:
    """Reads the status.

    `ok` means that lists are served. With `max_age_hours`, it also means that the newest successful night (verdict
    published or unchanged) ended at most that many hours before `now`, and not in the future: then the clock was wrong
    at that time or is wrong now, and the age is unknown.

    Raises: NotPublished if there is a warehouse that cannot be read.
    """
    found = read_status(home)
    served, last_success, last_night = (found.get(part) for part in ("served", "last_success", "last_night"))
    for _, missed in list_missed(home):  # the newest night, because the next one adds it to the warehouse
        last_night = {name: getattr(missed, name) for name in NIGHT}
    age = ((now or datetime.now(UTC)) - last_success["finished_at"]).total_seconds() / 3600 if last_success else None
    held = find_held(home)
    fresh = max_age_hours is None or (age is not None and -CLOCK_SLACK_HOURS <= age <= max_age_hours)
    ok = served is not None and fresh
    data = name_data(served["dataset"], home.run(served["run_id"])) if served else None
    following = _next(home, ok, held, last_night)
    return Status(ok, max_age_hours, age, data, served, last_success, last_night, held, following)


def render(status: Status) -> str:
    """One line: the state (fresh, stale or nothing published), the served run, the last failure, the next command."""
    parts = [_serving(status)]
    if status.held:
        parts.append(f"publishing is blocked by a rollback: {_in_one_line(status.held)}")
    night = status.last_night
    if night and night["verdict"] not in SUCCESS:
        parts.append(f"last night {night['run_id']}: {night['verdict']}: {_in_one_line(night['reason'])}")
    if status.next:
        parts.append(f"next: {status.next}")
    return "; ".join(parts)


def _serving(status: Status) -> str:
    if not status.served:
        return "nothing is published"
    run = status.served
    as_of = f"{run['as_of']:%Y-%m-%d %H:%M} UTC" if run["as_of"] else "an unknown time"
    word = "published" if status.max_age_hours is None else "fresh" if status.ok else "stale"
    age = _describe_age(status.age_hours)
    limit = "" if status.max_age_hours is None else f", limit {status.max_age_hours:g} h"
    return f"{word}: {status.data} of run {run['run_id']} is served, ratings before {as_of}; {age}{limit}"


def _describe_age(hours: float | None) -> str:
    if hours is None:
        return "no night has succeeded"
    if hours < -CLOCK_SLACK_HOURS:
        return f"last good night {-hours:.1f} h in the future: check this machine's clock"
    return f"last good night {max(hours, 0):.1f} h ago"


def _next(home: Home, ok: bool, held: str | None, last_night: dict[str, Any] | None) -> str | None:
    if held:
        return f"`recsys rollback --release --home {home.root}` to let nights publish again"
    failed = last_night is not None and last_night["verdict"] not in SUCCESS
    if failed:
        return f"`recsys runs --limit 5 --home {home.root}`, fix the cause, then `recsys nightly --home {home.root}`"
    return None if ok else f"`recsys nightly --home {home.root}`"


def _in_one_line(reason: str | None) -> str:
    words = printable(" ".join((reason or "no reason was recorded").split()))
    return words if len(words) <= MAX_REASON else f"{words[:MAX_REASON]}…"
