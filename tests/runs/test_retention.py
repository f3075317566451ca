"""Which files of earlier runs are deleted, and which are kept for roll-backs, for the gate and for readers of logs."""

import logging
import shutil
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from recsys.files import write_json
from recsys.home import Home, Run
from recsys.runs.resume import find_last, find_unfinished, is_unfinished, mark_ended, read_failure, read_step
from recsys.runs.retention import retain_runs
from recsys.settings import GateConfig, HistoryConfig
from recsys.warehouse.publish import record
from tests.support.warehouses import make_frames, make_outcome, publish, roll_back, write_night

PUBLISHED = [f"202611{day}T030000Z" for day in (21, 22, 23, 24, 25)]
HELD_BACK = "20261120T030000Z"
LIGHT = ("config.json", "metrics", "night.log", "validation")
HEAVY = ("model", "ranker", "split", "recommendations.parquet")


def write_folder(run: Run) -> None:
    for name in (*LIGHT, *HEAVY):
        path = run.folder / name
        if path.suffix:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("x" * 1000)
        else:
            path.mkdir(parents=True)
            (path / "file").write_text("x" * 1000)


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """One night that was held back and five that published, each with a folder. The history has the last three."""
    folder = tmp_path_factory.mktemp("published")
    home = Home(folder / "home")
    record(make_outcome(HELD_BACK, "held back", "x"), home)
    write_folder(home.run(HELD_BACK))
    for day, run_id in enumerate(PUBLISHED, start=1):
        tonight = write_night(folder / run_id, make_frames())
        outcome = replace(make_outcome(run_id), as_of=datetime(1998, 4, day, tzinfo=UTC))
        publish(outcome, replace(tonight, copies=home.run(run_id).served, history_runs=3), home)
        write_folder(home.run(run_id))
    return home


@pytest.fixture
def home(published: Home, home: Home) -> Home:
    """A copy of `published`."""
    shutil.copytree(published.root, home.root)
    return home


def test_a_run_in_the_future_is_not_the_newest(home: Home) -> None:
    """The clock was ahead in the second night; it is the fourth from the end, and loses its models."""
    ahead = home.run("20280101T030000Z")
    home.run(PUBLISHED[1]).folder.rename(ahead.folder)
    for number, run in enumerate((*map(home.run, (HELD_BACK, PUBLISHED[0])), ahead, *map(home.run, PUBLISHED[2:]))):
        write_json(run.config, {"number": number})
    retain_runs(home.run(PUBLISHED[-1]), HistoryConfig(runs=3, models=3), GateConfig())
    assert not ahead.split.exists()
    assert home.run(PUBLISHED[2]).split.exists()


def kept(home: Home) -> dict[str, set[str]]:
    return {folder.name: {path.name for path in folder.iterdir()} for folder in home.runs.iterdir()}


def test_models_are_kept_for_some_nights_and_lists_as_long_as_the_history(home: Home) -> None:
    freed = retain_runs(home.run(PUBLISHED[-1]), HistoryConfig(runs=3, models=2), GateConfig())
    assert kept(home) == {
        HELD_BACK: {*LIGHT},
        **{run_id: {*LIGHT} for run_id in PUBLISHED[:2]},
        PUBLISHED[2]: {*LIGHT, "served"},
        PUBLISHED[3]: {*LIGHT, *HEAVY, "served"},
        PUBLISHED[4]: {*LIGHT, *HEAVY, "served"},
    }
    assert freed >= 4 * len(HEAVY) * 1000


def test_folders_above_the_limit_are_deleted_unless_in_the_history(home: Home) -> None:
    retain_runs(home.run(PUBLISHED[-1]), HistoryConfig(runs=3, models=1, folders=2), GateConfig())
    assert sorted(kept(home)) == PUBLISHED[2:]


def test_the_served_run_is_kept_whole_after_a_roll_back(home: Home) -> None:
    roll_back(home, PUBLISHED[2])
    retain_runs(home.run(PUBLISHED[-1]), HistoryConfig(runs=3, models=1), GateConfig())
    assert kept(home)[PUBLISHED[2]] == {*LIGHT, *HEAVY, "served"}
    assert kept(home)[PUBLISHED[3]] == {*LIGHT, "served"}
    assert roll_back(home, PUBLISHED[3]).to_run == PUBLISHED[3]


def test_a_folder_that_cannot_be_deleted_is_reported(
    home: Home, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("shutil.rmtree", refuse)
    with caplog.at_level(logging.WARNING):
        retain_runs(home.run(PUBLISHED[-1]), HistoryConfig(runs=3, models=1), GateConfig())
    assert f"{home.run(HELD_BACK).folder / 'model'} cannot be removed: [Errno 13] Permission denied" in caplog.text
    assert "Next: remove it" in caplog.text


def test_folders_that_no_run_has_made_are_left_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """They do not stop a night either: a copy of a run, a typing error, or a date that does not exist."""
    home = Home(tmp_path)
    names = ("20261121T030000Z.bak", "old", "20261399T030000Z", "20261121T030000Z copy")
    for name in (*names, "20261121T030000Z", "20261121T030000Z-2-check"):
        (home.runs / name).mkdir(parents=True)
    (home.runs / "20261121T030000Z.bak" / "inputs.json").write_text("{}")
    assert [run.run_id for run in home.list_runs()] == ["20261121T030000Z", "20261121T030000Z-2-check"]
    tonight = home.run("20261122T030000Z")
    tonight.folder.mkdir()
    publish(make_outcome(tonight.run_id), write_night(tonight.folder, make_frames()), home)
    retain_runs(tonight, HistoryConfig(), GateConfig())
    assert find_unfinished({}, home, hours=10**6) is None
    assert find_last(home) is None
    assert all((home.runs / name).exists() for name in names)
    assert all(f"{name} was not written by a run" in caplog.text for name in names)


@pytest.mark.parametrize("content", ["", "{", "[]", "null", '{"failures": 1}'])
def test_damaged_records_do_not_stop_a_night(content: str, tmp_path: Path) -> None:
    run = Home(tmp_path).run(f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}")
    run.folder.mkdir(parents=True)
    for path in (run.inputs, run.ended, run.underway):
        path.write_text(content)
    assert find_unfinished({"a": 1}, run.home, hours=20) is None
    assert not is_unfinished(run)
    assert read_step(run) is None
    assert read_failure(run) is None
    mark_ended(run, "failed", "no good")
    assert read_failure(run) == "no good"
