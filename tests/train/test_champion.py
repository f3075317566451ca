"""The published networks from which a night may start its training."""

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
from recsys.train.learn import Choice
from recsys.train.saved_model import SavedModel, read_meta
from recsys.warehouse.lookup import list_runs
from tests.support.nights import prepare, publish_night, settings_of

WARM = WarmStartConfig(enabled=True)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """A home with one published night."""
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
    """The log line with the reason why a night with these settings trains from scratch."""
    caplog.clear()
    with night(settings := settings_of(home, **fields)) as run:
        tonight = prepare(settings, run, choice or choice_of(home))
        assert find_champion(run, tonight.choice, tonight.learner.levels, WARM) is None
    (line,) = [message for message in caplog.messages if message.startswith("training starts from scratch")]
    return line


def test_a_night_starts_from_the_published_network(served: Home, caplog: pytest.LogCaptureFixture) -> None:
    last = published(served)
    with night(settings := settings_of(served)) as run:
        tonight = prepare(settings, run, choice_of(served))
        cold = tonight.train(WarmStartConfig())
        weights = load_file(cold.weights)
        assert read_meta(cold).champion is None
        with caplog.at_level(logging.INFO, logger="recsys.train.warm_start"):
            warm = tonight.train(WARM)
        assert read_meta(warm).champion == last.run_id
        assert f"warm start from run {last.run_id}, whose network has 60 of 60 users and 40 of 40 movies" in caplog.text
        assert any((weights[name] != value).any() for name, value in load_file(warm.weights).items())
        champion = find_champion(run, tonight.choice, tonight.learner.levels, WARM)
        assert champion
        assert champion.vocabulary.content_hash() == Vocabulary.load(last.vocabulary).content_hash()
        assert champion.schedule == WARM


def test_a_backfill_does_not_start_from_a_network_trained_on_later_ratings(
    served: Home, caplog: pytest.LogCaptureFixture
) -> None:
    with night(settings := settings_of(served)) as run:
        end = prepare(settings, run, choice_of(served)).checked.as_of
    line = why_not(served, caplog, as_of=end - timedelta(days=30))
    assert (
        f"run {published(served).run_id} was trained on ratings before {end.isoformat()}, but tonight may only" in line
    )


def test_a_different_network_trains_from_scratch(served: Home, caplog: pytest.LogCaptureFixture) -> None:
    other = Choice("softmax", MODELS["softmax"].configure(1500, 5), 3, tried={})
    assert "nmf was trained then and softmax is trained now" in why_not(served, caplog, other)


def test_another_data_set_trains_from_scratch(served: Home, caplog: pytest.LogCaptureFixture) -> None:
    line = why_not(served, caplog, source="synthetic:50x40x2000")
    assert "no run on synthetic-50x40x2000 has been published" in line


def test_without_a_published_night_training_starts_from_scratch(
    home: Home, caplog: pytest.LogCaptureFixture, served: Home
) -> None:
    assert "has been published in" in why_not(home, caplog, choice_of(served))


def test_a_missing_or_damaged_model_is_not_used(served: Home, caplog: pytest.LogCaptureFixture) -> None:
    saved, choice = SavedModel(published(served).model / "tonight"), choice_of(served)
    whole = saved.meta.read_bytes()
    try:
        saved.meta.write_text("{")
        assert "meta.json is not as it was written" in why_not(served, caplog, choice)
        saved.meta.unlink()
        assert "meta.json cannot be read" in why_not(served, caplog, choice)
    finally:
        saved.meta.write_bytes(whole)


def test_a_network_trained_on_forgotten_users_is_not_used(served: Home, caplog: pytest.LogCaptureFixture) -> None:
    forget([7], served)
    try:
        line = why_not(served, caplog)
        assert f"run {published(served).run_id} was trained on users who asked to be forgotten since: 1 of them" in line
    finally:
        served.forgotten.unlink()


def test_a_finished_night_leaves_no_checkpoints(served: Home) -> None:
    assert list(served.checkpoints.glob("*")) == []


def test_a_running_night_writes_a_checkpoint(home: Home, served: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Path] = []
    monkeypatch.setattr("recsys.train.checkpoint.Checkpoint.remove", lambda self: seen.append(self.path))
    with night(settings := settings_of(home)) as run:
        prepare(settings, run, choice_of(served)).train(WarmStartConfig())
    assert [path.parent for path in seen] == [home.checkpoints]
    assert seen[0].exists()
