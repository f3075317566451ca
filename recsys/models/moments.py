"""Effects of the rating time: a bias per user and day, a user's mood over their history, and a vector per week.

The effects are learned from the times of the training ratings. Days and weeks without training ratings have no effect,
and neither has an unknown time.

Shapes: B batch, D embedding_dim, E = D + 1 (a vector and its bias), N training ratings, U users.
"""

from typing import Any

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from recsys.encode.dates import DAY_SECONDS
from recsys.models.network import Interactions, NetworkConfig, Pairs
from recsys.models.rows import Keys

# Low bits of a 63-bit key, for the day (enough for 2,800 years) or the second (540 years). The high bits hold the user.
# Other times count as the first or last one, because they would run into the bits of another user.
DAY_BITS, SECOND_BITS = 20, 34
NO_ROW = -1  # key of the row for unknown weeks


class SizedByTraining(nn.Module):
    """A module whose table lengths depend on the training ratings. Loading resizes the tables to the saved tensors."""

    def timeless(self) -> dict[str, Tensor]:
        """The buffers without the seconds of ratings: scores for times after the training ratings stay the same."""
        return {}

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *args: Any) -> None:
        for name, tensor in (*self._parameters.items(), *self._buffers.items()):
            saved = state_dict.get(prefix + name)
            if tensor is not None and saved is not None:
                tensor.data = tensor.new_zeros(saved.shape)
        super()._load_from_state_dict(state_dict, prefix, *args)


class MomentsConfig(NetworkConfig):
    """Settings of the time effects. Penalties are on the squares of the values a rating uses; None disables a part."""

    l2_days: float | None = Field(
        None,
        ge=0,
        description="Penalty on the bias of a user and day; None: no such bias.",
        json_schema_extra={"search": [0.03, 0.5, "log"]},
    )
    min_ratings_per_day: int = Field(
        5, ge=1, description="Minimum number of a user's ratings on a day for a bias; fewer ratings are mostly noise."
    )
    l2_mood: float | None = Field(
        None,
        ge=0,
        description="Penalty on the knots of a user's mood; None: no mood.",
        json_schema_extra={"search": [0.02, 0.5, "log"]},
    )
    ratings_per_knot: int = Field(
        25,
        ge=1,
        description="Number of a user's ratings between two knots of the mood.",
        json_schema_extra={"search": [10, 100, "int"]},
    )
    l2_weeks: float | None = Field(
        None,
        ge=0,
        description="Penalty on the vector of a week; None: no such vectors.",
        json_schema_extra={"search": [0.03, 1.0, "log"]},
    )


class Moments(nn.Module):
    """All time effects on a score: the bias of the user's day, the user's mood and the vector of the week."""

    def __init__(self, config: MomentsConfig, n_users: int, embedding_dim: int, init_std: float) -> None:
        super().__init__()
        self.days = DayBias(config.min_ratings_per_day) if config.l2_days is not None else None
        self.mood = Mood(n_users, config.ratings_per_knot) if config.l2_mood is not None else None
        self.weeks = WeekVectors(embedding_dim, init_std) if config.l2_weeks is not None else None

    def prepare(self, train: Interactions) -> None:
        for part in (self.days, self.mood, self.weeks):
            if part is not None:
                part.prepare(train)

    def forward(self, pairs: Pairs, vectors_BD: Tensor) -> Tensor:
        """Returns (B,) to add to the score. vectors_BD: user vector plus movie vector."""
        score_B = vectors_BD.new_zeros(len(pairs))
        for part in (self.days, self.mood):
            if part is not None:
                score_B = score_B + part(pairs)
        if self.weeks is not None:
            week_BE = self.weeks(pairs)
            score_B = score_B + (vectors_BD * week_BE[:, :-1]).sum(1) + week_BE[:, -1]
        return score_B


class DayBias(SizedByTraining):
    """A bias per user and day with at least `min_ratings` ratings: people are more generous on some days.

    A bias for a day with a single rating would only overfit the noise of that rating.

    Source: Koren, "Collaborative Filtering with Temporal Dynamics" (KDD 2009), b_ut.
    """

    keys: Tensor  # int64, ascending: (user, day) of each row of `bias`

    def __init__(self, min_ratings: int) -> None:
        super().__init__()
        self.min_ratings = min_ratings
        self.register_buffer("keys", torch.zeros(1, dtype=torch.int64))
        self.bias = nn.Parameter(torch.zeros(1, 1))  # row 0: any other day

    def prepare(self, train: Interactions) -> None:
        keys, counts = _day_key(train).unique(return_counts=True)
        self.keys = F.pad(keys[counts >= self.min_ratings], (1, 0))  # row 0 matches no day
        self.bias = nn.Parameter(torch.zeros(len(self.keys), 1, device=self.keys.device))

    def forward(self, pairs: Pairs) -> Tensor:
        """(B,) to add to the score."""
        return self.bias[self.row(pairs), 0]  # row 0 stays 0

    def owners(self) -> Tensor:
        """(rows,) int64: the user of each bias, 0 for row 0."""
        return self.keys >> DAY_BITS

    def row_keys(self, users: Keys, items: Keys) -> dict[str, Keys]:
        keys = self.keys.cpu().numpy()
        return {"bias": (users[keys >> DAY_BITS] << DAY_BITS) + (keys & (1 << DAY_BITS) - 1)}

    def row(self, pairs: Pairs) -> Tensor:
        """(B,) int64: the row of each pair's bias."""
        key_B = _day_key(pairs)
        place_B = torch.searchsorted(self.keys, key_B)
        known_B = self.keys[place_B.clamp(max=len(self.keys) - 1)] == key_B
        return torch.where(known_B & (pairs.rated_at > 0), place_B, 0)


class Mood(SizedByTraining):
    """A bias that drifts over each user's history: linear between knots, with a knot every `ratings_per_knot` ratings.

    It is constant after the newest rating, so tonight's lists use the latest mood.

    Source: the splines of user biases over time in Koren, "Collaborative Filtering with Temporal Dynamics" (KDD 2009);
    here over the number of ratings instead of days, because most people rate in a few sessions.
    """

    moments: Tensor  # (N,) int64, ascending: (user, second) of each training rating
    first: Tensor  # (U + 1,) int64: index of each user's first moment
    first_knot: Tensor  # (U,) int64

    def __init__(self, n_users: int, ratings_per_knot: int) -> None:
        super().__init__()
        self.ratings_per_knot = ratings_per_knot
        self.register_buffer("moments", torch.zeros(0, dtype=torch.int64))
        self.register_buffer("first", torch.zeros(n_users + 1, dtype=torch.int64))
        self.register_buffer("first_knot", torch.arange(n_users) * 2)
        self.knots = nn.Parameter(torch.zeros(2 * n_users, 1))

    def prepare(self, train: Interactions) -> None:
        self.moments = _second_key(train).sort().values
        counts_U = torch.bincount(train.user_idx, minlength=len(self.first_knot))
        self.first = F.pad(counts_U.cumsum(0), (1, 0))
        knots_U = counts_U // self.ratings_per_knot + 2
        self.first_knot = knots_U.cumsum(0) - knots_U
        self.knots = nn.Parameter(torch.zeros(int(knots_U.sum()), 1, device=self.moments.device))

    def forward(self, pairs: Pairs) -> Tensor:
        """(B,) to add to the score."""
        knot_B, share_B = self.knot(pairs)
        before_B, after_B = self.knots[knot_B, 0], self.knots[knot_B + 1, 0]
        return torch.where(pairs.rated_at > 0, before_B + share_B * (after_B - before_B), 0.0)

    def owners(self) -> Tensor:
        """(knots,) int64: the user of each knot."""
        n_knots_U = F.pad(self.first_knot, (0, 1), value=len(self.knots)).diff()
        return torch.arange(len(n_knots_U), device=n_knots_U.device).repeat_interleave(n_knots_U)

    def knot(self, pairs: Pairs) -> tuple[Tensor, Tensor]:
        """(B,) int64: the knot before each pair, and (B,) float32: how far it is from there to the next one."""
        place_B = self._position(pairs) / self.ratings_per_knot
        return self.first_knot[pairs.user_idx] + place_B.long(), place_B - place_B.floor()

    def timeless(self) -> dict[str, Tensor]:
        return {"moments": self.moments >> SECOND_BITS << SECOND_BITS}

    def row_keys(self, users: Keys, items: Keys) -> dict[str, Keys]:
        """Identifies knots by user and number: new ratings follow the earlier ones, so they only append knots."""
        first_U = self.first_knot.cpu().numpy()
        n_knots = len(self.knots)
        number = np.arange(n_knots) - np.repeat(first_U, np.diff(first_U, append=n_knots))
        return {"knots": (np.repeat(users, np.diff(first_U, append=n_knots)) << DAY_BITS) + number}

    def _position(self, pairs: Pairs) -> Tensor:
        """(B,) float32: number of earlier training ratings of the user, plus half of those in the same second."""
        key_B = _second_key(pairs)
        earlier_B = torch.searchsorted(self.moments, key_B)
        until_B = torch.searchsorted(self.moments, key_B, right=True)
        first_B = self.first[pairs.user_idx]  # subtracted as integers, because float32 cannot hold large positions
        return ((earlier_B - first_B) + (until_B - first_B)) / 2


class WeekVectors(SizedByTraining):
    """A vector per week that is multiplied with the user vector and the movie vector. It models current popularity."""

    weeks: Tensor  # int64, ascending, counted from 1970: those with training ratings

    def __init__(self, embedding_dim: int, init_std: float) -> None:
        super().__init__()
        self.init_std = init_std
        self.register_buffer("weeks", torch.zeros(0, dtype=torch.int64))
        self.vectors = nn.Parameter(torch.zeros(1, embedding_dim + 1))  # row 0: any other week

    def prepare(self, train: Interactions) -> None:
        self.weeks = _week(train).unique()
        vectors = torch.randn(len(self.weeks) + 1, self.vectors.shape[1]) * self.init_std
        vectors[0] = 0.0
        self.vectors = nn.Parameter(vectors.to(self.vectors.device))

    def forward(self, pairs: Pairs) -> Tensor:
        """(B, E) vectors of the weeks."""
        return self.vectors[self.row(pairs)]  # row 0 stays 0

    def row(self, pairs: Pairs) -> Tensor:
        """(B,) int64: the row of each pair's week."""
        week_B = _week(pairs)
        known_B = torch.isin(week_B, self.weeks) & (pairs.rated_at > 0)
        return torch.where(known_B, torch.searchsorted(self.weeks, week_B) + 1, 0)

    def row_keys(self, users: Keys, items: Keys) -> dict[str, Keys]:
        return {"vectors": np.concatenate(([NO_ROW], self.weeks.cpu().numpy()))}

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *args: Any) -> None:
        first = state_dict.pop(f"{prefix}first_week", None)  # version 0.1.0 had a row for every week since the first
        if first is not None:
            state_dict[f"{prefix}weeks"] = first + torch.arange(len(state_dict[f"{prefix}vectors"]) - 1)
        super()._load_from_state_dict(state_dict, prefix, *args)


def _week(pairs: Pairs) -> Tensor:
    return pairs.rated_at // (7 * DAY_SECONDS)


def timeless_state(network: nn.Module) -> dict[str, Tensor]:
    """The state of a network that will only be asked about times after its training ratings, without their seconds."""
    parts = {name: part for name, part in network.named_modules() if isinstance(part, SizedByTraining)}
    replaced = {f"{name}.{key}": value for name, part in parts.items() for key, value in part.timeless().items()}
    return {**network.state_dict(), **replaced}


def _day_key(pairs: Pairs) -> Tensor:
    return (pairs.user_idx << DAY_BITS) + (pairs.rated_at // DAY_SECONDS).clamp(0, (1 << DAY_BITS) - 1)


def _second_key(pairs: Pairs) -> Tensor:
    return (pairs.user_idx << SECOND_BITS) + pairs.rated_at.clamp(0, (1 << SECOND_BITS) - 1)
