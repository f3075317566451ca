"""The steps of an epoch: on random batches of ratings, or on tiles."""

import math
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from recsys.models import BatchNetwork, Interactions, Network, TrainingConfig
from recsys.models.tiles import Own, Tile, TiledNetwork, TiledPass
from recsys.train.device import autocast
from recsys.train.step import Optimizer, clip_gradient

MAX_BLOCKS = 128


@dataclass(frozen=True)
class Step:
    """One step of an epoch. `gradient` comes first, then `apply` with a learning rate."""

    position: int  # index within the epoch, which determines the learning rate
    n_rows: int
    gradient: Callable[[], Tensor]  # accumulates the gradient; returns the loss without waiting for the device
    apply: Callable[[float], None]  # changes the weights
    measure: Callable[[], Tensor]  # returns the loss on the same ratings; valid until the end of the epoch


def steps_per_epoch(network: Network, rows: Interactions, training: TrainingConfig) -> int:
    """Number of steps of an epoch, including those on tiles without ratings, which are skipped."""
    if isinstance(network, TiledNetwork):
        return count_blocks(rows, training) ** 2
    return math.ceil(len(rows) / training.batch_size)


def count_blocks(rows: Interactions, training: TrainingConfig) -> int:
    """Number of blocks of users, and of movies, for which a tile has about `batch_size` ratings."""
    return min(MAX_BLOCKS, max(1, round(math.sqrt(len(rows) / training.batch_size))))


def epoch_steps(
    network: Network,
    rows: Interactions,
    training: TrainingConfig,
    optimizer: Optimizer,
    order: torch.Generator,
    *,
    half: bool = False,
    rounds: int = 1,
) -> Generator[Step]:
    """Yields the steps of one epoch, in an order drawn from `order`, or of several `rounds`.

    The tables of a tiled network are in an order of their own until the generator ends or is closed.
    """
    if isinstance(network, TiledNetwork):
        return _tile_steps(network, count_blocks(rows, training), training, optimizer, order, rounds)
    assert isinstance(network, BatchNetwork)
    return _batch_steps(network, rows, training, optimizer, order, half, rounds)


def shuffled_batches(rows: Interactions, n_steps: int, order: torch.Generator) -> Iterator[Interactions]:
    """Yields the rows in random order, in `n_steps` batches of nearly equal size, so that no batch is tiny."""
    permutation = torch.randperm(len(rows), generator=order).to(rows.user_idx.device)
    return (rows.take(part) for part in permutation.tensor_split(n_steps))


@torch.no_grad()
def measure(network: BatchNetwork, batch: Interactions) -> Tensor:
    """Returns the loss of a batch, a scalar without gradient."""
    return network.loss(batch)


def _batch_steps(
    network: BatchNetwork,
    rows: Interactions,
    training: TrainingConfig,
    optimizer: Optimizer,
    order: torch.Generator,
    half: bool,
    rounds: int,
) -> Generator[Step]:
    def gradient(batch: Interactions) -> Tensor:
        optimizer.zero_grad()
        with autocast(batch.user_idx.device, half):
            loss = network.loss(batch)
        loss.backward()
        return loss.detach()

    def apply(rate: float) -> None:
        clip_gradient(network.parameters(), training.clip_norm)
        optimizer.step(rate)

    for _ in range(rounds):
        for position, batch in enumerate(shuffled_batches(rows, steps_per_epoch(network, rows, training), order)):
            yield Step(position, len(batch), partial(gradient, batch), apply, partial(measure, network, batch))


def _tile_steps(
    network: TiledNetwork,
    n_blocks: int,
    training: TrainingConfig,
    optimizer: Optimizer,
    order: torch.Generator,
    rounds: int,
) -> Generator[Step]:
    cut = network.cut(n_blocks, order)
    optimizer.arrange({name: layout.order for name, layout in cut.layouts.items()})
    own_tables = [name for name, layout in cut.layouts.items() if layout.edges is not None]
    try:
        for _ in range(rounds):
            position = 0
            for sweep in cut.tiles.sweeps(order):
                for tile in sweep:
                    if len(tile):
                        yield _tile_step(cut, tile, position, training, optimizer)
                    position += 1
                optimizer.count_step(own_tables)
    finally:
        optimizer.arrange_back()


def _tile_step(cut: TiledPass, tile: Tile, position: int, training: TrainingConfig, optimizer: Optimizer) -> Step:
    rows = {name: layout.rows(tile) for name, layout in cut.layouts.items() if layout.edges is not None}
    own: Own = {}

    def gradient() -> Tensor:
        optimizer.zero_grad()
        own.update(optimizer.rows(rows))
        return cut.gradients(tile, own)

    def apply(rate: float) -> None:
        clip_gradient([*own.values(), *optimizer.parameters], training.clip_norm)
        optimizer.step_rows(own, rows, rate)
        optimizer.step(rate)

    return Step(position, len(tile), gradient, apply, lambda: cut.loss(tile, optimizer.rows(rows)))
