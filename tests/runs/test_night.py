"""The name, lock, log and row in `runs` of a night, for each way in which it can end. Nothing is trained here."""

import logging
import os
import re
from datetime import UTC, datetime
from pathlib import Path

import pytest

from recsys.errors import DataRefused, GateHeld, HomeBusy, ModelError, PublishError, RecsysError, UsageError
from recsys.files import read_json, read_sealed, write_json
from recsys.home import Home, Run
from recsys.runs.metrics import read_metrics
from recsys.runs.night import checking, locked, night
from recsys.runs.step import timed
from recsys.settings import Settings
from recsys.version import code_version
from recsys.warehouse.lookup import list_runs


def end_with(error: BaseException, settings: Settings) -> Run:
    """Runs a night that raises `error` after its first results were written."""
    with pytest.raises(type(error)), night(settings) as run:
        found = {"dataset": "ml-100k", "snapshot": "f4b0f0f5bbca", "as_of": "1998-04-22T23:10:39+00:00"}
        write_json(run.findings, found)
        write_json(run.choice, {"model": "ordinal"})
        metric = {"model": "bias", "split": "holdout", "slice": "all", "metric": "rmse_mean", "value": 0.95}
        write_json(run.metrics / "evaluate.json", [metric])
        raise error
    return run


@pytest.fixture
def settings(home: Home) -> Settings:
    return Settings(home=home.root)


@pytest.mark.parametrize(
    ("error", "verdict", "reason"),
    [
        (DataRefused("5% are broken"), "data refused", "5% are broken"),
        (GateHeld("MAE 0.9"), "held back", "MAE 0.9"),
        (ModelError("diverged"), "failed", "diverged"),
        (ZeroDivisionError("by zero"), "failed", "ZeroDivisionError: by zero"),
        (KeyboardInterrupt(), "failed", "KeyboardInterrupt"),
    ],
)
def test_every_outcome_is_a_row_in_runs(
    error: BaseException, verdict: str, reason: str, settings: Settings, home: Home
) -> None:
    run = end_with(error, settings)
    row = list_runs(home, 1).row(0, named=True)
    assert row["run_id"] == run.run_id
    assert (row["verdict"], row["reason"], row["published"]) == (verdict, reason, False)
    assert (row["dataset"], row["snapshot"], row["model"]) == ("ml-100k", "f4b0f0f5bbca", "ordinal")
    assert row["as_of"] == datetime(1998, 4, 22, 23, 10, 39, tzinfo=UTC)
    assert row["config_hash"] == settings.config_hash()
    assert [metric.model for metric in read_metrics(run)] == ["bias"]
    assert f"reason: {reason}" in run.log.read_text()


def test_an_error_has_its_run(settings: Settings) -> None:
    error = DataRefused("no")
    run = end_with(error, settings)
    assert error.run == run
    assert RecsysError.run is None


def test_a_damaged_warehouse_does_not_hide_the_error(
    settings: Settings, home: Home, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(GateHeld), night(settings) as run:
        home.warehouse.write_bytes(b"not a database")
        raise GateHeld("MAE 0.9")
    assert home.warehouse.read_bytes() == b"not a database"
    assert "the run could not be recorded" in run.log.read_text()
    assert not [record for record in caplog.records if record.exc_info and record.levelno > logging.DEBUG]


def test_a_damaged_warehouse_is_reported_before_the_night_begins(settings: Settings, home: Home) -> None:
    home.root.mkdir(parents=True)
    home.warehouse.write_bytes(b"not a database")
    with pytest.raises(PublishError, match=r"history in it would be lost"), night(settings):
        pytest.fail("the night began")
    assert home.warehouse.read_bytes() == b"not a database"


def test_a_new_home_is_not_for_everybody_on_the_machine(tmp_path: Path) -> None:
    """It has what people rated. Readers of the tables are members of its group."""
    home = Home(tmp_path / "new" / "home")
    with locked(home, "a night"):
        assert home.root.stat().st_mode & 0o777 == 0o750 & ~current_umask()


def current_umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def test_a_home_that_is_a_file_is_a_usage_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    settings = Settings(home=tmp_path / "file")
    with pytest.raises(UsageError, match=r"cannot be written: .*--home"), night(settings):
        pytest.fail("the night began")


def test_code_version_without_git_is_the_package_version(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert re.fullmatch(r"\d+\.\d+\.\d+", code_version())


def test_nights_that_start_in_the_same_second_get_different_names(settings: Settings) -> None:
    runs = []
    for _ in range(3):
        with night(settings) as run:
            runs.append(run)
    assert len({run.folder for run in runs}) == 3
    assert all(re.fullmatch(r"\d{8}T\d{6}Z(-\d+)?", run.run_id) for run in runs)
    assert [run.run_id for run in runs] == sorted(run.run_id for run in runs)


def test_a_second_night_at_the_same_time_is_refused(settings: Settings, home: Home) -> None:
    with night(settings), pytest.raises(HomeBusy, match=re.escape(str(home.root))), night(settings):
        pytest.fail("two nights at once")
    with night(settings):
        pass  # the lock is free again


def test_a_check_leaves_a_folder_and_no_row(settings: Settings, home: Home) -> None:
    with pytest.raises(DataRefused) as refusal, checking(settings) as run:
        timed(len)("abc")
        raise DataRefused("5% are broken")
    assert refusal.value.run == run
    assert re.fullmatch(r"\d{8}T\d{6}Z(-\d+)?-check", run.run_id)
    assert read_json(run.config)["config_hash"] == settings.config_hash()
    assert list(read_sealed(run.steps)) == ["len"]
    assert "data refused: 5% are broken" in run.log.read_text()
    assert not home.warehouse.exists()


def test_a_check_is_refused_while_a_night_runs(settings: Settings) -> None:
    with night(settings), pytest.raises(HomeBusy), checking(settings):
        pytest.fail("two at once")


def test_a_check_runs_with_a_damaged_warehouse(settings: Settings, home: Home) -> None:
    home.root.mkdir(parents=True)
    home.warehouse.write_bytes(b"not a database")
    with checking(settings):
        pass
    assert home.warehouse.read_bytes() == b"not a database"


def test_settings_are_kept_with_the_run(settings: Settings) -> None:
    with night(settings) as run:
        kept = read_json(run.config)
    assert kept["n"] == settings.n
    assert kept["config_hash"] == settings.config_hash()


def test_log_and_seconds_of_the_steps_are_kept(settings: Settings) -> None:
    def add(a: int, b: int) -> int:
        logging.getLogger("recsys.somewhere").debug("adding %d", a)
        return a + b

    with night(settings) as run:
        assert timed(add)(1, b=2) == 3
    assert list(read_sealed(run.steps)) == ["add"]
    assert read_sealed(run.steps)["add"] >= 0
    assert "adding 1" in run.log.read_text()
    assert re.search(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ INFO", run.log.read_text(), flags=re.MULTILINE)


def test_logging_is_restored_after_a_night(settings: Settings) -> None:
    project = logging.getLogger("recsys")
    before = project.level, list(project.handlers)
    with night(settings):
        pass
    assert (project.level, list(project.handlers)) == before


def test_code_version_names_the_package_and_the_commit() -> None:
    in_checkout = (Path(__file__).parents[2] / ".git").exists()
    assert re.fullmatch(r"\d+\.\d+\.\d+" + (r"\+g[0-9a-f]+(-dirty)?" if in_checkout else ""), code_version())
