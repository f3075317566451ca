"""The steps of a night between checked ratings and the published table: each reads files, works, writes files."""

import logging
from dataclasses import asdict
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from recsys.champion import find_champion
from recsys.checks.check import Checked
from recsys.evaluate import measure_details, measure_errors, measure_lists
from recsys.features import fit_features
from recsys.files import replacing, write_json
from recsys.home import Run
from recsys.leaks import check_apart, check_order
from recsys.lists import list_blocks
from recsys.night import describe_run, read_metrics
from recsys.progress import progress
from recsys.rank import check_catalogue, fit_ranker, rank_movies
from recsys.saved_model import SavedModel, load_model, save_model
from recsys.settings import Settings, WarmStartConfig
from recsys.split import Split
from recsys.train import Choice, Learner, check_rates, choose, learn
from recsys.vocabulary import fit_vocabulary as vocabulary_of
from recsys.warehouse.outcome import MetricRow
from recsys.warehouse.publish import Tonight, publish

logger = logging.getLogger(__name__)

LISTS = pa.schema(
    [
        pa.field("user_id", pa.int32()),
        pa.field("rank", pa.int32()),
        pa.field("movie_id", pa.int32()),
        pa.field("score", pa.float64()),
        pa.field("rating_hat", pa.float32()),
        pa.field("because_movie_ids", pa.list_(pa.int32())),
    ]
)


def fit_vocabulary(checked: Checked, run: Run, settings: Settings) -> Learner:
    """Writes the ids that occur in the admitted ratings; returns what every fit of the night shares.

    One vocabulary serves them all: an id whose ratings are all held out has nothing but what its features say.
    """
    vocabulary = vocabulary_of(pl.read_parquet(checked.ratings, columns=["user_id", "movie_id"]))
    check_catalogue(vocabulary.n_movies)
    vocabulary.save(run.vocabulary)
    logger.info("vocabulary: %d users, %d movies", len(vocabulary.user_ids), len(vocabulary.movie_ids))
    features = fit_features(vocabulary, pl.read_parquet(checked.users), pl.read_parquet(checked.movies))
    return Learner(
        vocabulary, checked.rating_scale, settings.seed, settings.device, features, checkpoints=run.home.checkpoints
    )


def choose_network(split: Split, learner: Learner, run: Run, settings: Settings) -> Choice:
    """Trains every candidate on train and keeps the best on validation; the holdout is not looked at."""
    train, validation = pl.read_parquet(split.train), pl.read_parquet(split.validation)
    check_rates(settings.config)
    choice = choose(settings.model, train, validation, learner, candidates=settings.candidates, tuned=settings.config)
    write_json(run.choice, asdict(choice) | {"config": choice.config.model_dump(mode="json")})
    return choice


def train_for_holdout(choice: Choice, split: Split, learner: Learner, run: Run) -> SavedModel:
    """The chosen network, trained on everything but the holdout."""
    network = learn(choice, _not_holdout(split), learner, label=f"{choice.model} for the holdout")
    return save_model(network, choice, learner, run.model / "holdout")


def evaluate(
    model: SavedModel, choice: Choice, split: Split, learner: Learner, run: Run, settings: Settings
) -> tuple[MetricRow, ...]:
    """Errors and list quality on the holdout, beside the baselines, and the network's by slice; writes metrics.json.

    Raises: DataRefused if a rating of the holdout has been learned from, or one from after a holdout by time began.
    """
    network = load_model(model, learner.vocabulary, learner.levels)
    known, holdout = _not_holdout(split), pl.read_parquet(split.holdout)
    check_apart(known, holdout)
    if settings.split.kind == "time":
        check_order(known, holdout)
    train, asked = learner.encode(known), learner.encode(holdout)
    errors = measure_errors(network, train, asked)
    lists = measure_lists(network, train, holdout, learner.vocabulary, learner.features, settings.rank, settings.seed)
    details = measure_details(network, train, asked, learner.features)
    name = settings.split.holdout
    rows = (
        *_metric_rows(choice.tried, "validation", choice.model),
        *_metric_rows(errors, name, choice.model),
        *_metric_rows(lists.metrics, name, choice.model),
        *_slice_rows(details, name, choice.model),
        *_slice_rows(lists.slices, name, choice.model),
    )
    write_json(run.metrics, [asdict(row) for row in rows])
    return rows


def train_for_tonight(
    choice: Choice, checked: Checked, learner: Learner, run: Run, config: WarmStartConfig
) -> SavedModel:
    """The chosen network again, trained on all ratings: tonight's lists should not ignore a quarter of them.

    Where that is allowed and possible, it begins where the network being served ended.
    """
    champion = find_champion(run, choice, learner.levels, config) if config.enabled else None
    label = f"{choice.model} for tonight"
    network = learn(choice, pl.read_parquet(checked.ratings), learner, label, champion=champion)
    begun_from = champion.run_id if champion else None
    metrics = _metrics_of(choice.model, read_metrics(run))
    return save_model(network, choice, learner, run.model / "tonight", metrics=metrics, champion=begun_from)


def score(model: SavedModel, checked: Checked, learner: Learner, run: Run, settings: Settings) -> Path:
    """Ranks the unseen movies of every user, block by block; returns the Parquet file of the lists."""
    train = learner.encode(pl.read_parquet(checked.ratings))
    ranker = fit_ranker(load_model(model, learner.vocabulary, learner.levels), train, settings.rank)
    with (
        replacing(run.recommendations) as aside,
        pq.ParquetWriter(aside, LISTS, compression="zstd") as writer,
        progress("lists", len(learner.vocabulary.user_ids), "users", logger) as advance,
    ):
        for block in list_blocks(rank_movies(ranker, settings.n), learner.vocabulary):
            writer.write_table(block.to_arrow().cast(LISTS))
            advance(block["user_id"].n_unique(), "")
    return run.recommendations


def publish_lists(lists: Path, checked: Checked, run: Run, settings: Settings) -> dict[str, int]:
    """Puts tonight's audited tables in the place of last night's; returns the rows per table."""
    tonight = Tonight(
        recommendations=lists,
        movies=checked.movies,
        users=checked.users,
        ratings=checked.ratings,
        quarantine=checked.quarantine,
        metrics=read_metrics(run),
        n=settings.n,
        default_recommendations=_if_written(run.default_recommendations),
        similar_movies=_if_written(run.similar_movies),
    )
    return publish(describe_run(run, verdict="published", reason=None), tonight, run.home)


def _if_written(path: Path) -> Path | None:
    return path if path.exists() else None


def _not_holdout(split: Split) -> pl.DataFrame:
    """Train and validation together, in the one order that makes the same weights every time."""
    return pl.concat([pl.read_parquet(split.train), pl.read_parquet(split.validation)]).sort("user_id", "movie_id")


def _metrics_of(model: str, rows: tuple[MetricRow, ...]) -> dict[str, dict[str, float]]:
    """What was measured of a network, by split, over all slices."""
    measured: dict[str, dict[str, float]] = {}
    for row in rows:
        if row.model == model and row.slice == "all":
            measured.setdefault(row.split, {})[row.metric] = row.value
    return measured


def _metric_rows(metrics: dict[str, dict[str, float]], split: str, network: str) -> list[MetricRow]:
    """Long form; what was measured of "network" is named by the network chosen."""
    return [
        MetricRow(network if model == "network" else model, split, "all", metric, value)
        for model, values in metrics.items()
        for metric, value in values.items()
    ]


def _slice_rows(slices: dict[str, dict[str, float]], split: str, network: str) -> list[MetricRow]:
    return [
        MetricRow(network, split, part, metric, value)
        for part, values in slices.items()
        for metric, value in values.items()
    ]
