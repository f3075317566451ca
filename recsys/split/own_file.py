"""Reads a Parquet file of ratings that the user provides, and checks its columns."""

from pathlib import Path

import polars as pl

from recsys.errors import DataRefused, UsageError
from recsys.files import read_table

IDS = ("user_id", "movie_id")


def read_ratings(path: Path, levels: tuple[float, ...], *, need_rating: bool) -> pl.DataFrame:
    """The ratings in file order: user_id and movie_id int32, rating float32, and rated_at in UTC if the file has it.

    Raises: UsageError if the file cannot be read; DataRefused if a column is missing, has another type, or has invalid
    values.
    """
    try:
        frame = read_table(path)
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
        raise DataRefused(f"{path} has no rows; it needs at least one.")
    if frame.null_count().sum_horizontal().item():
        raise DataRefused(f"{path} has empty fields in {', '.join(frame.columns)}; every row needs all of them.")
    frame = _cast_moments(_cast_ids(frame, path), path)
    if need_rating and frame.select(IDS).is_duplicated().any():
        raise DataRefused(f"{path} rates some (user_id, movie_id) twice; keep one rating of each.")
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
                "renumber them."
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
            f"e.g. {wrong['rating'][0]:g}; pass the --source that these ratings come from."
        )
    return frame
