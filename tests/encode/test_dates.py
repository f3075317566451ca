from datetime import UTC, datetime, timedelta

import pytest
import torch

from recsys.encode.dates import DATE_VALUES, FIRST_YEAR, LAST_YEAR, date_features


def by_calendar(moment: datetime) -> dict[str, int]:
    """The expected features, by Python's datetime, of a time from `FIRST_YEAR` to `LAST_YEAR`."""
    return {
        "weekday": moment.isoweekday(),
        "hour": moment.hour + 1,
        "month": moment.month,
        "rated_year": moment.year - FIRST_YEAR + 1,
    }


def at(moments: list[datetime]) -> dict[str, list[int]]:
    seconds = torch.tensor([int(moment.timestamp()) for moment in moments])
    return {name: index.tolist() for name, index in date_features(seconds).items()}


def test_features_of_a_century_agree_with_datetime() -> None:
    """Times are a prime number of minutes apart, so that all hours and all leap days from 1992 to 2096 occur."""
    first, last = datetime(FIRST_YEAR, 1, 1, tzinfo=UTC), datetime(LAST_YEAR, 12, 31, 23, 59, 59, tzinfo=UTC)
    moments = [*(first + timedelta(minutes=1009 * n) for n in range(57_000)), last]
    assert moments[-2] < last
    found = at(moments)
    for name in DATE_VALUES:
        assert found[name] == [by_calendar(moment)[name] for moment in moments]


@pytest.mark.parametrize(
    "day", [(1996, 2, 29), (1996, 3, 1), (1999, 12, 31), (2000, 2, 29), (2000, 3, 1), (2001, 1, 1)]
)
def test_features_around_leap_days_and_year_ends(day: tuple[int, int, int]) -> None:
    last_second = datetime(*day, 23, 59, 59, tzinfo=UTC)
    for moment in (last_second, last_second + timedelta(seconds=1)):
        assert {name: index[0] for name, index in at([moment]).items()} == by_calendar(moment)


def test_an_unknown_time_has_index_zero() -> None:
    assert all(index.tolist() == [0] for index in date_features(torch.tensor([0])).values())


def test_years_outside_the_tables_are_clipped() -> None:
    for moment in (datetime(1970, 1, 2, tzinfo=UTC), datetime(2300, 6, 1, tzinfo=UTC)):
        for name, index in at([moment]).items():
            assert 1 <= index[0] < DATE_VALUES[name]
