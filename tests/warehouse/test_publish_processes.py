"""Publishing while other processes read or write: readers see whole runs, a kill leaves the old or the new file."""

import logging
import shutil
import time
from dataclasses import replace

import duckdb
import pytest

from recsys.errors import PublishError
from recsys.home import Home
from recsys.warehouse.build import Tonight
from tests.support.publishing import (
    FORKS,
    check_whole,
    kill_while_publishing,
    opened_for_writing,
    read_until,
    write_pair,
)
from tests.support.warehouses import make_outcome, publish

READERS, PUBLISHES, KILLS = 3, 8, 7


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> list[Tonight]:
    return [replace(night, history_runs=3) for night in write_pair(tmp_path_factory.mktemp("pair"))]


@pytest.fixture(scope="module")
def first(pair: list[Tonight], tmp_path_factory: pytest.TempPathFactory) -> Home:
    home = Home(tmp_path_factory.mktemp("first") / "home")
    publish(make_outcome("r00-1"), pair[0], home)
    return home


@pytest.fixture
def served(first: Home, home: Home) -> Home:
    """A home that serves run r00-1."""
    shutil.copytree(first.root, home.root)
    return home


def names_in(home: Home) -> list[str]:
    return sorted(path.name for path in home.root.iterdir())


@pytest.mark.slow
def test_readers_see_one_whole_run_while_others_are_published(served: Home, pair: list[Tonight]) -> None:
    done = FORKS.Event()
    pipes = [FORKS.Pipe(duplex=False) for _ in range(READERS)]
    readers = [FORKS.Process(target=read_until, args=(done, served, results)) for _, results in pipes]
    for reader in readers:
        reader.start()
    try:
        assert [answer.recv() for answer, _ in pipes] == ["reading"] * READERS
        with duckdb.connect(served.warehouse, read_only=True) as connection:
            for night in range(1, PUBLISHES + 1):
                publish(make_outcome(f"r{night:02}-{night % 2 + 1}"), pair[night % 2], served)
            assert connection.sql("select distinct run_id from recommendations").fetchall() == [("r00-1",)]
    finally:
        done.set()  # also after an error: otherwise the readers would never end
    results = [answer.recv() for answer, _ in pipes]
    for reader in readers:
        reader.join()

    assert [errors for _, _, errors in results] == [[]] * READERS
    assert min(n_reads for n_reads, _, _ in results) >= 5
    assert len(set().union(*(run_ids for _, run_ids, _ in results))) > PUBLISHES / 2


@pytest.mark.slow
def test_a_kill_leaves_the_old_file_or_the_new_one(served: Home, pair: list[Tonight]) -> None:
    """Kills at moments spread over a publish. The next publish succeeds despite the files that are left."""
    start = time.monotonic()
    publish(make_outcome("r00-1"), pair[0], served)
    publish_seconds = time.monotonic() - start
    seen = set()
    for attempt in range(1, KILLS + 1):
        wait_seconds = 1.2 * publish_seconds * (attempt - 1) / KILLS
        kill_while_publishing(f"r{attempt:02}-2", pair[1], served, wait_seconds)
        left = names_in(served)
        assert attempt > 1 or len(left) > 1, "the first kill comes as soon as the next file appears"

        seen.add(check_whole(served))
        assert seen <= {"r00-1", *(f"r{number:02}-2" for number in range(1, attempt + 1))}
        publish(make_outcome("r00-1"), pair[0], served)
        assert names_in(served) == ["warehouse.duckdb"]
        assert check_whole(served) == "r00-1"
    assert "r00-1" in seen


def test_the_error_names_the_process_that_has_the_file_open_for_writing(served: Home, pair: list[Tonight]) -> None:
    with (
        opened_for_writing(served) as pid,
        pytest.raises(PublishError, match=rf"PID {pid}.*Next: close the program that has it open"),
    ):
        publish(make_outcome("r01-2"), pair[1], served)


def test_the_log_of_a_killed_writer_does_not_block_readers(
    served: Home, pair: list[Tonight], caplog: pytest.LogCaptureFixture
) -> None:
    with opened_for_writing(served):
        pass
    assert names_in(served) == ["warehouse.duckdb", "warehouse.duckdb.wal"]

    with caplog.at_level(logging.WARNING):
        publish(make_outcome("r01-2"), pair[1], served)
    assert "another program opened" in caplog.text
    assert check_whole(served) == "r01-2"
