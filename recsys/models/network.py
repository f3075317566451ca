"""What every network offers, and what the training loop needs to know about one.

Shapes: B batch, K rating levels, U users and I items (index 0 of both is "unknown").
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Literal, Self

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from recsys.metrics.decode import Prediction, decode_mean, decode_median
from recsys.settings import Config

MIN_SPREAD = 0.05  # stars; a network that knows its training ratings by heart is not that sure of others


class TrainingConfig(Config):
    """How a network is trained; part of every variant, since a network and its schedule are tuned together."""

    epochs: int = Field(ge=1, description="Passes over the ratings; the best of them on validation is kept.")
    batch_size: int = Field(ge=1, description="Ratings per step.")
    learning_rate: float = Field(
        gt=0,
        description="The optimizer's step size; the peak of it under one_cycle.",
        json_schema_extra={"search": [1e-4, 0.1, "log"]},
    )
    schedule: Literal["constant", "one_cycle"] = Field(
        description="one_cycle warms up to learning_rate, then anneals to zero."
    )
    optimizer: Literal["adam", "sgd"] = Field("adam", description="sgd is plain: no momentum.")
    weight_decay: float = Field(0.0, ge=0, description="Share of each weight taken off per unit of step size.")
    clip_norm: float | None = Field(None, gt=0, description="Longest gradient of all weights together; None: any.")
    patience: int | None = Field(
        None, ge=1, description="Epochs without a better validation error after which training ends; None: never."
    )


def batch_size_for(n_ratings: int, steps: int, least: int = 32) -> int:
    """The power of two that makes about so many steps an epoch; not below `least`."""
    return max(least, int(2 ** round(math.log2(n_ratings / steps))))


class NetworkConfig(Config):
    """What every variant's config has; a network adds its sizes and penalties."""

    training: TrainingConfig


@dataclass(frozen=True)
class Sizes:
    """The outer dimensions of a network; `levels` are the stars that can be given, ascending."""

    n_users: int
    n_items: int
    levels: tuple[float, ...]


@dataclass(frozen=True)
class Pairs:
    """(user, movie) pairs, row by row: all that may be known of a rating before it is given.

    user_idx, item_idx: (B,) int64. rated_at: (B,) int64, seconds since 1970 in UTC, of the rating or of the moment for
    which it is predicted; 0 where nobody knows.
    """

    user_idx: Tensor
    item_idx: Tensor
    rated_at: Tensor

    def __len__(self) -> int:
        return len(self.user_idx)

    def to(self, device: torch.device) -> Self:
        return self._each(lambda column: column.to(device))

    def take(self, rows: Tensor | slice) -> Self:
        return self._each(lambda column: column[rows])

    def _each(self, change: Callable[[Tensor], Tensor]) -> Self:
        return replace(self, **{field.name: change(getattr(self, field.name)) for field in fields(self)})


@dataclass(frozen=True)
class Interactions(Pairs):
    """Ratings: pairs with what was given. level_idx: (B,) int64 into `Sizes.levels`."""

    level_idx: Tensor


class Network(nn.Module, ABC):
    """Orders movies for a user by a score; most networks get it from the rating they predict, see `RatingNetwork`.

    A subclass is built from (config, sizes, features).
    """

    criterion: str  # what the mean of `errors` is called

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.sizes = sizes

    def levels(self) -> Tensor:
        """(K,) float32 stars that can be given, ascending, on the network's device."""
        return torch.tensor(self.sizes.levels, device=next(self.parameters()).device)

    def prepare(self, train: Interactions) -> Interactions:
        """Takes what the network may know of the training ratings beside their gradients; called once, before them.

        Returns the rows of which training steps take batches: `train`, unless a network learns from something else.
        """
        return train

    @abstractmethod
    def loss(self, batch: Interactions) -> Tensor:
        """Mean loss per row of the batch, regularisation included; scalar."""

    def freeze(self) -> None:
        """Computes what predictions share; called after training steps and before anything is predicted."""

    @abstractmethod
    def score(self, pairs: Pairs) -> Tensor:
        """(B,) float32: a user's movies are ordered by it, the largest first."""

    @abstractmethod
    def errors(self, rows: Interactions) -> Tensor:
        """(B,) float32: how far each prediction is off; epochs are chosen by their mean on validation."""


class RatingNetwork(Network):
    """A distribution over rating levels for any (user, movie) pair, known or not."""

    criterion = "MAE"

    @abstractmethod
    def probabilities(self, pairs: Pairs) -> Tensor:
        """(B, K) float32; rows sum to 1."""

    def predict(self, pairs: Pairs) -> Prediction:
        p_BK = self.probabilities(pairs)
        return Prediction(p_BK, decode_mean(p_BK, self.levels()))

    def score(self, pairs: Pairs) -> Tensor:
        return self.predict(pairs).mean_B

    def errors(self, rows: Interactions) -> Tensor:
        """Absolute errors of the median, in stars."""
        levels_K = self.levels()
        return (decode_median(self.probabilities(rows), levels_K) - levels_K[rows.level_idx]).abs()


class NumberNetwork(RatingNetwork):
    """Predicts one number of stars by squared error, as most write-ups do.

    It is taken for the mean of a normal distribution, rounded to the levels, whose spread is the network's error on
    recent training batches: the median is the level nearest to the number; the log loss says how sure it was.
    """

    criterion = "MSE"
    spread: Tensor  # (), stars
    n_steps: Tensor  # (), training steps that the spread knows of

    def __init__(self, sizes: Sizes) -> None:
        super().__init__(sizes)
        self.register_buffer("spread", torch.tensor(1.0))
        self.register_buffer("n_steps", torch.tensor(0.0))

    @abstractmethod
    def stars(self, pairs: Pairs) -> Tensor:
        """(B,) float32 stars, not clipped."""

    def penalty(self, batch: Interactions) -> Tensor:
        """Regularisation per row of the batch, added to the squared error; scalar."""
        return torch.zeros((), device=batch.user_idx.device)

    def loss(self, batch: Interactions) -> Tensor:
        squared = F.mse_loss(self.stars(batch), self.levels()[batch.level_idx])
        self._note_error(squared.detach().sqrt())
        return squared + self.penalty(batch)

    def _note_error(self, error: Tensor) -> None:
        """The mean of the first hundred steps' errors, from then on one that forgets 1% a step."""
        self.n_steps = self.n_steps + 1
        self.spread = self.spread + (error - self.spread) / self.n_steps.clamp(max=100)

    def predict(self, pairs: Pairs) -> Prediction:
        stars_B = self.stars(pairs)
        return Prediction(self._distribution(stars_B), stars_B)

    def probabilities(self, pairs: Pairs) -> Tensor:
        return self._distribution(self.stars(pairs))

    def errors(self, rows: Interactions) -> Tensor:
        """Squared errors of the number, which is what it is trained for and what the write-ups report."""
        return (self.stars(rows) - self.levels()[rows.level_idx]).square()

    def _distribution(self, stars_B: Tensor) -> Tensor:
        levels_K = self.levels()
        edges_T = (levels_K[1:] + levels_K[:-1]) / 2
        below_BT = torch.special.ndtr((edges_T - stars_B[:, None]) / self.spread.clamp(min=MIN_SPREAD))
        zero_B1 = below_BT.new_zeros(len(below_BT), 1)
        return torch.cat([below_BT, zero_B1 + 1], dim=1) - torch.cat([zero_B1, below_BT], dim=1)


def zero_unseen(weight: Tensor, seen_idx: Tensor) -> None:
    """Zeroes the rows of an embedding that no training rating touches, so that they act like index 0, the unknown."""
    with torch.no_grad():
        unseen = torch.ones(len(weight), dtype=torch.bool, device=weight.device)
        unseen[seen_idx] = False
        weight[unseen] = 0.0
