from datetime import UTC, datetime

import pytest

from flows.cli.parameter_types import parse_moment

NOW = datetime(2026, 3, 1, 14, 35, 7, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("today", "2026-03-01T00:00:00+00:00"),
        (" Yesterday ", "2026-02-28T00:00:00+00:00"),
        ("1d", "2026-02-28T00:00:00+00:00"),
        ("7d", "2026-02-22T00:00:00+00:00"),
        ("0d", "2026-03-01T00:00:00+00:00"),
        ("12h", "2026-03-01T02:00:00+00:00"),
        ("36h", "2026-02-28T02:00:00+00:00"),
        ("1998-04-01", "1998-04-01T00:00:00"),
        ("1998-04-01T12:00+02:00", "1998-04-01T12:00:00+02:00"),
    ],
)
def test_moments_are_parsed(text: str, moment: str) -> None:
    assert parse_moment(text, NOW).isoformat() == moment


@pytest.mark.parametrize("text", ["", "tomorrow", "7", "d", "-7d", "7w", "1998-13-01", "last week", "999999d"])
def test_other_texts_are_refused(text: str) -> None:
    with pytest.raises((ValueError, OverflowError)):
        parse_moment(text, NOW)
