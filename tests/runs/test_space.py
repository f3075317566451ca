"""Nights on a full disk. A child process whose files may not grow stands for it; `/dev/full` for a log."""

import errno
import logging

import polars as pl
import pytest

from recsys.errors import DiskFull, GateHeld, PublishError
from recsys.files import read_json, write_json
from recsys.home import Home
from recsys.runs import space
from recsys.runs.log import logged
from recsys.runs.night import night
from recsys.runs.space import RESERVE_BYTES, check_space, explain, is_full, release_reserve, reserve
from recsys.settings import Settings
from recsys.warehouse.lookup import list_runs
from recsys.warehouse.publish import record
from recsys.warehouse.status import status
from tests.support.snapshots import make_run
from tests.support.warehouses import make_outcome

FULL = OSError(errno.ENOSPC, "No space left on device")


@pytest.fixture
def settings(home: Home) -> Settings:
    return Settings(home=home.root, source="synthetic:60x40x2000")


def fail(settings: Settings, error: Exception, expected: type[Exception]) -> str:
    with pytest.raises(expected) as raised, night(settings):
        raise error
    return str(raised.value)


@pytest.mark.parametrize(
    "error",
    [
        FULL,
        OSError(errno.EDQUOT, "Disk quota exceeded"),
        pl.exceptions.ComputeError("No space left on device (os error 28)"),
        PublishError(
            "the next warehouse.duckdb could not be written: IO Error: Could not write: No space left on device"
        ),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_full_disk_is_named_with_what_may_be_deleted(settings: Settings, home: Home, error: Exception) -> None:
    snapshot = home.snapshots / "synthetic" / "0123456789ab"
    snapshot.mkdir(parents=True)
    (snapshot / "ratings.parquet").write_bytes(b"x" * 3_000_000)
    message = fail(settings, error, DiskFull)
    assert f"the disk of {home.root} has " in message and " MB free, which is too little: " in message
    assert "Next: free 67 MB on this disk, then run the same command again, which resumes" in message
    assert "old folders in snapshots/ 3.0 MB" in message
    assert "never warehouse.duckdb, which is intact and has the history" in message
    (row,) = list_runs(home, 5).to_dicts()
    assert (row["verdict"], row["reason"]) == ("failed", message)
    assert not home.reserve.exists()


def test_other_errors_are_not_called_a_full_disk(home: Home) -> None:
    for error in (OSError(errno.EACCES, "Permission denied"), GateHeld("worse"), KeyboardInterrupt()):
        assert explain(error, home) is error
        assert not is_full(error)


def test_an_error_that_a_full_disk_caused_is_found(home: Home) -> None:
    try:
        try:
            raise FULL
        except OSError as error:
            raise RuntimeError("the model was not saved") from error
    except RuntimeError as error:
        assert isinstance(explain(error, home), DiskFull)


def test_a_night_ends_before_any_work_if_the_next_warehouse_would_not_fit(
    settings: Settings, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(space, "SPARE_BYTES", 2**60)
    with pytest.raises(DiskFull, match=r"a night needs 1,152,921,504,607 MB"), night(settings):
        raise AssertionError("work has begun")
    monkeypatch.undo()
    check_space(home)


def test_a_night_reserves_space_for_its_record(settings: Settings, home: Home) -> None:
    with night(settings):
        assert home.reserve.stat().st_size == RESERVE_BYTES
    assert home.reserve.exists()
    release_reserve(home)
    release_reserve(home)
    assert not home.reserve.exists()
    reserve(home)
    assert home.reserve.stat().st_blocks * 512 >= RESERVE_BYTES


def test_a_run_that_cannot_be_recorded_is_added_by_the_next(settings: Settings, home: Home) -> None:
    """A directory at the path of the warehouse cannot be replaced, whatever the reason on another machine."""
    record(make_outcome("20261120T030000Z", "held back", "x"), home)
    aside = home.root / "aside"
    with pytest.raises(GateHeld), night(settings) as run:
        home.warehouse.rename(aside)
        home.warehouse.mkdir()
        raise GateHeld("worse")
    home.warehouse.rmdir()
    aside.rename(home.warehouse)
    assert read_json(run.unrecorded)["verdict"] == "held back"
    found = status(home).last_night
    assert found is not None
    assert (found["run_id"], found["verdict"], found["reason"]) == (run.run_id, "held back", "worse")
    damaged = home.run("20261119T030000Z")
    write_json(damaged.unrecorded, {"run_id": 7})
    record(make_outcome("20261122T030000Z", "unchanged"), home)
    assert list_runs(home, 5)["run_id"].to_list() == ["20261122T030000Z", run.run_id, "20261120T030000Z"]
    assert not run.unrecorded.exists()
    assert damaged.unrecorded.exists()


def test_a_log_that_cannot_be_written_is_named_once(
    home: Home, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    run = make_run(home)
    run.folder.mkdir(parents=True, exist_ok=True)
    run.log.symlink_to("/dev/full")
    with logged(run):
        for number in range(3):
            logging.getLogger("recsys.test").info("line %d", number)
    assert caplog.text.count(f"{run.log} cannot be written: [Errno 28] No space left on device") == 1
    assert "Traceback" not in capfd.readouterr().err
    assert "line 2" in caplog.text
