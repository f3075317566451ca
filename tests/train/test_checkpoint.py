"""A killed training is resumed and ends with the same weights."""

import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from recsys.encode.vocabulary import fit_vocabulary
from recsys.models import BatchNetwork, Network
from recsys.models.tiles import TiledNetwork, TiledPass
from recsys.train import checkpoint as checkpoint_module
from recsys.train.checkpoint import OLD_SECONDS, Checkpoint, Epoch, TrainingState, open_checkpoint
from recsys.train.device import make_generator
from recsys.train.learn import Learner, fit_seeded
from recsys.train.loop import fit_network
from recsys.train.step import Optimizer
from recsys.train.steps import steps_per_epoch
from tests.support.flips import flip_bit
from tests.support.planted import (
    LEVELS,
    LOOP_NETWORKS,
    ROOT,
    build_any,
    concat,
    parts,
    quick_config,
    ratings,
    same_weights,
)
from tests.support.trainings import describe, train

N_EPOCHS = 4


class Killed(BaseException):
    """Simulates kill -9 in tests within this process. No code catches it."""


def start(*arguments: object) -> "subprocess.CompletedProcess[str]":
    """Run tests/support/trainings.py with other thread and hash settings than this process."""
    command = [sys.executable, "-m", "tests.support.trainings", *map(str, arguments)]
    environment = {**os.environ, "OMP_NUM_THREADS": "2", "PYTHONHASHSEED": "7"}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_a_killed_process_is_resumed_by_another_process(tmp_path: Path) -> None:
    """softmax draws dropout, so the generators must be restored. Tests of other networks run in this process."""
    name, step, epochs = "softmax", 24, 4
    killed = start(name, tmp_path, step)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    (left,) = tmp_path.iterdir()
    with safe_open(left, framework="pt") as file:
        assert len(json.loads(file.metadata()["training"])["epochs"]) == epochs
    assert describe(*train(name, tmp_path)) == describe(*train(name, None))
    assert list(tmp_path.iterdir()) == []


def fit(name: str, folder: Path | None, die_at: int | None = None, **training: Any) -> tuple[Network, list[Epoch]]:
    """Train for `N_EPOCHS` epochs in this process; `die_at` raises Killed at that loss, counted over all epochs."""
    config = quick_config(name, **{"epochs": N_EPOCHS, "batch_size": batch_size(name)} | training)
    network = build_any(name, config)
    if die_at:
        die(network, die_at)
    known, unseen = parts()
    checkpoint = Checkpoint(folder / "training.safetensors") if folder else None
    return network, fit_network(network, known, config.training, validation=unseen, checkpoint=checkpoint)


def batch_size(name: str) -> int:
    """The batch size for about four steps an epoch. A row of `sequence` is a window of up to 50 ratings."""
    return 16 if name == "sequence" else 250


@cache
def fit_uninterrupted(name: str) -> tuple[Network, list[Epoch]]:
    """The expected result: that of a training without kills and checkpoints."""
    return fit(name, None)


def die(network: Network, step: int) -> None:
    steps = iter(range(1, step + 1))

    def counted(compute: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
        def count(*args: Any) -> torch.Tensor:
            if next(steps) == step:
                raise Killed
            return compute(*args)

        return count

    if isinstance(network, BatchNetwork):
        network.loss = counted(network.loss)  # type: ignore[method-assign]
        return
    assert isinstance(network, TiledNetwork)
    plain = network.cut

    def cut(*args: Any) -> TiledPass:
        tiled = plain(*args)
        tiled.gradients = counted(tiled.gradients)  # type: ignore[method-assign]
        return tiled

    network.cut = cut  # type: ignore[assignment, method-assign]


@pytest.mark.parametrize(
    ("name", "share"), [("softmax", 0.0), ("softmax", 1.0), *((name, 0.6) for name in LOOP_NETWORKS)]
)
def test_a_resumed_training_ends_with_the_same_weights(name: str, share: float, tmp_path: Path) -> None:
    """The training is killed at its first step, in the middle or at its last step."""
    expected, all_epochs = fit_uninterrupted(name)
    config = quick_config(name, batch_size=batch_size(name))
    network = build_any(name, config)
    n_steps = N_EPOCHS * steps_per_epoch(network, network.prepare(parts()[0]), config.training)
    with pytest.raises(Killed):
        fit(name, tmp_path, die_at=max(1, round(share * n_steps)))
    torch.rand(5)  # advances the global generator in between
    network, epochs = fit(name, tmp_path)
    assert epochs == all_epochs
    assert same_weights(network, expected)


def test_a_training_may_be_killed_twice(tmp_path: Path) -> None:
    for step in (10, 6):  # of 16 steps; the second is counted from the resumed epoch
        with pytest.raises(Killed):
            fit("softmax", tmp_path, die_at=step)
    network, epochs = fit("softmax", tmp_path)
    assert epochs == fit_uninterrupted("softmax")[1]
    assert same_weights(network, fit_uninterrupted("softmax")[0])


def test_the_best_weights_are_kept_if_they_are_not_the_last(tmp_path: Path) -> None:
    """The learning rate is so high that an early epoch is the best."""
    fast: dict[str, Any] = {"learning_rate": 0.3, "schedule": "constant", "batch_size": 50, "epochs": 6}
    expected, epochs = fit("softmax", None, **fast)
    best = min(epochs, key=lambda epoch: epoch.validation_error or 9.0).number
    assert best < 5
    with pytest.raises(Killed):
        fit("softmax", tmp_path, die_at=5 * 20 + 3, **fast)
    assert any(name.startswith("best.") for name in load_file(tmp_path / "training.safetensors"))
    assert same_weights(fit("softmax", tmp_path, **fast)[0], expected)


def test_a_training_killed_after_early_stopping_adds_no_epoch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The training is killed after its last epoch and before its checkpoint is removed."""
    fast: dict[str, Any] = {"learning_rate": 0.3, "schedule": "constant", "batch_size": 50, "patience": 1, "epochs": 6}
    expected, epochs = fit("softmax", None, **fast)
    assert len(epochs) < 6
    with monkeypatch.context() as patch:
        patch.setattr(Checkpoint, "remove", lambda self: (_ for _ in ()).throw(Killed))
        with pytest.raises(Killed):
            fit("softmax", tmp_path, **fast)
    network, again = fit("softmax", tmp_path, **fast)
    assert again == epochs
    assert same_weights(network, expected)


def test_without_validation_the_last_weights_are_kept(tmp_path: Path) -> None:
    def train(die_at: int | None, folder: Path | None) -> Network:
        config = quick_config("softmax", batch_size=250)
        network = build_any("softmax", config)
        if die_at:
            die(network, die_at)
        checkpoint = Checkpoint(folder / "training.safetensors") if folder else None
        fit_network(network, parts()[0], config.training, checkpoint=checkpoint)
        return network

    with pytest.raises(Killed):
        train(10, tmp_path)
    assert same_weights(train(None, tmp_path), train(None, None))


@pytest.fixture(scope="module")
def left(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that a killed training left."""
    folder = tmp_path_factory.mktemp("left")
    with pytest.raises(Killed):
        fit("softmax", folder, die_at=14)
    return folder


@pytest.fixture
def killed(left: Path, tmp_path: Path) -> Path:
    """A copy of what a killed training left."""
    shutil.copytree(left, tmp_path, dirs_exist_ok=True)
    return tmp_path / "training.safetensors"


def test_a_resumed_training_is_logged(killed: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="recsys.train.loop"):
        fit("softmax", killed.parent)
    assert caplog.messages[0] == "train: resumed after epoch 3"
    assert caplog.messages[-1].startswith("train: 1,000 of 4,000 ratings in 4 epochs in ")
    assert not killed.exists()


def test_a_checkpoint_is_readable_without_pickle(killed: Path) -> None:
    with safe_open(killed, framework="pt") as file:
        facts = json.loads(file.metadata()["training"])
        names = set(file.keys())
    assert [epoch["number"] for epoch in facts["epochs"]] == [1, 2, 3]
    assert {name.partition(".")[0] for name in names} >= {"network", "optimizer", "generator"}
    assert {path.name for path in killed.parent.iterdir()} == {killed.name}


def damage(path: Path, kind: str) -> None:
    tensors = load_file(path)
    with safe_open(path, framework="pt") as file:
        facts = file.metadata()
    training = json.loads(facts["training"])
    if kind == "cut short":
        path.write_bytes(path.read_bytes()[:-100])
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "not safetensors":
        path.write_bytes(b"x" * 1000)
    elif kind == "without facts":
        save_file(tensors, path)
    elif kind == "without generators":
        save_file({name: value for name, value in tensors.items() if "generator" not in name}, path, facts)
    elif kind == "without a weight":
        save_file({name: value for name, value in tensors.items() if "user_embedding" not in name}, path, facts)
    elif kind == "of another shape":
        name = "network.user_embedding.weight"
        save_file(tensors | {name: tensors[name][1:].contiguous()}, path, facts)
    elif kind == "without an optimizer":
        save_file({name: value for name, value in tensors.items() if "optimizer" not in name}, path, facts)
    elif kind == "with invalid epochs":
        save_file(tensors, path, {"training": json.dumps(training | {"epochs": [{"loss": 1.0}]})})
    elif kind == "with a changed bit of a weight":
        flip_bit(path, 8 * path.stat().st_size - 100)
    elif kind == "with a changed bit of the epochs":
        flip_bit(path, 8 * (path.read_bytes().index(b"number") - 6))
    else:
        assert kind == "without epochs"
        save_file(tensors, path, {"training": json.dumps(training | {"epochs": []})})


KINDS = (
    "cut short",
    "empty",
    "not safetensors",
    "without facts",
    "without generators",
    "without a weight",
    "of another shape",
    "without an optimizer",
    "with invalid epochs",
    "without epochs",
    "with a changed bit of a weight",
    "with a changed bit of the epochs",
)


@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_checkpoint_is_reported_and_training_starts_over(
    kind: str, killed: Path, caplog: pytest.LogCaptureFixture
) -> None:
    damage(killed, kind)
    network, epochs = fit("softmax", killed.parent)
    assert f"checkpoint {killed} is damaged and was ignored: " in caplog.text
    assert "Training starts over" in caplog.text
    assert epochs == fit_uninterrupted("softmax")[1]
    assert same_weights(network, fit_uninterrupted("softmax")[0])


def test_an_unwritable_folder_only_causes_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("not a folder")
    network, _ = fit("softmax", tmp_path / "file")
    assert f"cannot write checkpoint {tmp_path}/file/training.safetensors: " in caplog.text
    assert same_weights(network, fit_uninterrupted("softmax")[0])


def test_slow_checkpoints_are_not_written_after_every_epoch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = quick_config("softmax")
    network = build_any("softmax", config)
    optimizer = Optimizer(network, config.training)
    state = TrainingState(network, optimizer, make_generator(0), [], {})

    def epochs_kept(checkpoint: Checkpoint) -> list[int]:
        kept = []
        for number in range(1, 4):
            state.epochs.append(Epoch(number, 1.0, None))
            checkpoint.save(state)
            with safe_open(checkpoint.path, framework="pt") as file:
                kept.append(len(json.loads(file.metadata()["training"])["epochs"]))
        state.epochs.clear()
        return kept

    assert epochs_kept(Checkpoint(tmp_path / "quick")) == [1, 2, 3]
    monkeypatch.setattr(checkpoint_module, "SLOW_SECONDS", 0.0)
    assert epochs_kept(Checkpoint(tmp_path / "slow")) == [1, 1, 1]
    monkeypatch.setattr(checkpoint_module, "PAUSE_SECONDS", 0.0)
    assert epochs_kept(Checkpoint(tmp_path / "slow, later")) == [1, 2, 3]


@pytest.fixture
def opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The names of the checkpoints that were opened."""
    names: list[str] = []
    plain = Checkpoint.load

    def load(self: Checkpoint, state: TrainingState) -> bool:
        names.append(self.path.name)
        return plain(self, state)

    monkeypatch.setattr(Checkpoint, "load", load)
    yield names
    assert list(tmp_path.iterdir()) == []  # every training succeeded


def test_the_name_depends_on_everything_that_determines_the_result(
    tmp_path: Path, opened: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    known, unseen = parts()
    learner = Learner(fit_vocabulary(ratings()), LEVELS, seed=0, device="cpu", checkpoints=tmp_path)
    config = quick_config("softmax", epochs=1)
    other_stars = replace(known, level_idx=known.level_idx.flip(0))
    other_day = replace(known, rated_at=known.rated_at + 1)

    fit_seeded("softmax", config, known, learner)
    fit_seeded("softmax", config, known, learner, label="again")
    assert opened[0] == opened[1]
    fit_seeded("softmax", quick_config("softmax", epochs=2), known, learner)
    fit_seeded("ordinal", quick_config("ordinal", epochs=1), known, learner)
    fit_seeded("softmax", config, known, replace(learner, seed=1))
    fit_seeded("softmax", config, known, learner, validation=unseen)
    fit_seeded("softmax", config, known, learner, stop_after=1)
    for rows in (other_stars, other_day, concat(known, unseen), known.take(torch.arange(1, 1000))):
        fit_seeded("softmax", config, rows, learner)
    fit_seeded("softmax", config, known, replace(learner, levels=(1.0, 2.0, 3.0, 4.0, 4.5)))
    monkeypatch.setattr("recsys.train.learn.code_hash", lambda: "another")
    fit_seeded("softmax", config, known, learner)
    assert len(set(opened)) == len(opened) - 1


def test_without_a_folder_there_is_no_checkpoint() -> None:
    assert open_checkpoint(None, {}, []) is None


def test_checkpoints_older_than_a_week_are_removed(tmp_path: Path) -> None:
    for name, age in (("old", OLD_SECONDS + 60), (".old.safetensors.17", OLD_SECONDS + 60), ("new", OLD_SECONDS - 60)):
        (tmp_path / name).write_text("")
        os.utime(tmp_path / name, (time.time() - age,) * 2)
    open_checkpoint(tmp_path, {}, [])
    assert [path.name for path in tmp_path.iterdir()] == ["new"]
