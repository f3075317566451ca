"""Dense layers over a user vector and a movie vector: one as in the fourth write-up, or three as in the first.

Shapes: B batch, D_u user_dim, D_i item_dim, H hidden_dim.
"""

import torch
from pydantic import Field
from torch import Tensor, nn

from recsys.encode.features import NO_FEATURES, Features
from recsys.models.layers import Dropout, he_normal_table, initialise_as_keras, scale_to_stars, three_dense_layers
from recsys.models.network import Pairs, Sizes, TrainingConfig, batch_size_for
from recsys.models.tables import TableConfig, TableNetwork


class MlpConfig(TableConfig):
    user_dim: int = Field(50, ge=1, description="Length of the user vector.")
    item_dim: int = Field(50, ge=1, description="Length of the movie vector.")
    hidden_dim: int = Field(10, ge=1, description="Width of the dense layer.")
    dropout_embedding: float = Field(0.05, ge=0, le=0.99, description="Applied to the two concatenated vectors.")
    dropout: float = Field(0.5, ge=0, le=0.99, description="Applied to the output of the dense layer.")


def mlp(n_ratings: int, n_levels: int) -> MlpConfig:
    """As in the fourth write-up, which uses batches of 64. Larger datasets get larger batches, not more steps."""
    batch_size = batch_size_for(n_ratings, steps=1400)
    return MlpConfig(training=TrainingConfig(epochs=5, batch_size=batch_size, learning_rate=0.001, schedule="constant"))


class MlpNetwork(TableNetwork):
    """stars = low + (high - low) · sigmoid(dense(dropout(relu(dense(dropout(p_u, q_i))))))."""

    def __init__(self, config: MlpConfig, sizes: Sizes, features: Features = NO_FEATURES) -> None:
        super().__init__(sizes, config.l2)
        self.head = nn.Sequential(
            Dropout(config.dropout_embedding),
            nn.Linear(config.user_dim + config.item_dim, config.hidden_dim), nn.ReLU(), Dropout(config.dropout),
            nn.Linear(config.hidden_dim, 1),
        )  # fmt: skip
        self.head.apply(initialise_as_keras)
        self.user = he_normal_table(sizes.n_users, config.user_dim)
        self.item = he_normal_table(sizes.n_items, config.item_dim)

    def tables(self) -> tuple[list[nn.Embedding], list[nn.Embedding]]:
        return [self.user], [self.item]

    def stars(self, pairs: Pairs) -> Tensor:
        both_BD = torch.cat([self.user(pairs.user_idx), self.item(pairs.item_idx)], dim=1)
        return scale_to_stars(self.head(both_BD).squeeze(1), self.sizes.levels)


class DeepMlpConfig(TableConfig):
    user_dim: int = Field(32, ge=1, description="Length of the user vector.")
    item_dim: int = Field(32, ge=1, description="Length of the movie vector.")
    hidden_dim: int = Field(128, ge=1, description="Width of each of the three dense layers.")
    dropout: float = Field(
        0.5, ge=0, le=0.99, description="Applied to both vectors and after the first two dense layers."
    )


def mlp_deep(n_ratings: int, n_levels: int) -> DeepMlpConfig:
    """The regression network of the first write-up; batch size and rate were chosen on validation."""
    training = TrainingConfig(
        epochs=10, batch_size=batch_size_for(n_ratings, steps=300), learning_rate=0.01, schedule="one_cycle"
    )
    return DeepMlpConfig(l2=0.0, training=training)


class DeepMlpNetwork(TableNetwork):
    """The layers of the softmax classifier with one number as output, which is rounded to the nearest level."""

    def __init__(self, config: DeepMlpConfig, sizes: Sizes, features: Features = NO_FEATURES) -> None:
        super().__init__(sizes, config.l2)
        self.user = nn.Embedding(sizes.n_users, config.user_dim)
        self.item = nn.Embedding(sizes.n_items, config.item_dim)
        self.dropout = Dropout(config.dropout)
        self.head = three_dense_layers(config.user_dim + config.item_dim, config.hidden_dim, config.dropout, 1)
        self.apply(initialise_as_keras)

    def tables(self) -> tuple[list[nn.Embedding], list[nn.Embedding]]:
        return [self.user], [self.item]

    def stars(self, pairs: Pairs) -> Tensor:
        p_BD = self.dropout(self.user(pairs.user_idx))
        q_BD = self.dropout(self.item(pairs.item_idx))
        stars_B: Tensor = self.head(torch.cat([p_BD, q_BD], dim=1)).squeeze(1).float()
        return stars_B
