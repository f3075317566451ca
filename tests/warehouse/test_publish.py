"""Publishing, backfilling, restoring and recording: the rows of each table afterwards, and what a failure keeps."""

import hashlib
import multiprocessing
import os
import resource
import shutil
import signal
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pytest

from recsys.errors import PublishError
from recsys.forgotten import WITHHELD, forget
from recsys.home import Home
from recsys.warehouse import build
from recsys.warehouse.build import LISTS, NEW, RECORDS, SERVED, TABLES, Tonight
from recsys.warehouse.outcome import Outcome
from recsys.warehouse.publish import check_present, is_copied, record
from tests.support.publishing import ROWS, USERS, write_pair
from tests.support.warehouses import AS_OF, backfill, make_frames, make_outcome, publish, restore, write_night

RATED_AT = datetime(1998, 4, 22, tzinfo=UTC)  # of every rating of make_frames


@pytest.fixture
def tonight(tmp_path: Path) -> Tonight:
    return write_night(tmp_path / "tonight", make_frames())


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """A home to copy: most tests begin with the same published run."""
    folder = tmp_path_factory.mktemp("published")
    home = Home(folder / "home")
    publish(make_outcome("r1"), write_night(folder / "tonight", make_frames()), home)
    return home


@pytest.fixture
def r1(template: Home, home: Home) -> None:
    """Run r1 has been published from `tonight`."""
    shutil.copytree(template.root, home.root)


def select(home: Home, statement: str) -> list[tuple[Any, ...]]:
    with duckdb.connect(home.warehouse, read_only=True) as connection:
        return connection.sql(statement).fetchall()


def read_all(home: Home) -> dict[str, list[tuple[Any, ...]]]:
    return {table: select(home, f"from {table}") for table in TABLES}


def names_in(home: Home) -> list[str]:
    return sorted(path.name for path in home.root.iterdir())


class TestPublish:
    def test_writes_every_table_and_returns_its_rows(self, home: Home, tonight: Tonight) -> None:
        counts = publish(make_outcome("r1"), tonight, home)

        assert counts == {
            "recommendations": 8, "default_recommendations": 4, "similar_movies": 8, "movies": 4, "users": 4,
            "links": 4, "movie_stats": 4, "user_stats": 4, "runs": 1, "run_steps": 2, "metrics": 4, "quarantine": 1,
            "recommendation_history": 8, "metric_names": 3,
        }  # fmt: skip
        tables = read_all(home)
        assert {table: len(rows) for table, rows in tables.items()} == counts
        assert tables["recommendations"][:2] == [
            (1, 1, 3, 1.0, 4.0, [2], "history", "r1"),
            (1, 2, 4, 0.5, 4.0, [2], "history", "r1"),
        ]
        assert tables["default_recommendations"] == [
            ("all", 1, 1, 1.0, "r1"),
            ("all", 2, 2, 0.5, "r1"),
            ("gender=F age=25", 1, 2, 1.0, "r1"),
            ("gender=F age=25", 2, 1, 0.5, "r1"),
        ]
        assert tables["similar_movies"][:2] == [(1, 1, 2, 1.0, "r1"), (1, 2, 3, 0.5, "r1")]
        assert tables["movies"][0] == (1, "Movie 1", 1995, ["Drama", "War"], 1, 1)
        assert tables["users"][0] == (1, "F", 25, "artist", "00100", "25", "gender=F age=25")
        assert tables["links"][0] == (1, "0000001", 10)
        assert tables["movie_stats"][0] == (1, 1, 5.0, *[0] * 9, 1, RATED_AT, RATED_AT)
        assert tables["user_stats"][0] == (1, "gender=F age=25", "25", 1, 5.0, *[0] * 9, 1, RATED_AT, RATED_AT)
        assert tables[LISTS][0] == ("r1", AS_OF, 1, 1, 3, 1.0, 4.0, [2])
        assert [row[0] for row in tables["metric_names"]] == ["audit_flat_share", "audit_stranger_share", "mae_median"]
        assert tables["metrics"][0] == ("r1", "ordinal", "holdout", "all", "mae_median", 0.65)
        assert tables["quarantine"] == [("r1", "ratings", "u.data", 7, "unreadable", '{"line": "1\\t2"}')]
        assert select(home, "select verdict, reason, published, started_at = '2026-11-21 03:00:00+00' from runs") == [
            ("published", None, True, True)
        ]

    def test_leaves_one_file_in_the_storage_format_of_duckdb_1_4(self, home: Home, tonight: Tonight) -> None:
        publish(make_outcome("r1"), tonight, home)

        assert names_in(home) == ["warehouse.duckdb"]
        tags = select(home, "select tags from duckdb_databases() where path is not null")
        assert tags == [({"storage_version": "v1.4.0+"},)]

    def test_sorts_lists_on_disk(self, home: Home, tmp_path: Path) -> None:
        frames = make_frames(n_users=50, n_movies=20, n=10)
        keys = {"recommendations": "user_id", "default_recommendations": "segment", "similar_movies": "movie_id"}
        for table in keys:
            frames[table] = frames[table].sample(fraction=1.0, shuffle=True, seed=1)
        publish(make_outcome("r1"), write_night(tmp_path / "shuffled", frames, n=10), home)

        for table, key in keys.items():
            rows = select(home, f"select {key}, rank from {table}")
            assert rows == sorted(rows)

    @pytest.mark.usefixtures("r1")
    def test_without_the_other_lists_their_tables_are_empty(self, home: Home, tonight: Tonight) -> None:
        counts = publish(make_outcome("r2"), replace(tonight, default_recommendations=None, similar_movies=None), home)
        assert (counts["default_recommendations"], counts["similar_movies"]) == (0, 0)

    @pytest.mark.usefixtures("r1")
    def test_second_run_replaces_lists_and_extends_history(self, home: Home, tonight: Tonight) -> None:
        publish(make_outcome("r2"), tonight, home)

        for table in ("recommendations", "default_recommendations", "similar_movies"):
            assert select(home, f"select distinct run_id from {table}") == [("r2",)]
        for table in (*RECORDS, LISTS):
            assert select(home, f"select distinct run_id from {table} order by run_id") == [("r1",), ("r2",)]

    @pytest.mark.usefixtures("r1")
    def test_publishing_again_changes_nothing(self, home: Home, tonight: Tonight) -> None:
        once = read_all(home)
        publish(make_outcome("r1"), tonight, home)

        assert read_all(home) == once

    def test_the_file_does_not_grow_when_lists_are_replaced(self, home: Home, tmp_path: Path) -> None:
        nights = [replace(night, history_runs=2) for night in write_pair(tmp_path)]
        for night in range(1, 3):
            publish(make_outcome(f"r{night}"), nights[night % 2], home)
        first_bytes = home.warehouse.stat().st_size
        for night in range(3, 5):
            publish(make_outcome(f"r{night}"), nights[night % 2], home)

        assert home.warehouse.stat().st_size < 1.1 * first_bytes

    @pytest.mark.usefixtures("r1")
    def test_a_failed_audit_leaves_the_old_file_unchanged(self, home: Home, tmp_path: Path) -> None:
        before = home.warehouse.read_bytes()
        frames = make_frames()
        frames["recommendations"] = frames["recommendations"].head(-1)

        with pytest.raises(PublishError, match=r"r2 failed their audit: audit_length: 1 users .* user_id 4"):
            publish(make_outcome("r2"), write_night(tmp_path / "short", frames), home)
        assert home.warehouse.read_bytes() == before
        assert names_in(home) == ["warehouse.duckdb"]

    def test_a_null_score_is_refused(self, home: Home, tmp_path: Path) -> None:
        frames = make_frames()
        frames["recommendations"] = frames["recommendations"].with_columns(score=pl.lit(None, pl.Float64))

        with pytest.raises(PublishError, match=r"NOT NULL constraint failed: recommendations\.score"):
            publish(make_outcome("r1"), write_night(tmp_path / "nulls", frames), home)
        assert names_in(home) == []

    def test_a_rank_that_occurs_twice_is_refused(self, home: Home, tmp_path: Path) -> None:
        frames = make_frames()
        frames["recommendations"] = frames["recommendations"].with_columns(rank=pl.lit(1, pl.Int32))

        with pytest.raises(PublishError, match=r"could not be written: .*[Dd]uplicate key"):
            publish(make_outcome("r1"), write_night(tmp_path / "twice", frames), home)
        assert names_in(home) == []

    def test_removes_the_temporary_files_of_a_killed_run(self, home: Home, tonight: Tonight) -> None:
        home.root.mkdir()
        (home.root / ".warehouse.duckdb.4711").write_bytes(b"half a file")
        (home.root / ".warehouse.duckdb.4711.wal").write_bytes(b"its log")
        (home.root / ".warehouse.duckdb.4711.tmp").mkdir()
        publish(make_outcome("r1"), tonight, home)

        assert names_in(home) == ["warehouse.duckdb"]


def known_until(run_id: str, day: int, verdict: str = "published") -> Outcome:
    """A run that used the ratings before this day of April."""
    return replace(make_outcome(run_id, verdict), as_of=datetime(1998, 4, day, tzinfo=UTC))


def runs_in_history(home: Home) -> list[str]:
    """The runs of recommendation_history in the order of its rows."""
    return [run_id for (run_id,) in select(home, f"select run_id from {LISTS} group by run_id order by min(rowid)")]


class TestHistory:
    def test_keeps_the_lists_of_the_latest_runs(self, home: Home, tonight: Tonight) -> None:
        for day in (1, 2, 3, 4):
            publish(known_until(f"r{day}", day), replace(tonight, history_runs=3), home)
        assert runs_in_history(home) == ["r2", "r3", "r4"]
        assert select(home, f"select user_id, rank, movie_id, score from {LISTS} where run_id = 'r4'") == select(
            home, "select user_id, rank, movie_id, score from recommendations"
        )

    def test_a_run_that_is_published_again_appears_once(self, home: Home, tonight: Tonight) -> None:
        for _ in range(2):
            publish(known_until("r1", 1), tonight, home)
        assert select(home, f"select count(*) from {LISTS}") == [(8,)]

    @pytest.mark.usefixtures("r1")
    def test_steps_are_recorded_in_order(self, home: Home) -> None:
        record(make_outcome("r2", "failed"), home)
        steps = select(home, "select step, seconds from run_steps where run_id = 'r2'")
        assert steps == [("train", 2.5), ("score", 1.0)]


class TestBackfill:
    def test_inserts_the_lists_by_as_of_and_changes_no_served_table(
        self, home: Home, tonight: Tonight, tmp_path: Path
    ) -> None:
        publish(known_until("r1", 1), tonight, home)
        publish(known_until("r2", 5), tonight, home)
        served = {table: rows for table, rows in read_all(home).items() if table in SERVED}
        frames = make_frames()
        frames["recommendations"] = frames["recommendations"].with_columns(score=pl.col("score") + 1)
        backfill(known_until("r3", 3, "backfilled"), write_night(tmp_path / "earlier", frames), home)

        assert {table: rows for table, rows in read_all(home).items() if table in SERVED} == served
        assert runs_in_history(home) == ["r1", "r3", "r2"]
        assert select(
            home, "select max(score), run_id from recommendations_as_of('1998-04-04 00:00+00') group by 2"
        ) == [(2.0, "r3")]
        assert select(home, "select verdict, published from runs where run_id = 'r3'") == [("backfilled", False)]

    def test_the_lists_of_the_served_run_stay_even_if_many_runs_are_newer(self, home: Home, tonight: Tonight) -> None:
        """A roll-back causes this. A backfilled run that is too old to be kept stays until the next publish."""
        publish(known_until("r1", 1), tonight, home)
        few = replace(tonight, history_runs=2)
        for day in (5, 6):
            backfill(known_until(f"r{day}", day, "backfilled"), few, home)
        assert runs_in_history(home) == ["r1", "r5", "r6"]
        backfill(known_until("r2", 2, "backfilled"), few, home)
        assert runs_in_history(home) == ["r1", "r2", "r5", "r6"]
        publish(known_until("r7", 7), few, home)
        assert runs_in_history(home) == ["r1", "r6", "r7"]

    def test_lists_that_fail_their_audit_are_not_added(self, home: Home, tonight: Tonight, tmp_path: Path) -> None:
        publish(known_until("r1", 1), tonight, home)
        before = home.warehouse.read_bytes()
        frames = make_frames()
        frames["recommendations"] = frames["recommendations"].head(-1)
        with pytest.raises(PublishError, match="r2 failed their audit: audit_length"):
            backfill(known_until("r2", 1, "backfilled"), write_night(tmp_path / "short", frames), home)
        assert home.warehouse.read_bytes() == before
        assert names_in(home) == ["warehouse.duckdb"]


class TestRestore:
    RUNS = ("20261121T030000Z", "20261122T030000Z")

    @pytest.fixture(scope="class")
    @classmethod
    def both(cls, tmp_path_factory: pytest.TempPathFactory) -> Home:
        """A home to copy: two runs have published, and their lists differ."""
        folder = tmp_path_factory.mktemp("both")
        home = Home(folder / "home")
        for run_id, tonight in zip(cls.RUNS, write_pair(folder), strict=True):
            publish(make_outcome(run_id), replace(tonight, copies=home.run(run_id).served), home)
            if run_id == cls.RUNS[0]:
                shutil.copytree(home.root, cls.before(home).root)
        return home

    @staticmethod
    def before(both: Home) -> Home:
        """A copy of the home, made when only the first run had published."""
        return Home(both.root.with_name("before"))

    @pytest.fixture
    def twice(self, both: Home, home: Home) -> Home:
        shutil.copytree(both.root, home.root)
        return home

    def roll_back(self, home: Home) -> dict[str, int]:
        outcome = replace(make_outcome("20261122T090000Z", "rolled back", f"to run {self.RUNS[0]}"), published=True)
        return restore(outcome, home.run(self.RUNS[0]), home)

    def test_serves_the_same_rows_as_before(self, both: Home, twice: Home) -> None:
        assert self.roll_back(twice)["recommendations"] == ROWS
        restored = {table: rows for table, rows in read_all(twice).items() if table in SERVED}
        assert restored == {table: rows for table, rows in read_all(self.before(both)).items() if table in SERVED}

    def test_is_recorded_and_keeps_the_other_runs(self, twice: Home) -> None:
        self.roll_back(twice)
        assert select(twice, "select run_id, verdict, reason, published from runs order by run_id") == [
            (self.RUNS[0], "published", None, True),
            (self.RUNS[1], "published", None, True),
            ("20261122T090000Z", "rolled back", f"to run {self.RUNS[0]}", True),
        ]
        assert runs_in_history(twice) == list(self.RUNS)

    def test_forgotten_users_are_not_restored(self, twice: Home) -> None:
        forget([7], twice)
        self.roll_back(twice)
        for table in ("recommendations", "users", LISTS):
            assert select(twice, f"select count(*) from {table} where user_id = 7") == [(0,)]
        assert select(twice, "select count(distinct user_id) from recommendations") == [(USERS - 1,)]

    def test_missing_copies_are_an_error(self, twice: Home) -> None:
        (twice.run(self.RUNS[0]).served / "users.parquet").unlink()
        before = twice.warehouse.read_bytes()
        with pytest.raises(PublishError, match=r"cannot be restored: .* no longer holds users\.parquet"):
            self.roll_back(twice)
        assert twice.warehouse.read_bytes() == before

    def test_a_run_of_an_older_version_is_restored_without_the_new_tables(self, twice: Home) -> None:
        served = twice.run(self.RUNS[0]).served
        for table in NEW:
            (served / f"{table}.parquet").unlink()
        users = pl.read_parquet(served / "users.parquet")
        users.drop("age_band", "segment").write_parquet(served / "users.parquet")
        assert is_copied(twice.run(self.RUNS[0]))
        counts = self.roll_back(twice)
        assert [counts[table] for table in NEW] == [0, 0, 0]
        assert select(twice, "select count(*), count(segment) from users") == [(USERS, 0)]
        (twice.run(self.RUNS[1]).served / "links.parquet").unlink()
        assert not is_copied(twice.run(self.RUNS[1]))

    def test_damaged_copies_are_not_served(self, twice: Home) -> None:
        path = twice.run(self.RUNS[0]).served / "recommendations.parquet"
        pl.read_parquet(path).with_columns(rank=pl.col("rank") + 1).write_parquet(path)
        before = twice.warehouse.read_bytes()
        with pytest.raises(PublishError, match="failed their audit: audit_ranks"):
            self.roll_back(twice)
        assert twice.warehouse.read_bytes() == before


@pytest.mark.usefixtures("r1")
def test_a_full_disk_is_detected_before_anything_is_written(home: Home, tonight: Tonight, tmp_path: Path) -> None:
    """A sparse file of lists that is larger than any disk."""
    before = home.warehouse.read_bytes()
    huge = tmp_path / "huge.parquet"
    with huge.open("wb") as file:
        file.truncate(2**43)
    with pytest.raises(PublishError, match=r"MB free, and the next warehouse may take 35,\d\d\d,\d\d\d MB"):
        publish(make_outcome("r2"), replace(tonight, similar_movies=huge), home)
    assert home.warehouse.read_bytes() == before


ADDED_COLUMNS = {
    "recommendations": ("served_by",),
    "movies": ("n_ratings",),
    "users": ("age_band", "segment"),
    "runs": ("ratings_path",),
    LISTS: ("rating_hat", "because_movie_ids"),
}


class TestOlderVersion:
    """A warehouse of an earlier version, without the tables and columns that later versions added."""

    @pytest.fixture
    def older(self, home: Home, r1: None) -> Home:
        with duckdb.connect(home.warehouse) as connection:
            views = connection.sql("select view_name from duckdb_views() where not internal").fetchall()
            for (name,) in views:
                connection.execute(f"drop view {name}")
            for name in ("default_recommendations", "similar_movies", "metric_names", *NEW):
                connection.execute(f"drop table {name}")
            for table, columns in ADDED_COLUMNS.items():
                for column in columns:
                    connection.execute(f"alter table {table} drop column {column}")
        return home

    def test_a_run_that_publishes_nothing_keeps_its_served_tables(self, older: Home) -> None:
        check_present(older)
        record(make_outcome("r2", "held back", "MAE 0.95"), older)
        assert select(older, "select distinct run_id, served_by from recommendations") == [("r1", "history")]
        assert select(older, "select count(*), count(n_ratings) from movies") == [(4, 0)]
        assert select(older, "select count(*) from recommendations_named") == [(8,)]
        for table in ("default_recommendations", "similar_movies", *NEW):
            assert select(older, f"from {table}") == []
        assert select(older, "select count(*), count(segment), count(age_band) from users") == [(4, 0, 0)]
        assert select(older, "select metric from metric_names where metric = 'mae_median'") == [("mae_median",)]
        assert select(older, "select run_id from runs order by run_id") == [("r1",), ("r2",)]

    def test_a_run_that_publishes_keeps_its_history(self, older: Home, tonight: Tonight) -> None:
        counts = publish(make_outcome("r2"), tonight, older)
        assert (counts["default_recommendations"], counts["similar_movies"], counts["runs"]) == (4, 8, 2)
        assert select(older, f"select run_id, count(*), count(rating_hat), count(because_movie_ids) from {LISTS} "
                      "group by run_id order by run_id") == [("r1", 8, 0, 0), ("r2", 8, 8, 8)]  # fmt: skip
        named = "select title, because_titles from recommendation_history_named where user_id = 1 and rank = 1"
        assert select(older, f"{named} order by run_id") == [("Movie 3", None), ("Movie 3", ["Movie 2"])]
        assert select(older, "from recommendation_changes") == []

    def test_refused_rows_of_old_runs_are_dropped(
        self, home: Home, tonight: Tonight, r1: None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(build, "QUARANTINE_RUNS", 2)
        for run_id in ("r2", "r3"):
            record(make_outcome(run_id, "held back", "MAE 0.95"), home, quarantine=tonight.quarantine)
        publish(make_outcome("r4"), tonight, home)
        assert select(home, "select run_id from runs order by run_id") == [("r1",), ("r2",), ("r3",), ("r4",)]
        assert select(home, "select run_id from quarantine order by run_id") == [("r2",), ("r3",), ("r4",)]

    def test_damage_in_the_history_is_found_before_any_work(self, home: Home, r1: None) -> None:
        with duckdb.connect(home.warehouse) as connection:
            connection.execute("alter table recommendation_history rename column score to points")
        with pytest.raises(PublishError, match="cannot be read, so the history in it would be lost"):
            check_present(home)

    def test_a_missing_table_that_every_version_has_is_an_error(self, older: Home, tonight: Tonight) -> None:
        with duckdb.connect(older.warehouse) as connection:
            connection.execute("drop table metrics")
        with pytest.raises(PublishError, match=r"cannot be read, so the history in it would be lost: .*metrics"):
            publish(make_outcome("r2"), tonight, older)


class TestPresentFile:
    @pytest.mark.parametrize("content", [b"", b"not a database" * 1000])
    def test_an_unreadable_file_is_not_overwritten(self, home: Home, tonight: Tonight, content: bytes) -> None:
        home.root.mkdir()
        home.warehouse.write_bytes(content)

        with pytest.raises(PublishError, match=r"warehouse.duckdb cannot be read.*Next: "):
            publish(make_outcome("r1"), tonight, home)
        assert home.warehouse.read_bytes() == content
        assert names_in(home) == ["warehouse.duckdb"]

    @pytest.mark.usefixtures("r1")
    def test_a_truncated_file_is_not_overwritten(self, home: Home) -> None:
        half = home.warehouse.read_bytes()[:100_000]
        home.warehouse.write_bytes(half)

        with pytest.raises(PublishError, match="cannot be read"):
            record(make_outcome("r2", "held back", "too bad"), home)
        assert home.warehouse.read_bytes() == half


class TestRecord:
    def test_on_an_empty_home_creates_empty_tables(self, home: Home) -> None:
        record(make_outcome("r1", "data refused", "5% broken"), home)

        assert {table: len(rows) for table, rows in read_all(home).items()} == {
            **dict.fromkeys(TABLES, 0), "runs": 1, "run_steps": 2,
        }  # fmt: skip
        for table in ("recommendations", "default_recommendations", "similar_movies"):
            assert select(home, f"from {table}_named") == []
        assert select(home, "select verdict, reason, published from runs") == [("data refused", "5% broken", False)]

    @pytest.mark.usefixtures("r1")
    def test_keeps_the_served_tables_and_adds_records(self, home: Home, tonight: Tonight) -> None:
        before = read_all(home)
        record(make_outcome("r2", "held back", "MAE 0.95"), home, tonight.metrics, tonight.quarantine)

        after = read_all(home)
        assert {table: after[table] for table in SERVED} == {table: before[table] for table in SERVED}
        assert {table: len(after[table]) for table in RECORDS} == {
            "runs": 2, "run_steps": 4, "metrics": 6, "quarantine": 2
        }  # fmt: skip
        assert after[LISTS] == before[LISTS]

    @pytest.mark.usefixtures("r1")
    def test_the_served_run_stays_published(self, home: Home) -> None:
        record(make_outcome("r1", "failed", "the report could not be written"), home)

        assert select(home, "select verdict, published from runs") == [("failed", True)]
        assert len(select(home, "from metrics")) == 4


class TestForgotten:
    USER = 424242

    def night_of_user(self, tmp_path: Path) -> Tonight:
        """A night in which user 424242 has lists, a profile, and two rows in quarantine."""
        frames = make_frames()
        for name in ("recommendations", "users", "ratings"):
            frames[name] = frames[name].with_columns(pl.col("user_id").replace(3, self.USER))
        theirs = [f'{{"user_id":{self.USER},"movie_id":1}}', f'{{"line": "{self.USER}::1::x"}}', '{"line": "7::1::x"}']
        frames["quarantine"] = pl.concat([frames["quarantine"]] * 3).with_columns(row=pl.Series(theirs))
        return write_night(tmp_path / "theirs", frames)

    def traces(self, home: Home) -> dict[str, int]:
        """For each table that mentions the id, the number of rows that do."""
        with duckdb.connect(home.warehouse, read_only=True) as connection:
            tables = [name for (name,) in connection.sql("select table_name from duckdb_tables()").fetchall()]
            counts = {
                table: connection.execute(
                    f"select count(*) from {table} where contains(to_json({table})::varchar, $user)",
                    {"user": str(self.USER)},
                ).fetchall()[0][0]
                for table in tables
            }
        return {table: count for table, count in counts.items() if count}

    @pytest.mark.parametrize("published", [True, False])
    def test_the_next_file_has_no_trace_of_a_forgotten_user(
        self, published: bool, home: Home, tonight: Tonight, tmp_path: Path
    ) -> None:
        publish(make_outcome("r1"), self.night_of_user(tmp_path), home)
        quote = f'2 lines, e.g. line 7: {{"user_id":{self.USER},"movie_id":1}}; and line 8: {{"movie_id":1}}'
        record(make_outcome("r2", "data refused", quote), home)
        assert self.traces(home) == {
            "recommendations": 2, "recommendation_history": 2, "users": 1, "user_stats": 1, "quarantine": 2, "runs": 1
        }  # fmt: skip

        forget([self.USER], home)
        publish(make_outcome("r3"), tonight, home) if published else record(make_outcome("r3", "failed", "x"), home)

        assert self.traces(home) == {}
        assert str(self.USER).encode() not in home.warehouse.read_bytes()
        kept = [('{"line": "7::1::x"}',), (WITHHELD,)]
        assert select(home, "select row from quarantine where run_id = 'r1' order by row") == kept
        assert select(home, "select reason from runs where run_id = 'r2'") == [
            ('2 lines, e.g. line 7: {withheld}; and line 8: {"movie_id":1}',)
        ]
        assert len(select(home, "from users")) == (4 if published else 3)


def test_a_file_that_cannot_be_written_is_not_called_unreadable(home: Home, tonight: Tonight) -> None:
    """A process whose files may not grow, as on a full disk, copies a large history. The present file is intact."""
    rows = [f'"{hashlib.sha512(str(number).encode()).hexdigest()}"' for number in range(40_000)]  # compresses badly
    many = pl.DataFrame({"source_table": "ratings", "source_line": 1, "rule": "unreadable", "row": rows})
    quarantine = tonight.quarantine.with_name("many.parquet")
    many.write_parquet(quarantine)
    publish(make_outcome("r1"), replace(tonight, quarantine=quarantine), home)
    before = home.warehouse.read_bytes()
    process = multiprocessing.get_context("fork").Process(target=record_with_small_files, args=(home,))
    process.start()
    process.join()
    message = (home.root / "message").read_text()
    assert "could not be written" in message
    assert "cannot be read" not in message
    assert home.warehouse.read_bytes() == before


def record_with_small_files(home: Home) -> None:
    message = (home.root / "message").open("w")
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))
    try:
        record(make_outcome("r2", "failed", "no good"), home)
    except PublishError as error:
        message.write(str(error))
        message.flush()
    os._exit(0)
