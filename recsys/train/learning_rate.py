"""Suggests a learning rate from a hundred training steps at rates from far too small to far too large."""

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import islice

from torch import Tensor

from recsys.errors import ModelError
from recsys.models import BatchNetwork, Interactions, Network, TrainingConfig
from recsys.models.tiles import TiledNetwork
from recsys.train.device import make_generator, one_thread, seeded
from recsys.train.step import Optimizer
from recsys.train.steps import Step, epoch_steps, measure, shuffled_batches, steps_per_epoch

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
        optimizer, order = Optimizer(network, training), make_generator(seed)
        rounds = math.ceil(2 * N_STEPS / steps_per_epoch(network, rows, training))  # at least half the tiles have rows
        steps = epoch_steps(network, rows, training, optimizer, order, half=rows.user_idx.is_cuda, rounds=rounds)
        probe: Callable[[], Tensor] | None = None
        network.train()
        for number, step in enumerate(islice(steps, N_STEPS)):
            probe = probe or _make_probe(network, rows, step, seed)
            rate = LOWEST * (HIGHEST / LOWEST) ** (number / (N_STEPS - 1))
            step.gradient()
            step.apply(rate)
            loss = probe().item()
            average = SMOOTHING * average + (1 - SMOOTHING) * loss
            smoothed = average / (1 - SMOOTHING ** (number + 1))  # corrects for the initial zero
            if not math.isfinite(loss) or smoothed > EXPLODED * least:
                break
            least = min(least, smoothed)
            rates.append(rate)
            losses.append(smoothed)
    if not losses:
        raise ModelError(f"the loss is {loss} even at the lowest learning rate, {LOWEST:g}; the cause is not the rate.")
    return LearningRateCurve(tuple(rates), tuple(losses), rates[losses.index(least)] / SAFETY)


def _make_probe(network: Network, rows: Interactions, first: Step, seed: int) -> Callable[[], Tensor]:
    """Returns a function that computes the loss on some rows: those of the first tile, or random ones."""
    if isinstance(network, TiledNetwork):
        return first.measure
    assert isinstance(network, BatchNetwork)
    batch = next(shuffled_batches(rows, math.ceil(len(rows) / PROBE_ROWS), make_generator(seed + 1)))
    return partial(measure, network, batch)
