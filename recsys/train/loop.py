"""The training loop shared by all networks, and prediction in batches.

Reproducibility: the order of rows comes from a separate generator. Only the network draws from torch's global
generators. The same seed gives bit-identical weights on one kind of CPU with one version of torch, in any process and
with any number of threads. On CUDA, the draws are the same but the order of floating-point sums is not, so weights
agree to a few digits only.
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from recsys.metrics.decode import Prediction
from recsys.models import Interactions, Network, Pairs, RatingNetwork, TrainingConfig
from recsys.progress import Advance, progress
from recsys.train.checkpoint import Checkpoint, Epoch, TrainingState, best_epoch
from recsys.train.device import make_generator, one_thread, pick_device
from recsys.train.step import Optimizer, check_weights, diverged, is_finite, rate_at
from recsys.train.steps import epoch_steps, steps_per_epoch

__all__ = ["Epoch", "best_epoch", "fit_network", "pick_device", "predict", "score"]

logger = logging.getLogger(__name__)

ROWS_PER_PREDICTION = 65_536  # pairs per prediction batch: large enough for speed, small compared with the data
CHECK_EVERY_STEPS = 50  # steps between checks of the loss and reports; on a GPU, a check waits for all queued steps

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
    """Trains `network` in place, on the device of `train`. Returns its epochs.

    With `validation`, the weights of the epoch with the lowest validation error are kept. `stop_after` stops after that
    many epochs without changing the learning rate schedule, so that an epoch chosen on validation can be reproduced on
    more data. `start` may change the prepared network before its first step. `half` computes products in bfloat16, the
    default on CUDA. `watch` is called after each epoch and may raise to stop training. `generator` shuffles the rows;
    by default, it is seeded by torch.initial_seed(). With a `checkpoint`, the state is saved after each epoch, and a
    killed training is resumed after its last saved epoch, with the same result.

    Raises: ModelError soon after the loss stops being finite, or at the end of training if a weight is not finite.
    """
    rows = _prepare(network, train, start)
    order = generator or make_generator(torch.initial_seed())
    state = TrainingState(network, Optimizer(network, training), order, [], {})
    if checkpoint and checkpoint.load(state):
        logger.info("%s: resumed after epoch %d", label, len(state.epochs))
    n_epochs = stop_after or training.epochs
    total, done = n_epochs * len(rows), len(state.epochs) * len(rows)
    if done < total:
        with one_thread(), progress(label, total, f"ratings in {n_epochs} epochs", logger, done) as advance:
            run = _Run(state, rows, training, label, half if half is not None else rows.user_idx.is_cuda, advance)
            run.train(n_epochs, validation, checkpoint, watch)
    if state.best:
        network.load_state_dict(state.best)
    check_weights(network, label, training)
    if checkpoint:
        checkpoint.remove()
    return state.epochs


def _prepare(network: Network, train: Interactions, start: Start | None) -> Interactions:
    """Prepares the network; returns the rows from which training batches are taken."""
    with one_thread():
        rows = network.prepare(train)
        if start:
            start(network)
    return rows


@torch.no_grad()
def predict(network: RatingNetwork, pairs: Pairs) -> Prediction:
    """Predicts any number of pairs in batches of bounded size."""
    network.eval()
    parts = [network.predict(part) for part in _parts(pairs)]
    return Prediction(torch.cat([part.p_BK for part in parts]), torch.cat([part.mean_B for part in parts]))


@torch.no_grad()
def score(network: Network, pairs: Pairs) -> Tensor:
    """Returns (B,), the scores of any number of pairs, in batches of bounded size."""
    network.eval()
    return torch.cat([network.score(part) for part in _parts(pairs)])


P = TypeVar("P", bound=Pairs)


def _parts(pairs: P) -> Iterator[P]:
    """Yields batches in order; at least one, so that empty input gives empty output."""
    for first in range(0, max(1, len(pairs)), ROWS_PER_PREDICTION):
        yield pairs.take(slice(first, first + ROWS_PER_PREDICTION))


@dataclass
class _Run:
    """The state shared by the epochs of one training."""

    state: TrainingState
    rows: Interactions
    training: TrainingConfig
    label: str
    half: bool
    advance: Advance
    unreported: int = 0  # rows trained on since the last progress report

    def train(
        self,
        n_epochs: int,
        validation: Interactions | None,
        checkpoint: Checkpoint | None,
        watch: Callable[[Epoch], None] | None,
    ) -> None:
        """Runs epochs until there are `n_epochs` or the validation error stalls."""
        epochs = self.state.epochs
        while len(epochs) < n_epochs and not _has_stalled(epochs, self.training.patience):
            self.epoch(validation)
            if checkpoint:
                checkpoint.save(self.state)
            if watch:
                watch(epochs[-1])

    def epoch(self, validation: Interactions | None) -> None:
        """Runs one pass over the rows and measures the validation error."""
        network, epochs = self.state.network, self.state.epochs
        loss = self._pass()
        number = len(epochs) + 1
        is_early = self.training.schedule == "one_cycle" and number <= self.training.epochs / 2
        epochs.append(Epoch(number, loss, _validation_error(network, validation), is_early))
        if validation is not None and best_epoch(epochs) is epochs[-1]:
            self.state.best = {name: value.clone() for name, value in network.state_dict().items()}
        self._report(_describe(network, epochs[-1]))

    def _pass(self) -> float:
        """Trains on all rows once; returns the mean loss of the steps."""
        state, training = self.state, self.training
        n_steps = steps_per_epoch(state.network, self.rows, training)
        first = len(state.epochs) * n_steps  # index of the first step within the whole training
        state.network.train()
        losses: list[Tensor] = []
        with closing(
            epoch_steps(state.network, self.rows, training, state.optimizer, state.order, half=self.half)
        ) as steps:
            for step in steps:
                losses.append(step.gradient())
                self.unreported += step.n_rows
                self._check(losses, n_steps, is_last=step.position + 1 == n_steps)
                step.apply(rate_at(first + step.position, n_steps * training.epochs, training))
        return torch.stack(losses).mean().item()

    def _check(self, losses: list[Tensor], n_steps: int, *, is_last: bool) -> None:
        """Checks every loss on a CPU, and only periodically on a GPU. Raises: ModelError if one is not finite."""
        due = len(losses) % CHECK_EVERY_STEPS == 0
        is_cpu = losses[-1].device.type == "cpu"
        if not (due or is_cpu or is_last):
            return
        if not is_finite(losses[-1] if is_cpu else torch.stack(losses[-CHECK_EVERY_STEPS:])):
            where = f"{self.label}: epoch {len(self.state.epochs) + 1}"
            raise diverged(where, losses, n_steps, self.state.network, self.training)
        if due:
            before = f"; {_describe(self.state.network, self.state.epochs[-1])}" if self.state.epochs else ""
            self._report(f"epoch {len(self.state.epochs) + 1}, loss {losses[-1].item():.4f}{before}")

    def _report(self, note: str) -> None:
        self.advance(self.unreported, note)
        self.unreported = 0


def _has_stalled(epochs: list[Epoch], patience: int | None) -> bool:
    """Whether the validation error has not improved for `patience` epochs; always False without validation."""
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
    return errors.cpu().double().mean().item()  # float32 is not precise enough for the mean of a million rows


def _describe(network: Network, epoch: Epoch) -> str:
    error = epoch.validation_error
    validation = "" if error is None else f", validation {network.criterion} {error:.4f}"
    return f"epoch {epoch.number}, loss {epoch.loss:.4f}{validation}"
