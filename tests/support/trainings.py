"""A training with validation in its own process, which can kill itself in the middle of an epoch.

`python -m tests.support.trainings NAME FOLDER [STEP]` trains with checkpoints in FOLDER. With STEP, the process sends
itself SIGKILL at that step, counted over all epochs. Otherwise it prints a hash of the weights, and the epochs.
"""

import hashlib
import json
import os
import signal
import sys
from pathlib import Path

import torch

from recsys.encode.vocabulary import fit_vocabulary
from recsys.models import MODELS, BatchNetwork, Interactions, Network
from recsys.split.cut import split_validation
from recsys.train.checkpoint import Epoch
from recsys.train.learn import Learner, fit_seeded
from tests.support.planted import LEVELS, quick_config, ratings


def train(name: str, folder: Path | None) -> tuple[Network, list[Epoch]]:
    """Train for five epochs of five steps on the planted ratings, with validation."""
    known, unseen = split_validation(ratings(), 0.2, seed=0)
    learner = Learner(fit_vocabulary(ratings()), LEVELS, seed=3, device="cpu", checkpoints=folder)
    config = quick_config(name, epochs=5, batch_size=200, patience=4)
    return fit_seeded(name, config, learner.encode(known), learner, validation=learner.encode(unseen))


def describe(network: Network, epochs: list[Epoch]) -> list[object]:
    digest = hashlib.sha256()
    for key, value in sorted(network.state_dict().items()):
        digest.update(key.encode() + value.numpy().tobytes())
    return [digest.hexdigest(), [[epoch.number, epoch.loss, epoch.validation_error] for epoch in epochs]]


def die_at(step: int, kind: type[BatchNetwork]) -> None:
    """Makes the process kill itself at a step, without cleaning up."""
    plain, steps = kind.loss, iter(range(1, step + 1))

    def loss(self: BatchNetwork, batch: Interactions) -> torch.Tensor:
        if next(steps) == step:
            os.kill(os.getpid(), signal.SIGKILL)
        return plain(self, batch)

    kind.loss = loss  # type: ignore[method-assign]


def main(name: str, folder: str, step: str | None = None) -> None:
    if step:
        kind = MODELS[name].build
        assert isinstance(kind, type)
        assert issubclass(kind, BatchNetwork)
        die_at(int(step), kind)
    print(json.dumps(describe(*train(name, Path(folder)))))


if __name__ == "__main__":
    main(*sys.argv[1:])
