"""The one training loop; the network is its argument."""

import logging
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.optim.lr_scheduler import OneCycleLR

from recsys.decode import decode_median
from recsys.errors import ModelError, UsageError
from recsys.metrics import mae
from recsys.models import Interactions, Network, TrainingConfig
from recsys.progress import progress

logger = logging.getLogger(__name__)

ROWS_PER_PREDICTION = 65_536  # pairs predicted at once: large enough for speed, small beside the data


@dataclass(frozen=True)
class Epoch:
    """What one pass over the ratings gave; `validation_mae` is that of the median, in stars."""

    number: int
    loss: float
    validation_mae: float | None


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

    With `validation`, the weights of the epoch with the least validation MAE are kept. `stop_after` ends training
    after that many epochs of the same schedule, so that an epoch chosen on validation is met again on more data.

    Raises: ModelError at the end of an epoch in which the loss, or at the end of training if a weight, is not finite.
    """
    network.prepare(train)
    optimizer = torch.optim.AdamW(network.parameters(), lr=training.learning_rate, weight_decay=0.0, fused=True)
    n_steps = math.ceil(len(train) / training.batch_size)
    schedule = _schedule(optimizer, training, n_steps)
    epochs: list[Epoch] = []
    best: dict[str, Tensor] | None = None
    n_epochs = stop_after or training.epochs
    with _one_thread(), progress(label, n_epochs * len(train), f"ratings in {n_epochs} epochs", logger) as advance:
        for number in range(1, n_epochs + 1):
            network.train()
            losses = []
            for batch in _batches(train, n_steps):
                losses.append(_step(network, batch, optimizer))
                schedule.step() if schedule else None
            loss = _mean_loss(torch.stack(losses), f"{label}: epoch {number}")
            epochs.append(Epoch(number, loss, _validation_mae(network, validation)))
            advance(len(train), _describe(epochs[-1]))
            if validation is not None and epochs[-1] is best_epoch(epochs):
                best = {name: value.clone() for name, value in network.state_dict().items()}
    if best:
        network.load_state_dict(best)
    _check_weights(network, label)
    return epochs


def best_epoch(epochs: list[Epoch]) -> Epoch:
    """The one with the least validation MAE, the earliest of several."""
    return min(epochs, key=lambda epoch: (epoch.validation_mae or 0.0, epoch.number))


@torch.no_grad()
def predict(network: Network, user_idx: Tensor, item_idx: Tensor) -> Tensor:
    """Distributions over the rating levels: (B,) int64, (B,) int64 -> (B, K) float32, for B of any size."""
    network.eval()
    pairs = zip(user_idx.split(ROWS_PER_PREDICTION), item_idx.split(ROWS_PER_PREDICTION), strict=True)
    return torch.cat([network.probabilities(users, items) for users, items in pairs])


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


def _schedule(optimizer: torch.optim.Optimizer, training: TrainingConfig, n_steps: int) -> OneCycleLR | None:
    if not training.one_cycle:
        return None
    return OneCycleLR(optimizer, training.learning_rate, total_steps=n_steps * training.epochs, cycle_momentum=False)


def _batches(train: Interactions, n_steps: int) -> Iterator[Interactions]:
    """The rows in random order in `n_steps` parts of nearly equal size: none is a rest of a row or two."""
    order = torch.randperm(len(train)).to(train.user_idx.device)
    return (train.take(rows) for rows in order.tensor_split(n_steps))


def _step(network: Network, batch: Interactions, optimizer: torch.optim.Optimizer) -> Tensor:
    loss = network.loss(batch)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
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


def _validation_mae(network: Network, validation: Interactions | None) -> float | None:
    network.eval()
    network.freeze()
    if validation is None:
        return None
    levels_K = network.levels()
    p_BK = predict(network, validation.user_idx, validation.item_idx)
    return mae(decode_median(p_BK, levels_K), levels_K[validation.level_idx])


def _describe(epoch: Epoch) -> str:
    validation = "" if epoch.validation_mae is None else f", validation MAE {epoch.validation_mae:.4f}"
    return f"epoch {epoch.number}, loss {epoch.loss:.4f}{validation}"
