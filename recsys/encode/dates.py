"""Calendar features of a time, as indices into embedding tables.

Shapes: B batch.
"""

from functools import cache

import numpy as np
import torch
from torch import Tensor

DAY_SECONDS = 24 * 3600
FIRST_YEAR, LAST_YEAR = 1990, 2099

# number of indices of each feature, including 0 for "not known"
DATE_VALUES = {"weekday": 8, "hour": 25, "month": 13, "rated_year": LAST_YEAR - FIRST_YEAR + 2}


def date_features(rated_at: Tensor) -> dict[str, Tensor]:
    """The index of each feature in UTC, all (B,) int64; 0 if the time is 0, which means unknown.

    rated_at: (B,) int64, seconds since 1970. weekday: 1 is Monday. hour: 1 is from midnight to one. month: 1 is
    January. rated_year: 1 is `FIRST_YEAR` or earlier; years after `LAST_YEAR` count as `LAST_YEAR`.
    """
    days_B = rated_at // DAY_SECONDS
    months_B = torch.searchsorted(_month_starts(rated_at.device), days_B, right=True) - 1  # since January 1970
    features = {
        "weekday": (days_B + 3) % 7 + 1,  # 1 January 1970 was a Thursday
        "hour": rated_at % DAY_SECONDS // 3600 + 1,
        "month": months_B % 12 + 1,
        "rated_year": (months_B // 12 + 1970).clamp(FIRST_YEAR, LAST_YEAR) - FIRST_YEAR + 1,
    }
    return {name: torch.where(rated_at > 0, index_B, 0) for name, index_B in features.items()}


@cache
def _month_starts(device: torch.device) -> Tensor:
    """The first day of each month from 1970 to 2514, in days since 1970. Polars' `.dt` would leave the device."""
    months = np.arange("1970-01", "2515-01", dtype="datetime64[M]")
    return torch.from_numpy(months.astype("datetime64[D]").astype(np.int64)).to(device)
