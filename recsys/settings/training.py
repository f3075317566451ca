"""Settings of training beside those of each network, which are in its module in `recsys.models`."""

from typing import Any

from pydantic import Field

from recsys.settings.names import AnyNetworkName, Config


class TunedConfig(Config):
    """A network with a config of its own, as `recsys tune` writes it."""

    model: AnyNetworkName
    config: dict[str, Any] = Field(description="Every field of the network's config, `training` included.")


class WarmStartConfig(Config):
    """Whether the network of tonight's lists begins where the one being served ended, and how it goes on from there.

    The network that is judged on the holdout always begins from scratch: last night's has learned from that holdout.
    """

    enabled: bool = Field(
        False, description="Off by default: a warm night depends on the nights before, a cold one on its inputs alone."
    )
    epoch_share: float = Field(
        0.3, gt=0, le=1, description="Epochs, as a share of those that a start from scratch would take; at least one."
    )
    learning_rate_share: float = Field(
        0.2, gt=0, le=1, description="Learning rate as a share of the network's own, which would undo what was learned."
    )
