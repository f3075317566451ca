"""A learning rate to begin with, from a hundred training steps whose rate grows from far too small to far too large."""

import copy
import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch

from recsys.errors import ModelError
from recsys.models import Interactions, Network, TrainingConfig
from recsys.train.device import make_generator, one_thread, seeded
from recsys.train.loop import gradient_step, shuffled_batches, steps_per_epoch
from recsys.train.step import clip_gradient, make_optimizer, set_rate

LOWEST, HIGHEST = 1e-6, 10.0  # no network of ours learns below or stays whole above
N_STEPS = 100
SMOOTHING = 0.7  # weight of the steps before in the smoothed loss
PROBE_ROWS = 4096
SAFETY = 10.0  # the rate of the least loss is already too high: what was learned before is lost as fast there
EXPLODED = 4.0  # times the least smoothed loss: nothing is learned at higher rates


@dataclass(frozen=True)
class LearningRateCurve:
    """The smoothed loss met at each rate, ascending, up to where it exploded, and what they suggest."""

    rates: tuple[float, ...]
    losses: tuple[float, ...]
    suggestion: float


def find_learning_rate(
    network: Network, train: Interactions, training: TrainingConfig, *, seed: int = 0
) -> LearningRateCurve:
    """Trains a copy of an untrained `network`, which stays as it is; all draws come from `seed`.

    The loss is that of the same few thousand rows after each step: that of each step's own batch differs by more from
    batch to batch than all that low rates change. The suggestion is a tenth of the rate at which it was least; of the
    usual rules it was the only one to agree with itself from seed to seed (docs/experiments.md). It is a place to
    begin: a constant schedule often wants less, one_cycle may bear more.

    Raises: ModelError if the loss is not finite even at the lowest rate.

    Source: the learning rate range test, Smith, "Cyclical Learning Rates for Training Neural Networks" (2017), with
    rates that grow by a constant factor.
    """
    network = copy.deepcopy(network)
    rates, losses = [], []
    least, average = math.inf, 0.0
    with seeded(seed), one_thread():
        rows = network.prepare(train)
        optimizer = make_optimizer(network, training)
        batches = _endless(rows, training, seed)
        probe = next(shuffled_batches(rows, math.ceil(len(rows) / PROBE_ROWS), make_generator(seed + 1)))
        network.train()
        for step in range(N_STEPS):
            rate = LOWEST * (HIGHEST / LOWEST) ** (step / (N_STEPS - 1))
            optimizer.zero_grad()
            gradient_step(network, next(batches), half=rows.user_idx.is_cuda)
            clip_gradient(network, training.clip_norm)
            set_rate(optimizer, rate)
            optimizer.step()
            with torch.no_grad():
                loss = network.loss(probe).item()
            average = SMOOTHING * average + (1 - SMOOTHING) * loss
            smoothed = average / (1 - SMOOTHING ** (step + 1))  # as if the first loss had not been met with a zero
            if not math.isfinite(loss) or smoothed > EXPLODED * least:
                break
            least = min(least, smoothed)
            rates.append(rate)
            losses.append(smoothed)
    if not losses:
        raise ModelError(f"the loss is {loss} at a learning rate of {LOWEST:g} already; look for the fault elsewhere.")
    return LearningRateCurve(tuple(rates), tuple(losses), rates[losses.index(least)] / SAFETY)


def _endless(rows: Interactions, training: TrainingConfig, seed: int) -> Iterator[Interactions]:
    """Epoch after epoch, as `fit_network` takes its batches."""
    order = make_generator(seed)
    while True:
        yield from shuffled_batches(rows, steps_per_epoch(rows, training), order)
