"""The steps of a night from the checked ratings to the published tables. Each step reads files and writes files."""

import logging
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import polars as pl
import torch

from recsys.checks.check import Checked
from recsys.encode.features import fit_features
from recsys.encode.films import find_films
from recsys.encode.vocabulary import FILMS
from recsys.encode.vocabulary import fit_vocabulary as vocabulary_of
from recsys.evaluate.gate import PARTS
from recsys.evaluate.holdout import measure_details, measure_errors, measure_lists
from recsys.evaluate.lists import compare_lists
from recsys.files import read_json, read_table, write_json
from recsys.home import Run
from recsys.metrics.churn import churn
from recsys.models import RatingNetwork
from recsys.rank.eligibility import compile_rules
from recsys.rank.fit import fit_ranker, learn_weights
from recsys.rank.ranker import Ranker
from recsys.rank.read_rules import Rules
from recsys.rank.read_rules import read_rules as rules_of
from recsys.rank.ruled import apply_rules, count_removed
from recsys.rank.saved_ranker import save_ranker
from recsys.rank.weights import Weights
from recsys.rank.write_lists import AuditInputs, write_audit_inputs, write_default_lists, write_lists, write_similar
from recsys.runs.metrics import difference_rows, metric_rows, metrics_of, read_metrics, slice_rows, write_metrics
from recsys.runs.night import describe_run
from recsys.settings import Settings, WarmStartConfig
from recsys.split.cut import Split
from recsys.split.leaks import check_apart, check_order
from recsys.train.champion import find_champion
from recsys.train.choose import choose_trained
from recsys.train.in_parallel import learn_ahead, try_ahead
from recsys.train.learn import Choice, Learner, learn
from recsys.train.saved_model import SavedModel, load_model, save_model
from recsys.train.tuned import check_rates
from recsys.warehouse.build import Tonight
from recsys.warehouse.lookup import find_lists, find_served
from recsys.warehouse.outcome import TONIGHT, MetricRow, Published
from recsys.warehouse.publish import backfill, publish, record, serves_the_same

INPUTS = ("as_of", "snapshot", "config_hash", "code_version")  # two nights with equal values should have equal lists

logger = logging.getLogger(__name__)


def fit_vocabulary(checked: Checked, run: Run, settings: Settings) -> Learner:
    """Writes the ids of the accepted users, movies and ratings. Returns the learner that all fits of the night share.

    All fits use one vocabulary. An id without training ratings is described by its features alone. Movies that are the
    same film keep their own ids.
    """
    users, movies, links = (read_table(path) for path in (checked.users, checked.movies, checked.links))
    rated = read_table(checked.ratings, columns=["user_id", "movie_id"])
    known = (rated, users.select("user_id"), movies.select("movie_id"))
    vocabulary = vocabulary_of(pl.concat(known, how="diagonal"), find_films(movies, links))
    vocabulary.save(run.vocabulary)
    logger.info(
        "vocabulary: %d users, %d movies, %d of which are a film that has a lower movie_id, too",
        *(len(vocabulary.user_ids), len(vocabulary.movie_ids), len(vocabulary.film_of)),
    )
    features = fit_features(vocabulary, users, movies)
    return Learner(
        vocabulary,
        checked.rating_scale,
        settings.seed,
        settings.device,
        features,
        checkpoints=run.home.checkpoints,
        processes=settings.processes,
    )


def read_rules(checked: Checked, learner: Learner, settings: Settings) -> Rules:
    """Reads the rules on which movies may be listed, before anything is trained.

    Raises: UsageError if a rule cannot be read or is invalid, or if the rules exclude every movie for all users.
    """
    films = learner.vocabulary.film_of
    rules = rules_of(settings.rules, checked.movies, checked.users, checked.ratings, films)
    rated = learner.vocabulary.encode_movies(read_table(checked.ratings, columns=["movie_id"])["movie_id"])
    counts_I = torch.bincount(torch.from_numpy(rated), minlength=learner.vocabulary.n_movies)
    compile_rules(rules, learner.vocabulary, learner.features.item.get("genres"), counts_I)
    return rules


def choose_network(split: Split, learner: Learner, run: Run, settings: Settings) -> Choice:
    """Trains every candidate on train and keeps the best on validation; the holdout is not used."""
    train, validation = read_table(split.train), read_table(split.validation)
    check_rates(settings.config)
    try_ahead(split.train, split.validation, learner, settings)
    choice, network = choose_trained(
        settings.model, train, validation, learner, candidates=settings.candidates, tuned=settings.config
    )
    assert isinstance(network, RatingNetwork), f"{choice.model} predicts no ratings"
    save_model(network, choice, learner, run.validation_model)
    write_json(run.choice, asdict(choice) | {"config": choice.config.model_dump(mode="json")})
    return choice


def weigh_parts(choice: Choice, split: Split, learner: Learner, run: Run, settings: Settings) -> Weights:
    """Learns the weight of each part of a score on validation, with the network chosen on validation."""
    train, validation = (learner.encode(read_table(path)) for path in (split.train, split.validation))
    network = load_model(SavedModel(run.validation_model), learner.vocabulary, learner.levels)
    weights = learn_weights(network, train, validation, learner, settings.rank)
    weights.save(run.ranker)
    return weights


def train_for_holdout(
    choice: Choice, split: Split, checked: Checked, learner: Learner, run: Run, config: WarmStartConfig
) -> SavedModel:
    """Trains the chosen network on everything except the holdout. Meanwhile, `train_for_tonight` may run ahead."""
    if not config.enabled:
        learn_ahead(choice, checked.ratings, learner, _label_of_tonight(choice))
    network = learn(choice, split.read_rest(), learner, label=f"{choice.model} for the holdout")
    return save_model(network, choice, learner, run.holdout_model)


def evaluate(
    model: SavedModel,
    choice: Choice,
    weights: Weights,
    split: Split,
    learner: Learner,
    run: Run,
    settings: Settings,
) -> tuple[MetricRow, ...]:
    """Measures errors and lists of the network, also by slice, and of the baselines on the holdout.

    Raises: DataRefused if a training rating is in the holdout, or if it is later than the start of a holdout by time.
    """
    network = load_model(model, learner.vocabulary, learner.levels)
    known, holdout = split.read_rest(), read_table(split.holdout)
    check_apart(known, holdout)
    if settings.split.kind == "time":
        check_order(known, holdout)
    train, encoded_holdout = learner.encode(known), learner.encode(holdout)
    errors = measure_errors(network, train, encoded_holdout)
    ranker = fit_ranker(network, train, learner, settings.rank, weights, keep=True)  # for compare_champion
    lists = measure_lists(ranker, train, holdout, learner, settings.n)
    details = measure_details(network, train, encoded_holdout, learner.features)
    name = settings.split.holdout
    rows = (
        *metric_rows(choice.tried, "validation", choice.model),
        *metric_rows(errors, name, choice.model),
        *metric_rows(lists.metrics, name, choice.model),
        *slice_rows(details, name, choice.model),
        *slice_rows(lists.slices, name, choice.model),
        *difference_rows(compare_lists(lists, PARTS, settings.gate.false_refusals, learner.seed), name, choice.model),
    )
    write_metrics(run, "evaluate", rows)
    return rows


def train_for_tonight(
    choice: Choice, checked: Checked, learner: Learner, run: Run, config: WarmStartConfig
) -> SavedModel:
    """Trains the chosen network on all ratings, because tonight's lists should not ignore the holdout.

    If warm starts are enabled and possible, training starts from the weights of the served network.
    """
    champion = find_champion(run, choice, learner.levels, config) if config.enabled else None
    network = learn(choice, read_table(checked.ratings), learner, _label_of_tonight(choice), champion=champion)
    started_from = champion.run_id if champion else None
    metrics = metrics_of(choice.model, read_metrics(run))
    return save_model(
        network, choice, learner, run.tonight_model, metrics=metrics, champion=started_from, for_later=True
    )


def _label_of_tonight(choice: Choice) -> str:
    return f"{choice.model} for tonight"


def score(
    model: SavedModel, weights: Weights, rules: Rules, checked: Checked, learner: Learner, run: Run, settings: Settings
) -> Path:
    """Writes the users' lists, the default lists and the similar movies; returns the Parquet file of the users' lists.

    Also saves the ranker in the run's folder, for lists from typed ratings, and adds the effect of the rules to the
    metrics.
    """
    train = learner.encode(read_table(checked.ratings))
    network = load_model(model, learner.vocabulary, learner.levels)
    unruled = fit_ranker(network, train, learner, settings.rank, weights)
    ranker = apply_rules(unruled, rules, learner)
    write_lists(ranker, settings.n, learner.vocabulary, run.recommendations)
    write_default_lists(ranker, settings.n, learner.vocabulary, run.default_recommendations)
    write_similar(ranker, learner.features, settings.rank.n_similar, learner.vocabulary, run.similar_movies)
    write_audit_inputs(ranker, rules, run.recommendations, settings.n, learner.vocabulary, AuditInputs(run.known))
    save_ranker(ranker, run.ranker)
    write_metrics(run, "score", _measure_tonight(ranker, rules, run, settings))
    return run.recommendations


def publish_lists(lists: Path, checked: Checked, run: Run, settings: Settings) -> Published:
    """Replaces last night's tables with tonight's, after the audit.

    A night that was requested for a moment before the served one (`settings.as_of`), on the same dataset, is only added
    to the history. A night on all data is published, even if the data now end earlier than before. Lists that equal
    the served ones are not written again.
    """
    tonight = _gather(lists, checked, run, settings)
    ratings_path = str(checked.ratings.relative_to(run.home.root))
    outcome = replace(describe_run(run, verdict="published", reason=None), ratings_path=ratings_path)
    served = find_served(run.home)
    if served is None or served["dataset"] != outcome.dataset:
        return Published(outcome.verdict, outcome.reason, publish(outcome, tonight, run.home))
    if settings.as_of and served["as_of"] > outcome.as_of:
        reason = f"run {served['run_id']}, of a later night, is still served; the lists are only in the history"
        logger.info("%s", reason)
        outcome = replace(outcome, verdict="backfilled", published=False, reason=reason)
        return Published(outcome.verdict, reason, backfill(outcome, tonight, run.home))
    if served["as_of"] > outcome.as_of:
        logger.warning(
            "the data end at %s, before those of run %s, which is served (%s)",
            outcome.as_of, served["run_id"], served["as_of"],
        )  # fmt: skip
    is_another = served["run_id"] != run.run_id  # False if this run was killed after it had published
    has_same_inputs = all(served[name] == getattr(outcome, name) for name in INPUTS)
    if is_another and has_same_inputs and serves_the_same(run.home, tonight):
        reason = f"the lists are the same as those of run {served['run_id']}, which is served"
        reason = "; ".join((reason, *([outcome.reason] if outcome.reason else [])))
        outcome = replace(outcome, verdict="unchanged", published=False, reason=reason)
        logger.info("the tables are left unchanged: %s", reason)
        return Published(outcome.verdict, reason, record(outcome, run.home, tonight.metrics, tonight.quarantine))
    return Published(outcome.verdict, outcome.reason, publish(outcome, tonight, run.home))


def _gather(lists: Path, checked: Checked, run: Run, settings: Settings) -> Tonight:
    known = AuditInputs(run.known)
    return Tonight(
        recommendations=lists,
        movies=checked.movies,
        films=run.vocabulary / FILMS,
        users=checked.users,
        ratings=checked.ratings,
        quarantine=checked.quarantine,
        metrics=read_metrics(run),
        n=settings.n,
        history_runs=settings.history.runs,
        default_recommendations=run.default_recommendations,
        similar_movies=run.similar_movies,
        links=checked.links,
        available=known.available,
        shortened=known.shortened,
        blocked=known.blocked,
        caps=known.caps,
        rating_scale=checked.rating_scale,
        limits=settings.audit,
        audit_docs=run.audit_docs,
        copies=run.served,
    )


def _measure_tonight(ranker: Ranker, rules: Rules, run: Run, settings: Settings) -> Iterator[MetricRow]:
    """Counts the movies that each rule removes, and measures how much the lists have changed."""
    model = read_json(run.choice)["model"]
    closed = ranker.eligibility.count_closed()
    removed = (
        count_removed(ranker, settings.n)
        if rules.blocked or rules.eligible or rules.caps or any(closed.values())
        else {}
    )
    for metric, counts in (("closed_movies", closed), ("removed", removed)):
        for rule, count in counts.items():
            yield MetricRow(model, TONIGHT, f"rule={rule}", metric, float(count))
    before = find_lists(run.home, str(read_json(run.findings)["dataset"]))
    if before is not None:
        now = read_table(run.recommendations, columns=["user_id", "rank", "movie_id"])
        for metric, value in churn(before, now, settings.n).items():
            yield MetricRow(model, TONIGHT, "all", metric, value)
