"""The editions of MovieLens that `--source` knows by name."""

from dataclasses import dataclass
from typing import Literal

import polars as pl

GROUPLENS = "https://files.grouplens.org/datasets/movielens"

LayoutName = Literal["ml-100k", "ml-1m", "csv", "atomic", "canonical"]

CITATION = (
    "F. Maxwell Harper and Joseph A. Konstan. 2015. The MovieLens Datasets: History and Context. "
    "ACM Transactions on Interactive Intelligent Systems (TiiS) 5, 4, Article 19. https://doi.org/10.1145/2827872"
)
RESEARCH_ONLY = "Research use with acknowledgement; no redistribution without permission, no commercial use."
RESEARCH_SHARED = "Research use with acknowledgement; redistribution under the same conditions, no commercial use."

WHOLE_STARS = (1.0, 2.0, 3.0, 4.0, 5.0)
HALF_STARS = (0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 4.5, 5.0)


@dataclass(frozen=True)
class Dataset:
    """One edition. `md5` is the one GroupLens publishes; None where the file may change, and with it the counts."""

    name: str
    layout: LayoutName  # of the files inside, see recsys/ingest/layouts.py
    rating_scale: tuple[float, ...]  # stars, ascending
    ratings: int
    users: int
    movies: int
    licence: str
    md5: str | None = None
    citation: str = CITATION

    @property
    def file(self) -> str:
        """The archive's name, at GroupLens and in the cache."""
        return f"{self.name}.zip"

    @property
    def url(self) -> str:
        return f"{GROUPLENS}/{self.file}"


EDITIONS = (
    Dataset(
        name="ml-100k",
        layout="ml-100k",
        rating_scale=WHOLE_STARS,
        ratings=100_000,
        users=943,
        movies=1_682,
        licence=RESEARCH_ONLY,
        md5="0e33842e24a9c977be4e0107933c0723",
    ),
    Dataset(
        name="ml-1m",
        layout="ml-1m",
        rating_scale=WHOLE_STARS,
        ratings=1_000_209,
        users=6_040,
        movies=3_883,
        licence=RESEARCH_ONLY,
        md5="c4d9eecfca2ab87c1945afe126590906",
    ),
    Dataset(
        name="ml-latest-small",
        layout="csv",
        rating_scale=HALF_STARS,
        ratings=100_836,
        users=610,
        movies=9_742,
        licence=RESEARCH_SHARED,
    ),
)

DATASETS = {dataset.name: dataset for dataset in EDITIONS}


def list_datasets(*, in_words: bool) -> pl.DataFrame:
    """One row per edition; `rating_scale` is a list of stars, or "1.0 to 5.0" if `in_words`."""
    shown = ("name", "ratings", "users", "movies", "rating_scale", "url", "licence")
    frame = pl.DataFrame([{name: getattr(dataset, name) for name in shown} for dataset in EDITIONS])
    scale = pl.col("rating_scale").list
    return frame.with_columns(rating_scale=pl.format("{} to {}", scale.first(), scale.last())) if in_words else frame
