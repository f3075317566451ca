"""The one training loop; the network is its argument."""

import logging
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import OneCycleLR

from recsys.decode import Prediction
from recsys.errors import ModelError, UsageError
from recsys.models import Interactions, Network, Pairs, RatingNetwork, TrainingConfig
from recsys.progress import progress

logger = logging.getLogger(__name__)

ROWS_PER_PREDICTION = 65_536  # pairs predicted at once: large enough for speed, small beside the data


@dataclass(frozen=True)
class Epoch:
    """What one pass over the ratings gave; `validation_error` is the mean of the network's `errors`."""

    number: int
    loss: float
    validation_error: float | None


def pick_device(name: str) -> torch.device:
    """`auto` is the GPU if there is one. Raises: UsageError if the device asked for is not there."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name == "cuda" and not torch.cuda.is_available():
        raise UsageError("device cuda was asked for and torch sees no CUDA GPU; set RECSYS_DEVICE to cpu or auto")
    return torch.device(name)


def fit_network(
    network: Network,
    train: Interactions,
    training: TrainingConfig,
    *,
    validation: Interactions | None = None,
    stop_after: int | None = None,
    label: str = "train",
) -> list[Epoch]:
    """Trains `network` in place, on the device of `train`; returns its epochs.

    With `validation`, the weights of the epoch with the least validation error are kept. `stop_after` ends training
    after that many epochs of the same schedule, so that an epoch chosen on validation is met again on more data.

    Raises: ModelError at the end of an epoch in which the loss, or at the end of training if a weight, is not finite.
    """
    rows = network.prepare(train)
    optimizer = _optimizer(network, training)
    n_steps = math.ceil(len(rows) / training.batch_size)
    schedule = _schedule(optimizer, training, n_steps)
    epochs: list[Epoch] = []
    best: dict[str, Tensor] | None = None
    n_epochs = stop_after or training.epochs
    with _one_thread(), progress(label, n_epochs * len(train), f"ratings in {n_epochs} epochs", logger) as advance:
        for number in range(1, n_epochs + 1):
            network.train()
            losses = []
            for batch in _batches(rows, n_steps):
                losses.append(_step(network, batch, optimizer, training.clip_norm))
                schedule.step() if schedule else None
            loss = _mean_loss(torch.stack(losses), f"{label}: epoch {number}")
            epochs.append(Epoch(number, loss, _validation_error(network, validation)))
            advance(len(train), _describe(network, epochs[-1]))
            if validation is not None and epochs[-1] is best_epoch(epochs):
                best = {name: value.clone() for name, value in network.state_dict().items()}
            if validation is not None and _has_stalled(epochs, training.patience):
                break
    if best:
        network.load_state_dict(best)
    _check_weights(network, label)
    return epochs


def best_epoch(epochs: list[Epoch]) -> Epoch:
    """The one with the least validation error, the earliest of several."""
    return min(epochs, key=lambda epoch: (epoch.validation_error or 0.0, epoch.number))


def _has_stalled(epochs: list[Epoch], patience: int | None) -> bool:
    return patience is not None and len(epochs) - best_epoch(epochs).number >= patience


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


@contextmanager
def _one_thread() -> Iterator[None]:
    """On a CPU, steps this short gain nothing from a second thread (measured), and one makes sums end the same way on
    a machine with any number of cores.
    """
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(n_threads)


def _optimizer(network: Network, training: TrainingConfig) -> torch.optim.Optimizer:
    if training.optimizer == "sgd":
        return torch.optim.SGD(
            network.parameters(), lr=training.learning_rate, weight_decay=training.weight_decay, fused=True
        )
    return torch.optim.AdamW(
        network.parameters(), lr=training.learning_rate, weight_decay=training.weight_decay, fused=True
    )


def _schedule(optimizer: torch.optim.Optimizer, training: TrainingConfig, n_steps: int) -> OneCycleLR | None:
    if training.schedule == "constant":
        return None
    return OneCycleLR(optimizer, training.learning_rate, total_steps=n_steps * training.epochs, cycle_momentum=False)


def _batches(rows: Interactions, n_steps: int) -> Iterator[Interactions]:
    """The rows in random order in `n_steps` parts of nearly equal size: none is a rest of a row or two."""
    order = torch.randperm(len(rows)).to(rows.user_idx.device)
    return (rows.take(part) for part in order.tensor_split(n_steps))


def _step(network: Network, batch: Interactions, optimizer: torch.optim.Optimizer, clip_norm: float | None) -> Tensor:
    loss = network.loss(batch)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    if clip_norm is not None:
        nn.utils.clip_grad_norm_(network.parameters(), clip_norm)
    optimizer.step()
    return loss.detach()


def _mean_loss(losses: Tensor, where: str) -> float:
    """Of the steps of an epoch; looked at once per epoch, since looking makes a GPU wait."""
    wrong = (~losses.isfinite()).nonzero()
    if len(wrong):
        step = int(wrong[0])
        raise ModelError(
            f"{where}, step {step + 1} of {len(losses)}: the loss is {losses[step].item()}. Lower learning_rate."
        )
    return losses.mean().item()


def _check_weights(network: Network, label: str) -> None:
    """The last step's loss says nothing of what that step did."""
    wrong = [name for name, weight in network.state_dict().items() if not weight.isfinite().all()]
    if wrong:
        raise ModelError(f"{label}: weights of {', '.join(wrong)} are not finite. Lower learning_rate.")


@torch.no_grad()
def _validation_error(network: Network, validation: Interactions | None) -> float | None:
    network.eval()
    network.freeze()
    if validation is None:
        return None
    return torch.cat([network.errors(part) for part in _parts(validation)]).double().mean().item()


def _describe(network: Network, epoch: Epoch) -> str:
    error = epoch.validation_error
    validation = "" if error is None else f", validation {network.criterion} {error:.4f}"
    return f"epoch {epoch.number}, loss {epoch.loss:.4f}{validation}"
