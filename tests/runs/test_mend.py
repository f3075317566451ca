"""Served tables that are damaged on disk are replaced before a night begins; a damaged history stops it."""

import shutil
from dataclasses import replace
from typing import Any

import duckdb
import pytest

from recsys.errors import PublishError
from recsys.home import Home
from recsys.runs.mend import mend_served
from recsys.runs.night import night
from recsys.settings import Settings
from recsys.warehouse.build import LISTS, RECORDS, SERVED
from recsys.warehouse.publish import check_present
from tests.support.flips import flip_bit
from tests.support.validators import count_offences
from tests.support.warehouses import make_frames, make_outcome, publish, roll_back, write_night

RUNS = ("20261121T030000Z", "20261122T030000Z")


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """A home with two runs, whose tables are large enough for blocks of their own."""
    folder = tmp_path_factory.mktemp("published")
    home = Home(folder / "home")
    for stars, run_id in enumerate(RUNS, start=1):
        tonight = write_night(folder / run_id, make_frames(500, 100, 10, rating_hat=stars), 10)
        publish(make_outcome(run_id), replace(tonight, copies=home.run(run_id).served), home)
    return home


@pytest.fixture
def home(published: Home, home: Home) -> Home:
    """A copy of `published`."""
    shutil.copytree(published.root, home.root)
    return home


def flip_in(home: Home, table: str) -> None:
    """Changes a bit in the middle of the first block of a column of the table."""
    with duckdb.connect(home.warehouse, read_only=True) as connection:
        (block,) = connection.execute(
            "select min(block_id) from pragma_storage_info($table) where block_id >= 0", {"table": table}
        ).fetchall()[0]
        (size,) = connection.sql("select block_size from pragma_database_size()").fetchall()[0]
    flip_bit(home.warehouse, 8 * (3 * 4096 + block * size + 1000))  # after the three headers of the file


def read(home: Home, tables: tuple[str, ...]) -> dict[str, list[Any]]:
    with duckdb.connect(home.warehouse, read_only=True) as connection:
        return {table: connection.sql(f"from {table} order by all").fetchall() for table in tables}


def test_a_damaged_served_table_is_restored(home: Home, caplog: pytest.LogCaptureFixture) -> None:
    before = read(home, (*SERVED, *RECORDS, LISTS))
    flip_in(home, "recommendations")
    damaged = check_present(home)
    assert damaged == ["recommendations"]
    mend_served(home, damaged, count_offences)
    assert check_present(home) == []
    assert read(home, (*SERVED, *RECORDS, LISTS)) == before
    assert f"its tables were restored from {home.run(RUNS[1]).served}" in caplog.text


def test_after_a_rollback_the_tables_are_those_of_its_run(home: Home) -> None:
    roll_back(home)
    before = read(home, SERVED)
    flip_in(home, "recommendations")
    mend_served(home, check_present(home), count_offences)
    assert read(home, SERVED) == before


def test_without_copies_the_damaged_tables_are_empty_and_nights_go_on(
    home: Home, caplog: pytest.LogCaptureFixture
) -> None:
    before = read(home, (*RECORDS, LISTS))
    shutil.rmtree(home.run(RUNS[1]).served)
    flip_in(home, "recommendations")
    with night(Settings(home=home.root)):
        pass
    assert read(home, (*RECORDS, LISTS)) == before
    assert read(home, ("recommendations",)) == {"recommendations": []}
    assert "these are empty until a night publishes" in caplog.text


def test_a_table_of_a_newer_version_is_not_taken_for_damage(home: Home) -> None:
    with duckdb.connect(home.warehouse) as connection:
        connection.execute("alter table users add column language varchar")
    before = home.warehouse.read_bytes()
    with pytest.raises(PublishError, match="language"):
        check_present(home)
    assert home.warehouse.read_bytes() == before


def test_a_damaged_history_stops_the_night_before_any_work(home: Home) -> None:
    flip_in(home, LISTS)
    before = home.warehouse.read_bytes()
    with pytest.raises(PublishError, match=r"the history in it would be lost: .*checksum.*Next: "):
        check_present(home)
    assert home.warehouse.read_bytes() == before
