"""The wide & deep network of the second write-up: crossed features in parallel with dense layers.

Shapes: B batch, R rows (users or movies), D length of both vectors together, V columns of a crossed table.
"""

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from recsys.encode.features import NO_FEATURES, Feature, Features
from recsys.models.layers import Dropout, he_normal_table, initialise_as_keras, scale_to_stars
from recsys.models.network import Interactions, Pairs, Sizes, TrainingConfig, batch_size_for
from recsys.models.tables import TableConfig, TableNetwork, sum_of_squares


class WideDeepConfig(TableConfig):
    user_dim: int = Field(50, ge=1, description="Length of the user vector.")
    item_dim: int = Field(50, ge=1, description="Length of the movie vector.")
    hidden_dim: int = Field(50, ge=1, description="Width of the dense layer.")
    dropout: float = Field(
        0.5, ge=0, le=0.99, description="Applied to the two vectors and to the output of the dense layer."
    )
    l2_wide: float = Field(1e-5, ge=0, description="Penalty per step on the sum of squares of all crossed weights.")
    user_crosses: tuple[str, ...] = Field(("genres", "decade"), description="Movie features crossed with the user.")
    item_crosses: tuple[str, ...] = Field(
        ("gender", "age", "occupation"), description="User features crossed with the movie."
    )


def wide_deep(n_ratings: int, n_levels: int) -> WideDeepConfig:
    """Both parts and a low learning rate are from the write-up; everything else was chosen on validation."""
    training = TrainingConfig(
        epochs=10, batch_size=batch_size_for(n_ratings, steps=350), learning_rate=0.001, schedule="constant"
    )
    return WideDeepConfig(training=training)


class WideDeepNetwork(TableNetwork):
    """stars = low + (high - low) · sigmoid(wide + deep).

    wide: the sum of a weight for each user, movie, (user, genre), (user, decade), (movie, gender), (movie, age) and
    (movie, occupation); weights of several genres are averaged. Crosses are exact, not hashed. Features that the
    dataset lacks are ignored.

    Source: Cheng et al., "Wide & Deep Learning for Recommender Systems", DLRS 2016.
    """

    user_columns: Tensor  # (n_users, V): feature values of each user, multiplied with the weights of movies
    item_columns: Tensor  # (n_items, V)

    def __init__(self, config: WideDeepConfig, sizes: Sizes, features: Features = NO_FEATURES) -> None:
        super().__init__(sizes, config.l2)
        self.config = config
        columns_of_users = crossed_columns(sizes.n_users, features.user, config.item_crosses)
        columns_of_items = crossed_columns(sizes.n_items, features.item, config.user_crosses)
        self._values_of_users = _values(features.user, config.item_crosses)
        self._values_of_items = _values(features.item, config.user_crosses)
        self.register_buffer("user_columns", columns_of_users, persistent=False)
        self.register_buffer("item_columns", columns_of_items, persistent=False)
        self.user_wide = zero_table(sizes.n_users, columns_of_items.shape[1])
        self.item_wide = zero_table(sizes.n_items, columns_of_users.shape[1])
        self.user = he_normal_table(sizes.n_users, config.user_dim)
        self.item = he_normal_table(sizes.n_items, config.item_dim)
        self.deep_layers = nn.Sequential(
            Dropout(config.dropout),
            nn.Linear(config.user_dim + config.item_dim, config.hidden_dim), nn.ReLU(), Dropout(config.dropout),
            nn.Linear(config.hidden_dim, 1),
        )  # fmt: skip
        self.deep_layers.apply(initialise_as_keras)

    def column_names(self) -> dict[str, tuple[str, ...]]:
        """Names columns by their values, so that a warm start copies a crossed table only if they are unchanged."""
        return {"user_wide.weight": self._values_of_items, "item_wide.weight": self._values_of_users}

    def tables(self) -> tuple[list[nn.Embedding], list[nn.Embedding]]:
        return [self.user, self.user_wide], [self.item, self.item_wide]

    def penalty(self, batch: Interactions) -> Tensor:
        deep, wide = [self.user, self.item], [self.user_wide, self.item_wide]
        return self.l2 * sum_of_squares(deep) + self.config.l2_wide * sum_of_squares(wide)

    def wide(self, pairs: Pairs) -> Tensor:
        """(B,): the output of the linear part."""
        of_users = self.user_wide(pairs.user_idx) * F.embedding(pairs.item_idx, self.item_columns)
        of_items = self.item_wide(pairs.item_idx) * F.embedding(pairs.user_idx, self.user_columns)
        wide_B: Tensor = of_users.sum(1) + of_items.sum(1)
        return wide_B

    def deep(self, pairs: Pairs) -> Tensor:
        """(B,): the output of the dense layers."""
        both_BD = torch.cat([self.user(pairs.user_idx), self.item(pairs.item_idx)], dim=1)
        logit_B: Tensor = self.deep_layers(both_BD).squeeze(1)
        return logit_B

    def stars(self, pairs: Pairs) -> Tensor:
        return scale_to_stars(self.wide(pairs) + self.deep(pairs), self.sizes.levels)


def zero_table(n_rows: int, width: int) -> nn.Embedding:
    """(n_rows, width) of zeros, which is a valid start for a linear model."""
    return nn.Embedding(n_rows, width, _weight=torch.zeros(n_rows, width))


def crossed_columns(n_rows: int, features: dict[str, Feature], names: tuple[str, ...]) -> Tensor:
    """(R, V) float32: a column of ones, then one per value of each available feature. A feature's values sum to 1."""
    available = [features[name] for name in names if name in features]
    return torch.cat([torch.ones(n_rows, 1), *(_shares(n_rows, feature) for feature in available)], dim=1)


def _values(features: dict[str, Feature], names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(f"{name} {value}" for name in names if name in features for value in features[name].names)


def _shares(n_rows: int, feature: Feature) -> Tensor:
    counts_R = feature.offsets.diff()
    rows = torch.arange(n_rows).repeat_interleave(counts_R)
    shares = torch.zeros(n_rows, feature.n_values)
    shares[rows, feature.values] = 1.0 / counts_R[rows]
    return shares
