"""Checkpoints, from which killed training runs are resumed: one file of tensors and JSON for each training run.

The file name is a hash of everything that determines the result, so only an identical training run resumes from it. The
file is removed when training succeeds. `recsys forget` removes all checkpoints, because they contain weights of users.
"""

import hashlib
import json
import logging
import math
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from recsys.files import open_sealed, replacing, seal_json
from recsys.models import Network
from recsys.train.device import generator_states, set_generator_states
from recsys.train.step import Optimizer

logger = logging.getLogger(__name__)

OLD_SECONDS = 7 * 24 * 3600.0  # older checkpoints are removed and not resumed
SLOW_SECONDS = 1.0  # if a write takes longer, checkpoints are no longer written after every epoch
PAUSE_SECONDS = 30.0  # minimum time between two slow writes, which limits their cost to about 3% of the time
DAMAGE = (OSError, SafetensorError, ValueError, KeyError, TypeError, RuntimeError)


@dataclass(frozen=True)
class Epoch:
    """The result of one pass over the ratings; `validation_error` is the mean of the network's `errors`."""

    number: int
    loss: float
    validation_error: float | None
    is_early: bool = False  # in the first half of one_cycle, with rates at which a low error is mostly chance


def best_epoch(epochs: list[Epoch]) -> Epoch:
    """The epoch with the lowest validation error; ties go to the earliest. NaN is above every number.

    An early epoch is the best only while there is no other.
    """
    return min(epochs, key=_rank)


def _rank(epoch: Epoch) -> tuple[bool, float, int]:
    error = epoch.validation_error or 0.0
    return epoch.is_early, math.inf if math.isnan(error) else error, epoch.number


@dataclass
class TrainingState:
    """Everything that changes during training, except the state of torch's global generators."""

    network: Network
    optimizer: Optimizer
    order: torch.Generator  # shuffles the rows
    epochs: list[Epoch]
    best: dict[str, Tensor]  # weights of the best epoch so far; empty without validation

    @property
    def device(self) -> torch.device:
        return next(self.network.parameters()).device


class Checkpoint:
    """The file with the state of one training after its last saved epoch."""

    def __init__(self, path: Path, *, keep: bool = False) -> None:
        """keep: every epoch is saved, and the file stays after training succeeds."""
        self.path = path
        self._keep = keep
        self._seconds = 0.0  # duration of the last write
        self._written = -PAUSE_SECONDS  # when the last write ended

    def save(self, state: TrainingState) -> None:
        """Writes the state after an epoch. Slow writes happen at most twice a minute."""
        start = time.monotonic()
        if not self._keep and self._seconds > SLOW_SECONDS and start - self._written < PAUSE_SECONDS:
            return
        tensors = _tensors(state)
        facts = {"epochs": [asdict(epoch) for epoch in state.epochs], "sha256": _hash(tensors)}
        try:
            # not synced: damage by a power cut is detected on reading, and training then starts over
            with replacing(self.path, synced=False) as aside:
                save_file(tensors, aside, metadata={"training": seal_json(facts)})
        except (OSError, SafetensorError) as error:
            logger.warning("cannot write checkpoint %s: %s. A killed training starts over", self.path, error)
        self._written = time.monotonic()
        self._seconds = self._written - start

    def load(self, state: TrainingState) -> bool:
        """Restores `state` and the global generators from the last `save`.

        Returns False and changes nothing if the file is missing or damaged.
        """
        if not self.path.exists():
            return False
        try:
            tensors, facts = _read(self.path)
            epochs = [Epoch(**epoch) for epoch in facts["epochs"]]
            if not epochs or facts["sha256"] != _hash(tensors):
                raise ValueError("it is not as it was written: its tensors have another SHA-256")
            _check_fits(tensors, state)
        except DAMAGE as error:
            logger.warning("checkpoint %s is damaged and was ignored: %s. Training starts over", self.path, error)
            return False
        state.epochs[:] = epochs
        _restore(tensors, state)
        return True

    def remove(self) -> None:
        if self._keep:
            return
        with suppress(FileNotFoundError, NotADirectoryError):  # never written, or not writable
            self.path.unlink()


def open_checkpoint(
    folder: Path | None, description: dict[str, Any], data: Iterable[Tensor], *, keep: bool = False
) -> Checkpoint | None:
    """Opens the checkpoint of the training with this description and data. Returns None without a folder.

    Checkpoints older than a week are removed.
    """
    if folder is None:
        return None
    remove_old(folder)
    digest = hashlib.sha256(json.dumps(description, sort_keys=True, default=str).encode())
    for column in data:
        digest.update(f"{column.dtype}{tuple(column.shape)}".encode())
        digest.update(column.detach().cpu().contiguous().numpy().data)
    return Checkpoint(folder / f"{digest.hexdigest()[:24]}.safetensors", keep=keep)


def remove_old(folder: Path) -> None:
    """Removes checkpoints older than a week, including temporary files of killed writes."""
    for path in folder.glob("*") if folder.is_dir() else ():
        if time.time() - path.stat().st_mtime > OLD_SECONDS:
            path.unlink(missing_ok=True)
            logger.info("removed %s: the training was not resumed for a week", path)


def _tensors(state: TrainingState) -> dict[str, Tensor]:
    """Returns all tensors of the state, named `part.name`. Best weights are omitted if they are the current ones."""
    parts = {
        "network": state.network.state_dict(),
        "best": {} if _is_best(state.epochs) else state.best,
        "optimizer": state.optimizer.tensors(),
        "generator": {"order": state.order.get_state()} | generator_states(state.device),
    }
    # safetensors rejects tensors that share memory and needs them on the CPU
    return {
        f"{part}.{name}": tensor.detach().cpu().clone() if tensor.is_cuda else tensor.detach().contiguous()
        for part, tensors in parts.items()
        for name, tensor in tensors.items()
    }


def _is_best(epochs: list[Epoch]) -> bool:
    return epochs[-1].validation_error is not None and best_epoch(epochs) is epochs[-1]


def _part(tensors: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    return {key[len(name) + 1 :]: value for key, value in tensors.items() if key.startswith(f"{name}.")}


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    with safe_open(path, framework="pt") as file:
        facts = open_sealed(file.metadata()["training"])
        return {name: file.get_tensor(name) for name in file.keys()}, facts  # noqa: SIM118 - not a dict


def _hash(tensors: dict[str, Tensor]) -> str:
    """SHA-256 of names, types, shapes and values."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)} ".encode())
        digest.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _check_fits(tensors: dict[str, Tensor], state: TrainingState) -> None:
    """Raises: ValueError if a tensor is missing or its shape differs from the network's."""
    here = {name: tuple(tensor.shape) for name, tensor in state.network.state_dict().items()}
    for part in ("network", "best"):
        there = {name: tuple(tensor.shape) for name, tensor in _part(tensors, part).items()}
        if there != here and (there or part == "network"):
            raise ValueError(f"its {part} weights do not fit this network")


def _restore(tensors: dict[str, Tensor], state: TrainingState) -> None:
    state.network.load_state_dict(_part(tensors, "network"))
    if state.epochs[-1].validation_error is not None:
        best = _part(tensors, "best") or _part(tensors, "network")
        state.best.update({name: value.to(state.device) for name, value in best.items()})
    state.optimizer.restore(_part(tensors, "optimizer"))
    generators = _part(tensors, "generator")
    state.order.set_state(generators.pop("order"))
    set_generator_states(generators, state.device)
