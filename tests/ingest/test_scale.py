"""The scale of a source that does not state its stars."""

import logging

import duckdb
import pytest

from recsys.datasets import HALF_STARS, WHOLE_STARS
from recsys.ingest.scale import find_scale
from recsys.settings import RatingScale


def scale_of(stars: list[float], stated: RatingScale = "auto") -> tuple[float, ...]:
    with duckdb.connect() as connection:
        connection.execute("create table ratings as select unnest($stars::float[]) as rating", {"stars": stars})
        return find_scale(connection.table("ratings"), stated)


@pytest.mark.parametrize(
    ("stars", "scale"),
    [
        ([3, 7.5, -0.5], WHOLE_STARS),  # the checks will refuse both
        ([3, 0.5], HALF_STARS),
        ([4.5] * 6 + [3] * 994, HALF_STARS),
        ([4.5] * 5 + [3] * 995, WHOLE_STARS),  # 0.5%
        ([3.5] + [3] * 1800, WHOLE_STARS),
        ([], WHOLE_STARS),
    ],
)
def test_the_scale_is_the_one_that_nearly_all_ratings_agree_on(stars: list[float], scale: tuple[float, ...]) -> None:
    assert scale_of(stars) == scale


def test_a_few_half_stars_are_reported(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        scale_of([3.5] + [3] * 1800)
    assert "1 of 1,801 ratings have half stars, at most 0.5%" in caplog.text
    assert "RECSYS_RATING_SCALE=half" in caplog.text


def test_a_stated_scale_is_not_derived(caplog: pytest.LogCaptureFixture) -> None:
    assert scale_of([3, 4], "half") == HALF_STARS
    assert scale_of([3.5, 4.5], "whole") == WHOLE_STARS
    assert not caplog.records
