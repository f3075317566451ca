"""Nights in this process, step by step and without Prefect, on sources that are published in seconds."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from recsys import steps
from recsys.checks.check import Checked
from recsys.home import Home, Run
from recsys.ingest.fetch.fetch import fetch_archive
from recsys.ingest.synthetic.synthetic import plant
from recsys.ingest.write import write_snapshot
from recsys.rank.weights import Weights
from recsys.runs.night import night
from recsys.settings import Settings, WarmStartConfig
from recsys.split.cut import split_ratings
from recsys.train.learn import Choice, Learner
from recsys.train.saved_model import SavedModel
from tests.support.archives import write_archive
from tests.support.planted import quick_config
from tests.support.snapshots import check_ratings

SILENT, QUIET = 1, 2  # users of `write_source` with no rating and with three ratings


@dataclass(frozen=True)
class Night:
    run: Run
    checked: Checked
    learner: Learner
    choice: Choice

    def train(self, config: WarmStartConfig) -> SavedModel:
        return steps.train_for_tonight(self.choice, self.checked, self.learner, self.run, config)

    def weigh(self, settings: Settings) -> Weights:
        parts = split_ratings(self.checked, self.run, settings.split, settings.seed)
        return steps.weigh_parts(self.choice, parts, self.learner, self.run, settings)

    def score(self, model: SavedModel, weights: Weights, settings: Settings) -> Path:
        rules = steps.read_rules(self.checked, self.learner, settings)
        return steps.score(model, weights, rules, self.checked, self.learner, self.run, settings)


def settings_of(home: Home, source: str | Path = "synthetic:60x40x2000", **fields: Any) -> Settings:
    values: dict[str, Any] = {"source": str(source), "home": home.root, "model": "nmf", **fields}
    return Settings.model_validate(values)


def prepare(settings: Settings, run: Run, choice: Choice | None = None) -> Night:
    """Runs the steps of a night up to the choice of its network."""
    raw = write_snapshot(fetch_archive(settings.source, run.home), run.home)
    checked = check_ratings(raw, run, settings.check, settings.as_of)
    learner = steps.fit_vocabulary(checked, run, settings)
    if choice is None:
        choice = steps.choose_network(
            split_ratings(checked, run, settings.split, settings.seed), learner, run, settings
        )
    return Night(run, checked, learner, choice)


def publish_night(tonight: Night, settings: Settings) -> None:
    """Runs the remaining steps, except the evaluation on the holdout."""
    weights = tonight.weigh(settings)
    lists = tonight.score(tonight.train(WarmStartConfig()), weights, settings)
    steps.publish_lists(lists, tonight.checked, tonight.run, settings)


def write_source(folder: Path, n_users: int = 80, n_movies: int = 100, n_ratings: int = 2600) -> Path:
    """Planted ratings, but none of SILENT, only three of QUIET, who is 15 years old, and none of movies 1 to 4."""
    planted = plant(n_users, n_movies, n_ratings)
    rated = planted.ratings.filter(pl.col("user_id") != SILENT, pl.col("movie_id") > 4)
    rated = rated.filter((pl.col("user_id") != QUIET) | (pl.int_range(pl.len()).over("user_id") < 3))
    age = pl.when(pl.col("user_id") == QUIET).then(pl.lit(15, pl.Int16)).otherwise("age").alias("age")
    return write_archive(folder, "canonical", rated, planted.movies, planted.users.with_columns(age))


def serve_night(folder: Path) -> Home:
    """A home with one published night from `write_source`."""
    settings = settings_of(
        Home(folder / "home"),
        write_source(folder / "source"),
        model="auto",
        config={"model": "ordinal", "config": quick_config("ordinal", batch_size=64).model_dump(mode="json")},
        rank={"popularity_penalty": 0.1, "n_similar": 5},
    )
    with night(settings) as run:
        publish_night(prepare(settings, run), settings)
    return run.home
