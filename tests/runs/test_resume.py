"""Resuming a night that was killed or failed. It is found by its inputs only."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from recsys.errors import GateHeld, ModelError
from recsys.files import read_json, read_sealed, write_json
from recsys.home import Home, Run
from recsys.runs.night import describe_run, night
from recsys.runs.resume import MOST_FAILURES, find_last, list_newest, read_number, read_step
from recsys.runs.step import timed
from recsys.settings import Settings


@pytest.fixture
def settings(home: Home) -> Settings:
    return Settings(home=home.root, source="synthetic:60x40x2000")


def end(settings: Settings, error: BaseException | None = None) -> Run:
    """Runs a night that raises `error`, or succeeds."""
    with suppressing(error), night(settings) as run:
        run.results.mkdir(exist_ok=True)
        if error:
            raise error
    return run


@contextmanager
def suppressing(error: BaseException | None) -> Iterator[None]:
    if error is None:
        yield
        return
    with pytest.raises(type(error)):
        yield


def test_a_failed_night_is_resumed(settings: Settings, home: Home) -> None:
    failed = end(settings, OSError("the disk is gone"))
    assert failed.results.exists()
    again = end(settings)
    assert again.run_id == failed.run_id
    assert read_json(again.ended)["verdict"] == "succeeded"
    assert "resuming run" in again.log.read_text()


def test_a_killed_night_is_resumed(settings: Settings) -> None:
    """A killed night has no `ended` file."""
    killed = end(settings, KeyboardInterrupt())
    killed.ended.unlink()
    assert end(settings).run_id == killed.run_id


def test_a_successful_night_is_not_resumed(settings: Settings) -> None:
    first = end(settings)
    assert not first.results.exists()
    assert end(settings).run_id != first.run_id


def test_a_night_that_was_held_back_is_not_resumed(settings: Settings) -> None:
    held = end(settings, GateHeld("worse"))
    assert not held.results.exists()
    assert end(settings).run_id != held.run_id


def test_after_too_many_failures_a_new_night_begins(settings: Settings) -> None:
    runs = [end(settings, ModelError("the saved model does not fit")).run_id for _ in range(MOST_FAILURES + 1)]
    assert len(set(runs[:MOST_FAILURES])) == 1
    assert runs[-1] != runs[0]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("Query interrupted")], ids=repr)
def test_interrupts_do_not_count_as_failures(settings: Settings, error: BaseException) -> None:
    """DuckDB raises RuntimeError when a signal interrupts a query."""
    runs = {end(settings, error).run_id for _ in range(MOST_FAILURES + 1)}
    assert len(runs) == 1


@pytest.mark.parametrize(
    "change",
    [
        {"n": 11},
        {"seed": 1},
        {"as_of": "1998-01-01"},
        {"gate": {"force_publish": True}},
        {"source": "synthetic:61x40x2000"},
    ],
    ids=str,
)
def test_other_settings_start_a_new_night(settings: Settings, change: dict[str, Any]) -> None:
    failed = end(settings, OSError("the disk is gone"))
    other = Settings.model_validate(settings.model_dump() | change)
    assert end(other).run_id != failed.run_id


def test_other_code_starts_a_new_night(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    failed = end(settings, OSError("the disk is gone"))
    monkeypatch.setattr("recsys.runs.resume.code_hash", lambda: "another")
    assert end(settings).run_id != failed.run_id


def test_a_changed_source_starts_a_new_night(home: Home, tmp_path: Path) -> None:
    drops = tmp_path / "drops"
    drops.mkdir()
    rows = {"user_id": [1], "movie_id": [1], "rating": [4.0], "rated_at": ["1998-01-01T00:00:00Z"]}
    pl.DataFrame(rows).write_csv(drops / "ratings.csv")
    (drops / "movies.csv").write_text("movie_id,title,year,genres\n1,Heat,1995,Action\n")
    settings = Settings(home=home.root, source=str(drops))
    failed = end(settings, OSError("the disk is gone"))
    assert end(settings, OSError("the disk is gone")).run_id == failed.run_id
    pl.DataFrame(rows | {"rating": [5.0]}).write_csv(drops / "ratings.csv")
    assert end(settings).run_id != failed.run_id


def test_a_changed_table_of_rules_starts_a_new_night(home: Home, tmp_path: Path) -> None:
    blocked = tmp_path / "blocked.csv"
    blocked.write_text("movie_id\n1\n")
    settings = Settings.model_validate(
        {"home": home.root, "source": "synthetic:60x40x2000", "rules": {"blocked": [str(blocked)]}}
    )
    failed = end(settings, OSError("the disk is gone"))
    blocked.write_text("movie_id\n2\n")
    assert end(settings).run_id != failed.run_id


def test_a_night_that_is_too_old_is_not_resumed(settings: Settings) -> None:
    failed = end(settings, OSError("the disk is gone"))
    old = failed.home.run((failed.started_at - timedelta(hours=21)).strftime("%Y%m%dT%H%M%SZ"))
    failed.folder.rename(old.folder)
    assert end(settings).run_id != old.run_id


def test_a_night_in_the_future_is_neither_resumed_nor_the_last(settings: Settings, home: Home) -> None:
    """The clock was ahead when it ran."""
    failed = end(settings, OSError("the disk is gone"))
    ahead = home.run((failed.started_at + timedelta(days=400)).strftime("%Y%m%dT%H%M%SZ"))
    failed.folder.rename(ahead.folder)
    now = end(settings)
    assert now.run_id != ahead.run_id
    assert [read_number(run) for run in (ahead, now)] == [1, 2]
    assert list_newest(home) == [now, ahead]
    assert find_last(home) == now
    ahead.config.write_text("{")
    assert (read_number(ahead), list_newest(home)) == (0, [now, ahead])


def test_resume_hours_zero_never_resumes(settings: Settings) -> None:
    never = settings.model_copy(update={"resume_hours": 0.0})
    failed = end(never, OSError("the disk is gone"))
    assert end(never).run_id != failed.run_id


def test_a_newly_forgotten_user_starts_a_new_night(settings: Settings, home: Home) -> None:
    failed = end(settings, OSError("the disk is gone"))
    write_json(home.forgotten, {"7": "2026-11-21T03:00:00+00:00"})
    assert end(settings).run_id != failed.run_id


def test_a_resumed_night_keeps_all_seconds_and_the_reason(settings: Settings) -> None:
    with pytest.raises(OSError), night(settings) as run:
        timed(lambda: None, "fetch_archive")()
        raise OSError("the disk is gone")
    with night(settings) as again:
        timed(lambda: None, "write_snapshot")()
        step = read_step(again)
        assert step
        assert step.step == "write_snapshot"
        assert read_sealed(run.steps).keys() == {"fetch_archive", "write_snapshot"}
        outcome = describe_run(again, verdict="published", reason=None)
    assert outcome.reason == "resumed after it had failed: OSError: the disk is gone"
