"""Going on with a night that was killed or failed: found by its inputs, and by nothing else."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from recsys.errors import GateHeld, ModelError
from recsys.files import read_json, write_json
from recsys.home import Home, Run
from recsys.runs.night import describe_run, night
from recsys.runs.resume import MOST_FAILURES, read_step
from recsys.runs.step import timed
from recsys.settings import Settings


@pytest.fixture
def settings(home: Home) -> Settings:
    return Settings(home=home.root, source="synthetic:60x40x2000")


def end(settings: Settings, error: BaseException | None = None) -> Run:
    """A night that ends so, or well."""
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


def test_a_night_that_failed_is_gone_on_with(settings: Settings, home: Home) -> None:
    failed = end(settings, OSError("no space left"))
    assert failed.results.exists()
    again = end(settings)
    assert again.run_id == failed.run_id
    assert read_json(again.ended)["verdict"] == "succeeded"
    assert "resuming run" in again.log.read_text()


def test_one_that_was_killed_too(settings: Settings) -> None:
    """Nothing of its own tells that it has ended."""
    killed = end(settings, KeyboardInterrupt())
    killed.ended.unlink()
    assert end(settings).run_id == killed.run_id


def test_one_that_ended_well_is_over(settings: Settings) -> None:
    first = end(settings)
    assert not first.results.exists()
    assert end(settings).run_id != first.run_id


def test_a_verdict_is_not_asked_for_twice(settings: Settings) -> None:
    held = end(settings, GateHeld("worse"))
    assert not held.results.exists()
    assert end(settings).run_id != held.run_id


def test_what_fails_every_time_begins_afresh(settings: Settings) -> None:
    runs = [end(settings, ModelError("the saved model does not fit")).run_id for _ in range(MOST_FAILURES + 1)]
    assert len(set(runs[:MOST_FAILURES])) == 1
    assert runs[-1] != runs[0]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("Query interrupted")], ids=repr)
def test_being_ended_by_somebody_is_no_failure(settings: Settings, error: BaseException) -> None:
    """DuckDB tells of a signal in its own words."""
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
def test_other_settings_are_another_night(settings: Settings, change: dict[str, Any]) -> None:
    failed = end(settings, OSError("no space left"))
    other = Settings.model_validate(settings.model_dump() | change)
    assert end(other).run_id != failed.run_id


def test_other_code_is_another_night(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    failed = end(settings, OSError("no space left"))
    monkeypatch.setattr("recsys.runs.resume.code_hash", lambda: "another")
    assert end(settings).run_id != failed.run_id


def test_a_source_is_known_by_its_content(home: Home, tmp_path: Path) -> None:
    drops = tmp_path / "drops"
    drops.mkdir()
    rows = {"user_id": [1], "movie_id": [1], "rating": [4.0], "rated_at": ["1998-01-01T00:00:00Z"]}
    pl.DataFrame(rows).write_csv(drops / "ratings.csv")
    (drops / "movies.csv").write_text("movie_id,title,year,genres\n1,Heat,1995,Action\n")
    settings = Settings(home=home.root, source=str(drops))
    failed = end(settings, OSError("no space left"))
    assert end(settings, OSError("no space left")).run_id == failed.run_id
    pl.DataFrame(rows | {"rating": [5.0]}).write_csv(drops / "ratings.csv")
    assert end(settings).run_id != failed.run_id


def test_a_table_of_rules_is_known_by_its_content(home: Home, tmp_path: Path) -> None:
    blocked = tmp_path / "blocked.csv"
    blocked.write_text("movie_id\n1\n")
    settings = Settings.model_validate(
        {"home": home.root, "source": "synthetic:60x40x2000", "rules": {"blocked": [str(blocked)]}}
    )
    failed = end(settings, OSError("no space left"))
    blocked.write_text("movie_id\n2\n")
    assert end(settings).run_id != failed.run_id


def test_a_night_of_long_ago_is_left(settings: Settings) -> None:
    failed = end(settings, OSError("no space left"))
    old = failed.home.run((failed.started_at - timedelta(hours=21)).strftime("%Y%m%dT%H%M%SZ"))
    failed.folder.rename(old.folder)
    assert end(settings).run_id != old.run_id


def test_none_is_where_the_settings_say_so(settings: Settings) -> None:
    never = settings.model_copy(update={"resume_hours": 0.0})
    failed = end(never, OSError("no space left"))
    assert end(never).run_id != failed.run_id


def test_who_is_forgotten_meanwhile_makes_it_another(settings: Settings, home: Home) -> None:
    failed = end(settings, OSError("no space left"))
    write_json(home.forgotten, {"7": "2026-11-21T03:00:00+00:00"})
    assert end(settings).run_id != failed.run_id


def test_seconds_of_both_tries_are_kept_and_the_reason_is_told(settings: Settings) -> None:
    with pytest.raises(OSError), night(settings) as run:
        timed(lambda: None, "fetch_archive")()
        raise OSError("no space left")
    with night(settings) as again:
        timed(lambda: None, "write_snapshot")()
        step = read_step(again)
        assert step
        assert step.step == "write_snapshot"
        assert read_json(run.steps).keys() == {"fetch_archive", "write_snapshot"}
        outcome = describe_run(again, verdict="published", reason=None)
    assert outcome.reason == "resumed after it had failed: OSError: no space left"
