"""Loads the checked ratings of a source, and cuts them into the parts of a comparison."""

from dataclasses import dataclass
from functools import cached_property

import polars as pl

from recsys.checks.check import check_ratings
from recsys.encode.features import fit_features
from recsys.encode.vocabulary import fit_vocabulary
from recsys.files import read_table
from recsys.ingest.fetch.fetch import Archive, fetch_archive
from recsys.ingest.write import write_snapshot
from recsys.runs.night import checking
from recsys.runs.step import timed
from recsys.settings import Settings, SplitConfig
from recsys.split.cut import cut_holdout, cut_validation, split_validation
from recsys.split.leaks import check_apart, check_order
from recsys.split.provided import Provided
from recsys.train.learn import Learner


@dataclass(frozen=True)
class Data:
    """The data of a source, loaded as in a night."""

    archive: Archive
    snapshot: str
    levels: tuple[float, ...]
    ratings: pl.DataFrame
    users: pl.DataFrame
    movies: pl.DataFrame


@dataclass(frozen=True)
class Parts:
    """A split. Epochs are chosen by training on `fitted` and measuring on `validation`. Final training uses both."""

    fitted: pl.DataFrame
    validation: pl.DataFrame
    holdout: pl.DataFrame

    @cached_property
    def train(self) -> pl.DataFrame:
        """Everything but the holdout, in a fixed order, so that trainings are reproducible."""
        return pl.concat([self.fitted, self.validation]).sort("user_id", "movie_id")


def load_data(settings: Settings) -> Data:
    """Fetches, reads and checks the source of `settings`, as in a night.

    Raises: DataRefused with the run if the data are refused; the errors of fetching and reading.
    """
    with checking(settings) as run:
        archive = timed(fetch_archive)(settings.source, run.home)
        snapshot = timed(write_snapshot)(archive, run.home, settings.rating_scale, run.started_at)
        checked = timed(check_ratings)(snapshot, run, settings.check, settings.as_of)
        ratings, users, movies = (read_table(path) for path in (checked.ratings, checked.users, checked.movies))
    return Data(archive, snapshot.snapshot_id, checked.rating_scale, ratings, users, movies)


def cut(data: Data, how: SplitConfig | Provided, seed: int) -> Parts:
    """Cuts the data by one split and seed. In a provided split, only the validation part is drawn.

    Raises: DataRefused if a part would be empty, or if holdout and train overlap.
    """
    if isinstance(how, SplitConfig):
        rest, holdout = cut_holdout(data.ratings, how, seed)
        fitted, validation = cut_validation(rest, how, seed)
    else:
        rest, holdout = how.read(data.ratings, data.levels, data.archive)
        fitted, validation = split_validation(rest, how.validation_share, seed)
    check_apart(rest, holdout)
    if isinstance(how, SplitConfig) and how.kind == "time":
        check_order(fitted, validation)
        check_order(rest, holdout)
    return Parts(fitted, validation, holdout)


def make_learner(data: Data, parts: Parts, settings: Settings, seed: int) -> Learner:
    """Makes the learner of a split. Its vocabulary has the ids of train and of the source's users and movies.

    Ids that occur only in the holdout are unknown. Users and movies without training ratings are included, so that
    models can use their features.
    """
    known = (parts.train.select("user_id", "movie_id"), data.users.select("user_id"), data.movies.select("movie_id"))
    vocabulary = fit_vocabulary(pl.concat(known, how="diagonal"))
    features = fit_features(vocabulary, data.users, data.movies)
    return Learner(vocabulary, data.levels, seed, settings.device, features)
