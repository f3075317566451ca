"""Compare the blend with its parts, tuned EASE, tuned implicit ALS and popularity, on holdout and validation."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import polars as pl

from recsys.compare.data import cut, load_data
from recsys.evaluate.holdout import LIST_LENGTH
from recsys.rank.fit import fit_ranker, learn_ranker_weights
from recsys.rank.lists import list_alone, list_blocks, list_popular
from recsys.rank.place import rank_movies
from recsys.rank.ranker import Ranker
from recsys.rank.weights import NO_WEIGHTS, Weights
from recsys.settings import RankConfig, Settings, SplitConfig
from tests.benches.learned import Judged, Stage, Trained, judge, train_once
from tests.benches.others import AlsSetting, Tuner, list_by_ease, list_by_implicit, list_by_stars
from tests.benches.tables import format_table, pool_seeds, with_difference, with_interval

logger = logging.getLogger(__name__)

BLEND = "blend"
HEADER = ("lists", "NDCG@10 (95%)", "blend above it by (95%)", "recall@10", "recall@50", "coverage@10", "novelty, bits",
          "diversity")  # fmt: skip
MEANS = ("recall_at_10", "recall_at_50", "coverage_at_10", "novelty_at_10", "diversity_at_10")
SPLITS = {
    "random": SplitConfig(),
    "time": SplitConfig(kind="time", holdout_share=0.1),
}

AllJudged = dict[str, Judged]  # by source of the lists


@dataclass(frozen=True)
class Chosen:
    """The settings chosen on validation or on a part of its users."""

    blend: Weights
    pairs: dict[str, Weights]  # the weights of each retriever combined with expected stars
    ease_l2: float
    als: AlsSetting

    def __str__(self) -> str:
        return f"EASE l2 {self.ease_l2:g}; implicit ALS {self.als}"


@dataclass(frozen=True)
class Seed:
    """Metrics of one seed."""

    holdout: AllJudged
    validation: AllJudged  # on one half of the users of validation
    by_all: Chosen
    by_half: Chosen


def measure_quality(
    settings: Settings, seeds: Sequence[int], split: Literal["random", "time"], epochs: int | None
) -> str:
    """Return Markdown: the chosen settings, a table for the holdout and one for validation."""
    data = load_data(settings)
    measured = []
    for seed in seeds:
        trained = train_once(data, cut(data, SPLITS[split], seed), settings, seed, epochs)
        measured.append(measure_seed(trained, settings.rank))
        logger.info("seed %d, NDCG@10: %s", seed, _summarise(measured[-1].holdout))
    return describe(measured, f"{settings.source}, {split} split, {settings.model}, seeds {', '.join(map(str, seeds))}")


def measure_seed(trained: Trained, config: RankConfig) -> Seed:
    """Choose all settings on validation: on all users for the holdout, and on one half to measure the other half."""
    before, after = trained.on_validation, trained.on_holdout
    ranker = fit_ranker(before.network, before.train, trained.learner, config, NO_WEIGHTS)
    tuner = Tuner(ranker, before)
    chooses, judges = halve(tuner.relevant, trained.learner.seed)
    by_half, by_all = (choose(tuner, users) for users in (chooses, tuner.relevant))
    validation = judge_all(ranker, before, by_half, tuner.relevant.join(judges, on="user_id", how="semi"))
    served = fit_ranker(after.network, after.train, trained.learner, config, NO_WEIGHTS)
    holdout = judge_all(served, after, by_all, after.relevant(config.relevant_from))
    return Seed(holdout, validation, by_all, by_half)


def halve(relevant: pl.DataFrame, seed: int) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Split the users of `relevant` (user_id) into two halves, drawn by `seed`."""
    users = relevant.select("user_id").unique().sort("user_id")
    is_first = np.random.default_rng(seed).permutation(len(users)) < len(users) // 2
    return users.filter(is_first), users.filter(~is_first)


def choose(tuner: Tuner, users: pl.DataFrame) -> Chosen:
    """Choose the best settings on the validation ratings of these users (user_id)."""
    users = users.select("user_id").unique()
    stage, ranker = tuner.stage, tuner.ranker
    asked = stage.asked.join(users, on="user_id", how="semi")
    rows, seed = stage.learner.encode(asked), stage.learner.seed
    liked = stage.learner.encode(asked.filter(pl.col("rating") >= ranker.config.relevant_from))
    return Chosen(
        blend=learn_ranker_weights(ranker, rows, seed),
        # with all stars relevant, the part `likes` is constant, and two parts remain
        pairs={
            name: learn_ranker_weights(_with(ranker, name, relevant_from=0.0), liked, seed)
            for name in ranker.retrievers
        },
        ease_l2=tuner.ease_l2(users),
        als=tuner.als_setting(users),
    )


def _with(ranker: Ranker, name: str, **config: float) -> Ranker:
    """Return a copy with a single retriever."""
    retrievers = {name: ranker.retrievers[name]}
    return replace(ranker, retrievers=retrievers, config=ranker.config.model_copy(update=config))


def judge_all(ranker: Ranker, stage: Stage, chosen: Chosen, relevant: pl.DataFrame) -> AllJudged:
    catalogue = stage.catalogue(ranker.listable)
    return {name: judge(lists, relevant, stage, catalogue) for name, lists in list_all(ranker, stage, chosen).items()}


def list_all(ranker: Ranker, stage: Stage, chosen: Chosen) -> dict[str, pl.DataFrame]:
    """Return (user_id, rank, movie_id) of all users by source of the lists; `ranker` needs no weights."""
    vocabulary, n = stage.learner.vocabulary, LIST_LENGTH

    def blended(weighted: Ranker) -> pl.DataFrame:
        return pl.concat(list_blocks(rank_movies(weighted, n, reasons=0), vocabulary))

    pairs = {name: replace(_with(ranker, name), weights=weights) for name, weights in chosen.pairs.items()}
    lists = {
        BLEND: blended(replace(ranker, weights=chosen.blend)),
        **{f"{name} and stars": blended(pair) for name, pair in pairs.items()},
        **{f"{name} alone": list_alone(ranker, name, n, vocabulary) for name in ranker.retrievers},
        "expected stars alone": list_by_stars(ranker, n, vocabulary),
        "EASE, tuned": list_by_ease(ranker, chosen.ease_l2, n, stage),
        "implicit ALS, tuned": list_by_implicit(ranker.histories, chosen.als, n, stage),
        "most rated": list_popular(ranker.histories, n, vocabulary),
    }
    return {name: frame.select("user_id", "rank", "movie_id") for name, frame in lists.items()}


def describe(seeds: Sequence[Seed], title: str) -> str:
    """Return two tables with titles and the chosen settings."""
    return "\n".join(
        (
            f"Lists on {title}: the holdout. Means over the seeds; NDCG@10 of a user is the mean over the seeds that "
            "judge them, and intervals are of drawing users. Weights, EASE's l2 and implicit's settings were chosen on "
            "validation.\n",
            compare([seed.holdout for seed in seeds]),
            "\nChosen: " + "; ".join(dict.fromkeys(str(seed.by_all) for seed in seeds)) + ".\n",
            f"Lists on {title}: validation. One half of its users has taught the weights and all settings, the "
            "other half is judged here; the network's epochs were chosen on both.\n",
            compare([seed.validation for seed in seeds]),
            "\nChosen: " + "; ".join(dict.fromkeys(str(seed.by_half) for seed in seeds)) + ".",
        )
    )


def compare(by_seed: Sequence[AllJudged]) -> str:
    """Return a row for each source of lists, with the blend first."""
    pooled = {name: pool_seeds([judged[name].users for judged in by_seed], "ndcg_at_10") for name in by_seed[0]}
    rows = [
        (
            name,
            with_interval(values_U),
            "" if name == BLEND else with_difference(pooled[BLEND], values_U),
            *(_mean([judged[name].metrics.get(metric) for judged in by_seed]) for metric in MEANS),
        )
        for name, values_U in pooled.items()
    ]
    return format_table(HEADER, rows)


def _summarise(judged: AllJudged) -> str:
    """Log progress, because a seed takes many minutes."""
    return ", ".join(f"{name} {one.metrics['ndcg_at_10']:.4f}" for name, one in judged.items())


def _mean(values: Sequence[float | None]) -> str:
    """Return an empty text if a seed lacks the metric, e.g. diversity without genres."""
    known = [value for value in values if value is not None]
    return f"{sum(known) / len(known):.4f}" if len(known) == len(values) else ""
