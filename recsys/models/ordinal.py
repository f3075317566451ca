"""Our network: ordered thresholds over a bilinear score, with implicit history on both sides.

Shapes: B batch, U users, I items, D embedding_dim, E = D + 1 (a vector and its bias in one row), T = K - 1 thresholds.
"""

import math
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from recsys.features import NO_FEATURES, Features
from recsys.models.network import Interactions, NetworkConfig, Pairs, RatingNetwork, Sizes, TrainingConfig, zero_unseen
from recsys.models.sparse import compress_rows


class OrdinalConfig(NetworkConfig):
    embedding_dim: int = Field(47, ge=1, description="Length D; D + 1 floats a row fill whole vector registers.")
    l2: float = Field(ge=0, description="Penalty on the vectors and biases of each rating's user and movie.")
    l2_thresholds: float = Field(ge=0, description="Penalty on each rating's own thresholds, which are few and safe.")
    init_std: float = Field(0.1, gt=0, description="Spread of the initial vectors.")


def ordinal(n_ratings: int, n_levels: int) -> OrdinalConfig:
    """Chosen on validation parts of three data sets (docs/experiments.md).

    The likelihood sums one term per threshold, so the penalty that balances it grows with their number; the more
    ratings, the weaker the pull towards zero. About ninety steps an epoch, whatever the size.
    """
    l2 = 0.0325 * (n_levels - 1) * (750_000 / max(n_ratings, 20_000)) ** 0.15
    batch_size = 2 ** max(6, round(math.log2(n_ratings / 90)))
    return OrdinalConfig(
        l2=l2,
        l2_thresholds=0.3 * l2,
        training=TrainingConfig(epochs=14, batch_size=batch_size, learning_rate=0.02, schedule="one_cycle"),
    )


class OrdinalNetwork(RatingNetwork):
    """P(rating > level t) = sigmoid(score - θ_t - a_ut - d_it), for a user u and an item i.

    score = ⟨p_u + |N(u)|^-½ Σ y_j, q_i + |N(i)|^-½ Σ x_v⟩ + biases, where N(u) are the items that u rated and N(i) the
    users who rated i, in the training ratings only, whatever the stars. Each vector carries its bias in its last place.

    Source: implicit history after Koren, "Factorization Meets the Neighborhood" (KDD 2008), here on both sides;
    thresholds after the cumulative logit model, McCullagh, "Regression Models for Ordinal Data" (JRSS B, 1980).
    """

    user_table: Tensor  # (U, E + T), frozen: own and implicit parts together, then the thresholds
    item_table: Tensor  # (I, E + T)

    def __init__(self, config: OrdinalConfig, sizes: Sizes, features: Features = NO_FEATURES) -> None:
        super().__init__(sizes)
        self.config = config
        n_users, n_items, n_thresholds = sizes.n_users, sizes.n_items, len(sizes.levels) - 1
        self.user = _vectors(n_users, config)  # p and user bias
        self.item = _vectors(n_items, config)  # q and item bias
        self.user_implicit = _vectors(n_users, config)  # x: what having rated says of the movies rated
        self.item_implicit = _vectors(n_items, config)  # y: what having been rated says of the raters
        self.user_thresholds = nn.Parameter(torch.zeros(n_users, n_thresholds))
        self.item_thresholds = nn.Parameter(torch.zeros(n_items, n_thresholds))
        self.thresholds = nn.Parameter(torch.zeros(n_thresholds))
        width = config.embedding_dim + 1 + n_thresholds
        self.register_buffer("user_table", torch.zeros(n_users, width))
        self.register_buffer("item_table", torch.zeros(n_items, width))
        self._history: _History | None = None

    def prepare(self, train: Interactions) -> Interactions:
        zero_unseen(self.user, train.user_idx)
        zero_unseen(self.item, train.item_idx)  # implicit vectors of the unseen take part in nothing
        with torch.no_grad():
            self.thresholds.copy_(_empirical_thresholds(train.level_idx, len(self.thresholds)))
        self._history = _History(train, len(self.user), len(self.item))
        return train

    def tables(self) -> tuple[Tensor, Tensor]:
        """(U, E + T) and (I, E + T): all that two indices need to be turned into a distribution."""
        assert self._history is not None, "prepare() comes before training"
        user_UE = self.user + self._history.sum_over_items(self.item_implicit)
        item_IE = self.item + self._history.sum_over_users(self.user_implicit)
        return torch.cat([user_UE, self.user_thresholds], dim=1), torch.cat([item_IE, self.item_thresholds], dim=1)

    def logits(self, user_BW: Tensor, item_BW: Tensor) -> Tensor:
        """Rows of the two tables -> (B, T): log-odds that the rating exceeds each level but the last."""
        dim = self.config.embedding_dim
        score_B = (user_BW[:, :dim] * item_BW[:, :dim]).sum(1) + user_BW[:, dim] + item_BW[:, dim]
        return score_B[:, None] - self.thresholds - user_BW[:, dim + 1 :] - item_BW[:, dim + 1 :]

    def loss(self, batch: Interactions) -> Tensor:
        user_table, item_table = self.tables()
        # F.embedding: its gradient is several times faster than that of plain indexing
        logits_BT = self.logits(F.embedding(batch.user_idx, user_table), F.embedding(batch.item_idx, item_table))
        exceeds_BT = batch.level_idx[:, None] > torch.arange(logits_BT.shape[1], device=logits_BT.device)
        fit = F.binary_cross_entropy_with_logits(logits_BT, exceeds_BT.float(), reduction="sum")
        return (fit + self._penalty(batch)) / len(batch)

    def _penalty(self, batch: Interactions) -> Tensor:
        """L2 over the rows of the batch, each as often as it occurs there; counting is cheaper than gathering."""
        n_U = torch.bincount(batch.user_idx, minlength=len(self.user)).float()
        n_I = torch.bincount(batch.item_idx, minlength=len(self.item)).float()
        vectors = n_U @ (_norm2(self.user) + _norm2(self.user_implicit))
        vectors = vectors + n_I @ (_norm2(self.item) + _norm2(self.item_implicit))
        thresholds = n_U @ _norm2(self.user_thresholds) + n_I @ _norm2(self.item_thresholds)
        return self.config.l2 * vectors + self.config.l2_thresholds * thresholds

    @torch.no_grad()
    def freeze(self) -> None:
        self.user_table, self.item_table = self.tables()

    def probabilities(self, pairs: Pairs) -> Tensor:
        exceeds_BT = torch.sigmoid(self.logits(self.user_table[pairs.user_idx], self.item_table[pairs.item_idx]))
        # a pair's own thresholds may cross; a distribution's may not
        exceeds_BT = torch.cummin(exceeds_BT, dim=1).values
        one_B1 = exceeds_BT.new_ones(len(exceeds_BT), 1)
        return torch.cat([one_B1, exceeds_BT], dim=1) - torch.cat([exceeds_BT, torch.zeros_like(one_B1)], dim=1)


class _History:
    """Who rated what in training, as two sparse matrices with rows scaled by |N|^-½."""

    def __init__(self, train: Interactions, n_users: int, n_items: int) -> None:
        users, items = train.user_idx, train.item_idx
        per_user = torch.bincount(users, minlength=n_users).float().clamp(min=1).rsqrt()
        per_item = torch.bincount(items, minlength=n_items).float().clamp(min=1).rsqrt()
        self.by_user = compress_rows(users, items, per_user[users], (n_users, n_items))
        self.by_user_T = compress_rows(items, users, per_user[users], (n_items, n_users))
        self.by_item = compress_rows(items, users, per_item[items], (n_items, n_users))
        self.by_item_T = compress_rows(users, items, per_item[items], (n_users, n_items))

    def sum_over_items(self, vectors_IE: Tensor) -> Tensor:
        """(I, E) -> (U, E)"""
        return _SparseProduct.apply(self.by_user, self.by_user_T, vectors_IE)  # type: ignore[no-any-return, no-untyped-call]

    def sum_over_users(self, vectors_UE: Tensor) -> Tensor:
        """(U, E) -> (I, E)"""
        return _SparseProduct.apply(self.by_item, self.by_item_T, vectors_UE)  # type: ignore[no-any-return, no-untyped-call]


class _SparseProduct(torch.autograd.Function):
    """A sparse matrix times a dense one; the transpose is kept, since transposing anew at each step costs more."""

    @staticmethod
    def forward(ctx: Any, matrix: Tensor, transposed: Tensor, dense: Tensor) -> Tensor:
        ctx.transposed = transposed
        return matrix @ dense

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, None, Tensor]:
        return None, None, ctx.transposed @ gradient.contiguous()


def _vectors(n: int, config: OrdinalConfig) -> nn.Parameter:
    """(n, E): random vectors, biases of zero in the last place."""
    vectors = torch.randn(n, config.embedding_dim + 1) * config.init_std
    vectors[:, -1] = 0.0
    return nn.Parameter(vectors)


def _norm2(rows: Tensor) -> Tensor:
    """Squared length of each row."""
    return rows.square().sum(1)


def _empirical_thresholds(level_idx: Tensor, n_thresholds: int) -> Tensor:
    """Thresholds at which every pair starts out with the overall distribution of ratings."""
    counts = torch.bincount(level_idx, minlength=n_thresholds + 1).float() + 1.0
    exceeds = counts.flip(0).cumsum(0).flip(0)[1:] / counts.sum()
    return -torch.logit(exceeds)
