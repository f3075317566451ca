"""Compares tonight's model with the champion, the model being served, on the same rows of tonight's holdout.

recsys/evaluate/gate.py checks whether the differences are within their limits. Shapes: B ratings, U users.
"""

import logging
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl
import torch

from recsys.datasets import name_data
from recsys.encode.features import Features
from recsys.encode.vocabulary import Ids, Vocabulary
from recsys.errors import ModelError, describe_error, panics_as_errors
from recsys.evaluate.holdout import judge
from recsys.evaluate.lists import name_films, name_unseen_films
from recsys.evaluate.slices import rating_slices
from recsys.files import read_json, read_table
from recsys.home import Run
from recsys.metrics.bootstrap import Floats
from recsys.metrics.decode import decode_median
from recsys.metrics.differences import MIN_USERS, Comparison, Paired, measure_differences
from recsys.metrics.lists import N, user_metrics
from recsys.models import RatingNetwork
from recsys.rank.fit import fit_ranker
from recsys.rank.lists import list_blocks
from recsys.rank.place import Block, block_size, rank_users
from recsys.rank.ranker import LIKES, STARS, Ranker
from recsys.rank.weights import Weights
from recsys.retrieve.histories import Histories, gather_histories
from recsys.runs.best import find_best
from recsys.runs.metrics import write_metrics
from recsys.settings import RankConfig, Settings, SplitConfig
from recsys.split.cut import Split
from recsys.train.champion import open_published
from recsys.train.learn import Learner
from recsys.train.loop import predict
from recsys.train.saved_model import SavedModel, load_model, read_meta
from recsys.warehouse.lookup import find_published, read_losses
from recsys.warehouse.outcome import AGAINST, MetricRow

logger = logging.getLogger(__name__)

CHAMPION = "champion"  # the model name of its rows in `metrics`
BEST = "best"  # the same for an earlier champion that is better than the present one
KEY = ["user_id", "movie_id"]
MIN_COMMON_SHARE = 0.1  # minimum share of tonight's holdout; another seed leaves a quarter
TRUTH = "rating="  # slices by true rating are not compared, because a better model may be worse on low ratings


@dataclass(frozen=True)
class HoldoutModel:
    """A model that is evaluated on a holdout, with its training data and settings.

    learned: the canonical ratings that it was trained on.
    """

    network: RatingNetwork
    learned: pl.DataFrame
    learner: Learner
    weights: Weights
    config: RankConfig


@dataclass(frozen=True)
class Measured:
    """The figures of one model on the common rows."""

    metrics: dict[str, float]
    error_B: Floats  # absolute error of the median, in stars
    ndcg: pl.DataFrame  # (user_id, ndcg_at_10) for users with a relevant movie


def compare_champion(
    model: SavedModel, weights: Weights, split: Split, learner: Learner, run: Run, settings: Settings
) -> Comparison:
    """Evaluates the champion's network and lists on tonight's holdout, and writes the figures.

    The champion's network is the one that was trained without its own holdout. A random split depends on the pair
    (user_id, movie_id), so it holds out the same pairs every night. If the champion was trained on a row nevertheless,
    the row is left out for both models. If there is no champion, or if a comparison would be unfair, the reason is
    logged and returned.

    If an earlier champion is better than the present one, it is compared in the same way, so that small losses do not
    add up.
    """
    dataset = read_json(run.findings)["dataset"]
    published = find_published(run.home, dataset)
    if published is None:
        why_not = f"no run on {name_data(dataset, run)} has been published in {run.home.root} yet"
        logger.info("no champion: %s", why_not)
        return Comparison(why_not=why_not)
    network = load_model(model, learner.vocabulary, learner.levels)
    candidate = HoldoutModel(network, split.read_rest(), learner, weights, settings.rank)
    asked = (candidate, read_table(split.holdout), run, settings, read_meta(model).model)
    comparison, rows = _compare(published[0], CHAMPION, *asked)
    best = find_best(published[0], read_losses(run.home), run.home, settings.gate)
    if best:
        of_best, more = _compare(best, BEST, *asked)
        comparison, rows = replace(comparison, best=of_best), [*rows, *more]
    write_metrics(run, "compare_champion", rows)
    return comparison


def _compare(
    run_id: str, label: str, candidate: HoldoutModel, holdout: pl.DataFrame, run: Run, settings: Settings, name: str
) -> tuple[Comparison, list[MetricRow]]:
    """Compares with one published run; returns the result and its figures. `name` is that of tonight's network."""
    learner = candidate.learner
    try:
        with panics_as_errors():
            served = open_published(run_id, run)
            champion = open_holdout_model(served, learner)
            _check_split(read_json(served.config)["split"], settings.split, served)
            common = _common_rows(holdout, champion, served)
    except Exception as error:  # damaged files of another run raise anything, and must not end this night
        why_not = describe_error(error)
        logger.warning("no comparison with the %s: %s", label, why_not)
        logger.debug("traceback", exc_info=error)
        return Comparison(why_not=why_not, uncompared=run_id), []
    ours, theirs = _measure_both(candidate, champion, common)
    pairs = list(_pair(ours, theirs, candidate, common, settings.gate.min_slice_users))
    comparison = Comparison(
        champion=run_id,
        differences=measure_differences(pairs, settings.gate.false_refusals, learner.seed),
        coverage=(ours.metrics["coverage_at_10"], theirs.metrics["coverage_at_10"]),
    )
    logger.info("compared with run %s on %d ratings: %s", run_id, len(common), _describe(comparison))
    return comparison, list(_rows(comparison, ours.metrics, theirs.metrics, name, settings.split.holdout, label))


def open_holdout_model(served: Run, learner: Learner) -> HoldoutModel:
    """Loads the model that a run evaluated on its holdout, with the films of tonight's catalogue.

    Raises: errors of reading missing or damaged files.
    """
    saved, stored = SavedModel(served.holdout_model), Vocabulary.load(served.vocabulary)
    vocabulary = replace(stored, film_of=learner.vocabulary.film_of)
    network = load_model(saved, vocabulary, learner.levels)
    config_of_run = read_json(served.config)
    own = Learner(vocabulary, learner.levels, int(config_of_run["seed"]), learner.device, Features.load(saved.folder))
    weights, config = Weights.load(served.ranker), RankConfig.model_validate(config_of_run["rank"])
    weights.of(torch.zeros(1), (*config.retrievers, STARS, LIKES))  # LookupError if a part has no weight
    return HoldoutModel(network, Split(served.split).read_rest(), own, weights, config)


def _check_split(theirs: dict[str, Any], ours: SplitConfig, served: Run) -> None:
    """Random splits can be compared on the rows that both hold out. Any other must be the same.

    Raises: ModelError if a model would have been trained on later ratings than the other.
    """
    if theirs["kind"] != ours.kind or (ours.kind != "random" and theirs != ours.model_dump(mode="json")):
        raise ModelError(f"the split of run {served.run_id} was {theirs}, that of tonight is {ours}")


def _common_rows(holdout: pl.DataFrame, champion: HoldoutModel, served: Run) -> pl.DataFrame:
    """Returns the rows of tonight's holdout that the champion was not trained on.

    Raises: ModelError if there are too few.
    """
    common = holdout.join(champion.learned.select(KEY), on=KEY, how="anti", maintain_order="left")
    if len(common) < MIN_COMMON_SHARE * len(holdout):
        raise ModelError(
            f"run {served.run_id} was trained on {len(holdout) - len(common):,} of the {len(holdout):,} ratings held "
            f"out tonight, more than the limit of {1 - MIN_COMMON_SHARE:.0%}: it had a different seed or split"
        )
    return common


def _measure_both(candidate: HoldoutModel, champion: HoldoutModel, common: pl.DataFrame) -> tuple[Measured, Measured]:
    """Measures both models. Lists are for users known to both, without pairs that either model was trained on."""
    seen = pl.concat([champion.learned, candidate.learned])
    known = candidate.learned.select("user_id").unique().sort("user_id")["user_id"].to_numpy()
    asked = known[np.isin(known, champion.learner.vocabulary.user_ids)]
    liked = common.filter(pl.col("rating") >= candidate.config.relevant_from).select(KEY)
    relevant = liked.filter(pl.col("user_id").is_in(asked.tolist()))
    relevant = name_unseen_films(relevant, seen, candidate.learner.vocabulary)
    ours, n_movies = list_unseen(candidate, asked, seen)
    theirs, _ = list_unseen(champion, asked, seen)
    return (
        _measure(candidate, common, ours, relevant, n_movies),
        _measure(champion, common, theirs, relevant, n_movies),
    )


def _measure(
    model: HoldoutModel, common: pl.DataFrame, lists: pl.DataFrame, relevant: pl.DataFrame, n_movies: int
) -> Measured:
    """Measures one model. For both, coverage is relative to the `n_movies` that tonight's lists can contain."""
    rows = model.learner.encode(common)
    levels_K = model.network.levels().cpu()
    prediction = predict(model.network, rows).cpu()
    ndcg = user_metrics(name_films(lists, model.learner.vocabulary), relevant).select("user_id", "ndcg_at_10")
    metrics = {"n": float(len(common)), **judge(prediction, rows, levels_K)}
    metrics["coverage_at_10"] = lists["movie_id"].n_unique() / n_movies
    if len(ndcg):
        metrics["ndcg_at_10"] = float(ndcg["ndcg_at_10"].to_numpy().mean())
    error_B = (decode_median(prediction.p_BK, levels_K).double() - levels_K[rows.level_idx].double()).abs()
    return Measured(metrics, error_B.numpy(), ndcg)


def list_unseen(model: HoldoutModel, asked: Ids, seen: pl.DataFrame) -> tuple[pl.DataFrame, int]:
    """Returns (user_id, rank, movie_id) with N places for each of these users, and the number of listable movies."""
    learner = model.learner
    ranker = fit_ranker(model.network, learner.encode(model.learned), learner, model.config, model.weights)
    hidden = gather_histories(learner.encode(seen), learner.sizes())
    blocks = list_blocks(_place(ranker, asked, hidden, learner.vocabulary), learner.vocabulary)
    none = pl.DataFrame(schema={"user_id": pl.Int32, "rank": pl.Int32, "movie_id": pl.Int32})
    lists = pl.concat([none, *(block.select(none.columns) for block in blocks)])
    return lists, int(ranker.listable.sum())


def _place(ranker: Ranker, asked: Ids, hidden: Histories, vocabulary: Vocabulary) -> Iterator[Block]:
    if not len(asked):
        return
    for user_idx in torch.from_numpy(vocabulary.encode_users(asked)).split(block_size(ranker)):
        yield rank_users(ranker, replace(ranker.users(user_idx), seen=hidden.take(user_idx)), N, reasons=0)


def _pair(
    ours: Measured, theirs: Measured, candidate: HoldoutModel, common: pl.DataFrame, min_slice_users: int
) -> Iterator[Paired]:
    """Yields the differences by user: errors of all rows, errors of each slice with enough users, then NDCG."""
    users, user_B = np.unique(common["user_id"].to_numpy(), return_inverse=True)
    difference_B = ours.error_B - theirs.error_B
    rows, train = candidate.learner.encode(common), candidate.learner.encode(candidate.learned)
    slices = rating_slices(train, rows, candidate.network.levels().cpu(), candidate.learner.features)
    parts = ((name, part.numpy()) for name, part in slices if not name.startswith(TRUTH))
    for name, part in (("all", np.arange(len(common))), *parts):
        count_U = np.bincount(user_B[part], minlength=len(users)).astype(np.float64)
        if (count_U > 0).sum() >= (MIN_USERS if name == "all" else min_slice_users):
            sum_U = np.bincount(user_B[part], difference_B[part], len(users)).astype(np.float64)
            yield Paired("mae_median", name, sum_U, count_U)
    if len(ours.ndcg) >= MIN_USERS:
        sum_U, count_U = np.zeros(len(users)), np.zeros(len(users))
        place = np.searchsorted(users, ours.ndcg["user_id"].to_numpy())
        sum_U[place] = ours.ndcg["ndcg_at_10"].to_numpy() - theirs.ndcg["ndcg_at_10"].to_numpy()
        count_U[place] = 1
        yield Paired("ndcg_at_10", "all", sum_U, count_U)


def _rows(
    comparison: Comparison, ours: dict[str, float], theirs: dict[str, float], name: str, split: str, label: str
) -> Iterator[MetricRow]:
    """Yields the champion's figures, the candidate's figures on the same rows, and the differences."""
    against = f"{AGAINST}{label}"
    for metric, value in theirs.items():
        yield MetricRow(label, split, "all", metric, value)
    for metric, value in ours.items():
        yield MetricRow(name, split, against, metric, value)
    for one in comparison.differences:
        part = against if one.slice == "all" else f"{against} {one.slice}"
        for end, value in (("", one.value), ("_low", one.low), ("_high", one.high)):
            yield MetricRow(name, split, part, f"{one.metric}_difference{end}", value)
    if comparison.coverage_ratio is not None:
        yield MetricRow(name, split, against, "coverage_at_10_ratio", comparison.coverage_ratio)


def _describe(comparison: Comparison) -> str:
    differences = [f"{one.metric} {one.value:+.4f} ({one.low:+.4f} to {one.high:+.4f})" for one in comparison.overall]
    return ", ".join(differences) or "too few users; only coverage was compared"
