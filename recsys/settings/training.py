"""Settings of training. Those of a single network are in its module in `recsys.models`."""

from typing import Any

from pydantic import Field

from recsys.settings.names import AnyNetworkName, Config


class TunedConfig(Config):
    """A network and its config, as `recsys tune` writes them."""

    model: AnyNetworkName
    config: dict[str, Any] = Field(description="All fields of the network's config, including `training`.")


class WarmStartConfig(Config):
    """Whether the network of tonight's lists starts from the weights of the served network.

    The network that is evaluated on the holdout always starts from scratch, because last night's has seen the holdout.
    """

    enabled: bool = Field(
        False,
        description="Off by default: training from scratch depends only on its inputs; a warm start also depends on "
        "earlier nights.",
    )
    epoch_share: float = Field(
        0.3, gt=0, le=1, description="Epochs, as a share of those of training from scratch; at least one epoch."
    )
    learning_rate_share: float = Field(
        0.2,
        gt=0,
        le=1,
        description="Learning rate, as a share of the network's own rate. The full rate would undo earlier learning.",
    )
