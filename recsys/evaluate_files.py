"""For doubters: learn from one file of ratings and predict another, with nothing else known."""

import logging
from pathlib import Path
from typing import Any

import polars as pl

from recsys.decode import decode_median
from recsys.engine import predict
from recsys.errors import DataRefused, UsageError
from recsys.evaluate import measure_errors, measure_lists
from recsys.features import fit_features
from recsys.files import replacing
from recsys.home import Home
from recsys.ingest.fetch import fetch_archive
from recsys.ingest.write import write_snapshot
from recsys.lists import list_blocks, list_popular_for
from recsys.models import RatingNetwork
from recsys.rank import Ranker, fit_ranker, rank_movies
from recsys.settings import Settings
from recsys.split import split_validation
from recsys.train import Choice, Learner, choose, learn
from recsys.vocabulary import fit_vocabulary

logger = logging.getLogger(__name__)

IDS = ("user_id", "movie_id")


def evaluate_files(
    train: Path, holdout: Path, settings: Settings, *, predictions: Path | None, lists: Path | None
) -> dict[str, Any]:
    """Learns from the ratings in `train` alone, predicts every row of `holdout`, and reports what was chosen.

    Network and epochs are chosen on a part of `train`, the order of whose rows does not matter. The rating scale comes
    from the source. `predictions` gets (user_id, movie_id, rating_mean, rating_median), row by row as in `holdout`;
    `lists` gets (user_id, rank, movie_id, score) for every user of either file, movies rated in `train` left out. The
    report has metrics if `holdout` has ratings.

    Raises: UsageError if a file cannot be read; DataRefused if its columns or ratings are not what they must be.
    """
    home = Home(settings.home.absolute())
    snapshot = write_snapshot(fetch_archive(settings.source, home), home)
    levels = snapshot.rating_scale
    known = _read_ratings(train, levels, need_rating=True).sort(IDS)
    asked = _read_ratings(holdout, levels, need_rating=False)
    _check_apart(known, asked, train, holdout)
    vocabulary = fit_vocabulary(known)
    users, movies = (pl.read_parquet(snapshot.table(name)) for name in ("users", "movies"))
    learner = Learner(vocabulary, levels, settings.seed, settings.device, fit_features(vocabulary, users, movies))
    fitted, validation = split_validation(known, settings.split.validation_share, settings.seed)
    choice = choose(settings.model, fitted, validation, learner)
    network = learn(choice, known, learner, label=f"{choice.model} on {train.name}").cpu()
    if predictions:
        _write(_predict(network, asked, learner), predictions)
    if lists:
        ranker = fit_ranker(network, learner.encode(known), settings.rank)
        _write(_list(ranker, asked["user_id"], settings.n, learner), lists)
    return _report(choice, network, known, asked, learner, settings)


def _check_apart(known: pl.DataFrame, asked: pl.DataFrame, train: Path, holdout: Path) -> None:
    both = asked.join(known, on=IDS, how="semi")
    if len(both):
        user_id, movie_id = both.select(IDS).row(0)
        raise DataRefused(
            f"{len(both):,} of {len(asked):,} rows of {holdout} are in {train} as well, e.g. user {user_id}, movie "
            f"{movie_id}; what has been learned cannot be tested. Take them out of one of the files."
        )


def _report(
    choice: Choice,
    network: RatingNetwork,
    known: pl.DataFrame,
    asked: pl.DataFrame,
    learner: Learner,
    settings: Settings,
) -> dict[str, Any]:
    report: dict[str, Any] = {"model": choice.model, "epochs": choice.epochs, "validation": choice.tried, "metrics": {}}
    if "rating" in asked.columns:
        encoded = learner.encode(known)
        errors = measure_errors(network, encoded, learner.encode(asked))
        quality = measure_lists(network, encoded, asked, learner.vocabulary, settings.rank)
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
    """Users with a training rating by the ranker, those of `user_ids` without one by popularity."""
    known = pl.concat(list_blocks(rank_movies(ranker, n, reasons=0), learner.vocabulary))
    strangers = user_ids.filter(learner.vocabulary.encode_users(user_ids.to_numpy()) == 0)
    popular = list_popular_for(strangers, ranker.histories, n, learner.vocabulary)
    columns = ("user_id", "rank", "movie_id", "score")
    return pl.concat([known.select(columns), popular.select(columns)]).sort("user_id", "rank")


def _read_ratings(path: Path, levels: tuple[float, ...], *, need_rating: bool) -> pl.DataFrame:
    """user_id and movie_id as int32 and rating as float32, checked; without ratings only where that is allowed."""
    try:
        frame = pl.read_parquet(path)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise UsageError(
            f"{path} cannot be read as Parquet: {error}. Give a file with user_id, movie_id, rating."
        ) from None
    needed = [*IDS, "rating"] if need_rating else [*IDS]
    missing = [name for name in needed if name not in frame.columns]
    if missing:
        raise DataRefused(f"{path} lacks the column {missing[0]}; it has {', '.join(frame.columns)}.")
    frame = frame.select(name for name in (*IDS, "rating", "rated_at") if name in frame.columns)
    if frame.is_empty():
        raise DataRefused(f"{path} has no rows; give at least one.")
    if frame.null_count().sum_horizontal().item():
        raise DataRefused(f"{path} has empty fields in {', '.join(frame.columns)}; every row needs all of them.")
    frame = _cast_moments(_cast_ids(frame, path), path)
    if need_rating and frame.select(IDS).is_duplicated().any():
        raise DataRefused(f"{path} rates some (user_id, movie_id) twice; which one counts is for you to decide.")
    return _cast_rating(frame, path, levels) if "rating" in frame.columns else frame


def _cast_ids(frame: pl.DataFrame, path: Path) -> pl.DataFrame:
    for name in IDS:
        kind = frame.schema[name]
        if not kind.is_integer():
            raise DataRefused(f"{path} has {name} of type {kind}; ids are whole numbers, so write them as int32.")
        wrong = frame.filter(~pl.col(name).is_between(-(2**31), 2**31 - 1))
        if len(wrong):
            raise DataRefused(
                f"{path} has {len(wrong)} rows whose {name} is out of the range of int32, e.g. {wrong[name][0]}; "
                "number them anew."
            )
    return frame.with_columns(pl.col(IDS).cast(pl.Int32))


def _cast_moments(frame: pl.DataFrame, path: Path) -> pl.DataFrame:
    if "rated_at" not in frame.columns:
        return frame
    kind = frame.schema["rated_at"]
    if not isinstance(kind, pl.Datetime):
        raise DataRefused(f"{path} has rated_at of type {kind}; write it as a timestamp in UTC, or leave it out.")
    in_utc = pl.col("rated_at").dt.convert_time_zone if kind.time_zone else pl.col("rated_at").dt.replace_time_zone
    return frame.with_columns(in_utc("UTC").cast(pl.Datetime("us", "UTC")))


def _cast_rating(frame: pl.DataFrame, path: Path, levels: tuple[float, ...]) -> pl.DataFrame:
    kind = frame.schema["rating"]
    if not kind.is_numeric():
        raise DataRefused(f"{path} has rating of type {kind}; ratings are stars, so write them as numbers.")
    frame = frame.with_columns(pl.col("rating").cast(pl.Float32))
    wrong = frame.filter(~pl.col("rating").is_in(list(levels)))
    if len(wrong):
        raise DataRefused(
            f"{path} has {len(wrong)} ratings off the source's scale {levels[0]:g} to {levels[-1]:g}, "
            f"e.g. {wrong['rating'][0]:g}; give the --source these ratings come from."
        )
    return frame


def _write(frame: pl.DataFrame, path: Path) -> None:
    with replacing(path) as aside:
        frame.write_parquet(aside)
    logger.info("%s: %d rows", path, len(frame))
