"""The interface of all networks, and the data types of its arguments.

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

MIN_SPREAD = 0.05  # stars; without it, an overfit network would be too certain about new ratings


class TrainingConfig(Config):
    """How a network is trained; part of its config, since a network and its schedule are tuned together."""

    epochs: int = Field(ge=1, description="Passes over the ratings; the weights of the best one are kept.")
    batch_size: int = Field(
        ge=1, description="Ratings per step; on tiles their average, and the number of steps is the nearest square."
    )
    learning_rate: float = Field(
        gt=0,
        description="Step size of the optimizer; with one_cycle, its peak.",
        json_schema_extra={"search": [1e-4, 0.1, "log"]},
    )
    schedule: Literal["constant", "one_cycle"] = Field(
        description="one_cycle warms up to learning_rate, then anneals to zero."
    )
    optimizer: Literal["adam", "sgd"] = Field("adam", description="sgd has no momentum.")
    weight_decay: float = Field(0.0, ge=0, description="Share of each weight that is subtracted per unit of step size.")
    clip_norm: float | None = Field(None, gt=0, description="Maximum norm of the whole gradient; None: no limit.")
    patience: int | None = Field(
        None, ge=1, description="Stop after this many epochs without a lower validation error; None: never."
    )


def batch_size_for(n_ratings: int, steps: int, least: int = 32) -> int:
    """Returns the power of two, at least `least`, that gives about `steps` batches per epoch."""
    return max(least, int(2 ** round(math.log2(n_ratings / steps))))


class NetworkConfig(Config):
    """Base of all configs; a network adds its sizes and penalties."""

    training: TrainingConfig


@dataclass(frozen=True)
class Sizes:
    """The outer dimensions of a network; `levels` are the possible ratings in stars, ascending."""

    n_users: int
    n_items: int
    levels: tuple[float, ...]


@dataclass(frozen=True)
class Pairs:
    """(user, movie) pairs with a time: the input of a prediction.

    user_idx, item_idx: (B,) int64. rated_at: (B,) int64, seconds since 1970 in UTC. It is the time of the rating, or
    the time for which a rating is predicted; 0 if unknown.
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
    """Ratings: pairs with their level. level_idx: (B,) int64, index into `Sizes.levels`."""

    level_idx: Tensor


class Network(nn.Module, ABC):
    """A network that ranks movies for a user by a score. `RatingNetwork` derives the score from a predicted rating.

    Constructors of subclasses take (config, sizes, features).
    """

    criterion: str  # name of the mean of `errors`

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.sizes = sizes

    def levels(self) -> Tensor:
        """(K,) float32: the possible ratings in stars, ascending, on the network's device."""
        return torch.tensor(self.sizes.levels, device=next(self.parameters()).device)

    def prepare(self, train: Interactions) -> Interactions:
        """Prepares the network for the training ratings; called once, before the first step.

        Returns the rows from which batches are taken: `train`, unless the network learns from other rows.
        """
        return train

    def freeze(self) -> None:
        """Computes the tables that all predictions share; called after training steps and before predictions."""

    @abstractmethod
    def score(self, pairs: Pairs) -> Tensor:
        """(B,) float32: the movies of a user are ranked by descending score."""

    @abstractmethod
    def errors(self, rows: Interactions) -> Tensor:
        """(B,) float32: the error of each prediction; the best epoch has the lowest mean on validation."""


class BatchNetwork(Network):
    """A network that is trained on random batches of rows."""

    @abstractmethod
    def loss(self, batch: Interactions) -> Tensor:
        """Mean loss per row of the batch including regularisation, a scalar."""


class RatingNetwork(Network):
    """A network that predicts a distribution over rating levels for any (user, movie) pair, including unknown ids."""

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


class NumberNetwork(RatingNetwork, BatchNetwork):
    """A network that predicts one number of stars, trained by squared error, as in most write-ups.

    The predicted distribution is a normal distribution rounded to the levels. Its mean is the number, and its standard
    deviation is the network's error on recent training batches. Its median is the level nearest to the number.
    """

    criterion = "MSE"
    spread: Tensor  # (), stars
    n_steps: Tensor  # (), number of training steps so far

    def __init__(self, sizes: Sizes) -> None:
        super().__init__(sizes)
        self.register_buffer("spread", torch.tensor(1.0))
        self.register_buffer("n_steps", torch.tensor(0.0))

    @abstractmethod
    def stars(self, pairs: Pairs) -> Tensor:
        """(B,) float32 stars, not clipped."""

    def penalty(self, batch: Interactions) -> Tensor:
        """Regularisation per row of the batch, added to the squared error, a scalar."""
        return torch.zeros((), device=batch.user_idx.device)

    def loss(self, batch: Interactions) -> Tensor:
        squared = F.mse_loss(self.stars(batch), self.levels()[batch.level_idx])
        self._note_error(squared.detach().sqrt())
        return squared + self.penalty(batch)

    def _note_error(self, error: Tensor) -> None:
        """Updates the spread: the mean error of the first 100 steps, then an exponential average with weight 1%."""
        self.n_steps = self.n_steps + 1
        self.spread = self.spread + (error - self.spread) / self.n_steps.clamp(max=100)

    def predict(self, pairs: Pairs) -> Prediction:
        stars_B = self.stars(pairs)
        return Prediction(self._distribution(stars_B), stars_B)

    def probabilities(self, pairs: Pairs) -> Tensor:
        return self._distribution(self.stars(pairs))

    def errors(self, rows: Interactions) -> Tensor:
        """Squared errors of the number. Training minimises them, and the write-ups report them."""
        return (self.stars(rows) - self.levels()[rows.level_idx]).square()

    def _distribution(self, stars_B: Tensor) -> Tensor:
        levels_K = self.levels()
        edges_T = (levels_K[1:] + levels_K[:-1]) / 2
        below_BT = torch.special.ndtr((edges_T - stars_B[:, None]) / self.spread.clamp(min=MIN_SPREAD))
        zero_B1 = below_BT.new_zeros(len(below_BT), 1)
        return torch.cat([below_BT, zero_B1 + 1], dim=1) - torch.cat([zero_B1, below_BT], dim=1)


def zero_unseen(weight: Tensor, seen_idx: Tensor) -> None:
    """Zeroes the embedding rows without a training rating, so that they act like index 0, the unknown."""
    with torch.no_grad():
        unseen = torch.ones(len(weight), dtype=torch.bool, device=weight.device)
        unseen[seen_idx] = False
        weight[unseen] = 0.0
