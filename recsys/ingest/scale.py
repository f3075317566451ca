"""The possible stars of a source in our own schema, whose files do not state them."""

import logging

from duckdb import DuckDBPyRelation

from recsys.datasets import HALF_STARS, WHOLE_STARS
from recsys.settings import LimitConfig, RatingScale

log = logging.getLogger(__name__)

MAX_STRAY_SHARE = LimitConfig().rating_on_scale  # a source may have this share of ratings off its scale
STATED: dict[RatingScale, tuple[float, ...]] = {"whole": WHOLE_STARS, "half": HALF_STARS}


def find_scale(ratings: DuckDBPyRelation, stated: RatingScale) -> tuple[float, ...]:
    """The stated scale; for `auto`, the one that nearly all `ratings` agree on, even if some are superseded.

    A few half stars among whole ones do not change the scale, because it determines what every other rating means to a
    network, and with which models of earlier nights it can be compared. The checks refuse these ratings.
    """
    if stated != "auto":
        return STATED[stated]
    columns = "count(*) filter (rating % 1 = 0.5 and rating between 0 and 5), count(*)"
    n_halves, n_ratings = ratings.aggregate(columns).fetchall()[0]
    if n_halves > MAX_STRAY_SHARE * n_ratings:
        return HALF_STARS
    if n_halves:
        log.warning(
            "%s of %s ratings have half stars, at most %s, so the scale is whole stars and they are refused. If they "
            "are right, set RECSYS_RATING_SCALE=half",
            f"{n_halves:,}", f"{n_ratings:,}", f"{MAX_STRAY_SHARE:.1%}",
        )  # fmt: skip
    return WHOLE_STARS
