"""The recurrent network of the second write-up, which reads a user vector and then a movie vector.

Shapes: B batch, S = 2 steps, D embedding_dim, H hidden_dim.
"""

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from recsys.encode.features import NO_FEATURES, Features
from recsys.models.layers import BatchNorm, Dropout, he_normal_table, initialise_as_keras, scale_to_stars
from recsys.models.network import Pairs, Sizes, TrainingConfig, batch_size_for
from recsys.models.tables import TableConfig, TableNetwork

CELLS: dict[str, type[nn.LSTM] | type[nn.GRU]] = {"lstm": nn.LSTM, "gru": nn.GRU}


class RecurrentConfig(TableConfig):
    embedding_dim: int = Field(50, ge=1, description="Length of the user and movie vectors, which are the inputs.")
    cell: Literal["lstm", "gru"] = Field("lstm", description="Kind of recurrent layer.")
    hidden_dim: int = Field(50, ge=1, description="Units of the recurrent layer.")
    dropout: float = Field(
        0.8, ge=0, le=0.99, description="Applied to the output of the recurrent layer after batch norm."
    )


def recurrent(n_ratings: int, n_levels: int) -> RecurrentConfig:
    """As published: LSTM, 50 units, batch norm, dropout 0.8. Everything else was chosen on validation."""
    training = TrainingConfig(
        epochs=10, batch_size=batch_size_for(n_ratings, steps=350), learning_rate=0.002, schedule="constant"
    )
    return RecurrentConfig(training=training)


def recurrent_gru(n_ratings: int, n_levels: int) -> RecurrentConfig:
    """The same network with a GRU, the other recurrent layer of the write-up."""
    return recurrent(n_ratings, n_levels).model_copy(update={"cell": "gru"})


class RecurrentNetwork(TableNetwork):
    """stars = low + (high - low) · sigmoid(dense(dropout(norm(h)))), with h the state after reading user and movie.

    The write-up replaces a dense layer with a recurrent one and does not state its sequence. A single step over both
    vectors would not use the recurrent weights, so there are two steps.
    """

    def __init__(self, config: RecurrentConfig, sizes: Sizes, features: Features = NO_FEATURES) -> None:
        super().__init__(sizes, config.l2)
        self.user = he_normal_table(sizes.n_users, config.embedding_dim)
        self.item = he_normal_table(sizes.n_items, config.embedding_dim)
        self.recurrent = CELLS[config.cell](config.embedding_dim, config.hidden_dim, batch_first=True)
        self.head = nn.Sequential(
            BatchNorm(config.hidden_dim), Dropout(config.dropout), nn.Linear(config.hidden_dim, 1)
        )
        self.head.apply(initialise_as_keras)

    def tables(self) -> tuple[list[nn.Embedding], list[nn.Embedding]]:
        return [self.user], [self.item]

    def activations(self, pairs: Pairs) -> Tensor:
        """(B, H): the output of the recurrent layer for each pair, for inspecting the network."""
        sequence_BSD = torch.stack([self.user(pairs.user_idx), self.item(pairs.item_idx)], dim=1)
        states_BSH: Tensor = self.recurrent(sequence_BSD)[0]
        return states_BSH[:, -1]

    def stars(self, pairs: Pairs) -> Tensor:
        return scale_to_stars(self.head(self.activations(pairs)).squeeze(1), self.sizes.levels)
