"""The dot product of a user vector and a movie vector, without biases or bounds.

Shapes: B batch, D embedding_dim.
"""

from typing import Literal

from pydantic import Field
from torch import Tensor, nn

from recsys.encode.features import NO_FEATURES, Features
from recsys.models.layers import he_normal_table
from recsys.models.network import Pairs, Sizes, TrainingConfig, batch_size_for
from recsys.models.tables import TableConfig, TableNetwork

MAX_INITIAL = 0.05  # upper bound of the initial values "uniform", which `dot_sgd` uses


class DotConfig(TableConfig):
    embedding_dim: int = Field(50, ge=1, description="Length of the user and of the movie vector.")
    initial: Literal["he_normal", "uniform"] = Field(
        "he_normal", description="Initial values: he_normal as in Keras, or uniform in (0, 0.05)."
    )


def dot(n_ratings: int, n_levels: int) -> DotConfig:
    """V1 of the fourth write-up, which uses batches of 64. Larger datasets get larger batches, not more steps."""
    batch_size = batch_size_for(n_ratings, steps=1400)
    return DotConfig(training=TrainingConfig(epochs=5, batch_size=batch_size, learning_rate=0.001, schedule="constant"))


def dot_sgd(n_ratings: int, n_levels: int) -> DotConfig:
    """The network of the third write-up: small positive initial values, three epochs of plain SGD.

    The learning rate was chosen on validation. It is proportional to the batch size, since the loss is a mean.
    """
    batch_size = batch_size_for(n_ratings, steps=1400)
    training = TrainingConfig(
        epochs=3, batch_size=batch_size, learning_rate=batch_size / 64, schedule="constant", optimizer="sgd"
    )
    return DotConfig(l2=0.0, initial="uniform", training=training)


class DotNetwork(TableNetwork):
    """stars = ⟨p_u, q_i⟩."""

    def __init__(self, config: DotConfig, sizes: Sizes, features: Features = NO_FEATURES) -> None:
        super().__init__(sizes, config.l2)
        self.config = config
        self.user = _table(sizes.n_users, config)
        self.item = _table(sizes.n_items, config)

    def tables(self) -> tuple[list[nn.Embedding], list[nn.Embedding]]:
        return [self.user], [self.item]

    def stars(self, pairs: Pairs) -> Tensor:
        p_BD, q_BD = self.user(pairs.user_idx), self.item(pairs.item_idx)
        stars_B: Tensor = (p_BD * q_BD).sum(1)
        return stars_B


def _table(n_rows: int, config: DotConfig) -> nn.Embedding:
    if config.initial == "he_normal":
        return he_normal_table(n_rows, config.embedding_dim)
    table = nn.Embedding(n_rows, config.embedding_dim)
    nn.init.uniform_(table.weight, 0.0, MAX_INITIAL)
    return table
