"""A vector for each id and each feature of user, movie and rating time, and dense layers over all of them.

Shapes: B batch, K rating levels, D product_dim, T outputs (K for softmax, K - 1 for ordinal); S, M and C: total widths
of the vectors of a user, of a movie and of a date.
"""

from itertools import pairwise
from typing import Literal

import torch
from pydantic import Field, field_validator
from torch import Tensor, nn
from torch.nn import functional as F

from recsys.encode.dates import DATE_VALUES
from recsys.encode.features import MOVIE_FEATURES, NO_FEATURES, USER_FEATURES, Features
from recsys.models.feature_tables import DateTables, SideTables
from recsys.models.layers import Dropout
from recsys.models.network import (
    BatchNetwork,
    Interactions,
    NetworkConfig,
    Pairs,
    RatingNetwork,
    Sizes,
    TrainingConfig,
    batch_size_for,
)
from recsys.models.thresholds import empirical_log_odds, from_exceeding, sum_of_cross_entropies

DIMS = {
    "user": 32, "gender": 4, "age": 4, "occupation": 8, "region": 4,
    "item": 32, "genres": 8, "year": 4, "decade": 4, "words": 8,
    "weekday": 2, "hour": 4, "month": 4, "rated_year": 4,
}  # fmt: skip
TABLES = ("user", "item", *USER_FEATURES, *MOVIE_FEATURES, *DATE_VALUES)


class HybridConfig(NetworkConfig):
    dims: dict[str, int] = Field(
        default_factory=lambda: dict(DIMS),
        description=f"Vector length of each of {', '.join(TABLES)}. Features that are not listed, or that the "
        "dataset lacks, are ignored.",
    )
    product_dim: int = Field(
        32, ge=1, description="Length of the projected user and movie vectors, whose product is an input of the layers."
    )
    hidden_dims: tuple[int, ...] = Field((128, 64), description="Widths of the dense layers.")
    head: Literal["ordinal", "softmax"] = Field(
        "ordinal",
        description="ordinal: the probability of exceeding each level but the last; softmax: one class per level.",
    )
    dropout: float = Field(0.2, ge=0, le=0.99, description="Applied to all vectors and after each dense layer.")
    hidden_share: float = Field(
        0.05, ge=0, lt=1, description="Share of training rows in which the id vector of the user, or of the movie, is "
        "zeroed, so that the features learn to represent ids without ratings."
    )  # fmt: skip
    init_std: float = Field(0.1, gt=0, description="Standard deviation of the initial vectors.")

    @field_validator("dims")
    @classmethod
    def _are_known(cls, dims: dict[str, int]) -> dict[str, int]:
        wrong = [f"{name}={dim}" for name, dim in dims.items() if name not in TABLES or dim < 1]
        missing = [name for name in ("user", "item") if name not in dims]
        if wrong or missing:
            raise ValueError(
                f"invalid vector lengths: {', '.join(wrong + [f'no {name}' for name in missing])}. Lengths are "
                f"integers from 1, for user, item and any of {', '.join(TABLES[2:])}. Next: correct the name or remove "
                "it"
            )
        return dims


def hybrid(n_ratings: int, n_levels: int) -> HybridConfig:
    """Chosen on validation parts of three datasets (docs/experiments.md); more ratings need less weight decay."""
    training = TrainingConfig(
        epochs=10,
        batch_size=batch_size_for(n_ratings, steps=132, least=64),
        learning_rate=0.01,
        schedule="one_cycle",
        weight_decay=min(1.0, 70_000 / n_ratings),
    )
    return HybridConfig(training=training)


class HybridNetwork(RatingNetwork, BatchNetwork):
    """Dense layers over the vectors of the user, the movie, their features and the date, and a product of projections.

    An id without ratings has a zero vector and keeps its features. The product models how a user's taste fits a movie's
    traits, which dense layers alone learn poorly.

    Source: features with ids after Covington, Adams and Sargin, "Deep Neural Networks for YouTube Recommendations"
    (RecSys 2016); product with dense layers after He, Liao, Zhang, Nie, Hu and Chua, "Neural Collaborative Filtering"
    (WWW 2017); zeroing id vectors after Volkovs, Yu and Poutanen, "DropoutNet: Addressing Cold Start in Recommender
    Systems" (NIPS 2017); cumulative logits after McCullagh, "Regression Models for Ordinal Data" (JRSS B, 1980).
    """

    def __init__(self, config: HybridConfig, sizes: Sizes, features: Features = NO_FEATURES) -> None:
        super().__init__(sizes)
        self.config, dims = config, config.dims
        self.user = SideTables("user", sizes.n_users, features.user, dims, config.init_std)
        self.item = SideTables("item", sizes.n_items, features.item, dims, config.init_std)
        self.date = DateTables(dims, config.init_std)
        self.user_projection = nn.Linear(self.user.width + self.date.width, config.product_dim)
        self.item_projection = nn.Linear(self.item.width + self.date.width, config.product_dim)
        self.dropout = Dropout(config.dropout)
        widths = (self.user.width + self.item.width + self.date.width + config.product_dim, *config.hidden_dims)
        self.layers = _dense_layers(widths, config.dropout)
        self.head = nn.Linear(widths[-1], len(sizes.levels) - (config.head == "ordinal"))

    def prepare(self, train: Interactions) -> Interactions:
        self.user.zero_unseen(train.user_idx)
        self.item.zero_unseen(train.item_idx)
        self.date.zero_unseen(train.rated_at)
        with torch.no_grad():  # so that the initial predictions are near the overall distribution
            if self.config.head == "softmax":
                counts_K = torch.bincount(train.level_idx, minlength=len(self.sizes.levels)).float() + 1.0
                self.head.bias.copy_((counts_K / counts_K.sum()).log())
            else:
                self.head.bias.copy_(empirical_log_odds(train.level_idx, len(self.sizes.levels)))
        return train

    def logits(self, pairs: Pairs) -> Tensor:
        """(B, T): logits of each level, or of exceeding each level but the last."""
        user_BS = self.dropout(self.user(pairs.user_idx, self.config.hidden_share))
        item_BM = self.dropout(self.item(pairs.item_idx, self.config.hidden_share))
        date_BC = self.dropout(self.date(pairs.rated_at))
        taste_BD = self.user_projection(torch.cat([user_BS, date_BC], 1))
        traits_BD = self.item_projection(torch.cat([item_BM, date_BC], 1))
        logits_BT: Tensor = self.head(self.layers(torch.cat([user_BS, item_BM, date_BC, taste_BD * traits_BD], 1)))
        return logits_BT

    def loss(self, batch: Interactions) -> Tensor:
        """Mean cross-entropy of the level, or of exceeding each level but the last, summed over these levels."""
        logits_BT = self.logits(batch)
        if self.config.head == "softmax":
            return F.cross_entropy(logits_BT, batch.level_idx)
        return sum_of_cross_entropies(logits_BT, batch.level_idx) / len(batch)

    def probabilities(self, pairs: Pairs) -> Tensor:
        logits_BT = self.logits(pairs)
        return torch.softmax(logits_BT, 1) if self.config.head == "softmax" else from_exceeding(logits_BT)


def _dense_layers(widths: tuple[int, ...], dropout: float) -> nn.Sequential:
    layers: list[nn.Module] = []
    for n_inputs, n_outputs in pairwise(widths):
        layers += [nn.Linear(n_inputs, n_outputs), nn.ReLU(), Dropout(dropout)]
    return nn.Sequential(*layers)
