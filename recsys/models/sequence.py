"""A recurrent network that reads a user's history in order of time and predicts the next movie.

Shapes: B batch, L window, M movies read (L - 1 at most), H state_dim, D embedding_dim, W = D + 1 (a vector, then the
item's bias), N drawn items, U users, I items.
"""

from dataclasses import dataclass

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from recsys.encode.features import NO_FEATURES, Features
from recsys.models.layers import Dropout
from recsys.models.negatives import NegativeSampler
from recsys.models.network import Interactions, NetworkConfig, Pairs, Sizes, TrainingConfig, batch_size_for
from recsys.models.ranking import RankingNetwork, mean_for_unseen
from recsys.models.timeline import Timeline, in_order_of_time

MASKED = -1e9  # score of a masked item; finite, because every drawn item may be masked
STATES_AT_ONCE = 1024  # histories per batch, sorted by length, so that few steps are padding


class SequenceConfig(NetworkConfig):
    embedding_dim: int = Field(64, ge=1, description="Length of the movie vectors, used both as input and for scores.")
    state_dim: int = Field(64, ge=1, description="Units of the recurrent layer.")
    window: int = Field(
        50, ge=2, description="Consecutive movies of a training row. A prediction reads the newest `window - 1` movies."
    )
    n_negatives: int = Field(
        ge=1,
        description="Number of movies drawn per step as negatives. With at most this many movies, all are used.",
    )
    popularity_exponent: float = Field(
        0.5, ge=0, description="Movies are drawn in proportion to this power of their count; 0 is uniform."
    )
    dropout: float = Field(0.2, ge=0, le=0.99, description="Applied to the input vectors and to the state.")
    init_std: float = Field(0.1, gt=0, description="Standard deviation of the initial vectors.")


def sequence(n_ratings: int, n_levels: int) -> SequenceConfig:  # the levels do not matter
    """Chosen on validation (docs/experiments.md). Each row of a batch is a window of ratings."""
    return SequenceConfig(
        n_negatives=min(512, batch_size_for(n_ratings, steps=128, least=16)),
        training=TrainingConfig(
            epochs=8,
            batch_size=batch_size_for(n_ratings, steps=2000, least=4),
            learning_rate=0.01,
            schedule="one_cycle",
        ),
    )


@dataclass(frozen=True)
class Windows(Interactions):
    """Windows of consecutive interactions of a user; a row is the first one. place: (B,) int64, its timeline index."""

    place: Tensor


class SequenceNetwork(RankingNetwork):
    """score = ⟨state of the user's history, q_i⟩ + c_i; the same table q is used for input and for scores.

    The history at a time contains the training interactions before it, and none in the same second. At an unknown time,
    it contains all of them. In training, each interaction in a window is predicted from the earlier ones in the window.
    Windows start anywhere in a history. The state of an empty history, such as the unknown user's, is therefore trained
    on movies from all parts of histories. A movie without a training interaction has the mean row of the others.

    Source: Hidasi, Karatzoglou, Baltrunas and Tikk, "Session-based Recommendations with Recurrent Neural Networks"
    (ICLR 2016), here with a user's history instead of a session, and a softmax over drawn movies as the loss.
    """

    user_table: Tensor  # (U, W), frozen: states after the whole histories

    def __init__(self, config: SequenceConfig, sizes: Sizes, features: Features = NO_FEATURES) -> None:
        super().__init__(sizes, config.embedding_dim + 1)
        self.config = config
        self.item = nn.Parameter(torch.randn(sizes.n_items, config.embedding_dim) * config.init_std)
        self.item_bias = nn.Parameter(torch.zeros(sizes.n_items, 1))
        self.reader = nn.GRU(config.embedding_dim, config.state_dim, batch_first=True)
        self.to_item = nn.Linear(config.state_dim, config.embedding_dim, bias=False)
        self.dropout = Dropout(config.dropout)
        self.register_buffer("user_table", torch.zeros(sizes.n_users, config.embedding_dim + 1))
        self.timeline = Timeline()
        self._sampler: NegativeSampler | None = None

    def prepare(self, train: Interactions) -> Windows:
        """Returns one row per window."""
        super().prepare(train)
        self._sampler = NegativeSampler.fit(self.watched, self.config.popularity_exponent)
        ordered = in_order_of_time(train)
        self.timeline.keep(ordered, self.sizes.n_users)
        place_R = torch.arange(len(ordered), device=ordered.user_idx.device)
        nth_R = place_R - self.timeline.offsets[ordered.user_idx]
        first = place_R[nth_R % self.config.window == 0]
        rows = ordered.take(first)
        return Windows(rows.user_idx, rows.item_idx, rows.rated_at, rows.level_idx, first)

    def loss(self, batch: Interactions) -> Tensor:
        """Mean of -log P(item | earlier items in the window) over all interactions in the windows.

        In training, each window is shifted at random by up to half of its length, so that windows start anywhere.
        """
        assert isinstance(batch, Windows), "batches must be taken from the rows that prepare() returned"
        begin_B, end_B = self.timeline.offsets[batch.user_idx], self.timeline.offsets[batch.user_idx + 1]
        half = self.config.window // 2 if self.training else 0
        moved_B = batch.place + torch.randint(-half, half + 1, batch.place.shape, device=batch.place.device)
        first_B = moved_B.clamp(begin_B, end_B - 1)
        place_BL = first_B[:, None] + torch.arange(self.config.window, device=batch.place.device)
        inside_BL = place_BL < end_B[:, None]
        state_BLD = self._read(self.timeline.item_at(place_BL[:, :-1]))
        return self._next_item_loss(state_BLD[inside_BL], self.timeline.item_at(place_BL)[inside_BL])

    def _read(self, item_BM: Tensor) -> Tensor:
        """Reads items in order of time; returns (B, M + 1, D): user vectors before the first and after each item."""
        item_BL = F.pad(item_BM, (1, 0))  # index 0 marks the start of a history
        state_BLH, _ = self.reader(self.dropout(F.embedding(item_BL, self.item)))
        user_BLD: Tensor = self.to_item(self.dropout(state_BLH))
        return user_BLD

    def _next_item_loss(self, state_BD: Tensor, item_B: Tensor) -> Tensor:
        """Cross-entropy over all watched items if there are few, else over the drawn items and the target."""
        assert self._sampler is not None, "prepare() comes before training"
        if self.config.n_negatives >= len(self.watched.items):
            logits_BI = state_BD @ self.item.T + self.item_bias.squeeze(1)
            return F.cross_entropy(logits_BI.masked_fill(self.watched.count_I == 0, -torch.inf), item_B)
        item_N = self._sampler.draw(self.config.n_negatives)
        bias_N = self._sampler.correct(F.embedding(item_N, self.item_bias).squeeze(1), item_N)
        drawn_BN = torch.addmm(bias_N, state_BD, F.embedding(item_N, self.item).T)
        drawn_BN = drawn_BN.masked_fill(item_N == item_B[:, None], MASKED)
        target_B = (state_BD * F.embedding(item_B, self.item)).sum(1) + F.embedding(item_B, self.item_bias).squeeze(1)
        target_B = self._sampler.correct(target_B, item_B)
        # cross-entropy of the target against the drawn items, without concatenating them
        return F.softplus(torch.logsumexp(drawn_BN, 1) - target_B).mean()

    @torch.no_grad()
    def freeze(self) -> None:
        rows_IW = torch.cat([self.item, self.item_bias], dim=1)
        self.item_table = mean_for_unseen(rows_IW, self.watched.count_I)
        users = torch.arange(self.sizes.n_users, device=self.item.device)
        self.user_table = self._rows_at(users, self.timeline.offsets[1:])

    def user_rows(self, pairs: Pairs) -> Tensor:
        """(B, W): looked up for times after the whole history. Shorter histories are read, each distinct one once."""
        place_B, end_B = self.timeline.places(pairs)
        rows_BW = self.user_table[pairs.user_idx]
        early = (place_B < end_B).nonzero().squeeze(1)
        if len(early):
            stride = len(self.timeline.items) + 1
            keys, inverse = (pairs.user_idx[early] * stride + place_B[early]).unique(return_inverse=True)
            rows_BW[early] = self._rows_at(keys // stride, keys % stride)[inverse]
        return rows_BW

    def _rows_at(self, user_idx: Tensor, place_B: Tensor) -> Tensor:
        """(B, W): the rows of users after their interactions before a place in the timeline."""
        n_B = place_B - self.timeline.offsets[user_idx]
        order = n_B.argsort()
        parts = [self._read_before(place_B[part], n_B[part]) for part in order.split(STATES_AT_ONCE)]
        rows_BW = torch.cat(parts)[order.argsort()]
        return F.pad(rows_BW, (0, 1), value=1.0)

    def _read_before(self, place_B: Tensor, n_B: Tensor) -> Tensor:
        """(B, D): the states after reading the newest of the n interactions before each place."""
        n_read_B = n_B.clamp(max=self.config.window - 1)
        step_M = torch.arange(int(n_read_B.max()), device=place_B.device)
        item_BM = self.timeline.item_at((place_B - n_read_B)[:, None] + step_M)
        return self._read(item_BM)[torch.arange(len(n_B), device=n_B.device), n_read_B]
