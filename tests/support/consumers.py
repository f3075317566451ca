"""The four nights that docs/consumers.md assumes, in a folder where its queries run unchanged."""

import re
import shutil
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import polars as pl

from recsys.home import Home
from recsys.warehouse.build import STORAGE_VERSION
from recsys.warehouse.export import export
from recsys.warehouse.outcome import MetricRow, Outcome
from recsys.warehouse.publish import record
from tests.support.warehouses import Frames, make_frames, make_outcome, publish, write_night

PAGE = (Path(__file__).parents[2] / "docs" / "consumers.md").read_text(encoding="utf-8")
NIGHTS = tuple(f"202611{day}T030000Z" for day in (19, 20, 21, 22))
RATINGS = "snapshots/planted/0123456789ab/ratings.parquet"  # of every night
FULL = 51  # a user who has rated every movie and has no list


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, flags=re.DOTALL)


def write_world(folder: Path) -> Home:
    """Writes `data/` with a warehouse, `lake/` with its export, and a reader's own database and CSV file.

    User u has rated movie u % 20 + 1 and gets the next three as recommendations. Before the third night, the list of
    user 42 was 5, 4 and 7 instead of 4, 5 and 6, and that of user 7 was 12, 13 and 9 instead of 9, 10 and 11. The third
    night is served. The fourth was refused.
    """
    home = Home(folder / "data")
    after, before = _frames(), _frames()
    for user_id, movie_ids in ((42, [5, 4, 7]), (7, [12, 13, 9])):
        before["recommendations"] = _with_list(before["recommendations"], user_id, movie_ids)
    for run_id, day, frames in zip(NIGHTS, (20, 21, 22), (before, before, after), strict=False):
        night = replace(write_night(folder / "night", frames, 3), metrics=_metrics(day))
        publish(_outcome(run_id, day), night, home)
    refused = replace(_outcome(NIGHTS[3], 23, "data refused", "ratings: 1 of 51 rows"), seconds={"check": 9.0})
    record(refused, home, quarantine=folder / "night" / "quarantine.parquet")
    export(home, folder / "lake")
    _write_own(folder)
    (home.root / RATINGS).parent.mkdir(parents=True)
    shutil.copyfile(folder / "night" / "ratings.parquet", home.root / RATINGS)
    return home


def _frames() -> Frames:
    frames = make_frames(n_users=50, n_movies=20, n=3)
    full = frames["users"].head(1).with_columns(user_id=pl.lit(FULL, pl.Int32))
    frames["users"] = pl.concat([frames["users"].with_columns(_occupation()), full])
    rated = pl.DataFrame({"movie_id": range(1, 21)}, schema={"movie_id": pl.Int32})
    everything = frames["ratings"].head(1).drop("movie_id").join(rated, how="cross")
    everything = everything.with_columns(user_id=pl.lit(FULL, pl.Int32)).select(frames["ratings"].columns)
    frames["ratings"] = pl.concat([frames["ratings"], everything])
    is_first = pl.col("movie_id") == 1
    title = pl.when(is_first).then(pl.lit("Toy Story")).otherwise("title").alias("title")
    return frames | {"movies": frames["movies"].with_columns(title)}


def _occupation() -> pl.Expr:
    """One user in ten is an artist."""
    is_artist = pl.col("user_id") % 10 == 0
    return pl.when(is_artist).then(pl.lit("artist")).otherwise(pl.lit("other")).alias("occupation")


def _with_list(lists: pl.DataFrame, user_id: int, movie_ids: list[int]) -> pl.DataFrame:
    other = pl.Series(movie_ids, dtype=pl.Int32)
    mine = lists.filter(user_id=user_id).with_columns(movie_id=other)
    return pl.concat([lists.filter(pl.col("user_id") != user_id), mine]).sort("user_id", "rank")


def _metrics(day: int) -> tuple[MetricRow, ...]:
    return tuple(
        MetricRow(model, "holdout", "all", metric, value - day / 1000)
        for model, metric, value in (
            ("ordinal", "mae_median", 0.65),
            ("ordinal", "ndcg_at_10", 0.45),
            ("bias", "mae_median", 0.75),
        )
    )


def _outcome(run_id: str, day: int, verdict: str = "published", reason: str | None = None) -> Outcome:
    return replace(
        make_outcome(run_id, verdict, reason),
        as_of=datetime(1998, 4, day, tzinfo=UTC),
        started_at=datetime.strptime(run_id, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC),
        ratings_path=RATINGS if verdict == "published" else None,
    )


def _write_own(folder: Path) -> None:
    path = folder / "mine.duckdb"  # readable by DuckDB 1.4
    with duckdb.connect(path, config={"storage_compatibility_version": STORAGE_VERSION}) as connection:
        connection.execute("create table customers (email varchar, user_id integer)")
        connection.execute("insert into customers values ('b@example.org', 42), ('a@example.org', 7), ('c', 999)")
        connection.execute(f"copy customers to '{folder / 'customers.csv'}' (header)")
