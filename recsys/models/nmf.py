"""Non-negative matrix factorisation, the alternative model of the first write-up.

Shapes: B batch, D embedding_dim.
"""

import math

import torch
from pydantic import Field
from torch import Tensor, nn

from recsys.encode.features import NO_FEATURES, Features
from recsys.models.network import Interactions, Pairs, Sizes, TrainingConfig, batch_size_for
from recsys.models.tables import TableConfig, TableNetwork


class NmfConfig(TableConfig):
    embedding_dim: int = Field(8, ge=1, description="Length of the non-negative user and movie vectors.")


def nmf(n_ratings: int, n_levels: int) -> NmfConfig:
    """Chosen on validation parts (docs/experiments.md), because the write-up only names the method."""
    training = TrainingConfig(
        epochs=8,
        batch_size=batch_size_for(n_ratings, steps=350),
        learning_rate=0.005,
        schedule="one_cycle",
    )
    return NmfConfig(training=training)


class NmfNetwork(TableNetwork):
    """stars = ⟨p_u, q_i⟩ with non-negative vectors.

    A training step can make values negative. They are set to 0 before they are used.

    Source: Lin, "Projected Gradient Methods for Nonnegative Matrix Factorization", Neural Computation 19 (2007);
    here with stochastic steps, and on the observed ratings only.
    """

    def __init__(self, config: NmfConfig, sizes: Sizes, features: Features = NO_FEATURES) -> None:
        super().__init__(sizes, config.l2)
        self.config = config
        self.user = _positive_table(sizes.n_users, config.embedding_dim, sizes.levels)
        self.item = _positive_table(sizes.n_items, config.embedding_dim, sizes.levels)

    def tables(self) -> tuple[list[nn.Embedding], list[nn.Embedding]]:
        return [self.user], [self.item]

    def loss(self, batch: Interactions) -> Tensor:
        self._project()
        return super().loss(batch)

    def freeze(self) -> None:
        self._project()
        super().freeze()

    def stars(self, pairs: Pairs) -> Tensor:
        p_BD, q_BD = self.user(pairs.user_idx), self.item(pairs.item_idx)
        stars_B: Tensor = (p_BD * q_BD).sum(1)
        return stars_B

    @torch.no_grad()
    def _project(self) -> None:
        self.user.weight.clamp_(min=0.0)
        self.item.weight.clamp_(min=0.0)


def _positive_table(n_rows: int, dim: int, levels: tuple[float, ...]) -> nn.Embedding:
    """Uniform values from 0, scaled so that the mean dot product is the middle of the levels."""
    table = nn.Embedding(n_rows, dim)
    middle = (levels[0] + levels[-1]) / 2
    nn.init.uniform_(table.weight, 0.0, 2 * math.sqrt(middle / dim))
    return table
