"""The one training loop; the network is its argument."""

import logging
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from recsys.metrics.decode import Prediction
from recsys.models import Interactions, Network, Pairs, RatingNetwork, TrainingConfig
from recsys.progress import Advance, progress
from recsys.train.checkpoint import Checkpoint, Epoch, TrainingState, best_epoch
from recsys.train.device import autocast, make_generator, one_thread, pick_device
from recsys.train.step import check_weights, clip_gradient, diverged, is_finite, make_optimizer, rate_at, set_rate

__all__ = ["Epoch", "best_epoch", "fit_network", "pick_device", "predict", "score", "shuffled_batches"]

logger = logging.getLogger(__name__)

ROWS_PER_PREDICTION = 65_536  # pairs predicted at once: large enough for speed, small beside the data
LOOK_EVERY_STEPS = 50  # at the losses, and to tell the progress; on a GPU each look waits for the steps under way

Start = Callable[[Network], None]


def fit_network(
    network: Network,
    train: Interactions,
    training: TrainingConfig,
    *,
    validation: Interactions | None = None,
    stop_after: int | None = None,
    label: str = "train",
    generator: torch.Generator | None = None,
    checkpoint: Checkpoint | None = None,
    start: Start | None = None,
    half: bool | None = None,
    watch: Callable[[Epoch], None] | None = None,
) -> list[Epoch]:
    """Trains `network` in place, on the device of `train`; returns its epochs.

    With `validation`, the weights of the epoch with the least validation error are kept. `stop_after` ends training
    after that many epochs of the same schedule, so that an epoch chosen on validation is met again on more data.
    `start` changes the prepared network before its first step. `half`: products in bfloat16, the default on CUDA.
    `watch` is shown each epoch, and ends the training by raising.

    The order of rows comes from `generator`, by default one seeded by torch.initial_seed(); the network draws from
    torch's global generators, and nothing else does. The same seed gives the same weights, bit for bit, on one kind of
    CPU with one version of torch, in any process and with any number of threads. On CUDA it gives the same draws, but
    sums over the rows of a batch are added up in whatever order they arrive in, so that weights agree to a few digits.

    With a `checkpoint`, each epoch is kept until the training ends, and one that was killed goes on after its last
    epoch as if nothing had happened.

    Raises: ModelError soon after a loss, or at the end of training if a weight, is not finite.
    """
    with one_thread():
        rows = network.prepare(train)
        if start:
            start(network)
    order = generator or make_generator(torch.initial_seed())
    state = TrainingState(network, make_optimizer(network, training), order, [], {})
    if checkpoint and checkpoint.load(state):
        logger.info("%s: goes on after epoch %d, where it was killed", label, len(state.epochs))
    n_epochs = stop_after or training.epochs
    total, done = n_epochs * len(rows), len(state.epochs) * len(rows)
    with one_thread(), progress(label, total, f"ratings in {n_epochs} epochs", logger, done) as advance:
        run = _Run(state, rows, training, label, half if half is not None else rows.user_idx.is_cuda, advance)
        while len(state.epochs) < n_epochs and not _has_stalled(state.epochs, training.patience):
            run.epoch(validation)
            if checkpoint:
                checkpoint.save(state)
            if watch:
                watch(state.epochs[-1])
    if state.best:
        network.load_state_dict(state.best)
    check_weights(network, label, training)
    if checkpoint:
        checkpoint.remove()
    return state.epochs


def shuffled_batches(rows: Interactions, n_steps: int, order: torch.Generator) -> Iterator[Interactions]:
    """The rows in random order in `n_steps` parts of nearly equal size: none is a rest of a row or two."""
    permutation = torch.randperm(len(rows), generator=order).to(rows.user_idx.device)
    return (rows.take(part) for part in permutation.tensor_split(n_steps))


def gradient_step(network: Network, batch: Interactions, half: bool) -> Tensor:
    """Adds to the gradient at the weights; returns the loss, a scalar, without waiting for it."""
    with autocast(batch.user_idx.device, half):
        loss = network.loss(batch)
    loss.backward()
    return loss.detach()


@torch.no_grad()
def predict(network: RatingNetwork, pairs: Pairs) -> Prediction:
    """Of any number of pairs, in parts of a bounded size."""
    network.eval()
    parts = [network.predict(part) for part in _parts(pairs)]
    return Prediction(torch.cat([part.p_BK for part in parts]), torch.cat([part.mean_B for part in parts]))


@torch.no_grad()
def score(network: Network, pairs: Pairs) -> Tensor:
    """(B,) of any number of pairs, in parts of a bounded size."""
    network.eval()
    return torch.cat([network.score(part) for part in _parts(pairs)])


P = TypeVar("P", bound=Pairs)


def _parts(pairs: P) -> Iterator[P]:
    """In order; at least one, so that nothing is predicted of nothing."""
    for first in range(0, max(1, len(pairs)), ROWS_PER_PREDICTION):
        yield pairs.take(slice(first, first + ROWS_PER_PREDICTION))


@dataclass
class _Run:
    """What the epochs of one training share."""

    state: TrainingState
    rows: Interactions
    training: TrainingConfig
    label: str
    half: bool
    advance: Advance
    untold: int = 0  # rows trained on since progress was told

    def epoch(self, validation: Interactions | None) -> None:
        """One pass over the rows, and what it did to `validation`."""
        network, epochs = self.state.network, self.state.epochs
        loss = self._pass()
        epochs.append(Epoch(len(epochs) + 1, loss, _validation_error(network, validation)))
        if validation is not None and best_epoch(epochs) is epochs[-1]:
            self.state.best = {name: value.clone() for name, value in network.state_dict().items()}
        self._tell(_describe(network, epochs[-1]))

    def _pass(self) -> float:
        """Returns the mean loss of its steps."""
        network, optimizer = self.state.network, self.state.optimizer
        n_steps = steps_per_epoch(self.rows, self.training)
        first = len(self.state.epochs) * n_steps  # of all the training's steps
        network.train()
        losses: list[Tensor] = []
        for number, batch in enumerate(shuffled_batches(self.rows, n_steps, self.state.order), start=1):
            optimizer.zero_grad()
            losses.append(gradient_step(network, batch, self.half))
            clip_gradient(network, self.training.clip_norm)
            self.untold += len(batch)
            self._look(losses, n_steps)
            set_rate(optimizer, rate_at(first + number - 1, n_steps * self.training.epochs, self.training))
            optimizer.step()
        return torch.stack(losses).mean().item()

    def _look(self, losses: list[Tensor], n_steps: int) -> None:
        """At a CPU's losses at once, at a GPU's now and then. Raises: ModelError if one of them is not finite."""
        due = len(losses) % LOOK_EVERY_STEPS == 0
        at_once = losses[-1].device.type == "cpu"
        if not (due or at_once or len(losses) == n_steps):
            return
        if not is_finite(losses[-1] if at_once else torch.stack(losses[-LOOK_EVERY_STEPS:])):
            where = f"{self.label}: epoch {len(self.state.epochs) + 1}"
            raise diverged(where, losses, n_steps, self.state.network, self.training)
        if due:
            before = f"; {_describe(self.state.network, self.state.epochs[-1])}" if self.state.epochs else ""
            self._tell(f"epoch {len(self.state.epochs) + 1}, loss {losses[-1].item():.4f}{before}")

    def _tell(self, note: str) -> None:
        self.advance(self.untold, note)
        self.untold = 0


def steps_per_epoch(rows: Interactions, training: TrainingConfig) -> int:
    return math.ceil(len(rows) / training.batch_size)


def _has_stalled(epochs: list[Epoch], patience: int | None) -> bool:
    """Without validation there is nothing that could stall."""
    if patience is None or not epochs or epochs[-1].validation_error is None:
        return False
    return len(epochs) - best_epoch(epochs).number >= patience


@torch.no_grad()
def _validation_error(network: Network, validation: Interactions | None) -> float | None:
    network.eval()
    network.freeze()
    if validation is None:
        return None
    errors = torch.cat([network.errors(part) for part in _parts(validation)])
    return errors.cpu().double().mean().item()  # a million floats have a mean in double precision only


def _describe(network: Network, epoch: Epoch) -> str:
    error = epoch.validation_error
    validation = "" if error is None else f", validation {network.criterion} {error:.4f}"
    return f"epoch {epoch.number}, loss {epoch.loss:.4f}{validation}"
