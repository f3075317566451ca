"""Reads a split made elsewhere: two files of ratings, or one of the published splits of MovieLens 100K."""

from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import polars as pl

from recsys.errors import DataRefused, UsageError
from recsys.files import hash_file
from recsys.ingest.archives.archives import Files, opened
from recsys.ingest.fetch.fetch import Archive
from recsys.split.leaks import KEY
from recsys.split.own_file import read_ratings

PUBLISHED = (
    "u1",
    "u2",
    "u3",
    "u4",
    "u5",
    "ua",
    "ub",
)  # u1 to u5 are the folds of a 5-fold split; ua, ub hold out ten ratings per user
LINE = {"user_id": pl.Int32, "movie_id": pl.Int32, "rating": pl.Float32, "seconds": pl.Int64}


@dataclass(frozen=True)
class Provided:
    """A split made elsewhere: the files `train` and `holdout`, or the `name` of a published split."""

    name: str
    validation_share: float
    train: Path | None = None
    holdout: Path | None = None

    def read(
        self, ratings: pl.DataFrame, levels: tuple[float, ...], archive: Archive
    ) -> tuple[pl.DataFrame, pl.DataFrame]:
        """(train, holdout), each sorted by user_id and movie_id; `ratings` are the admitted ratings of the source.

        A published split is limited to admitted ratings.

        Raises: UsageError if the source has no such split or a file cannot be read; DataRefused if a part is empty or
        has invalid columns.
        """
        if self.train and self.holdout:
            parts = [read_ratings(path, levels, need_rating=True) for path in (self.train, self.holdout)]
            columns = [name for name in ratings.columns if all(name in part.columns for part in parts)]
            first, second = (part.select(columns).sort(KEY) for part in parts)
            return first, second
        pairs = read_published(self.name, archive)
        first, second = (ratings.join(part, on=KEY, how="semi").sort(KEY) for part in pairs)
        if first.is_empty() or second.is_empty():
            raise DataRefused(f"{self.name} of {archive.path} has none of the ratings that the checks admitted.")
        return first, second

    def digests(self) -> list[str]:
        """The hashes of the two files; a published split has none, because the source's snapshot identifies it."""
        return [hash_file(path) for path in (self.train, self.holdout) if path and path.is_file()]


def read_published(name: str, archive: Archive) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The (user_id, movie_id) of `name`.base and `name`.test in the archive.

    Raises: UsageError if they are not there.
    """
    if archive.path is None:
        raise _lacking(name, archive.source)
    with opened(archive.path) as files:
        if f"{name}.base" not in files or f"{name}.test" not in files:
            raise _lacking(name, str(archive.path))
        return _read_pairs(files, f"{name}.base"), _read_pairs(files, f"{name}.test")


def _read_pairs(files: Files, name: str) -> pl.DataFrame:
    text = BytesIO(files.open(name).read())
    try:
        return pl.read_csv(text, separator="\t", has_header=False, schema=LINE).select(KEY)
    except pl.exceptions.PolarsError as error:
        raise DataRefused(
            f"{files.path} has a {name} that is not user, movie, rating and seconds, separated by tabs: {error}. "
            "Next: pass the archive as it was published"
        ) from None


def _lacking(name: str, where: str) -> UsageError:
    return UsageError(
        f"split {name} cannot be read: {where} has no {name}.base and {name}.test. Only GroupLens's ml-100k.zip has "
        "the published splits; the copy in a package does not. Next: pass that zip or its folder as --source, or "
        "choose another --split"
    )
