"""What benchmarks of lists begin with: a source, networks trained once for each seed, and judges."""

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
from recsys.train.choose import Learner, choose_trained, configure, learn


@dataclass(frozen=True)
class Stage:
    """A network, the ratings that it knows, and those that it is asked about."""

    network: RatingNetwork
    known: pl.DataFrame
    asked: pl.DataFrame
    learner: Learner

    @cached_property
    def train(self) -> Interactions:
        return self.learner.encode(self.known)

    def catalogue(self, listable: Tensor) -> Catalogue:
        """Of what a ranker may list, as it was rated in what the network knows."""
        return gather_catalogue(self.train, self.learner.vocabulary, self.learner.features, listable)

    def relevant(self, from_stars: float) -> pl.DataFrame:
        """(user_id, movie_id) of what users whom the network knows liked, among what it is asked about."""
        liked = self.asked.filter(pl.col("rating") >= from_stars).select("user_id", "movie_id").unique()
        return liked.join(self.known.select("user_id").unique(), on="user_id", how="semi")


@dataclass(frozen=True)
class Trained:
    """One seed: the network that knows train and is asked about validation, and the one that knows both."""

    on_validation: Stage
    on_holdout: Stage
    learner: Learner


@dataclass(frozen=True)
class Judged:
    """Lists of one maker and seed: (user_id, ndcg_at_10, ...) of each user with something relevant, and the means."""

    users: pl.DataFrame
    metrics: dict[str, float]


def train_once(data: Data, parts: Parts, settings: Settings, seed: int, epochs: int | None) -> Trained:
    """As a night does it: epochs chosen on validation, of at most `epochs` where that is given, then train and
    validation learned together.
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
    """Of all that is not holdout, with weights learned on validation: what a night judges."""
    before = trained.on_validation
    asked = trained.learner.encode(before.asked)
    weights = learn_weights(before.network, before.train, asked, trained.learner, config)
    stage = trained.on_holdout
    return fit_ranker(stage.network, stage.train, trained.learner, config, weights)


def judge(lists: pl.DataFrame, relevant: pl.DataFrame, stage: Stage, catalogue: Catalogue) -> Judged:
    """Of the lists (user_id, rank, movie_id) of users whom the network knows."""
    known = lists.join(stage.known.select("user_id").unique(), on="user_id", how="semi")
    users = user_metrics(known, relevant)
    return Judged(users, list_metrics(users, known, catalogue))


def _cut_short(model: str, n_ratings: int, learner: Learner, epochs: int) -> TunedConfig:
    """The network's own config, but for a schedule of so many epochs."""
    config = configure(model, n_ratings, learner).model_dump()
    return TunedConfig.model_validate(
        {"model": model, "config": config | {"training": config["training"] | {"epochs": epochs}}}
    )
