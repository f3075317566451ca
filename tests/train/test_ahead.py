"""Trainings in another process. They are real processes, so each test takes a few seconds."""

import logging
import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from recsys.encode.vocabulary import fit_vocabulary
from recsys.errors import ModelError
from recsys.models import Network
from recsys.train import ahead
from recsys.train.in_parallel import learn_ahead
from recsys.train.learn import Choice, Learner, learn
from tests.support.planted import LEVELS, quick_config, ratings, same_weights

LABEL = "a label"


@pytest.fixture(autouse=True)
def two_cores(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
    with ahead.ended():
        yield


@pytest.fixture
def learner(tmp_path: Path) -> Learner:
    return Learner(fit_vocabulary(ratings()), LEVELS, 0, "cpu", checkpoints=tmp_path / "checkpoints", processes=2)


@pytest.fixture
def table(tmp_path: Path) -> Path:
    ratings().write_parquet(tmp_path / "ratings.parquet")
    return tmp_path / "ratings.parquet"


def choice(name: str, **training: object) -> Choice:
    return Choice(name, quick_config(name, **training), epochs=2, tried={})


def train(choice: Choice, learner: Learner) -> Network:
    return learn(choice, ratings(), learner, LABEL)


@pytest.mark.parametrize("name", ["ordinal", "softmax"])
def test_a_training_ahead_has_the_same_result(
    name: str, learner: Learner, table: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    expected = train(choice(name), learner)
    monkeypatch.setattr(ahead, "MIN_RATINGS", 0)
    with caplog.at_level(logging.INFO, logger="recsys.train"):
        learn_ahead(choice(name), table, learner, LABEL)
        network = train(choice(name), learner)
    assert same_weights(network, expected)
    assert f"{LABEL}: resumed after epoch 2" in caplog.messages  # nothing was left to train
    assert learner.checkpoints is not None
    assert list(learner.checkpoints.iterdir()) == []


def test_a_killed_training_ahead_is_done_again(
    learner: Learner, table: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(ahead, "MIN_RATINGS", 0)
    learn_ahead(choice("softmax"), table, learner, LABEL)
    os.kill(ahead._running[LABEL].process.pid, signal.SIGKILL)
    network = train(choice("softmax"), learner)
    assert f"process {ahead_pid(caplog)} ended early with code -9" in caplog.text
    assert same_weights(network, train(choice("softmax"), learner))


def ahead_pid(caplog: pytest.LogCaptureFixture) -> int:
    (line,) = (line for line in caplog.messages if "ended early" in line)
    return int(line.split("process ")[1].split()[0])


def test_an_error_ahead_is_raised_by_the_training_itself(
    learner: Learner, table: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ahead, "MIN_RATINGS", 0)
    diverging = choice("softmax", learning_rate=1e30, schedule="constant", optimizer="sgd")
    learn_ahead(diverging, table, learner, LABEL)
    with pytest.raises(ModelError, match="Lower learning_rate"):
        train(diverging, learner)


@pytest.mark.parametrize("reason", ["few ratings", "one process", "one core"])
def test_nothing_runs_ahead(reason: str, learner: Learner, table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if reason != "few ratings":
        monkeypatch.setattr(ahead, "MIN_RATINGS", 0)
    if reason == "one process":
        learner = replace(learner, processes=1)
    if reason == "one core":
        monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0})
    learn_ahead(choice("softmax"), table, learner, LABEL)
    assert ahead._running == {}


def test_a_second_training_ahead_is_not_started() -> None:
    ahead.start("first", partial(sleep))
    ahead.start("second", partial(sleep))
    assert [*ahead._running] == ["first"]


def sleep(watch: Callable[[object], None], folder: Path | None = None) -> None:
    """Calls `watch` several times a second for at most a minute."""
    if folder:
        (folder / "begun").touch()
    for _ in range(600):
        time.sleep(0.1)
        watch(None)


def test_leftover_trainings_are_ended(tmp_path: Path) -> None:
    with ahead.ended():
        ahead.start(LABEL, partial(sleep, folder=tmp_path))
        pid = ahead._running[LABEL].process.pid
        assert is_alive(pid)
    assert not is_alive(pid)


def test_a_training_ahead_ends_after_its_parent(tmp_path: Path) -> None:
    """The parent is killed, as by the operating system when memory is short, so it cannot end its child."""
    reading, writing = os.pipe()
    parent = os.fork()
    if parent == 0:
        ahead.start(LABEL, partial(sleep, folder=tmp_path))
        os.write(writing, str(ahead._running[LABEL].process.pid).encode())
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(parent, 0)
    pid = int(os.read(reading, 20))
    deadline = time.monotonic() + 60
    while is_alive(pid) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not is_alive(pid)


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
