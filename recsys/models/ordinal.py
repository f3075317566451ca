"""The default network: ordered thresholds on a bilinear score, with history on both sides, features and rating time.

Shapes: B batch, U users, I items, D embedding_dim, E = D + 1 (a vector and its bias in one row), K rating levels,
T = K - 1 thresholds.
"""

import torch
from pydantic import Field
from torch import Tensor, nn

from recsys.encode.features import NO_FEATURES, FeatureName, Features
from recsys.models.feature_tables import FeatureSum
from recsys.models.history import History
from recsys.models.moments import Moments, MomentsConfig
from recsys.models.moments_pass import RatedMoments
from recsys.models.network import Interactions, Pairs, Sizes, TrainingConfig, zero_unseen
from recsys.models.ordinal_pass import OrdinalPass
from recsys.models.thresholds import empirical_log_odds, from_exceeding
from recsys.models.tiles import TiledNetwork, TiledPass, Tiles


class OrdinalConfig(MomentsConfig):
    """Settings of the network. Penalties are on the squares of the rows that a rating uses; None disables a part."""

    embedding_dim: int = Field(
        47,
        ge=1,
        description="Length of the vectors. With its bias, a vector has 48 floats, which fill whole SIMD registers.",
        json_schema_extra={"search": [15, 95, "int"]},
    )
    l2: float = Field(
        ge=0,
        description="Penalty on the id vectors and history vectors of a rating's user and movie.",
        json_schema_extra={"search": [0.03, 1.0, "log"]},
    )
    l2_biases: float = Field(
        0.03,
        ge=0,
        description="Penalty on the biases; with one number per id they hardly overfit.",
        json_schema_extra={"search": [0.003, 0.3, "log"]},
    )
    l2_thresholds: float = Field(
        ge=0,
        description="Penalty on the thresholds of a rating's user and movie; they are few and hardly overfit.",
        json_schema_extra={"search": [0.01, 0.3, "log"]},
    )
    l2_opinions: float | None = Field(
        None,
        ge=0,
        description="Penalty on the opinion vectors, several times l2 because they overfit fast; None: no opinions.",
        json_schema_extra={"search": [0.2, 3.0, "log"]},
    )
    features: tuple[FeatureName, ...] = Field(
        ("genres", "decade", "gender", "age", "occupation"),
        description="Features of users and movies whose vectors are added; those that the dataset lacks are ignored.",
    )
    l2_features: float | None = Field(
        None,
        ge=0,
        description="Penalty on the vectors of features, each shared by many ids; None: no features.",
        json_schema_extra={"search": [0.01, 0.3, "log"]},
    )
    init_std: float = Field(0.1, gt=0, description="Standard deviation of the initial vectors.")


def ordinal_basic(n_ratings: int, n_levels: int) -> OrdinalConfig:
    """The network without opinions, features and time effects.

    Chosen on validation parts of three datasets (docs/experiments.md). The likelihood has one term per threshold, so
    penalties grow with the number of thresholds; that on vectors grows faster. They decrease with the number of
    ratings. An epoch has 144 steps.
    """
    l2 = 0.0325 * (n_levels - 1) * (750_000 / max(n_ratings, 20_000)) ** 0.15
    return OrdinalConfig(
        l2=l2 * ((n_levels - 1) / 4) ** 0.3,
        l2_biases=l2,
        l2_thresholds=0.3 * l2,
        training=TrainingConfig(
            epochs=14,
            batch_size=max(16, round(n_ratings / 144)),
            learning_rate=0.01,
            schedule="one_cycle",
        ),
    )


def ordinal(n_ratings: int, n_levels: int) -> OrdinalConfig:
    """The full network. The penalties of the parts that `ordinal_basic` lacks were chosen in the same way."""
    basic = ordinal_basic(n_ratings, n_levels)
    scale = (n_levels - 1) / 4
    return basic.model_copy(
        update={
            "l2_biases": 0.03 * scale,
            "l2_opinions": 0.75 * scale * (750_000 / max(n_ratings, 20_000)) ** 0.5,
            "l2_features": 0.2 * basic.l2_biases,
            "l2_days": 0.1 * scale,
            "l2_mood": 0.05 * scale,
            "l2_weeks": 0.2 * scale,
        }
    )


class OrdinalNetwork(TiledNetwork):
    """P(rating > level t) = sigmoid(score - θ_t - a_ut - d_it), for a user u and an item i.

    score = ⟨user vector, item vector⟩ + biases + mood of u at the time + bias of u's day + ⟨both vectors, week⟩,
    user vector = p_u + f_u + |N(u)|^-½ Σ (y_j + e_uj w_j), item vector = q_i + f_i + |N(i)|^-½ Σ (x_v + e_vi z_v),
    where N(u) are the items that u rated and N(i) the users who rated i, in the training ratings only. The opinion e is
    the stars of a rating minus the bias baseline. The opinion of a training rating is excluded from its own prediction,
    but not from the baseline, which affects other opinions. f is the sum of the feature vectors of a user or a movie,
    the only information on ids without ratings. The last element of each vector is its bias.

    Source: implicit history and opinions after Koren, "Factorization Meets the Neighborhood" (KDD 2008), here on both
    sides; time effects after Koren (KDD 2009); thresholds after the cumulative logit model, McCullagh, "Regression
    Models for Ordinal Data" (JRSS B, 1980).
    """

    user_table: Tensor  # (U, E + T), frozen: user vectors with all their parts, then thresholds
    item_table: Tensor  # (I, E + T)

    def __init__(self, config: OrdinalConfig, sizes: Sizes, features: Features = NO_FEATURES) -> None:
        super().__init__(sizes)
        self.config = config
        n_users, n_items, n_thresholds = sizes.n_users, sizes.n_items, len(sizes.levels) - 1
        dim, std = config.embedding_dim, config.init_std
        self.user = _vectors(n_users, dim, std)  # p and user bias
        self.item = _vectors(n_items, dim, std)  # q and item bias
        self.user_implicit = _vectors(n_users, dim, std)  # x: history vector of a user, added to the movies they rated
        self.item_implicit = _vectors(n_items, dim, std)  # y: history vector of a movie, added to its users
        if config.l2_opinions is not None:
            self.user_opinion = _vectors(n_users, dim, std / 3)  # z: opinion vector of a user
            self.item_opinion = _vectors(n_items, dim, std / 3)  # w: opinion vector of a movie
        if config.l2_features is not None:
            self.user_features = FeatureSum(n_users, features.user, config.features, dim, std / 3)
            self.item_features = FeatureSum(n_items, features.item, config.features, dim, std / 3)
        self.user_thresholds = nn.Parameter(torch.zeros(n_users, n_thresholds))
        self.item_thresholds = nn.Parameter(torch.zeros(n_items, n_thresholds))
        self.thresholds = nn.Parameter(torch.zeros(n_thresholds))
        self.moments = Moments(config, n_users, dim, std / 3)
        width = dim + 1 + n_thresholds
        self.register_buffer("user_table", torch.zeros(n_users, width))
        self.register_buffer("item_table", torch.zeros(n_items, width))
        self._history: History | None = None
        self._rated: RatedMoments | None = None

    def prepare(self, train: Interactions) -> Interactions:
        zero_unseen(self.user, train.user_idx)
        zero_unseen(self.item, train.item_idx)  # history vectors of unseen ids are never used
        if self.config.l2_features is not None:
            self.user_features.prepare(train.user_idx)
            self.item_features.prepare(train.item_idx)
        with torch.no_grad():
            self.thresholds.copy_(-empirical_log_odds(train.level_idx, len(self.sizes.levels)))
        self._history = History(train, self.sizes)
        self.moments.prepare(train)
        self._rated = RatedMoments(self.moments, train)
        return train

    def cut(self, n_blocks: int, generator: torch.Generator) -> TiledPass:
        assert self._history is not None, "prepare() comes before training"
        assert self._rated is not None
        return OrdinalPass(self, self._rated, Tiles(self._history, n_blocks, generator))

    def tables(self) -> tuple[Tensor, Tensor]:
        """(U, E + T) and (I, E + T): vectors and thresholds of all users and items."""
        history = self._history
        assert history is not None, "prepare() comes before training"
        user_UE = self.user + history.sum_over_items(self.item_implicit)
        item_IE = self.item + history.sum_over_users(self.user_implicit)
        if self.config.l2_opinions is not None:
            user_UE = user_UE + history.sum_over_items(self.item_opinion, by_opinion=True)
            item_IE = item_IE + history.sum_over_users(self.user_opinion, by_opinion=True)
        if self.config.l2_features is not None:
            user_UE, item_IE = user_UE + self.user_features(), item_IE + self.item_features()
        return torch.cat([user_UE, self.user_thresholds], dim=1), torch.cat([item_IE, self.item_thresholds], dim=1)

    @torch.no_grad()
    def freeze(self) -> None:
        self.user_table, self.item_table = self.tables()

    def probabilities(self, pairs: Pairs) -> Tensor:
        user_BW, item_BW = self.user_table[pairs.user_idx], self.item_table[pairs.item_idx]
        dim = self.config.embedding_dim
        p_BD, q_BD = user_BW[:, :dim], item_BW[:, :dim]
        score_B = (p_BD * q_BD).sum(1) + user_BW[:, dim] + item_BW[:, dim] + self.moments(pairs, p_BD + q_BD)
        levels_BT = self.thresholds + user_BW[:, dim + 1 :] + item_BW[:, dim + 1 :]
        return from_exceeding(score_B[:, None] - levels_BT)


def _vectors(n: int, embedding_dim: int, std: float) -> nn.Parameter:
    """(n, E): random vectors with a bias of zero as the last element."""
    vectors = torch.randn(n, embedding_dim + 1) * std
    vectors[:, -1] = 0.0
    return nn.Parameter(vectors)
