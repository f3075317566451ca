"""The editions of MovieLens that `--source` accepts by name."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from recsys.files import read_json
from recsys.home import Run
from recsys.printable import printable

LayoutName = Literal["ml-100k", "ml-1m", "ml-10m", "csv", "atomic", "canonical"]

OWN_SCHEMA = "canonical"  # the name in the tables of every dataset that is a folder or archive in our own schema

GENOME = ("genome-scores.csv", "genome-tags.csv")  # tag relevance computed by GroupLens, part of some editions

GROUPLENS = "https://files.grouplens.org/datasets/movielens"

CITATION = (
    "F. Maxwell Harper and Joseph A. Konstan. 2015. The MovieLens Datasets: History and Context. "
    "ACM Transactions on Interactive Intelligent Systems (TiiS) 5, 4, Article 19. https://doi.org/10.1145/2827872"
)
RESEARCH_ONLY = "Research use with acknowledgement; no redistribution without permission, no commercial use."
RESEARCH_SHARED = "Research use with acknowledgement; redistribution under the same conditions, no commercial use."

WHOLE_STARS = (1.0, 2.0, 3.0, 4.0, 5.0)
HALF_STARS = (0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 4.5, 5.0)

GENRES_1M = (
    "Action",
    "Adventure",
    "Animation",
    "Children's",
    "Comedy",
    "Crime",
    "Documentary",
    "Drama",
    "Fantasy",
    "Film-Noir",
    "Horror",
    "Musical",
    "Mystery",
    "Romance",
    "Sci-Fi",
    "Thriller",
    "War",
    "Western",
)
GENRES_100K = (*GENRES_1M, "unknown")
# From ML-10M on, the files have the genres Children (Children's in the READMEs) and IMAX (missing in the READMEs).
GENRES_LATER = tuple(sorted((*GENRES_1M, "Children", "IMAX")))


@dataclass(frozen=True)
class Dataset:
    """One edition. `md5` is published by GroupLens. It is None if the file and its counts may change.

    Source: the README of each edition, and the .md5 file next to each zip.
    """

    name: str
    layout: LayoutName  # of the files inside, see recsys/ingest/parse/layouts.py
    rating_scale: tuple[float, ...]  # stars, ascending
    genres: tuple[str, ...]  # possible genres of a movie, sorted
    ratings: int
    users: int  # with ratings
    movies: int
    licence: str
    tags: int = 0
    md5: str | None = None
    folder: str = ""  # inside the zip, if its name differs from the edition's
    unused: tuple[str, ...] = ()  # published files that are not read
    citation: str = CITATION

    @property
    def file(self) -> str:
        """Name of the archive at GroupLens and in the cache."""
        return f"{self.name}.zip"

    @property
    def url(self) -> str:
        return f"{GROUPLENS}/{self.file}"


EDITIONS = (
    Dataset(
        name="ml-100k",
        layout="ml-100k",
        rating_scale=WHOLE_STARS,
        genres=GENRES_100K,
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
        genres=GENRES_1M,
        ratings=1_000_209,
        users=6_040,
        movies=3_883,
        licence=RESEARCH_ONLY,
        md5="c4d9eecfca2ab87c1945afe126590906",
    ),
    Dataset(
        name="ml-10m",
        layout="ml-10m",
        rating_scale=HALF_STARS,
        genres=GENRES_LATER,
        ratings=10_000_054,
        # The README counts 71,567 users, which is the highest user_id. Some of them have no ratings, because users with
        # ratings and users with tags were drawn separately.
        users=69_878,
        movies=10_681,
        tags=95_580,
        licence=RESEARCH_ONLY,
        md5="ce571fd55effeba0271552578f2648bd",
        folder="ml-10M100K",
    ),
    Dataset(
        name="ml-20m",
        layout="csv",
        rating_scale=HALF_STARS,
        genres=GENRES_LATER,
        ratings=20_000_263,
        users=138_493,
        movies=27_278,
        tags=465_564,
        licence=RESEARCH_ONLY,
        md5="cd245b17a1ae2cc31bb14903e1204af3",
        unused=GENOME,
    ),
    Dataset(
        name="ml-25m",
        layout="csv",
        rating_scale=HALF_STARS,
        genres=GENRES_LATER,
        ratings=25_000_095,
        users=162_541,
        movies=62_423,
        tags=1_093_360,
        licence=RESEARCH_ONLY,
        md5="6b51fb2759a8657d3bfcbfc42b592ada",
        unused=GENOME,
    ),
    Dataset(
        name="ml-32m",
        layout="csv",
        rating_scale=HALF_STARS,
        genres=GENRES_LATER,
        ratings=32_000_204,
        users=200_948,
        movies=87_585,
        tags=2_000_072,
        licence=RESEARCH_SHARED,
        md5="d472be332d4daa821edc399621853b57",
    ),
    Dataset(
        name="ml-latest-small",  # counts of 2018
        layout="csv",
        rating_scale=HALF_STARS,
        genres=GENRES_LATER,
        ratings=100_836,
        users=610,
        movies=9_742,
        tags=3_683,
        licence=RESEARCH_SHARED,
    ),
    Dataset(
        name="ml-latest",  # counts of 2023
        layout="csv",
        rating_scale=HALF_STARS,
        genres=GENRES_LATER,
        ratings=33_832_162,
        users=330_975,
        movies=86_537,
        tags=2_328_315,
        licence=RESEARCH_SHARED,
        unused=GENOME,
    ),
)

DATASETS = {dataset.name: dataset for dataset in EDITIONS}


def describe_dataset(dataset: str | None) -> str:
    """A dataset as it is called where no run is known whose folder or archive could be named."""
    return "data in our own schema" if dataset == OWN_SCHEMA else dataset or "unknown data"


def name_data(dataset: str | None, run: Run) -> str:
    """What people call the data of a run: the dataset, or the name of a folder or archive in our own schema."""
    if dataset != OWN_SCHEMA:
        return describe_dataset(dataset)
    try:
        source = str(read_json(run.config)["source"])
    except (OSError, ValueError, LookupError, TypeError):  # the folder of an old run is deleted
        return describe_dataset(dataset)
    return printable(Path(source).absolute().name)
