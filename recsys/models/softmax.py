"""The first write-up's classifier: two embeddings, three dense layers, one class per star."""

import math

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from recsys.features import NO_FEATURES, Features
from recsys.models.network import Interactions, NetworkConfig, Pairs, RatingNetwork, Sizes, TrainingConfig, zero_unseen


class SoftmaxConfig(NetworkConfig):
    embedding_dim: int = Field(32, ge=1, description="Length of the user and of the movie vector.")
    hidden_dim: int = Field(128, ge=1, description="Width of each of the three dense layers.")
    dropout: float = Field(
        0.5, ge=0, le=0.99, description="After both embeddings and after the first two dense layers."
    )


def softmax(n_ratings: int, n_levels: int) -> SoftmaxConfig:  # the published widths fit any number of levels
    """As published. Batch size and Adam's rate, which the write-up leaves open, were chosen on validation."""
    batch_size = 2 ** max(6, round(math.log2(n_ratings / 150)))
    return SoftmaxConfig(
        training=TrainingConfig(epochs=10, batch_size=batch_size, learning_rate=0.01, schedule="constant")
    )


class Dropout(nn.Module):
    """Inverted dropout that draws eight decisions from one 64-bit random number: eight times faster on a CPU.

    The share dropped is `p` to the nearest 1/256.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.dropped_of_256 = round(p * 256)

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.dropped_of_256 == 0:
            return x
        words = torch.empty((x.numel() + 7) // 8, dtype=torch.int64, device=x.device).random_(-(2**63), None)
        kept = words.view(torch.uint8)[: x.numel()].view_as(x) >= self.dropped_of_256
        return x * kept * (256 / (256 - self.dropped_of_256))


class BatchNorm(nn.BatchNorm1d):
    """With Keras's averaging: over a hundred batches rather than ten, which dropout before it makes too noisy.

    A batch of one has no variance of its own; it is normalised as in prediction, by the averages.
    """

    def __init__(self, width: int) -> None:
        super().__init__(width, eps=1e-3, momentum=0.01)

    def forward(self, x: Tensor) -> Tensor:
        if len(x) > 1:
            return super().forward(x)
        return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)


class SoftmaxNetwork(RatingNetwork):
    """Dropout acts on a dense layer's output and batch norm comes after it, in that order.

    Source: the write-up's network; initial values follow Keras, in which it was written (embeddings uniform in
    ±0.05, dense layers Glorot uniform with zero bias).
    """

    def __init__(self, config: SoftmaxConfig, sizes: Sizes, features: Features = NO_FEATURES) -> None:
        super().__init__(sizes)
        dim, hidden = config.embedding_dim, config.hidden_dim
        self.user_embedding = nn.Embedding(sizes.n_users, dim)
        self.item_embedding = nn.Embedding(sizes.n_items, dim)
        self.dropout = Dropout(config.dropout)
        self.head = nn.Sequential(
            nn.Linear(2 * dim, hidden), nn.ReLU(), Dropout(config.dropout), BatchNorm(hidden),
            nn.Linear(hidden, hidden), nn.ReLU(), Dropout(config.dropout), BatchNorm(hidden),
            nn.Linear(hidden, hidden), nn.ReLU(),
            nn.Linear(hidden, len(sizes.levels)),
        )  # fmt: skip
        self.apply(_initialise)

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


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Embedding):
        nn.init.uniform_(module.weight, -0.05, 0.05)
    elif isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        nn.init.zeros_(module.bias)
