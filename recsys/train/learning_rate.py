"""Suggests a learning rate from a hundred training steps at rates from far too small to far too large."""

import copy
import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch

from recsys.errors import ModelError
from recsys.models import Interactions, Network, TrainingConfig
from recsys.train.device import make_generator, one_thread, seeded
from recsys.train.loop import gradient_step, shuffled_batches, steps_per_epoch
from recsys.train.step import Optimizer, clip_gradient

LOWEST, HIGHEST = 1e-6, 10.0  # with lower rates, no network of this project learns; with higher rates, all diverge
N_STEPS = 100
SMOOTHING = 0.7  # weight of earlier steps in the smoothed loss
PROBE_ROWS = 4096
SAFETY = 10.0  # divides the rate with the lowest loss, which is too high: it undoes earlier progress
EXPLODED = 4.0  # multiple of the lowest smoothed loss at which the test stops: higher rates learn nothing


@dataclass(frozen=True)
class LearningRateCurve:
    """The smoothed loss at each rate, and the suggested rate. Rates ascend and end before the loss exploded."""

    rates: tuple[float, ...]
    losses: tuple[float, ...]
    suggestion: float


def find_learning_rate(
    network: Network, train: Interactions, training: TrainingConfig, *, seed: int = 0
) -> LearningRateCurve:
    """Runs the learning rate range test on a copy of the untrained `network`; all draws come from `seed`.

    The loss is measured on the same few thousand rows after each step. The loss of a step's own batch would be too
    noisy: it differs more from batch to batch than low rates change it. The suggestion is a tenth of the rate with the
    lowest loss, the only usual rule that gave consistent results across seeds (docs/experiments.md). Take it as a
    starting point: a constant schedule often needs a lower rate, and one_cycle may tolerate a higher one.

    Raises: ModelError if the loss is not finite even at the lowest rate.

    Source: the learning rate range test, Smith, "Cyclical Learning Rates for Training Neural Networks" (2017), with
    rates that grow by a constant factor.
    """
    network = copy.deepcopy(network)
    rates, losses = [], []
    least, average = math.inf, 0.0
    with seeded(seed + 1), one_thread():  # plus one, because the network was built with the draws of `seed`
        rows = network.prepare(train)
        optimizer = Optimizer(network, training)
        batches = _endless(rows, training, seed)
        probe = next(shuffled_batches(rows, math.ceil(len(rows) / PROBE_ROWS), make_generator(seed + 1)))
        network.train()
        for step in range(N_STEPS):
            rate = LOWEST * (HIGHEST / LOWEST) ** (step / (N_STEPS - 1))
            optimizer.zero_grad()
            gradient_step(network, next(batches), half=rows.user_idx.is_cuda)
            clip_gradient(network, training.clip_norm)
            optimizer.step(rate)
            with torch.no_grad():
                loss = network.loss(probe).item()
            average = SMOOTHING * average + (1 - SMOOTHING) * loss
            smoothed = average / (1 - SMOOTHING ** (step + 1))  # corrects for the initial zero
            if not math.isfinite(loss) or smoothed > EXPLODED * least:
                break
            least = min(least, smoothed)
            rates.append(rate)
            losses.append(smoothed)
    if not losses:
        raise ModelError(f"the loss is {loss} even at the lowest learning rate, {LOWEST:g}; the cause is not the rate.")
    return LearningRateCurve(tuple(rates), tuple(losses), rates[losses.index(least)] / SAFETY)


def _endless(rows: Interactions, training: TrainingConfig, seed: int) -> Iterator[Interactions]:
    """Yields batches in the order of `fit_network`, for an unlimited number of epochs."""
    order = make_generator(seed)
    while True:
        yield from shuffled_batches(rows, steps_per_epoch(rows, training), order)
