"""Dot product with biases, scaled to the range of stars by a sigmoid.

Shapes: B batch, D embedding_dim.
"""

from pydantic import Field
from torch import Tensor, nn

from recsys.encode.features import NO_FEATURES, Features
from recsys.models.layers import he_normal_table, scale_to_stars
from recsys.models.network import Pairs, Sizes, TrainingConfig, batch_size_for
from recsys.models.tables import TableConfig, TableNetwork


class DotBiasConfig(TableConfig):
    embedding_dim: int = Field(50, ge=1, description="Length of the user and of the movie vector.")
    widened: float = Field(
        0.0, ge=0, description="Stars added to both ends of the range, because a sigmoid never reaches its ends."
    )


def dot_bias(n_ratings: int, n_levels: int) -> DotBiasConfig:
    """V2 of the fourth write-up, which uses batches of 64. Larger datasets get larger batches, not more steps."""
    batch_size = batch_size_for(n_ratings, steps=1400)
    return DotBiasConfig(
        training=TrainingConfig(epochs=5, batch_size=batch_size, learning_rate=0.001, schedule="constant")
    )


def dot_bias_one_cycle(n_ratings: int, n_levels: int) -> DotBiasConfig:
    """The network of the third write-up: a wider range, a one-cycle schedule, a small weight decay."""
    training = TrainingConfig(
        epochs=5,
        batch_size=batch_size_for(n_ratings, steps=350),
        learning_rate=0.005,
        schedule="one_cycle",
        weight_decay=0.3,
    )
    return DotBiasConfig(l2=0.0, widened=0.5, training=training)


class DotBiasNetwork(TableNetwork):
    """stars = low + (high - low) · sigmoid(⟨p_u, q_i⟩ + b_u + c_i)."""

    def __init__(self, config: DotBiasConfig, sizes: Sizes, features: Features = NO_FEATURES) -> None:
        super().__init__(sizes, config.l2)
        self.config = config
        self.user = he_normal_table(sizes.n_users, config.embedding_dim)
        self.item = he_normal_table(sizes.n_items, config.embedding_dim)
        self.user_bias = he_normal_table(sizes.n_users, 1)
        self.item_bias = he_normal_table(sizes.n_items, 1)

    def tables(self) -> tuple[list[nn.Embedding], list[nn.Embedding]]:
        return [self.user, self.user_bias], [self.item, self.item_bias]

    def stars(self, pairs: Pairs) -> Tensor:
        p_BD, q_BD = self.user(pairs.user_idx), self.item(pairs.item_idx)
        bias_B = (self.user_bias(pairs.user_idx) + self.item_bias(pairs.item_idx)).squeeze(1)
        return scale_to_stars((p_BD * q_BD).sum(1) + bias_B, self.sizes.levels, self.config.widened)
