"""The classifier of the first write-up: two embeddings, three dense layers, one class per level."""

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from recsys.encode.features import NO_FEATURES, Features
from recsys.models.layers import Dropout, initialise_as_keras, three_dense_layers
from recsys.models.network import (
    BatchNetwork,
    Interactions,
    NetworkConfig,
    Pairs,
    RatingNetwork,
    Sizes,
    TrainingConfig,
    batch_size_for,
    zero_unseen,
)


class SoftmaxConfig(NetworkConfig):
    embedding_dim: int = Field(
        32,
        ge=1,
        description="Length of the user and of the movie vector.",
        json_schema_extra={"search": [8, 128, "int_log"]},
    )
    hidden_dim: int = Field(
        128,
        ge=1,
        description="Width of each of the three dense layers.",
        json_schema_extra={"search": [32, 256, "int_log"]},
    )
    dropout: float = Field(
        0.5,
        ge=0,
        le=0.99,
        description="Applied to both embeddings and after the first two dense layers.",
        json_schema_extra={"search": [0.1, 0.8, "linear"]},
    )


def softmax(n_ratings: int, n_levels: int) -> SoftmaxConfig:  # the published widths are used for any number of levels
    """As published. Batch size and Adam's rate, which the write-up does not state, were chosen on validation."""
    batch_size = batch_size_for(n_ratings, steps=150, least=64)
    return SoftmaxConfig(
        training=TrainingConfig(epochs=10, batch_size=batch_size, learning_rate=0.01, schedule="constant")
    )


class SoftmaxNetwork(RatingNetwork, BatchNetwork):
    """A softmax classifier; dropout acts on the output of a dense layer and is followed by batch norm.

    Source: the first write-up. Initial values are those of Keras, which it uses: embeddings uniform in ±0.05, dense
    layers Glorot uniform with zero bias.
    """

    def __init__(self, config: SoftmaxConfig, sizes: Sizes, features: Features = NO_FEATURES) -> None:
        super().__init__(sizes)
        dim, hidden = config.embedding_dim, config.hidden_dim
        self.user_embedding = nn.Embedding(sizes.n_users, dim)
        self.item_embedding = nn.Embedding(sizes.n_items, dim)
        self.dropout = Dropout(config.dropout)
        self.head = three_dense_layers(2 * dim, hidden, config.dropout, len(sizes.levels))
        self.apply(initialise_as_keras)

    def prepare(self, train: Interactions) -> Interactions:
        zero_unseen(self.user_embedding.weight, train.user_idx)
        zero_unseen(self.item_embedding.weight, train.item_idx)
        return train

    def logits(self, pairs: Pairs) -> Tensor:
        """(B, K) before the softmax."""
        p_BD = self.dropout(self.user_embedding(pairs.user_idx))
        q_BD = self.dropout(self.item_embedding(pairs.item_idx))
        logits_BK: Tensor = self.head(torch.cat([p_BD, q_BD], dim=1))
        return logits_BK

    def loss(self, batch: Interactions) -> Tensor:
        return F.cross_entropy(self.logits(batch), batch.level_idx)

    def probabilities(self, pairs: Pairs) -> Tensor:
        return torch.softmax(self.logits(pairs), dim=1)
