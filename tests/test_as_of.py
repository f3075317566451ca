"""A night as of T, live or backfilled, uses no rating from T on: its tables do not depend on later ratings."""

import shutil
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pytest

from recsys.home import Home
from recsys.ingest.synthetic.synthetic import Planted, plant
from recsys.runs.night import night
from recsys.warehouse.build import LISTS, SERVED
from recsys.warehouse.lookup import list_nights
from tests.support.archives import write_archive
from tests.support.nights import prepare, publish_night, settings_of
from tests.support.planted import quick_config

Rows = dict[str, list[tuple[Any, ...]]]

PLANTED = plant(60, 60, 2000)
FIXED: dict[str, Any] = {
    "model": "auto",
    "config": {"model": "ordinal", "config": quick_config("ordinal", epochs=1, batch_size=256).model_dump(mode="json")},
}
T: datetime = PLANTED.ratings["rated_at"].sort()[1600]


@dataclass(frozen=True)
class Source:
    """A source with the same movies and given ratings; `with_users` adds a file of users."""

    folder: Path
    with_users: bool = True

    def write(self, ratings: pl.DataFrame) -> Path:
        users = PLANTED.users if self.with_users else PLANTED.users.clear()
        path = write_archive(self.folder / "source", "canonical", ratings, PLANTED.movies, users)
        if not self.with_users:
            (path / "users.csv").unlink()
        return path


def only_before(planted: Planted) -> pl.DataFrame:
    """The ratings that existed at T."""
    return planted.ratings.filter(pl.col("rated_at") < T)


def changed_later(planted: Planted) -> pl.DataFrame:
    """From T on, ratings are inverted, and all users, including new ones, rate every other movie with five stars."""
    later = pl.col("rated_at") >= T
    ratings = planted.ratings.with_columns(rating=pl.when(later).then(6 - pl.col("rating")).otherwise("rating"))
    users = pl.DataFrame({"user_id": [*range(1, 81), *range(900, 920)]}, schema={"user_id": pl.Int32})
    pairs = users.join(planted.movies.select("movie_id"), how="cross")
    pairs = pairs.join(ratings, on=["user_id", "movie_id"], how="anti")
    flood = pairs.with_columns(rating=pl.lit(5.0, pl.Float32), rated_at=pl.lit(T).cast(ratings.schema["rated_at"]))
    return pl.concat([ratings, flood.select(ratings.columns)])


def publish_as_of(source: Path, home: Home, **fields: Any) -> str:
    """Runs a night as of T and returns its id."""
    settings = settings_of(home, source, as_of=T, **FIXED, **fields)
    with night(settings) as run:
        publish_night(prepare(settings, run), settings)
        return run.run_id


def read(home: Home, tables: tuple[str, ...] = SERVED) -> Rows:
    """All rows without run_id, which differs between nights. Of the history, only the rows as of T are read."""
    rows = {}
    with duckdb.connect(home.warehouse, read_only=True) as connection:
        for table in tables:
            found = connection.sql(f"select columns(lambda name: name <> 'run_id') from {table}")
            rows[table] = (found.filter(f"as_of = '{T.isoformat()}'") if table == LISTS else found).fetchall()
    return rows


def make_live(folder: Path, *, with_users: bool = True) -> Home:
    home = Home(folder / "home")
    publish_as_of(Source(folder, with_users).write(only_before(PLANTED)), home)
    return home


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Home:
    return make_live(tmp_path_factory.mktemp("live"))


def check_alike(expected: Rows, found: Rows) -> None:
    for table, rows in expected.items():
        assert rows or table == "links", table  # the source has none
        assert found[table] == rows, table


@pytest.mark.slow
def test_later_ratings_change_nothing(live: Home, tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    publish_as_of(Source(tmp_path).write(changed_later(PLANTED)), home)
    check_alike(read(live), read(home))


@pytest.mark.slow
def test_users_with_only_later_ratings_are_unknown(tmp_path: Path) -> None:
    """Without a file of users, the users are those with ratings."""
    home = Home(tmp_path / "home")
    publish_as_of(Source(tmp_path, with_users=False).write(changed_later(PLANTED)), home)
    check_alike(read(make_live(tmp_path / "live", with_users=False)), read(home))


@pytest.mark.slow
def test_earlier_ratings_change_the_lists(live: Home, tmp_path: Path) -> None:
    """Otherwise the tests above could not fail."""
    ratings = only_before(PLANTED)
    others = ratings.with_columns(rating=pl.when(pl.col("user_id") == 1).then(6 - pl.col("rating")).otherwise("rating"))
    home = Home(tmp_path / "home")
    publish_as_of(Source(tmp_path).write(others), home)
    assert read(home)["recommendations"] != read(live)["recommendations"]


@pytest.mark.slow
def test_a_backfilled_night_equals_the_live_one(live: Home, tmp_path: Path) -> None:
    """The whole source is served; then T is backfilled and added to the history with the rows of a live night."""
    home, source = Home(tmp_path / "home"), Source(tmp_path).write(PLANTED.ratings)
    with night(settings := settings_of(home, source, **FIXED)) as run:
        publish_night(prepare(settings, run), settings)
    served = read(home)
    remembered = read(live, (LISTS,))[LISTS]
    publish_as_of(source, home)
    check_alike(served, read(home))
    check_alike({LISTS: remembered}, read(home, (LISTS,)))
    with duckdb.connect(home.warehouse, read_only=True) as connection:
        verdicts = connection.sql("select verdict, published from runs order by run_id").fetchall()
        as_of = connection.execute("select count(*) from recommendations_as_of($moment)", {"moment": T}).fetchall()
        paths = connection.sql("select ratings_path from runs order by run_id").fetchall()
    assert verdicts == [("published", True), ("backfilled", False)]
    assert as_of == [(len(read(live)["recommendations"]),)]
    known, known_at_t = (pl.read_parquet(home.root / path) for (path,) in paths)
    assert len(known) == len(PLANTED.ratings)
    assert known_at_t.sort("user_id", "movie_id").equals(only_before(PLANTED).sort("user_id", "movie_id"))
    assert T in list_nights(home, "canonical")


@pytest.mark.slow
def test_a_night_on_all_data_is_served_even_if_they_end_earlier(
    live: Home, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The data end earlier if the newest ratings are of a user who is forgotten. No later night has been asked for."""
    home = Home(tmp_path / "home")
    shutil.copytree(live.root, home.root)
    earlier = only_before(PLANTED).filter(pl.col("rated_at") < pl.col("rated_at").max())
    settings = settings_of(home, Source(tmp_path).write(earlier), **FIXED)
    with night(settings) as run:
        publish_night(prepare(settings, run), settings)
    with duckdb.connect(home.warehouse, read_only=True) as connection:
        rows = connection.sql("select run_id, as_of, verdict from runs order by run_id").fetchall()
        served = connection.sql("select distinct run_id from recommendations").fetchall()
    assert [verdict for *_, verdict in rows] == ["published", "published"]
    assert rows[1][1] < rows[0][1]
    assert served == [(run.run_id,)]
    assert "before those of run" in caplog.text
