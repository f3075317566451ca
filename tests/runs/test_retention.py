"""What is deleted of earlier runs, and what a roll-back, a gate or a reader of logs still finds."""

import logging
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from recsys.home import Home, Run
from recsys.runs.retention import retain_runs
from recsys.runs.rollback import roll_back
from recsys.settings import HistoryConfig
from recsys.warehouse.publish import record
from tests.support.warehouses import make_frames, make_outcome, publish, write_night

PUBLISHED = [f"202611{day}T030000Z" for day in (21, 22, 23, 24, 25)]
REFUSED = "20261120T030000Z"
LIGHT = ("config.json", "metrics.json", "night.log", "validation")
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


@pytest.fixture
def home(home: Home, tmp_path: Path) -> Home:
    """A night that was refused and five that published, each with a folder; the history has the last three."""
    record(make_outcome(REFUSED, "held back", "x"), home)
    write_folder(home.run(REFUSED))
    for day, run_id in enumerate(PUBLISHED, start=1):
        tonight = write_night(tmp_path / run_id, make_frames())
        outcome = replace(make_outcome(run_id), as_of=datetime(1998, 4, day, tzinfo=UTC))
        publish(outcome, replace(tonight, copies=home.run(run_id).served, history_runs=3), home)
        write_folder(home.run(run_id))
    return home


def kept(home: Home) -> dict[str, set[str]]:
    return {folder.name: {path.name for path in folder.iterdir()} for folder in home.runs.iterdir()}


def test_models_stay_for_some_nights_and_lists_as_long_as_they_are_remembered(home: Home) -> None:
    freed = retain_runs(home.run(PUBLISHED[-1]), HistoryConfig(runs=3, models=2))
    assert kept(home) == {
        REFUSED: {*LIGHT},
        **{run_id: {*LIGHT} for run_id in PUBLISHED[:2]},
        PUBLISHED[2]: {*LIGHT, "served"},
        PUBLISHED[3]: {*LIGHT, *HEAVY, "served"},
        PUBLISHED[4]: {*LIGHT, *HEAVY, "served"},
    }
    assert freed >= 4 * len(HEAVY) * 1000


def test_folders_beyond_their_number_go_unless_they_are_remembered(home: Home) -> None:
    retain_runs(home.run(PUBLISHED[-1]), HistoryConfig(runs=3, models=1, folders=2))
    assert sorted(kept(home)) == PUBLISHED[2:]


def test_what_is_served_stays_whole_and_can_be_left_again(home: Home) -> None:
    roll_back(home, PUBLISHED[2])
    retain_runs(home.run(PUBLISHED[-1]), HistoryConfig(runs=3, models=1))
    assert kept(home)[PUBLISHED[2]] == {*LIGHT, *HEAVY, "served"}
    assert kept(home)[PUBLISHED[3]] == {*LIGHT, "served"}
    assert roll_back(home, PUBLISHED[3]).to_run == PUBLISHED[3]


def test_what_cannot_be_deleted_is_told(
    home: Home, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("shutil.rmtree", refuse)
    with caplog.at_level(logging.WARNING):
        retain_runs(home.run(PUBLISHED[-1]), HistoryConfig(runs=3, models=1))
    assert f"{home.run(REFUSED).folder / 'model'} cannot be removed: [Errno 13] Permission denied" in caplog.text
    assert "Next: remove it" in caplog.text
