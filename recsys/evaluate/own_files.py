"""`recsys evaluate`: trains on one file of ratings and predicts another, to verify the figures independently."""

import logging
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import polars as pl

from recsys.encode.features import fit_features
from recsys.encode.films import find_films
from recsys.encode.vocabulary import fit_vocabulary
from recsys.errors import UsageError
from recsys.evaluate.holdout import measure_errors, measure_lists
from recsys.files import read_table, replacing
from recsys.home import Home
from recsys.ingest.fetch.fetch import fetch_archive
from recsys.ingest.write import write_snapshot
from recsys.metrics.decode import decode_median
from recsys.models import RatingNetwork
from recsys.rank.fit import fit_ranker, learn_weights
from recsys.rank.lists import list_blocks, list_for_segment
from recsys.rank.place import rank_movies
from recsys.rank.ranker import Ranker
from recsys.settings import Settings
from recsys.split.cut import split_validation
from recsys.split.leaks import check_apart
from recsys.split.own_file import read_ratings
from recsys.train.choose import choose_trained
from recsys.train.learn import Choice, Learner, learn
from recsys.train.loop import predict
from recsys.train.tuned import check_rates

logger = logging.getLogger(__name__)


def evaluate_files(
    train: Path, holdout: Path, settings: Settings, *, predictions: Path | None, lists: Path | None
) -> dict[str, Any]:
    """Trains on the ratings in `train` only, predicts every row of `holdout`, and returns a report.

    The network and its epochs are chosen on a part of `train`. The order of rows in `train` does not matter. The rating
    scale and the features of users and movies come from the source. The file `predictions` gets (user_id, movie_id,
    rating_mean, rating_median), in the order of `holdout`. The file `lists` gets (user_id, rank, movie_id, score) for
    every user of either file, without movies rated in `train`. The report has metrics if `holdout` has ratings.

    Raises: UsageError if a file cannot be read; DataRefused if its columns or ratings are invalid.
    """
    check_rates(settings.config)
    _check_targets(train, holdout, predictions, lists)
    home = Home(settings.home.absolute())
    snapshot = write_snapshot(fetch_archive(settings.source, home), home, settings.rating_scale)
    levels = snapshot.rating_scale
    known = read_ratings(train, levels, need_rating=True).sort("user_id", "movie_id")
    asked = read_ratings(holdout, levels, need_rating=False)
    check_apart(known, asked, (str(train), str(holdout)))
    users, movies, links = (read_table(snapshot.table(name)) for name in ("users", "movies", "links"))
    ids = (known.select("user_id", "movie_id"), users.select("user_id"), movies.select("movie_id"))
    vocabulary = fit_vocabulary(pl.concat(ids, how="diagonal"), find_films(movies, links))
    learner = Learner(vocabulary, levels, settings.seed, settings.device, fit_features(vocabulary, users, movies))
    fitted, validation = split_validation(known, settings.split.validation_share, settings.seed)
    choice, tried = choose_trained(
        settings.model, fitted, validation, learner, candidates=settings.candidates, tuned=settings.config
    )
    network = learn(choice, known, learner, label=f"{choice.model} on {train.name}").cpu()
    if predictions:
        _write(_predict(network, asked, learner), predictions)
    ranker = None
    if lists or "rating" in asked.columns:
        assert isinstance(tried, RatingNetwork), f"{choice.model} predicts no ratings"
        weights = learn_weights(tried.cpu(), learner.encode(fitted), learner.encode(validation), learner, settings.rank)
        ranker = fit_ranker(network, learner.encode(known), learner, settings.rank, weights)
    if lists and ranker:
        _write(_list(ranker, pl.concat([known["user_id"], asked["user_id"]]), settings.n, learner), lists)
    return _report(choice, network, known, asked, learner, ranker, settings.n)


def _check_targets(train: Path, holdout: Path, predictions: Path | None, lists: Path | None) -> None:
    """Checks the output paths. Raises: UsageError if one would overwrite another file or cannot be written."""
    targets = [path for path in (predictions, lists) if path]
    named = [path.resolve() for path in (train, holdout, *targets)]
    if len(set(named[-len(targets) :] if targets else ())) < len(targets) or set(named[:2]) & set(named[2:]):
        raise UsageError(
            f"--predictions {predictions} and --lists {lists} would overwrite each other or an input file. "
            "Next: give each its own path"
        )
    for path in targets:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            TemporaryFile(dir=path.parent).close()
        except OSError as error:
            raise UsageError(f"{path} cannot be written: {error.strerror}. Next: pass another path") from None


def _report(
    choice: Choice,
    network: RatingNetwork,
    known: pl.DataFrame,
    asked: pl.DataFrame,
    learner: Learner,
    ranker: Ranker | None,
    n: int,
) -> dict[str, Any]:
    report: dict[str, Any] = {"model": choice.model, "epochs": choice.epochs, "validation": choice.tried, "metrics": {}}
    if "rating" in asked.columns and ranker:
        encoded = learner.encode(known)
        errors = measure_errors(network, encoded, learner.encode(asked))
        quality = measure_lists(ranker, encoded, asked, learner, n).metrics
        models = dict.fromkeys([*errors, *quality])
        report["metrics"] = {
            choice.model if model == "network" else model: errors.get(model, {}) | quality.get(model, {})
            for model in models
        }
    return report


def _predict(network: RatingNetwork, asked: pl.DataFrame, learner: Learner) -> pl.DataFrame:
    prediction = predict(network, learner.encode_pairs(asked))
    return asked.select("user_id", "movie_id").with_columns(
        pl.Series("rating_mean", prediction.mean_B.numpy()),
        pl.Series("rating_median", decode_median(prediction.p_BK, network.levels()).numpy()),
    )


def _list(ranker: Ranker, user_ids: pl.Series, n: int, learner: Learner) -> pl.DataFrame:
    """Returns the lists of these users. Users who are in neither `train` nor the source get the default list."""
    asked = user_ids.unique().sort().to_frame("user_id")
    known = pl.concat(list_blocks(rank_movies(ranker, n, reasons=0), learner.vocabulary))
    unknown = asked.filter(learner.vocabulary.encode_users(asked["user_id"].to_numpy()) == 0)
    default = list_for_segment(ranker, (), n, learner.vocabulary)
    columns = ("user_id", "rank", "movie_id", "score")
    of_unknown = unknown.join(default, how="cross").select(columns)
    of_known = known.join(asked, on="user_id", how="semi").select(columns)
    return pl.concat([of_known, of_unknown]).sort("user_id", "rank")


def _write(frame: pl.DataFrame, path: Path) -> None:
    with replacing(path) as aside:
        frame.write_parquet(aside)
    logger.info("%s: %d rows", path, len(frame))
