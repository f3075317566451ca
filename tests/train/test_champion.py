"""Which network a night may begin from, on a home where one has been published."""

import logging
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from recsys.encode.vocabulary import Vocabulary
from recsys.forgotten import forget
from recsys.home import Home, Run
from recsys.models import MODELS
from recsys.runs.night import night
from recsys.settings import WarmStartConfig
from recsys.train.champion import find_champion
from recsys.train.choose import Choice
from recsys.train.saved_model import SavedModel, read_meta
from recsys.warehouse.lookup import list_runs
from tests.support.nights import prepare, publish_night, settings_of

WARM = WarmStartConfig(enabled=True)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """One night has been published here."""
    home = Home(tmp_path_factory.mktemp("served"))
    with night(settings := settings_of(home)) as run:
        publish_night(prepare(settings, run), settings)
    return home


def published(home: Home) -> Run:
    (row,) = list_runs(home, 100).filter("published").rows(named=True)
    return Run(row["run_id"], row["started_at"], home)


def choice_of(home: Home) -> Choice:
    meta = read_meta(SavedModel(published(home).model / "tonight"))
    return Choice(meta.model, meta.parsed_config(), meta.epochs, meta.validation)


def why_not(home: Home, caplog: pytest.LogCaptureFixture, choice: Choice | None = None, **fields: Any) -> str:
    """The log line that says why a night with these settings begins from scratch."""
    caplog.clear()
    with night(settings := settings_of(home, **fields)) as run:
        tonight = prepare(settings, run, choice or choice_of(home))
        assert find_champion(run, tonight.choice, tonight.learner.levels, WARM) is None
    (line,) = [message for message in caplog.messages if message.startswith("training begins from scratch")]
    return line


def test_a_night_begins_where_the_one_being_served_ended(served: Home, caplog: pytest.LogCaptureFixture) -> None:
    last = published(served)
    with night(settings := settings_of(served)) as run:
        tonight = prepare(settings, run, choice_of(served))
        cold = tonight.train(WarmStartConfig())
        weights = load_file(cold.weights)
        assert read_meta(cold).champion is None
        with caplog.at_level(logging.INFO, logger="recsys.train.warm_start"):
            warm = tonight.train(WARM)
        assert read_meta(warm).champion == last.run_id
        assert f"warm start from run {last.run_id}: 60 of 60 users and 40 of 40 movies are known there" in caplog.text
        assert any((weights[name] != value).any() for name, value in load_file(warm.weights).items())
        champion = find_champion(run, tonight.choice, tonight.learner.levels, WARM)
        assert champion
        assert champion.vocabulary.content_hash() == Vocabulary.load(last.vocabulary).content_hash()
        assert champion.schedule == WARM


def test_an_earlier_night_must_not_know_what_came_later(served: Home, caplog: pytest.LogCaptureFixture) -> None:
    """A backfill: the one being served has seen ratings that did not exist yet."""
    with night(settings := settings_of(served)) as run:
        end = prepare(settings, run, choice_of(served)).checked.as_of
    line = why_not(served, caplog, as_of=end - timedelta(days=30))
    assert f"run {published(served).run_id} knows the ratings before {end.isoformat()}, tonight only those" in line


def test_another_network_begins_from_scratch(served: Home, caplog: pytest.LogCaptureFixture) -> None:
    other = Choice("softmax", MODELS["softmax"].configure(1500, 5), 3, tried={})
    assert "nmf there and softmax here" in why_not(served, caplog, other)


def test_another_data_set_begins_from_scratch(served: Home, caplog: pytest.LogCaptureFixture) -> None:
    line = why_not(served, caplog, source="synthetic:50x40x2000")
    assert "no run has published from synthetic-50x40x2000" in line


def test_without_a_published_night_there_is_none(home: Home, caplog: pytest.LogCaptureFixture, served: Home) -> None:
    assert "no run has published from" in why_not(home, caplog, choice_of(served))


def test_a_model_that_is_gone_or_damaged_is_none(served: Home, caplog: pytest.LogCaptureFixture) -> None:
    saved, choice = SavedModel(published(served).model / "tonight"), choice_of(served)
    whole = saved.meta.read_bytes()
    try:
        saved.meta.write_text("{")
        assert "meta.json is damaged" in why_not(served, caplog, choice)
        saved.meta.unlink()
        assert "meta.json is missing" in why_not(served, caplog, choice)
    finally:
        saved.meta.write_bytes(whole)


def test_a_night_after_somebody_asked_to_be_forgotten(served: Home, caplog: pytest.LogCaptureFixture) -> None:
    """The one being served has learned from them; the next one has not."""
    forget([7], served)
    try:
        line = why_not(served, caplog)
        assert f"run {published(served).run_id} has learned from users who asked to be forgotten at" in line
    finally:
        served.forgotten.unlink()


def test_a_night_leaves_no_checkpoints(served: Home) -> None:
    assert list(served.checkpoints.glob("*")) == []


def test_a_training_of_a_night_is_kept_while_it_lasts(
    home: Home, served: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Path] = []
    monkeypatch.setattr("recsys.train.checkpoint.Checkpoint.remove", lambda self: seen.append(self.path))
    with night(settings := settings_of(home)) as run:
        prepare(settings, run, choice_of(served)).train(WarmStartConfig())
    assert [path.parent for path in seen] == [home.checkpoints]
    assert seen[0].exists()
