"""The networks a night can train, by name: one module each, and one dict."""

from collections.abc import Callable
from dataclasses import dataclass

from recsys.models.network import (
    Interactions,
    Network,
    NetworkConfig,
    Pairs,
    RatingNetwork,
    Sizes,
    TrainingConfig,
)
from recsys.models.ordinal import OrdinalConfig, OrdinalNetwork, ordinal
from recsys.models.softmax import SoftmaxConfig, SoftmaxNetwork, softmax

__all__ = [
    "MODELS",
    "Interactions",
    "Network",
    "NetworkConfig",
    "Pairs",
    "RatingNetwork",
    "Sizes",
    "TrainingConfig",
    "Variant",
]


@dataclass(frozen=True)
class Reported:
    """What the write-up of a network reports."""

    figure: str  # e.g. "MSE 0.7646"
    conditions: str  # data, holdout, epochs


@dataclass(frozen=True)
class Variant:
    """A named network: its config for a number of ratings and of levels, and how to build and to read back one."""

    configure: Callable[[int, int], NetworkConfig]  # (n_ratings, n_levels)
    config_type: type[NetworkConfig]
    build: Callable[..., Network]  # (config, sizes, features): the network's class
    reported: Reported | None = None

    @property
    def rates(self) -> bool:
        """Whether it predicts ratings; a night needs one that does."""
        return isinstance(self.build, type) and issubclass(self.build, RatingNetwork)


MODELS: dict[str, Variant] = {
    "ordinal": Variant(ordinal, OrdinalConfig, OrdinalNetwork),
    "softmax": Variant(
        softmax, SoftmaxConfig, SoftmaxNetwork, Reported("MAE 0.669", "ML-1M, 25% random holdout, 10 epochs")
    ),
}
