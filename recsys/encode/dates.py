"""What a moment is in the calendar, as indices into embedding tables; arithmetic on tensors, no clock.

Shapes: B batch.
"""

import torch
from torch import Tensor

DAY_SECONDS = 24 * 3600
FIRST_YEAR, LAST_YEAR = 1990, 2099

# how many indices each feature has, "not known" included
DATE_VALUES = {"weekday": 8, "hour": 25, "month": 13, "rated_year": LAST_YEAR - FIRST_YEAR + 2}


def date_features(rated_at: Tensor) -> dict[str, Tensor]:
    """Index of each feature in UTC, all (B,) int64; 0 where the moment is 0, which nobody knows.

    rated_at: (B,) int64, seconds since 1970. weekday: 1 is Monday. hour: 1 is from midnight to one. month: 1 is
    January. rated_year: 1 is `FIRST_YEAR` or any before it; those after `LAST_YEAR` are taken for it.
    """
    days_B = rated_at.div(DAY_SECONDS, rounding_mode="floor")
    year_B, month_B = year_and_month(days_B)
    features = {
        "weekday": (days_B + 3) % 7 + 1,  # 1970 began on a Thursday
        "hour": rated_at.remainder(DAY_SECONDS) // 3600 + 1,
        "month": month_B,
        "rated_year": year_B.clamp(FIRST_YEAR, LAST_YEAR) - FIRST_YEAR + 1,
    }
    return {name: torch.where(rated_at > 0, index_B, 0) for name, index_B in features.items()}


def year_and_month(days_B: Tensor) -> tuple[Tensor, Tensor]:
    """Of days since 1970 in the Gregorian calendar, whose leap years repeat every 400 years of 146,097 days.

    Years are counted from March, so that the leap day is a year's last; from then on months of 31, 30, 31, 30, 31 days
    follow each other, which (5 · day + 2) / 153 tells apart.

    Source: Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms" (2014), civil_from_days.
    """
    from_march_0 = days_B + 719_468  # days since 1 March of the year 0
    era = from_march_0.div(146_097, rounding_mode="floor")
    day = from_march_0 - era * 146_097
    year = (day - day // 1_460 + day // 36_524 - day // 146_096) // 365
    day_of_year = day - (365 * year + year // 4 - year // 100)
    month = (5 * day_of_year + 2) // 153  # 0 is March
    is_next_year = month >= 10
    return era * 400 + year + is_next_year, torch.where(is_next_year, month - 9, month + 3)
