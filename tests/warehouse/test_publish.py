import logging
import multiprocessing
import random
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pytest

from recsys.errors import PublishError
from recsys.forgotten import WITHHELD, forget
from recsys.home import Home
from recsys.warehouse.outcome import Outcome
from recsys.warehouse.publish import (
    LISTS,
    RECORDS,
    SERVED,
    TABLES,
    Tonight,
    backfill,
    check_present,
    publish,
    record,
    restore,
)  # fmt: skip
from tests.support.warehouses import make_frames, make_outcome, write_night

# Children of a process that has imported much and opened nothing: a fork of this one would lack DuckDB's threads.
CLEAN = multiprocessing.get_context("forkserver")
CLEAN.set_forkserver_preload(["polars", "duckdb", "recsys.warehouse.publish"])

LARGE = {"n_users": 2000, "n_movies": 200, "n": 20}  # a publish of some tenths of a second
LARGE_ROWS = 2000 * 20
READERS, PUBLISHES, KILLS = 8, 20, 16
PAUSE_SECONDS = 0.5  # between two reads of one reader, or eight leave no time to the one who publishes


@pytest.fixture
def tonight(tmp_path: Path) -> Tonight:
    return write_night(tmp_path / "tonight", make_frames())


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """For copying: a publish takes most of a second, and most tests begin with the same one."""
    folder = tmp_path_factory.mktemp("published")
    home = Home(folder / "home")
    publish(make_outcome("r1"), write_night(folder / "tonight", make_frames()), home)
    return home


@pytest.fixture
def r1(elsewhere: Home, home: Home) -> None:
    """Run r1 has been published from `tonight`."""
    shutil.copytree(elsewhere.root, home.root)


@pytest.fixture
def large(tmp_path: Path) -> list[Tonight]:
    return write_large(tmp_path)


def write_large(folder: Path) -> list[Tonight]:
    """Two nights that differ in every `rating_hat`: 1.0 and 2.0."""
    return [
        write_night(folder / f"large-{night}", make_frames(**LARGE, rating_hat=night), LARGE["n"]) for night in (1, 2)
    ]


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
            "runs": 1, "run_steps": 2, "metrics": 4, "quarantine": 1, "recommendation_history": 8,
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
        assert tables["movies"][0] == (1, "Movie 1", 1995, ["Drama", "War"], 1)
        assert tables["users"][0] == (1, "F", 25, "artist", "00100")
        assert tables["metrics"][0] == ("r1", "ordinal", "holdout", "all", "mae_median", 0.65)
        assert tables["quarantine"] == [("r1", "ratings", "u.data", 7, "unreadable", '{"line": "1\\t2"}')]
        assert select(home, "select verdict, reason, published, started_at = '2026-11-21 03:00:00+00' from runs") == [
            ("published", None, True, True)
        ]

    def test_leaves_one_file_in_the_format_that_older_duckdbs_read(self, home: Home, tonight: Tonight) -> None:
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

    def test_file_does_not_grow_with_lists_replaced(self, home: Home, large: list[Tonight]) -> None:
        nights = [replace(night, history_runs=2) for night in large]
        for night in range(1, 3):
            publish(make_outcome(f"r{night}"), nights[night % 2], home)
        first_bytes = home.warehouse.stat().st_size
        for night in range(3, 5):
            publish(make_outcome(f"r{night}"), nights[night % 2], home)

        assert home.warehouse.stat().st_size < 1.1 * first_bytes

    @pytest.mark.usefixtures("r1")
    def test_failed_audit_keeps_the_old_file_to_the_byte(self, home: Home, tmp_path: Path) -> None:
        before = home.warehouse.read_bytes()
        frames = make_frames()
        frames["recommendations"] = frames["recommendations"].head(-1)

        with pytest.raises(PublishError, match=r"r2 failed their audit: audit_length: 1 users .* user_id 4"):
            publish(make_outcome("r2"), write_night(tmp_path / "short", frames), home)
        assert home.warehouse.read_bytes() == before
        assert names_in(home) == ["warehouse.duckdb"]

    def test_null_where_none_may_be_is_refused(self, home: Home, tmp_path: Path) -> None:
        frames = make_frames()
        frames["recommendations"] = frames["recommendations"].with_columns(score=pl.lit(None, pl.Float64))

        with pytest.raises(PublishError, match=r"NOT NULL constraint failed: recommendations\.score"):
            publish(make_outcome("r1"), write_night(tmp_path / "nulls", frames), home)
        assert names_in(home) == []

    def test_removes_what_a_dead_run_left(self, home: Home, tonight: Tonight) -> None:
        home.root.mkdir()
        (home.root / ".warehouse.duckdb.4711").write_bytes(b"half a file")
        (home.root / ".warehouse.duckdb.4711.wal").write_bytes(b"its log")
        (home.root / ".warehouse.duckdb.4711.tmp").mkdir()
        publish(make_outcome("r1"), tonight, home)

        assert names_in(home) == ["warehouse.duckdb"]


def known_until(run_id: str, day: int, verdict: str = "published") -> Outcome:
    """Of a run that knew the ratings before this day."""
    return replace(make_outcome(run_id, verdict), as_of=datetime(1998, 4, day, tzinfo=UTC))


def remembered(home: Home) -> list[str]:
    """Runs of the history in the order of its rows."""
    return [run_id for (run_id,) in select(home, f"select run_id from {LISTS} group by run_id order by min(rowid)")]


class TestHistory:
    def test_keeps_the_lists_of_the_latest_runs(self, home: Home, tonight: Tonight) -> None:
        for day in (1, 2, 3, 4):
            publish(known_until(f"r{day}", day), replace(tonight, history_runs=3), home)
        assert remembered(home) == ["r2", "r3", "r4"]
        assert select(home, f"select user_id, rank, movie_id, score from {LISTS} where run_id = 'r4'") == select(
            home, "select user_id, rank, movie_id, score from recommendations"
        )

    def test_publishing_a_run_again_leaves_one_of_it(self, home: Home, tonight: Tonight) -> None:
        for _ in range(2):
            publish(known_until("r1", 1), tonight, home)
        assert select(home, f"select count(*) from {LISTS}") == [(8,)]

    @pytest.mark.usefixtures("r1")
    def test_steps_are_kept_in_their_order(self, home: Home) -> None:
        record(make_outcome("r2", "failed"), home)
        steps = select(home, "select step, seconds from run_steps where run_id = 'r2'")
        assert steps == [("train", 2.5), ("score", 1.0)]


class TestBackfill:
    def test_goes_to_its_place_in_the_history_and_nothing_else_changes(
        self, home: Home, tonight: Tonight, tmp_path: Path
    ) -> None:
        publish(known_until("r1", 1), tonight, home)
        publish(known_until("r2", 5), tonight, home)
        served = {table: rows for table, rows in read_all(home).items() if table in SERVED}
        frames = make_frames()
        frames["recommendations"] = frames["recommendations"].with_columns(score=pl.col("score") + 1)
        backfill(known_until("r3", 3, "backfilled"), write_night(tmp_path / "earlier", frames), home)

        assert {table: rows for table, rows in read_all(home).items() if table in SERVED} == served
        assert remembered(home) == ["r1", "r3", "r2"]
        assert select(
            home, "select max(score), run_id from recommendations_as_of('1998-04-04 00:00+00') group by 2"
        ) == [(2.0, "r3")]
        assert select(home, "select verdict, published from runs where run_id = 'r3'") == [("backfilled", False)]

    def test_what_is_served_is_remembered_however_many_are_newer(self, home: Home, tonight: Tonight) -> None:
        """As after a roll-back; and a backfill of what is too old is remembered until the next night."""
        publish(known_until("r1", 1), tonight, home)
        few = replace(tonight, history_runs=2)
        for day in (5, 6):
            backfill(known_until(f"r{day}", day, "backfilled"), few, home)
        assert remembered(home) == ["r1", "r5", "r6"]
        backfill(known_until("r2", 2, "backfilled"), few, home)
        assert remembered(home) == ["r1", "r2", "r5", "r6"]
        publish(known_until("r7", 7), few, home)
        assert remembered(home) == ["r1", "r6", "r7"]

    def test_lists_that_fail_their_audit_are_not_remembered(self, home: Home, tonight: Tonight, tmp_path: Path) -> None:
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
        """For copying: two runs have published; their lists differ."""
        folder = tmp_path_factory.mktemp("both")
        home = Home(folder / "home")
        for run_id, tonight in zip(cls.RUNS, write_large(folder), strict=True):
            publish(make_outcome(run_id), replace(tonight, copies=home.run(run_id).served), home)
        return home

    @pytest.fixture
    def twice(self, both: Home, home: Home) -> Home:
        shutil.copytree(both.root, home.root)
        return home

    def undo(self, home: Home) -> dict[str, int]:
        outcome = replace(make_outcome("20261122T090000Z", "rolled back", f"to run {self.RUNS[0]}"), published=True)
        return restore(outcome, home.run(self.RUNS[0]), home)

    def test_serves_what_was_served_row_for_row(self, home: Home, large: list[Tonight]) -> None:
        publish(make_outcome(self.RUNS[0]), replace(large[0], copies=home.run(self.RUNS[0]).served), home)
        before = {table: rows for table, rows in read_all(home).items() if table in SERVED}
        publish(make_outcome(self.RUNS[1]), large[1], home)
        assert self.undo(home)["recommendations"] == LARGE_ROWS
        assert {table: rows for table, rows in read_all(home).items() if table in SERVED} == before

    def test_is_recorded_and_forgets_no_run(self, twice: Home) -> None:
        self.undo(twice)
        assert select(twice, "select run_id, verdict, reason, published from runs order by run_id") == [
            (self.RUNS[0], "published", None, True),
            (self.RUNS[1], "published", None, True),
            ("20261122T090000Z", "rolled back", f"to run {self.RUNS[0]}", True),
        ]
        assert remembered(twice) == list(self.RUNS)

    def test_forgotten_users_do_not_come_back(self, twice: Home) -> None:
        forget([7], twice)
        self.undo(twice)
        for table in ("recommendations", "users", LISTS):
            assert select(twice, f"select count(*) from {table} where user_id = 7") == [(0,)]
        assert select(twice, "select count(distinct user_id) from recommendations") == [(LARGE["n_users"] - 1,)]

    def test_a_run_whose_tables_are_gone_is_told(self, twice: Home) -> None:
        (twice.run(self.RUNS[0]).served / "users.parquet").unlink()
        before = twice.warehouse.read_bytes()
        with pytest.raises(PublishError, match=r"does not hold what run .* published \(users.parquet is not there\)"):
            self.undo(twice)
        assert twice.warehouse.read_bytes() == before

    def test_damaged_copies_are_not_served(self, twice: Home) -> None:
        path = twice.run(self.RUNS[0]).served / "recommendations.parquet"
        pl.read_parquet(path).with_columns(rank=pl.col("rank") + 1).write_parquet(path)
        before = twice.warehouse.read_bytes()
        with pytest.raises(PublishError, match="failed their audit: audit_ranks"):
            self.undo(twice)
        assert twice.warehouse.read_bytes() == before


@pytest.mark.usefixtures("r1")
def test_a_full_disk_is_told_before_anything_is_written(home: Home, tonight: Tonight, tmp_path: Path) -> None:
    """A list file with a hole in it, larger than any disk."""
    before = home.warehouse.read_bytes()
    huge = tmp_path / "huge.parquet"
    with huge.open("wb") as file:
        file.truncate(2**43)
    with pytest.raises(PublishError, match=r"MB free, and the next warehouse may take 35,\d\d\d,\d\d\d MB"):
        publish(make_outcome("r2"), replace(tonight, similar_movies=huge), home)
    assert home.warehouse.read_bytes() == before


class TestOlderVersion:
    """A warehouse from before there were default lists, similar movies, served_by and n_ratings."""

    @pytest.fixture
    def older(self, home: Home, r1: None) -> Home:
        with duckdb.connect(home.warehouse) as connection:
            for name in ("recommendations", "default_recommendations", "similar_movies"):
                connection.execute(f"drop view {name}_named")
            connection.execute("drop table default_recommendations; drop table similar_movies")
            connection.execute("alter table recommendations drop column served_by")
            connection.execute("alter table movies drop column n_ratings")
        return home

    def test_what_it_serves_is_carried_over_by_a_night_that_publishes_nothing(self, older: Home) -> None:
        check_present(older)
        record(make_outcome("r2", "held back", "MAE 0.95"), older)
        assert select(older, "select distinct run_id, served_by from recommendations") == [("r1", "history")]
        assert select(older, "select count(*), count(n_ratings) from movies") == [(4, 0)]
        assert select(older, "select count(*) from recommendations_named") == [(8,)]
        assert select(older, "from default_recommendations") == select(older, "from similar_movies") == []
        assert select(older, "select run_id from runs order by run_id") == [("r1",), ("r2",)]

    def test_its_history_is_carried_over_by_one_that_publishes(self, older: Home, tonight: Tonight) -> None:
        counts = publish(make_outcome("r2"), tonight, older)
        assert (counts["default_recommendations"], counts["similar_movies"], counts["runs"]) == (4, 8, 2)

    def test_a_table_that_every_version_had_is_missed(self, older: Home, tonight: Tonight) -> None:
        with duckdb.connect(older.warehouse) as connection:
            connection.execute("drop table metrics")
        with pytest.raises(PublishError, match=r"cannot be read, so the history in it would be lost: .*metrics"):
            publish(make_outcome("r2"), tonight, older)


class TestPresentFile:
    @pytest.mark.parametrize("content", [b"", b"not a database" * 1000])
    def test_unreadable_one_is_never_overwritten(self, home: Home, tonight: Tonight, content: bytes) -> None:
        home.root.mkdir()
        home.warehouse.write_bytes(content)

        with pytest.raises(PublishError, match=r"warehouse.duckdb cannot be read.*Next: "):
            publish(make_outcome("r1"), tonight, home)
        assert home.warehouse.read_bytes() == content
        assert names_in(home) == ["warehouse.duckdb"]

    @pytest.mark.usefixtures("r1")
    def test_truncated_one_is_never_overwritten(self, home: Home) -> None:
        half = home.warehouse.read_bytes()[:100_000]
        home.warehouse.write_bytes(half)

        with pytest.raises(PublishError, match="cannot be read"):
            record(make_outcome("r2", "held back", "too bad"), home)
        assert home.warehouse.read_bytes() == half

    @pytest.mark.usefixtures("r1")
    def test_somebody_writing_in_it_is_named(self, home: Home, tonight: Tonight) -> None:
        with somebody_writing(home) as pid, pytest.raises(PublishError, match=rf"PID {pid}.*Next: close whoever"):
            publish(make_outcome("r2"), tonight, home)

    @pytest.mark.usefixtures("r1")
    def test_log_of_a_dead_writer_does_not_block_readers(
        self, home: Home, tonight: Tonight, caplog: pytest.LogCaptureFixture
    ) -> None:
        with somebody_writing(home):
            pass
        assert names_in(home) == ["warehouse.duckdb", "warehouse.duckdb.wal"]

        with caplog.at_level(logging.WARNING):
            publish(make_outcome("r2"), tonight, home)
        assert "opened for writing by somebody" in caplog.text
        assert select(home, "select run_id from runs order by run_id") == [("r1",), ("r2",)]


class TestRecord:
    def test_on_an_empty_home_makes_tables_without_rows(self, home: Home) -> None:
        record(make_outcome("r1", "data refused", "5% broken"), home)

        assert {table: len(rows) for table, rows in read_all(home).items()} == {
            "recommendations": 0, "default_recommendations": 0, "similar_movies": 0, "movies": 0, "users": 0,
            "runs": 1, "run_steps": 2, "metrics": 0, "quarantine": 0, "recommendation_history": 0,
        }  # fmt: skip
        for table in ("recommendations", "default_recommendations", "similar_movies"):
            assert select(home, f"from {table}_named") == []
        assert select(home, "select verdict, reason, published from runs") == [("data refused", "5% broken", False)]

    @pytest.mark.usefixtures("r1")
    def test_keeps_what_is_served_and_extends_history(self, home: Home, tonight: Tonight) -> None:
        before = read_all(home)
        record(make_outcome("r2", "held back", "MAE 0.95"), home, tonight.metrics, tonight.quarantine)

        after = read_all(home)
        assert {table: after[table] for table in SERVED} == {table: before[table] for table in SERVED}
        assert {table: len(after[table]) for table in RECORDS} == {
            "runs": 2, "run_steps": 4, "metrics": 6, "quarantine": 2
        }  # fmt: skip
        assert after[LISTS] == before[LISTS]

    @pytest.mark.usefixtures("r1")
    def test_run_that_is_served_stays_published(self, home: Home) -> None:
        record(make_outcome("r1", "failed", "the report could not be written"), home)

        assert select(home, "select verdict, published from runs") == [("failed", True)]
        assert len(select(home, "from metrics")) == 4


@pytest.mark.slow
class TestProcesses:
    def test_readers_see_one_whole_run_while_others_are_published(self, home: Home, large: list[Tonight]) -> None:
        nights = [replace(night, history_runs=3) for night in large]
        publish(make_outcome("r00-1"), nights[0], home)
        done = CLEAN.Event()
        pipes = [CLEAN.Pipe(duplex=False) for _ in range(READERS)]
        readers = [CLEAN.Process(target=poll, args=(home, done, question)) for _, question in pipes]
        for reader in readers:
            reader.start()
        assert [answer.recv() for answer, _ in pipes] == ["reading"] * READERS
        with duckdb.connect(home.warehouse, read_only=True) as patient:
            for night in range(1, PUBLISHES + 1):
                publish(make_outcome(f"r{night:02}-{night % 2 + 1}"), nights[night % 2], home)
            assert patient.sql("select distinct run_id from recommendations").fetchall() == [("r00-1",)]
        done.set()
        results = [answer.recv() for answer, _ in pipes]
        for reader in readers:
            reader.join()

        assert [wrong for _, _, wrong in results] == [[]] * READERS
        assert min(n_reads for n_reads, _, _ in results) >= 5
        assert len(set().union(*(run_ids for _, run_ids, _ in results))) > PUBLISHES / 2

    def test_kill_leaves_the_old_file_or_the_new_one(self, home: Home, large: list[Tonight]) -> None:
        """At moments drawn over the whole of a publish; the next one succeeds with whatever the killed one left."""
        publish(make_outcome("r00-1"), large[0], home)
        start = time.monotonic()
        publish(make_outcome("r00-1"), large[0], home)
        publish_seconds = time.monotonic() - start
        chance = random.Random(0)
        served = set()
        for attempt in range(1, KILLS + 1):
            wait_seconds = 0.0 if attempt == 1 else chance.uniform(0, 1.2 * publish_seconds)
            kill_while_publishing(f"r{attempt:02}-2", large[1], home, wait_seconds)
            left = names_in(home)
            assert attempt > 1 or len(left) > 1, "the first kill comes as soon as the next file appears"

            served.add(check_whole(home))
            assert served <= {"r00-1", *(f"r{number:02}-2" for number in range(1, attempt + 1))}
            publish(make_outcome("r00-1"), large[0], home)
            assert names_in(home) == ["warehouse.duckdb"]
            assert check_whole(home) == "r00-1"
        assert "r00-1" in served


def check_whole(home: Home) -> str:
    """The run that a reader sees; a file that holds anything but one whole run, with its history, is an error."""
    with duckdb.connect(home.warehouse, read_only=True) as connection:
        lists = connection.sql(
            "select run_id, rating_hat, count(*), count(because_titles) from recommendations_named group by all"
        ).fetchall()
        published = connection.sql("select run_id from runs where published").fetchall()
        others = connection.sql(
            "select run_id from default_recommendations union select run_id from similar_movies"
        ).fetchall()
        remembered = connection.sql(f"select run_id, count(*) from {LISTS} group by run_id").fetchall()
    assert len(lists) == 1, lists
    run_id, rating_hat, n_rows, n_named = lists[0]
    assert (n_rows, n_named) == (LARGE_ROWS, LARGE_ROWS)
    assert run_id.endswith(f"-{rating_hat:.0f}")
    assert (run_id,) in published
    assert others == [(run_id,)]
    assert (run_id, LARGE_ROWS) in remembered
    assert {n_rows for _, n_rows in remembered} == {LARGE_ROWS}
    return str(run_id)


def poll(home: Home, done: Event, results: Connection) -> None:
    """A reader in a process of its own: asks again and again, and reports all that went wrong."""
    n_reads, run_ids, wrong = 0, set(), []
    results.send("reading")
    while not done.is_set():
        try:
            run_ids.add(check_whole(home))
        except (duckdb.Error, AssertionError) as error:
            wrong.append(repr(error))
        n_reads += 1
        time.sleep(PAUSE_SECONDS)
    results.send((n_reads, run_ids, wrong))


def kill_while_publishing(run_id: str, tonight: Tonight, home: Home, wait_seconds: float) -> None:
    """Kills a publishing process `wait_seconds` after the next file has appeared beside the present one."""
    publisher = CLEAN.Process(target=publish, args=(make_outcome(run_id), tonight, home))
    publisher.start()
    while publisher.is_alive() and len(names_in(home)) == 1:
        time.sleep(0.001)
    time.sleep(wait_seconds)
    publisher.kill()
    publisher.join()


@contextmanager
def somebody_writing(home: Home) -> Iterator[int | None]:
    """Yields the process id of one who has the warehouse open for writing, and has changed it; then kills it."""
    ready = CLEAN.Event()
    writer = CLEAN.Process(target=hold_for_writing, args=(home, ready))
    writer.start()
    try:
        assert ready.wait(60)
        yield writer.pid
    finally:
        writer.kill()
        writer.join()


def hold_for_writing(home: Home, ready: Event) -> None:
    with duckdb.connect(home.warehouse) as connection:
        connection.execute("insert into users (user_id) values (4711)")
        ready.set()
        time.sleep(60)


class TestForgotten:
    USER = 424242

    def theirs(self, tmp_path: Path) -> Tonight:
        """A night in which user 424242 has lists, a profile, and two rows in quarantine."""
        frames = make_frames()
        for name in ("recommendations", "users", "ratings"):
            frames[name] = frames[name].with_columns(pl.col("user_id").replace(3, self.USER))
        theirs = [f'{{"user_id":{self.USER},"movie_id":1}}', f'{{"line": "{self.USER}::1::x"}}', '{"line": "7::1::x"}']
        frames["quarantine"] = pl.concat([frames["quarantine"]] * 3).with_columns(row=pl.Series(theirs))
        return write_night(tmp_path / "theirs", frames)

    def traces(self, home: Home) -> dict[str, int]:
        """Rows by table in which the id can be read anywhere."""
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
    def test_the_next_file_has_no_trace(self, published: bool, home: Home, tonight: Tonight, tmp_path: Path) -> None:
        publish(make_outcome("r1"), self.theirs(tmp_path), home)
        quote = f'2 lines, e.g. line 7: {{"user_id":{self.USER},"movie_id":1}}; and line 8: {{"movie_id":1}}'
        record(make_outcome("r2", "data refused", quote), home)
        assert self.traces(home) == {
            "recommendations": 2, "recommendation_history": 2, "users": 1, "quarantine": 2, "runs": 1
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
