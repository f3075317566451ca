"""Parts that the benchmarks of lists share: a source, networks trained once per seed, and metrics."""

from dataclasses import dataclass
from functools import cached_property

import polars as pl
from torch import Tensor

from recsys.compare.data import Data, Parts, make_learner
from recsys.evaluate.lists import gather_catalogue
from recsys.metrics.lists import Catalogue, list_metrics, user_metrics
from recsys.models import Interactions, RatingNetwork
from recsys.rank.fit import fit_ranker, learn_weights
from recsys.rank.ranker import Ranker
from recsys.settings import RankConfig, Settings, TunedConfig
from recsys.train.choose import choose_trained
from recsys.train.learn import Learner, configure, learn


@dataclass(frozen=True)
class Stage:
    """A network, the ratings it was trained on, and those to predict."""

    network: RatingNetwork
    known: pl.DataFrame
    asked: pl.DataFrame
    learner: Learner

    @cached_property
    def train(self) -> Interactions:
        return self.learner.encode(self.known)

    def catalogue(self, listable: Tensor) -> Catalogue:
        """Return the catalogue of listable movies with their training ratings."""
        return gather_catalogue(self.train, self.learner.vocabulary, self.learner.features, listable)

    def relevant(self, from_stars: float) -> pl.DataFrame:
        """Return the liked (user_id, movie_id) pairs among those to predict, of users with training ratings."""
        liked = self.asked.filter(pl.col("rating") >= from_stars).select("user_id", "movie_id").unique()
        return liked.join(self.known.select("user_id").unique(), on="user_id", how="semi")


@dataclass(frozen=True)
class Trained:
    """The networks of one seed: one trained on train and measured on validation, and one trained on both."""

    on_validation: Stage
    on_holdout: Stage
    learner: Learner


@dataclass(frozen=True)
class Judged:
    """Metrics of one source of lists and one seed: for each user with a relevant movie, and the means."""

    users: pl.DataFrame
    metrics: dict[str, float]


def train_once(data: Data, parts: Parts, settings: Settings, seed: int, epochs: int | None) -> Trained:
    """Train like a night: choose the epochs on validation, then train on train and validation.

    `epochs` limits the number of epochs.
    """
    learner = make_learner(data, parts, settings, seed)
    tuned = _cut_short(settings.model, len(parts.fitted), learner, epochs) if epochs else None
    choice, tried = choose_trained(settings.model, parts.fitted, parts.validation, learner, tuned=tuned)
    assert isinstance(tried, RatingNetwork), f"{choice.model} predicts no ratings"
    network = learn(choice, parts.train, learner, label=f"{choice.model}, seed {seed}")
    return Trained(
        Stage(tried, parts.fitted, parts.validation, learner),
        Stage(network, parts.train, parts.holdout, learner),
        learner,
    )


def make_ranker(trained: Trained, config: RankConfig) -> Ranker:
    """Fit a ranker to everything but the holdout, with weights learned on validation, like a night."""
    before = trained.on_validation
    asked = trained.learner.encode(before.asked)
    weights = learn_weights(before.network, before.train, asked, trained.learner, config)
    stage = trained.on_holdout
    return fit_ranker(stage.network, stage.train, trained.learner, config, weights)


def judge(lists: pl.DataFrame, relevant: pl.DataFrame, stage: Stage, catalogue: Catalogue) -> Judged:
    """Measure the lists (user_id, rank, movie_id) of the users on whose ratings the network was trained."""
    known = lists.join(stage.known.select("user_id").unique(), on="user_id", how="semi")
    users = user_metrics(known, relevant)
    return Judged(users, list_metrics(users, known, catalogue))


def _cut_short(model: str, n_ratings: int, learner: Learner, epochs: int) -> TunedConfig:
    """Return the network's default config with this number of epochs."""
    config = configure(model, n_ratings, learner).model_dump()
    return TunedConfig.model_validate(
        {"model": model, "config": config | {"training": config["training"] | {"epochs": epochs}}}
    )
