"""The networks a night can train, by name: one module each, and one dict."""

from collections.abc import Callable
from dataclasses import dataclass

from recsys.models.network import Interactions, Network, Sizes, TrainingConfig
from recsys.models.ordinal import OrdinalConfig, OrdinalNetwork, ordinal
from recsys.models.softmax import SoftmaxConfig, SoftmaxNetwork, softmax

__all__ = ["MODELS", "Interactions", "Network", "NetworkConfig", "Sizes", "TrainingConfig", "Variant"]

NetworkConfig = OrdinalConfig | SoftmaxConfig


@dataclass(frozen=True)
class Variant:
    """A named network: its config for a number of ratings and of levels, and how to build and to read back one."""

    configure: Callable[[int, int], NetworkConfig]  # (n_ratings, n_levels)
    config_type: type[NetworkConfig]
    build: Callable[..., Network]  # (config, sizes)


MODELS: dict[str, Variant] = {
    "ordinal": Variant(ordinal, OrdinalConfig, OrdinalNetwork),
    "softmax": Variant(softmax, SoftmaxConfig, SoftmaxNetwork),
}
