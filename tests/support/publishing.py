"""Processes that publish, read and hold a warehouse, for tests that kill them or let them run side by side.

They are forked from a server that has imported everything they need, including this module, and has opened no
database. A fork of the test process itself would lack the threads of its DuckDB.
"""

import multiprocessing
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Event
from pathlib import Path

import duckdb

from recsys.home import Home
from recsys.warehouse.build import LISTS, Tonight
from tests.support.warehouses import make_frames, make_outcome, publish, write_night

FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["polars", "tests.support.publishing"])

USERS, MOVIES, N = 500, 100, 10
ROWS = USERS * N  # of the lists
PAUSE_SECONDS = 0.3  # between two reads of one reader; several readers then leave time to the publisher


def write_pair(folder: Path) -> list[Tonight]:
    """Two nights that differ in every `rating_hat`: 1.0 and 2.0."""
    return [
        write_night(folder / f"night-{night}", make_frames(USERS, MOVIES, N, rating_hat=night), N) for night in (1, 2)
    ]


def check_whole(home: Home) -> str:
    """Returns the id of the run that a reader sees. It ends with the `rating_hat` of its lists.

    Raises: AssertionError if the file holds anything but one whole run and its history.
    """
    with duckdb.connect(home.warehouse, read_only=True) as connection:
        lists = connection.sql(
            "select run_id, rating_hat, count(*), count(because_titles) from recommendations_named group by all"
        ).fetchall()
        published = connection.sql("select run_id from runs where published").fetchall()
        others = connection.sql(
            "select run_id from default_recommendations union select run_id from similar_movies"
        ).fetchall()
        in_history = connection.sql(f"select run_id, count(*) from {LISTS} group by run_id").fetchall()
    assert len(lists) == 1, lists
    run_id, rating_hat, n_rows, n_named = lists[0]
    assert (n_rows, n_named) == (ROWS, ROWS)
    assert run_id.endswith(f"-{rating_hat:.0f}")
    assert (run_id,) in published
    assert others == [(run_id,)]
    assert (run_id, ROWS) in in_history
    assert {n_rows for _, n_rows in in_history} == {ROWS}
    return str(run_id)


def read_until(done: Event, home: Home, results: Connection) -> None:
    """Sends "reading", reads until `done`, then sends (number of reads, runs seen, errors)."""
    n_reads, run_ids, errors = 0, set(), []
    results.send("reading")
    while not done.is_set():
        try:
            run_ids.add(check_whole(home))
        except (duckdb.Error, AssertionError) as error:
            errors.append(repr(error))
        n_reads += 1
        time.sleep(PAUSE_SECONDS)
    results.send((n_reads, run_ids, errors))


def kill_while_publishing(run_id: str, tonight: Tonight, home: Home, wait_seconds: float) -> None:
    """Kills a publishing process `wait_seconds` after the new file has appeared beside the present one."""
    publisher = FORKS.Process(target=_publish, args=(run_id, tonight, home))
    publisher.start()
    while publisher.is_alive() and len([*home.root.iterdir()]) == 1:
        time.sleep(0.001)
    time.sleep(wait_seconds)
    publisher.kill()
    publisher.join()


def _publish(run_id: str, tonight: Tonight, home: Home) -> None:
    publish(make_outcome(run_id), tonight, home)


@contextmanager
def opened_for_writing(home: Home) -> Iterator[int | None]:
    """Yields the id of a process that has the warehouse open for writing and has changed it; then kills it."""
    ready = FORKS.Event()
    writer = FORKS.Process(target=_hold_for_writing, args=(home, ready))
    writer.start()
    try:
        assert ready.wait(60)
        yield writer.pid
    finally:
        writer.kill()
        writer.join()


def _hold_for_writing(home: Home, ready: Event) -> None:
    with duckdb.connect(home.warehouse) as connection:
        connection.execute("insert into users (user_id) values (4711)")
        ready.set()
        time.sleep(60)
