"""What every rating network offers, and what the training loop needs to know about one.

Shapes: B batch, K rating levels, U users and I items (index 0 of both is "unknown").
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from pydantic import Field
from torch import Tensor, nn

from recsys.settings import Config


class TrainingConfig(Config):
    """How a network is trained; part of every variant, since a network and its schedule are tuned together."""

    epochs: int = Field(ge=1, description="Passes over the ratings; the best of them on validation is kept.")
    batch_size: int = Field(ge=1, description="Ratings per step.")
    learning_rate: float = Field(gt=0, description="Adam's step size; the peak of it under one_cycle.")
    one_cycle: bool = Field(description="Warm up to learning_rate, then anneal to zero; else keep it constant.")


@dataclass(frozen=True)
class Sizes:
    """The outer dimensions of a network; `levels` are the stars that can be given, ascending."""

    n_users: int
    n_items: int
    levels: tuple[float, ...]


@dataclass(frozen=True)
class Interactions:
    """Ratings as tensors, row by row: user_idx, item_idx (B,) int64, level_idx (B,) int64 into `Sizes.levels`."""

    user_idx: Tensor
    item_idx: Tensor
    level_idx: Tensor

    def __len__(self) -> int:
        return len(self.user_idx)

    def to(self, device: torch.device) -> "Interactions":
        return Interactions(self.user_idx.to(device), self.item_idx.to(device), self.level_idx.to(device))

    def take(self, rows: Tensor) -> "Interactions":
        return Interactions(self.user_idx[rows], self.item_idx[rows], self.level_idx[rows])


class Network(nn.Module, ABC):
    """A distribution over rating levels for any (user, movie) pair, known or not."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.sizes = sizes

    def levels(self) -> Tensor:
        """(K,) float32 stars that can be given, ascending, on the network's device."""
        return torch.tensor(self.sizes.levels, device=next(self.parameters()).device)

    @abstractmethod
    def prepare(self, train: Interactions) -> None:
        """Takes what the network may know of the training ratings beside their gradients; called once, before them."""

    @abstractmethod
    def loss(self, batch: Interactions) -> Tensor:
        """Mean loss per rating, regularisation included; scalar."""

    @abstractmethod
    def freeze(self) -> None:
        """Computes what predictions share; called after training steps and before `probabilities`."""

    @abstractmethod
    def probabilities(self, user_idx_B: Tensor, item_idx_B: Tensor) -> Tensor:
        """(B,) int64, (B,) int64 -> (B, K) float32; rows sum to 1."""


def zero_unseen(weight: Tensor, seen_idx: Tensor) -> None:
    """Zeroes the rows of an embedding that no training rating touches, so that they act like index 0, the unknown."""
    with torch.no_grad():
        unseen = torch.ones(len(weight), dtype=torch.bool, device=weight.device)
        unseen[seen_idx] = False
        weight[unseen] = 0.0
