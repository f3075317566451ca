"""The limits on all lists together: their measures, and the refusal to publish tables beyond a limit."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pytest

from recsys.errors import PublishError
from recsys.forgotten import forget
from recsys.home import Home
from recsys.settings import AuditConfig
from tests.support.warehouses import Frames, audit, make_frames, make_outcome, publish, write_night

MANY: dict[str, Any] = {"n_users": 120, "n_movies": 40}  # as many users and movies as top_movie_share needs
NO_LIMITS = AuditConfig(**dict.fromkeys(AuditConfig.model_fields))


@pytest.fixture(scope="module")
def first_night(tmp_path_factory: pytest.TempPathFactory) -> Home:
    folder = tmp_path_factory.mktemp("many")
    publish(make_outcome("r1"), write_night(folder / "night", make_frames(**MANY)), Home(folder / "home"))
    return Home(folder / "home")


@pytest.fixture
def served(first_night: Home, home: Home) -> Home:
    """A home whose lists are those of make_frames(**MANY)."""
    shutil.copytree(first_night.root, home.root)
    return home


def change(frames: Frames, where: pl.Expr, **columns: Any) -> Frames:
    """The frames with other constants in some rows of `recommendations`."""
    lists = frames["recommendations"]
    changed = [
        pl.when(where).then(pl.lit(value, dtype=lists.schema[name])).otherwise(pl.col(name)).alias(name)
        for name, value in columns.items()
    ]
    return frames | {"recommendations": lists.with_columns(changed)}


def without_ratings(frames: Frames, n_users: int) -> Frames:
    """The first users have no ratings, and no reasons."""
    is_stranger = pl.col("user_id") <= n_users
    nothing = pl.lit([], dtype=pl.List(pl.Int32))
    lists = frames["recommendations"].with_columns(
        pl.when(is_stranger).then(pl.lit("default")).otherwise("served_by").alias("served_by"),
        pl.when(is_stranger).then(nothing).otherwise("because_movie_ids").alias("because_movie_ids"),
    )
    return frames | {"recommendations": lists, "ratings": frames["ratings"].remove(is_stranger)}


def with_first(frames: Frames, movie_id: int) -> Frames:
    """The frames with a movie first in the list of every user who has not rated it and whose list lacks it."""
    lists = frames["recommendations"]
    has = pl.concat([lists.select("user_id", "movie_id"), frames["ratings"].select("user_id", "movie_id")])
    has_not = lists.join(has.filter(movie_id=movie_id), on="user_id", how="anti")["user_id"].unique()
    return change(frames, pl.col("user_id").is_in(has_not.implode()) & (pl.col("rank") == 1), movie_id=movie_id)


def shifted(frames: Frames) -> Frames:
    """The frames with other movies in the list of every user."""
    return frames | {"recommendations": frames["recommendations"].with_columns((pl.col("movie_id") + 1) % 40 + 1)}


@pytest.mark.parametrize(
    ("frames", "complaint", "setting"),
    [
        (make_frames(100, 40), "audit_rows_share is 0.8333, it should be at least 0.9", "MIN_ROWS_SHARE=0.8333"),
        (make_frames(250, 40), "audit_rows_share is 2.083, it should be at most 2", "MAX_ROWS_SHARE=2.0834"),
        (
            without_ratings(make_frames(**MANY), 40),
            "audit_stranger_rise is 0.3333, it should be at most 0.3",
            "MAX_STRANGER_RISE=0.3334",
        ),
        (
            with_first(make_frames(**MANY), 40),
            "audit_top_movie_share is 0.975, it should be at most 0.95",
            "MAX_TOP_MOVIE_SHARE=0.975",
        ),
        (shifted(make_frames(**MANY)), "audit_churn is 1, it should be at most 0.9", "MAX_CHURN=1.0"),
        (
            change(make_frames(**MANY), pl.col("user_id") <= 90, score=1.0),
            "audit_flat_share is 0.75, it should be at most 0.5",
            "MAX_FLAT_SHARE=0.75",
        ),
        (
            make_frames(**MANY, rating_hat=9.5),
            "audit_overshoot is 1.125, it should be at most 1",
            "MAX_OVERSHOOT=1.125",
        ),
    ],
    ids=lambda value: value.partition("=")[0] if isinstance(value, str) and "=" in value else "",
)
def test_a_measure_beyond_its_limit_is_refused_unless_the_setting_in_the_message_is_used(
    served: Home, tmp_path: Path, frames: Frames, complaint: str, setting: str
) -> None:
    night = replace(write_night(tmp_path / "night", frames), rating_scale=(1.0, 5.0), limits=NO_LIMITS)
    publish(make_outcome("r2"), night, served)
    inputs = replace(night, limits=AuditConfig()).audit_inputs
    with pytest.raises(PublishError, match=complaint) as error:
        audit(served.warehouse, "r2", 2, inputs, tmp_path / "data_docs")
    assert str(error.value).count("audit_") == 1
    assert f"See {tmp_path / 'data_docs' / 'index.html'}. Next: " in str(error.value)
    assert str(error.value).endswith(f"let them pass with RECSYS_AUDIT__{setting}")

    name, _, value = setting.partition("=")
    audit(served.warehouse, "r2", 2, replace(inputs, limits=AuditConfig(**{name.lower(): value})))


def test_lists_beyond_a_limit_are_not_published(served: Home, tmp_path: Path) -> None:
    before = served.warehouse.read_bytes()
    with pytest.raises(PublishError, match="audit_churn is 1"):
        publish(make_outcome("r2"), write_night(tmp_path / "night", shifted(make_frames(**MANY))), served)
    assert served.warehouse.read_bytes() == before


def test_a_sound_night_is_published_with_its_measures(home: Home, tmp_path: Path) -> None:
    """A tenth of the users are new and have no ratings; one list has another movie."""
    publish(make_outcome("r1"), write_night(tmp_path / "first", make_frames(108, 40)), home)
    frames = change(
        without_ratings(make_frames(**MANY), 12), (pl.col("user_id") == 1) & (pl.col("rank") == 2), movie_id=20
    )
    publish(make_outcome("r2"), replace(write_night(tmp_path / "second", frames), rating_scale=(1.0, 5.0)), home)
    with duckdb.connect(home.warehouse, read_only=True) as connection:
        measures = connection.sql(
            "select metric, round(value, 4) from metrics "
            "where run_id = 'r2' and split = 'tonight' and slice = 'all' order by metric"
        ).fetchall()
    assert measures == [
        ("audit_churn", 0.0046),
        ("audit_flat_share", 0.0),
        ("audit_overshoot", 0.0),
        ("audit_rows_share", 1.1111),
        ("audit_stranger_rise", 0.1),
        ("audit_stranger_share", 0.1),
        ("audit_top_movie_share", 0.0556),
    ]


def read_rows_shares(home: Home) -> list[tuple[str, float]]:
    with duckdb.connect(home.warehouse, read_only=True) as connection:
        return connection.sql(
            "select run_id, value from metrics where metric = 'audit_rows_share' order by run_id"
        ).fetchall()


def test_lists_of_different_lengths_are_compared_up_to_the_shorter_length(served: Home, tmp_path: Path) -> None:
    publish(make_outcome("r2"), write_night(tmp_path / "long", make_frames(**MANY, n=20), 20), served)
    publish(make_outcome("r3"), write_night(tmp_path / "short", make_frames(**MANY)), served)
    assert read_rows_shares(served) == [("r2", 1.0), ("r3", 1.0)]


def test_lists_of_another_data_set_are_not_compared(
    served: Home, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO"):
        publish(replace(make_outcome("r2"), dataset="other"), write_night(tmp_path / "few", make_frames()), served)
    assert "no lists of these data are served, so there is nothing to compare with" in caplog.text
    assert read_rows_shares(served) == []


def test_forgotten_users_do_not_count_as_lost(served: Home, tmp_path: Path) -> None:
    forget(range(101, 121), served)
    publish(make_outcome("r2"), write_night(tmp_path / "fewer", make_frames(100, 40)), served)
    assert read_rows_shares(served) == [("r2", 1.0)]
