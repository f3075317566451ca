"""Types of options: names, moments such as `yesterday` or `7d` ago, and the time between nights."""

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import click

from recsys.errors import suggest

UNITS = {"d": "days", "h": "hours", "m": "minutes"}
DAYS_AGO = {"today": 0, "yesterday": 1}
ACCEPTED = "a date (1998-04-01), a time in UTC (1998-04-01T12:00), today, yesterday, or how long ago: 7d, 12h"


class Name(click.Choice[str]):
    """One of some names. The error for another one suggests the nearest."""

    def get_invalid_choice_message(self, value: Any, ctx: click.Context | None) -> str:
        message = super().get_invalid_choice_message(value, ctx)
        return f"{message}{suggest(str(value), list(map(str, self.choices)))}"


class Moment(click.ParamType):  # type: ignore[type-arg]  # generic for type checkers only
    """A moment in UTC. Words and days mean midnight, hours mean the full hour: the same command, the same moment."""

    name = "moment"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        if isinstance(value, datetime):
            return value
        try:
            return parse_moment(str(value), datetime.now(UTC))
        except (ValueError, OverflowError):
            hint = suggest(str(value), DAYS_AGO)
            self.fail(f"{value!r} is not a moment.{hint} Next: write {ACCEPTED}", param, ctx)


class Step(click.ParamType):  # type: ignore[type-arg]  # generic for type checkers only
    """A time between nights, such as 1d, 12h or 30m."""

    name = "step"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        if isinstance(value, timedelta):
            return value
        parts = re.fullmatch(r"([0-9]{1,6})([dhm])", str(value).strip())
        if not parts or not int(parts[1]):
            self.fail(f"{value!r} is not a time between nights; write it as 1d, 12h or 30m", param, ctx)
        return timedelta(**{UNITS[parts[2]]: int(parts[1])})


def parse_moment(text: str, now: datetime) -> datetime:
    """Parses ISO 8601, today, yesterday, 7d or 12h.

    Raises: ValueError for other text; OverflowError for a moment before the year 1.
    """
    word, midnight = text.strip().casefold(), now.replace(hour=0, minute=0, second=0, microsecond=0)
    ago = re.fullmatch(r"([0-9]{1,6})([dh])", word)
    if ago:
        return (midnight if ago[2] == "d" else now.replace(minute=0, second=0, microsecond=0)) - timedelta(
            **{UNITS[ago[2]]: int(ago[1])}
        )
    if word in DAYS_AGO:
        return midnight - timedelta(days=DAYS_AGO[word])
    return datetime.fromisoformat(text.strip())
