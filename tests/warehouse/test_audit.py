import math
import re
import shutil
from dataclasses import replace
from html import unescape
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pytest

import sql
from recsys.errors import PublishError
from recsys.forgotten import forget
from recsys.home import Home
from recsys.settings import AuditConfig
from recsys.warehouse.audit import audit
from recsys.warehouse.audit_rules import MEASURES, ROW_RULES
from recsys.warehouse.publish import Tonight, publish
from tests.support.warehouses import Frames, make_frames, make_outcome, write_night

# In make_frames() user 1 has rated movie 2 and is recommended 3 and 4, user 2 has rated 3 and is recommended 4 and 1.
FIRST_ROW = (pl.col("user_id") == 1) & (pl.col("rank") == 1)
SECOND_ROW = (pl.col("user_id") == 1) & (pl.col("rank") == 2)
FIRST_OF_ALL = (pl.col("segment") == "all") & (pl.col("rank") == 1)
SECOND_OF_FIRST = (pl.col("movie_id") == 1) & (pl.col("rank") == 2)


NO_LIMITS = AuditConfig(**dict.fromkeys(AuditConfig.model_fields))


@pytest.fixture(scope="session")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A warehouse of make_frames(), published by run r1."""
    folder = tmp_path_factory.mktemp("sound")
    publish(make_outcome("r1"), write_night(folder, make_frames()), Home(folder / "home"))
    return Home(folder / "home").warehouse


@pytest.fixture
def served(home: Home, sound: Path) -> Home:
    home.root.mkdir()
    shutil.copyfile(sound, home.warehouse)
    return home


def change(frames: Frames, where: pl.Expr, table: str = "recommendations", **columns: Any) -> Frames:
    """The frames with constants put into some rows of a table."""
    lists = frames[table]
    changed = [
        pl.when(where).then(pl.lit(value, dtype=lists.schema[name])).otherwise(pl.col(name)).alias(name)
        for name, value in columns.items()
    ]
    return frames | {table: lists.with_columns(changed)}


def break_unknown_user(frames: Frames) -> Frames:
    return frames | {"users": frames["users"].filter(pl.col("user_id") != 4)}


def break_unknown_movie(frames: Frames) -> Frames:
    return change(frames, FIRST_ROW, movie_id=99)


def break_length(frames: Frames) -> Frames:
    return frames | {"recommendations": frames["recommendations"].remove(SECOND_ROW)}


def break_length_by_no_list(frames: Frames) -> Frames:
    return frames | {"recommendations": frames["recommendations"].filter(pl.col("user_id") != 1)}


def break_ranks_by_gap(frames: Frames) -> Frames:
    return change(frames, SECOND_ROW, rank=3)


def break_ranks_by_start(frames: Frames) -> Frames:
    return frames | {"recommendations": frames["recommendations"].with_columns(pl.col("rank") - 1)}


def break_ranks_by_repetition(frames: Frames) -> Frames:
    return change(frames, pl.col("user_id") == 1, rank=1)


def break_distinct(frames: Frames) -> Frames:
    return change(frames, SECOND_ROW, movie_id=3)


def break_unseen(frames: Frames) -> Frames:
    return change(frames, FIRST_ROW, movie_id=2)


def break_finite_score(frames: Frames) -> Frames:
    return change(frames, SECOND_ROW, score=math.nan)


def break_finite_rating(frames: Frames) -> Frames:
    return change(frames, SECOND_ROW, rating_hat=-math.inf)


def break_order(frames: Frames) -> Frames:
    return change(frames, SECOND_ROW, score=1.5)


def break_because(frames: Frames) -> Frames:
    return change(frames, FIRST_ROW, because_movie_ids=[2, 1])


def break_served_by(frames: Frames) -> Frames:
    return change(frames, pl.col("user_id") == 1, served_by="taste")


def break_default_all(frames: Frames) -> Frames:
    return frames | {"default_recommendations": frames["default_recommendations"].filter(pl.col("segment") != "all")}


def break_default_ranks(frames: Frames) -> Frames:
    """In make_frames() segment all has movie 1 and then 2."""
    return change(frames, FIRST_OF_ALL, "default_recommendations", rank=0)


def break_default_distinct(frames: Frames) -> Frames:
    return change(frames, FIRST_OF_ALL, "default_recommendations", movie_id=2)


def break_default_finite(frames: Frames) -> Frames:
    return change(frames, FIRST_OF_ALL, "default_recommendations", score=math.inf)


def break_default_order(frames: Frames) -> Frames:
    return change(frames, FIRST_OF_ALL, "default_recommendations", score=0.25)


def break_default_known(frames: Frames) -> Frames:
    return change(frames, FIRST_OF_ALL, "default_recommendations", movie_id=99)


def break_similar_ranks(frames: Frames) -> Frames:
    """In make_frames() movie 1 is similar to 2 and then to 3."""
    return change(frames, SECOND_OF_FIRST, "similar_movies", rank=3)


def break_similar_finite(frames: Frames) -> Frames:
    return change(frames, SECOND_OF_FIRST, "similar_movies", similarity=math.nan)


def break_similar_order(frames: Frames) -> Frames:
    return change(frames, SECOND_OF_FIRST, "similar_movies", similarity=2.0)


def break_similar_self(frames: Frames) -> Frames:
    return change(frames, SECOND_OF_FIRST, "similar_movies", similar_movie_id=1)


def break_similar_known(frames: Frames) -> Frames:
    """Both the movies of movie 4."""
    return change(frames, pl.col("movie_id") == 4, "similar_movies", movie_id=99)


def break_default_length(frames: Frames) -> Frames:
    """The second movie of segment all is gone."""
    defaults = frames["default_recommendations"]
    return frames | {"default_recommendations": defaults.remove((pl.col("segment") == "all") & (pl.col("rank") == 2))}


def break_strangers(frames: Frames) -> Frames:
    return change(frames, pl.col("user_id") == 1, served_by="default")


def break_known_similar(frames: Frames) -> Frames:
    """What movie 1 is similar to."""
    return change(frames, SECOND_OF_FIRST, "similar_movies", similar_movie_id=99)


def break_any(frames: Frames) -> Frames:
    """Everybody has rated everything."""
    every = frames["ratings"].drop("movie_id").join(frames["movies"].select("movie_id"), how="cross")
    lists = frames["recommendations"].clear()
    return frames | {"ratings": every.select(frames["ratings"].columns), "recommendations": lists}


@pytest.mark.parametrize(
    ("break_night", "complaint"),
    [
        (break_any, "audit_any: 1 tables without a single recommendation.*, for example users_without_a_list 4"),
        (break_unknown_user, "audit_known: 2 rows of lists .*, for example user_id 4, rank 1, movie_id 2"),
        (break_unknown_movie, "audit_known: 1 .*, for example user_id 1, rank 1, movie_id 99"),
        (break_length, "audit_length: 1 users.*, for example user_id 1, n_listed 1, n_expected 2"),
        (break_length_by_no_list, "audit_length: 1 users.*, for example user_id 1, n_listed 0, n_expected 2"),
        (break_ranks_by_gap, "audit_ranks: 1 rows.*, for example user_id 1, rank 3, rank_expected 2"),
        (break_ranks_by_start, "audit_ranks: 8 rows.*, for example user_id 1, rank 0, rank_expected 1"),
        (break_ranks_by_repetition, "audit_ranks: 1 rows.*, for example user_id 1, rank 1, rank_expected 2"),
        (break_distinct, "audit_distinct: 1 movies.*, for example user_id 1, movie_id 3, n_times 2"),
        (break_unseen, "audit_unseen: 1 recommended movies.*, for example user_id 1, rank 1, movie_id 2"),
        (break_finite_score, "audit_finite: 1 scores.*, for example user_id 1, rank 2, score nan"),
        (break_finite_rating, "audit_finite: 1 scores.*, for example user_id 1, rank 2, rating_hat -inf"),
        (break_order, "audit_order: 1 rows.*, for example user_id 1, rank 2, score 1.5, score_before 1.0"),
        (break_because, "audit_because: 1 movies.*, for example user_id 1, because_movie_id 1"),
        (break_served_by, "audit_served_by: 1 lists .*, for example user_id 1, served_by taste"),
        (break_strangers, "audit_strangers: 1 users .*, for example user_id 1, served_by default, n_ratings 1"),
        (break_default_all, "audit_default_all: 1 tables of default lists .*, for example n_segments 1"),
        (break_default_length, "audit_default_length: 1 .* segment all, n_listed 1, n_expected 2"),
        (break_default_ranks, "audit_ranks: 1 .* segment all, rank 0, rank_expected 1"),
        (break_default_distinct, "audit_distinct: 1 .* segment all, movie_id 2, n_times 2"),
        (break_default_finite, "audit_finite: 1 .* segment all, rank 1, score inf"),
        (break_default_order, "audit_order: 1 .* segment all, rank 2, score 0.5, score_before 0.25"),
        (break_default_known, "audit_known: 1 .* segment all, rank 1, movie_id 99"),
        (break_similar_ranks, "audit_ranks: 1 .* similar_to 1, rank 3, rank_expected 2"),
        (break_similar_finite, "audit_finite: 1 .* similar_to 1, rank 2, score nan"),
        (break_similar_order, "audit_order: 1 .* similar_to 1, rank 2, score 2.0, score_before 1.0"),
        (break_similar_self, "audit_similar_self: 1 movies .* movie_id 1, rank 2"),
        (break_similar_known, "audit_known: 2 .* similar_to 99, rank 1, movie_id 1"),
        (break_known_similar, "audit_known: 1 .* similar_to 1, rank 2, movie_id 99"),
    ],
)
def test_only_the_broken_rule_complains(served: Home, tmp_path: Path, break_night: Any, complaint: str) -> None:
    before = served.warehouse.read_bytes()
    broken = replace(write_night(tmp_path / "broken", break_night(make_frames())), limits=NO_LIMITS)
    with pytest.raises(PublishError, match=rf"run r2 failed their audit: {complaint}") as error:
        publish(make_outcome("r2"), broken, served)
    assert str(error.value).count("audit_") == 1
    assert served.warehouse.read_bytes() == before


def load(frames: Frames, run_id: str, path: Path, altered: str = "") -> Path:
    """A warehouse with these tables, so that a rule can be broken which `publish` itself keeps."""
    with duckdb.connect(path) as connection:
        connection.execute(sql.read("schema"))
        for name in ("recommendations", "default_recommendations", "similar_movies", "movies", "users"):
            has_run = name not in ("movies", "users")
            connection.register("frame", frames[name].with_columns(run_id=pl.lit(run_id)) if has_run else frames[name])
            connection.execute(f"insert into {name} by name from frame")
            connection.unregister("frame")
        connection.execute(altered)
    return path


VIEW = "create or replace view default_recommendations_named as select * from default_recommendations;"


@pytest.mark.parametrize(
    ("altered", "complaint"),
    [
        (
            "alter table users drop column zip_code",
            "1 .* table_name users, column_name zip_code, promised VARCHAR, has_",
        ),
        ("alter table runs add column mood varchar", "1 .* runs, column_name mood, found VARCHAR, has_comment False"),
        (
            "alter table metrics rename column value to figure",
            "2 .* metrics, column_name figure, found DOUBLE not null",
        ),
        (
            "alter table similar_movies alter column similarity set data type float",
            "1 .* similar_movies, column_name similarity, promised DOUBLE not null, found FLOAT not null",
        ),
        ("alter table users alter column age set data type integer", "1 .* age, promised SMALLINT, found INTEGER"),
        ("alter table run_steps alter column seconds drop not null", "1 .* promised DOUBLE not null, found DOUBLE,"),
        (
            "comment on column users.age is null",
            "1 .* users, column_name age, promised SMALLINT, found SMALLINT, has_c",
        ),
        ("comment on table users is null", "1 .* table_name users, column_name , promised table not null, found table"),
        ("create table notes (words varchar)", "2 .* notes, column_name , found table not null, has_comment False"),
        ("drop table quarantine", "7 .* quarantine, column_name , promised table not null"),
        ("drop view recommendations_named", "13 .* recommendations_named, column_name , promised view not null"),
        (VIEW, r"\d+ .* default_recommendations_named, "),
    ],
)
def test_columns_other_than_promised_are_refused(altered: str, complaint: str, tmp_path: Path) -> None:
    frames = make_frames()
    beside = write_night(tmp_path, frames).beside
    file = load(frames, "r1", tmp_path / "next.duckdb", altered)
    with pytest.raises(PublishError, match=f"audit_contract: {complaint}") as error:
        audit(file, "r1", 2, beside)
    assert str(error.value).count("audit_") == 1


def test_foreign_run_id_is_refused(tmp_path: Path) -> None:
    frames = make_frames()
    beside = write_night(tmp_path, frames).beside
    file = load(frames, "r1", tmp_path / "next.duckdb")
    audit(file, "r1", 2, beside)
    with pytest.raises(
        PublishError, match=r"audit_run: 1 rows .* for example run_id r1, n_rows 20\. What is served stays"
    ):
        audit(file, "r2", 2, beside)


def test_leaves_the_file_as_it_is(tmp_path: Path) -> None:
    frames = make_frames()
    beside = write_night(tmp_path, frames).beside
    file = load(frames, "r1", tmp_path / "next.duckdb")
    before = file.read_bytes()
    audit(file, "r1", 2, beside)
    assert file.read_bytes() == before


def test_tables_alone_are_audited_by_what_they_can_tell(tmp_path: Path) -> None:
    """As of a run that is put back: what its users had rated is not asked again, what its lists are is."""
    frames = break_unseen(make_frames())
    audit(load(frames, "r1", tmp_path / "seen.duckdb"), "r1", None, None)
    with pytest.raises(PublishError, match="audit_ranks: "):
        audit(load(break_ranks_by_gap(frames), "r1", tmp_path / "gap.duckdb"), "r1", None, None)


def test_short_list_is_right_for_who_has_little_left(home: Home, tmp_path: Path) -> None:
    frames = make_frames(n=4)
    # User 1 has rated all four movies now and gets no list; the others have three left, and n is 10.
    more = frames["ratings"].head(1).drop("movie_id").join(frames["movies"].select("movie_id"), how="cross")
    more = more.filter(pl.col("movie_id") != 2).select(frames["ratings"].columns)
    frames["ratings"] = pl.concat([frames["ratings"], more])
    frames["recommendations"] = frames["recommendations"].filter(pl.col("user_id") != 1)

    assert publish(make_outcome("r1"), write_night(tmp_path / "short", frames, n=10), home)["recommendations"] == 9


def test_movie_that_nobody_rated_is_not_missed_in_a_list(home: Home, tmp_path: Path) -> None:
    frames = make_frames(n=4)
    unrated = frames["movies"].head(1).with_columns(movie_id=pl.lit(5, pl.Int32))
    frames["movies"] = pl.concat([frames["movies"], unrated])

    assert publish(make_outcome("r1"), write_night(tmp_path / "cold", frames, n=10), home)["movies"] == 5


class TestWhatMayBeShown:
    """Movies given as the ones that may be shown, rated or not, and users for whom rules leave fewer."""

    def night(self, folder: Path, frames: Frames, available: list[int], **shortened: int) -> Tonight:
        tonight = write_night(folder, frames)
        pl.DataFrame({"movie_id": available}).write_parquet(folder / "available.parquet")
        users = {"user_id": [int(name.removeprefix("user_")) for name in shortened], "n_available": shortened.values()}
        pl.DataFrame(users).write_parquet(folder / "shortened.parquet")
        paths = {name: folder / f"{name}.parquet" for name in ("available", "shortened")}
        return replace(tonight, available=paths["available"], shortened=paths["shortened"] if shortened else None)

    def test_a_movie_that_may_not_be_shown_is_refused(self, home: Home, tmp_path: Path) -> None:
        """1 is recommended to two users, stands in two default lists, and is similar to two movies."""
        frames = make_frames()
        publish(make_outcome("r1"), self.night(tmp_path / "all", frames, [1, 2, 3, 4]), home)
        expected = "audit_available: 1 .* movie_id 1, n_rows 6"
        with pytest.raises(PublishError, match=expected):
            publish(make_outcome("r2"), self.night(tmp_path / "some", frames, [2, 3, 4]), home)

    def test_a_movie_that_nobody_rated_is_missed_once_it_may_be_shown(self, home: Home, tmp_path: Path) -> None:
        """Of five movies everybody has four left; two of them were listed, and n is 2 before it is 10."""
        frames = make_frames()
        unrated = frames["movies"].head(1).with_columns(movie_id=pl.lit(5, pl.Int32))
        frames["movies"] = pl.concat([frames["movies"], unrated])
        tonight = self.night(tmp_path, frames, [1, 2, 3, 4, 5])
        publish(make_outcome("r1"), tonight, home)
        with pytest.raises(PublishError, match=r"audit_length: 4 users .* user_id 1, n_listed 2, n_expected 4"):
            publish(make_outcome("r2"), replace(tonight, n=10), home)

    def test_rules_may_leave_a_user_fewer(self, home: Home, tmp_path: Path) -> None:
        frames = break_length(make_frames())
        publish(make_outcome("r1"), self.night(tmp_path / "one", frames, [1, 2, 3, 4], user_1=1), home)
        with pytest.raises(PublishError, match=r"audit_length: 1 users .* user_id 2, n_listed 2, n_expected 1"):
            publish(make_outcome("r2"), self.night(tmp_path / "two", frames, [1, 2, 3, 4], user_1=1, user_2=1), home)

    def test_who_has_rated_nothing_has_a_list_too(self, home: Home, tmp_path: Path) -> None:
        frames = make_frames()
        frames["users"] = pl.concat(
            [frames["users"], frames["users"].tail(1).with_columns(user_id=pl.lit(9, pl.Int32))]
        )
        with pytest.raises(PublishError, match=r"audit_length: 1 users .* user_id 9, n_listed 0, n_expected 2"):
            publish(make_outcome("r1"), write_night(tmp_path / "none", frames), home)
        theirs = (
            frames["recommendations"]
            .head(2)
            .with_columns(
                pl.lit(9, pl.Int32).alias("user_id"),
                pl.lit("default").alias("served_by"),
                pl.Series("because_movie_ids", [[], []], dtype=pl.List(pl.Int32)),
            )
        )
        frames["recommendations"] = pl.concat([frames["recommendations"], theirs])
        assert publish(make_outcome("r1"), write_night(tmp_path / "list", frames), home)["recommendations"] == 10


def without_ratings(frames: Frames, n_users: int) -> Frames:
    """The first users are strangers: no ratings, no reasons."""
    is_stranger = pl.col("user_id") <= n_users
    nothing = pl.lit([], dtype=pl.List(pl.Int32))
    lists = frames["recommendations"].with_columns(
        pl.when(is_stranger).then(pl.lit("default")).otherwise("served_by").alias("served_by"),
        pl.when(is_stranger).then(nothing).otherwise("because_movie_ids").alias("because_movie_ids"),
    )
    return frames | {"recommendations": lists, "ratings": frames["ratings"].remove(is_stranger)}


def with_first(frames: Frames, movie_id: int) -> Frames:
    """The movie stands first in the list of whoever has neither rated nor listed it."""
    lists = frames["recommendations"]
    has = pl.concat([lists.select("user_id", "movie_id"), frames["ratings"].select("user_id", "movie_id")])
    has_not = lists.join(has.filter(movie_id=movie_id), on="user_id", how="anti")["user_id"].unique()
    return change(frames, pl.col("user_id").is_in(has_not.implode()) & (pl.col("rank") == 1), movie_id=movie_id)


def shifted(frames: Frames) -> Frames:
    """Other movies than before, for everybody."""
    return frames | {"recommendations": frames["recommendations"].with_columns((pl.col("movie_id") + 1) % 40 + 1)}


MANY: dict[str, Any] = {"n_users": 120, "n_movies": 40}  # as many users and movies as top_movie_share asks for


class TestLimits:
    """What is told of all lists together."""

    @pytest.mark.parametrize(
        ("frames", "said", "setting"),
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
    def test_beyond_one_nothing_is_published(
        self, home: Home, tmp_path: Path, frames: Frames, said: str, setting: str
    ) -> None:
        publish(make_outcome("r1"), write_night(tmp_path / "sound", make_frames(**MANY)), home)
        before = home.warehouse.read_bytes()
        tonight = replace(
            write_night(tmp_path / "odd", frames), rating_scale=(1.0, 5.0), audit_docs=tmp_path / "data_docs"
        )
        with pytest.raises(PublishError, match=said) as error:
            publish(make_outcome("r2"), tonight, home)
        assert str(error.value).count("audit_") == 1
        assert f"See {tmp_path / 'data_docs' / 'index.html'}. Next: " in str(error.value)
        assert str(error.value).endswith(f"let them pass with RECSYS_AUDIT__{setting}")
        assert home.warehouse.read_bytes() == before

        name, _, value = setting.partition("=")
        publish(make_outcome("r2"), replace(tonight, limits=AuditConfig(**{name.lower(): value})), home)

    def test_a_sound_night_after_another_is_published_with_its_figures(self, home: Home, tmp_path: Path) -> None:
        """A tenth of the users are new and have not rated; one list has another movie."""
        publish(make_outcome("r1"), write_night(tmp_path / "first", make_frames(108, 40)), home)
        frames = change(without_ratings(make_frames(**MANY), 12), SECOND_ROW, movie_id=20)
        publish(make_outcome("r2"), replace(write_night(tmp_path / "second", frames), rating_scale=(1.0, 5.0)), home)
        with duckdb.connect(home.warehouse, read_only=True) as connection:
            figures = connection.sql(
                "select metric, round(value, 4) from metrics "
                "where run_id = 'r2' and split = 'tonight' and slice = 'all' order by metric"
            ).fetchall()
        assert figures == [
            ("audit_churn", 0.0046),
            ("audit_flat_share", 0.0),
            ("audit_overshoot", 0.0),
            ("audit_rows_share", 1.1111),
            ("audit_stranger_rise", 0.1),
            ("audit_stranger_share", 0.1),
            ("audit_top_movie_share", 0.0556),
        ]

    def test_lists_of_another_depth_are_compared_as_far_as_both_go(self, home: Home, tmp_path: Path) -> None:
        publish(make_outcome("r1"), write_night(tmp_path / "short", make_frames(**MANY)), home)
        publish(make_outcome("r2"), write_night(tmp_path / "long", make_frames(**MANY, n=20), 20), home)
        publish(make_outcome("r3"), write_night(tmp_path / "again", make_frames(**MANY)), home)
        assert self.shares(home) == [("r2", 1.0), ("r3", 1.0)]

    def test_lists_of_other_data_are_not_compared(
        self, home: Home, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        publish(make_outcome("r1"), write_night(tmp_path / "few", make_frames()), home)
        other = replace(make_outcome("r2"), dataset="other")
        with caplog.at_level("INFO"):
            publish(other, write_night(tmp_path / "many", make_frames(**MANY)), home)
        assert "no lists of other are served with which tonight's could be compared" in caplog.text
        assert self.shares(home) == []

    def test_forgotten_users_are_not_missed(self, home: Home, tmp_path: Path) -> None:
        publish(make_outcome("r1"), write_night(tmp_path / "all", make_frames(**MANY)), home)
        forget(range(101, 121), home)
        publish(make_outcome("r2"), write_night(tmp_path / "less", make_frames(100, 40)), home)
        assert self.shares(home) == [("r2", 1.0)]

    def shares(self, home: Home) -> list[tuple[str, float]]:
        with duckdb.connect(home.warehouse, read_only=True) as connection:
            return connection.sql(
                "select run_id, value from metrics where metric = 'audit_rows_share' order by run_id"
            ).fetchall()


class TestCaps:
    """At most one of the movies 1, 2 and 3 in a list of two, which leaves room for 4."""

    def capped(self, folder: Path, frames: Frames) -> Tonight:
        tonight = replace(write_night(folder, frames), caps=folder / "caps.parquet", shortened=folder / "s.parquet")
        caps = {"movie_id": [1, 2, 3], "group_name": ["caps[0] a"] * 3, "at_most": [1, 1, 1]}
        pl.DataFrame(caps).write_parquet(folder / "caps.parquet")
        lengths = frames["recommendations"].group_by("user_id").len("n_available")  # believed, as far as they go
        lengths.cast({"n_available": pl.Int64}).write_parquet(folder / "s.parquet")
        return tonight

    def frames(self, *lists: tuple[int, ...]) -> Frames:
        """Of users 1 to 4, who have rated the movies 2, 3, 4 and 1; and of segment all."""
        frames = make_frames()
        *theirs, everybodys = lists
        rows = [(user, rank, movie) for user, movies in enumerate(theirs, 1) for rank, movie in enumerate(movies, 1)]
        columns = frames["recommendations"].columns
        listed = pl.DataFrame(rows, schema={"user_id": pl.Int32, "rank": pl.Int32, "movie_id": pl.Int32}, orient="row")
        others = frames["recommendations"].filter(pl.col("rank") == 1).drop("rank", "movie_id")
        lengths = len(everybodys)
        default = pl.DataFrame(
            {
                "segment": ["all"] * lengths,
                "rank": range(1, lengths + 1),
                "movie_id": everybodys,
                "score": [1.0] * lengths,
            }
        )
        return frames | {
            "recommendations": listed.join(others, on="user_id").select(columns),
            "default_recommendations": default.cast({"rank": pl.Int32, "movie_id": pl.Int32}),
        }

    def test_lists_that_they_leave_short_are_right(self, home: Home, tmp_path: Path) -> None:
        frames = self.frames((3, 4), (1, 4), (1,), (4, 2), (4, 1))
        publish(make_outcome("r1"), replace(self.capped(tmp_path, frames), limits=NO_LIMITS), home)

    @pytest.mark.parametrize(
        ("lists", "complaint"),
        [
            (((3,), (1, 4), (1,), (4, 2), (4, 1)), "audit_room: 1 .* example user_id 1, movie_id_with_room 4"),
            (((3, 4), (1, 4), (1,), (4, 2), (1,)), "audit_room: 1 .* example segment all, movie_id_with_room 4"),
            (((3, 1), (1, 4), (1,), (4, 2), (4, 1)), r"audit_caps: 1 .* user_id 1, group_name caps\[0\] a, at_most 1"),
            (
                ((3, 4), (1, 4), (1,), (4, 2), (2, 1)),
                r"audit_caps: 1 .* segment all, group_name caps\[0\] a, at_most 1",
            ),
        ],
    )
    def test_a_list_is_neither_shorter_nor_more_of_a_kind_than_they_say(
        self, served: Home, tmp_path: Path, lists: tuple[tuple[int, ...], ...], complaint: str
    ) -> None:
        before = served.warehouse.read_bytes()
        tonight = replace(self.capped(tmp_path / "capped", self.frames(*lists)), limits=NO_LIMITS)
        with pytest.raises(PublishError, match=complaint) as error:
            publish(make_outcome("r2"), tonight, served)
        assert str(error.value).count("audit_") == 1
        assert served.warehouse.read_bytes() == before

    def test_a_blocked_movie_is_refused(self, served: Home, tmp_path: Path) -> None:
        before = served.warehouse.read_bytes()
        tonight = write_night(tmp_path / "blocked", make_frames())
        pl.DataFrame(
            {"user_id": [1], "movie_id": [3], "genre": [None]}, schema_overrides={"genre": pl.String}
        ).write_parquet(tmp_path / "blocked.parquet")
        with pytest.raises(PublishError, match=r"audit_blocked: 1 .* user_id 1, rank 1, movie_id 3"):
            publish(make_outcome("r2"), replace(tonight, blocked=tmp_path / "blocked.parquet"), served)
        assert served.warehouse.read_bytes() == before


def test_data_docs_can_be_read_offline(home: Home, tmp_path: Path) -> None:
    docs = tmp_path / "data_docs"
    publish(make_outcome("r1"), replace(write_night(tmp_path / "n", make_frames()), audit_docs=docs), home)
    index = (docs / "index.html").read_text(encoding="utf-8")
    assert "What the audit of r1 found" in index
    assert 'class="fail"' not in index
    assert "<td>measures</td>" in index
    for rule in ROW_RULES:
        assert f"<td>{rule.table}</td><td>{rule.name}</td><td>no {rule.offence}</td>" in unescape(index)
    assert not re.search(r"(src|href)=", index)


def test_every_broken_rule_is_named(tmp_path: Path) -> None:
    frames = break_because(break_unseen(make_frames()))
    beside = write_night(tmp_path, frames).beside
    with pytest.raises(PublishError, match=r"audit_unseen: .*; audit_because: "):
        audit(load(frames, "r1", tmp_path / "next.duckdb"), "r1", 2, beside)


def test_every_audit_file_is_a_rule() -> None:
    names = [rule.name for rule in ROW_RULES]
    assert sorted(names) == sorted(path.stem for path in sql.FOLDER.glob("audit_*.sql"))
    assert ROW_RULES[names.index("audit_unseen")].offence == "recommended movies that the user has already rated"


def test_every_limit_is_of_a_measure_and_has_a_test() -> None:
    assert {measure.setting for measure in MEASURES} == set(AuditConfig.model_fields)
    assert {measure.name for measure in MEASURES} <= set(re.findall(r" as (audit_\w+),", sql.read("measure_lists")))
