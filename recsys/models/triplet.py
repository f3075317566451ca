"""Two towers trained on events without ratings: movies that a user watched must score above those they did not.

Shapes: B batch, N negatives of each row, U users, I items, D embedding_dim.
"""

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from recsys.encode.features import NO_FEATURES, Features
from recsys.models.negatives import NegativeSampler
from recsys.models.network import Interactions, NetworkConfig, Pairs, Sizes, TrainingConfig, batch_size_for
from recsys.models.ranking import RankingNetwork, mean_for_unseen


class TripletConfig(NetworkConfig):
    embedding_dim: int = Field(64, ge=1, description="Length of the user and of the movie vector.")
    loss: Literal["margin", "bpr"] = Field(
        description="Loss of a positive that scores d above a negative. margin: max(0, margin - d), bpr: log(1 + "
        "e^(margin - d))."
    )
    margin: float = Field(ge=0, description="Required difference between the scores of a positive and a negative.")
    n_negatives: int = Field(
        4, ge=1, description="Movies drawn for each watched one; drawn movies that were watched are ignored."
    )
    popularity_exponent: float = Field(
        ge=0, description="Negatives are drawn in proportion to this power of a movie's count; 0 is uniform."
    )
    l2: float = Field(ge=0, description="Penalty on the vectors of a row's user, movie and average negative.")
    init_std: float = Field(0.1, gt=0, description="Standard deviation of the initial vectors.")


def triplet(n_ratings: int, n_levels: int) -> TripletConfig:  # the levels do not matter
    """The network of its write-up, with a margin. Everything that the write-up leaves open was chosen on validation."""
    return TripletConfig(loss="margin", margin=1.0, popularity_exponent=0.25, l2=0.03, training=_training(n_ratings))


def triplet_bpr(n_ratings: int, n_levels: int) -> TripletConfig:
    """Bayesian personalised ranking. Everything that the source leaves open was chosen on validation.

    Source: Rendle, Freudenthaler, Gantner and Schmidt-Thieme, "BPR: Bayesian Personalized Ranking from Implicit
    Feedback" (UAI 2009).
    """
    return TripletConfig(loss="bpr", margin=0.0, popularity_exponent=0.5, l2=0.015, training=_training(n_ratings))


def _training(n_ratings: int) -> TrainingConfig:
    batch_size = batch_size_for(n_ratings, steps=66, least=64)
    return TrainingConfig(epochs=20, batch_size=batch_size, learning_rate=0.01, schedule="one_cycle")


class TripletNetwork(RankingNetwork):
    """score = ⟨p_u, q_i⟩, with the same (siamese) table q for watched and unwatched movies.

    Users and movies without a training event get the mean vector of the others.
    """

    user_table: Tensor  # (U, D), frozen

    def __init__(self, config: TripletConfig, sizes: Sizes, features: Features = NO_FEATURES) -> None:
        super().__init__(sizes, config.embedding_dim)
        self.config = config
        self.user = nn.Parameter(torch.randn(sizes.n_users, config.embedding_dim) * config.init_std)
        self.item = nn.Parameter(torch.randn(sizes.n_items, config.embedding_dim) * config.init_std)
        self.register_buffer("user_table", torch.zeros(sizes.n_users, config.embedding_dim))
        self._sampler: NegativeSampler | None = None

    def prepare(self, train: Interactions) -> Interactions:
        super().prepare(train)
        self._sampler = NegativeSampler.fit(self.watched, self.config.popularity_exponent)
        return train

    def loss(self, batch: Interactions) -> Tensor:
        """Mean over the pairs of a watched movie and a drawn movie that the user has not watched."""
        assert self._sampler is not None, "prepare() comes before training"
        item_BN = self._sampler.draw(len(batch), self.config.n_negatives)
        counts_BN = ~self.watched.contains(batch.user_idx[:, None], item_BN)
        p_BD, q_BD = F.embedding(batch.user_idx, self.user), F.embedding(batch.item_idx, self.item)
        q_BND = F.embedding(item_BN, self.item)
        own_B, other_BN = (p_BD * q_BD).sum(1), torch.einsum("bd,bnd->bn", p_BD, q_BND)
        own_B, other_BN = self._sampler.correct(own_B, batch.item_idx), self._sampler.correct(other_BN, item_BN)
        short_BN = self.config.margin - (own_B[:, None] - other_BN)  # shortfall from the margin
        loss_BN = F.relu(short_BN) if self.config.loss == "margin" else F.softplus(short_BN)
        fit = (loss_BN * counts_BN).sum() / counts_BN.sum().clamp(min=1)
        norms = p_BD.square().sum() + q_BD.square().sum() + q_BND.square().sum() / self.config.n_negatives
        return fit + self.config.l2 * norms / len(batch)

    @torch.no_grad()
    def freeze(self) -> None:
        self.user_table = mean_for_unseen(self.user, self.watched.count_U)
        self.item_table = mean_for_unseen(self.item, self.watched.count_I)

    def user_rows(self, pairs: Pairs) -> Tensor:
        return self.user_table[pairs.user_idx]
