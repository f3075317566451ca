"""The training interactions of each user in order of time, and how many of them precede a given time.

Shapes: B batch, U users, R interactions of training.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from recsys.models.moments import SizedByTraining
from recsys.models.negatives import mix
from recsys.models.network import Interactions, Pairs

MOMENT_BITS = 40  # low bits of a key, for the time; seconds since 1970 need 34 bits for the next 500 years


class Timeline(SizedByTraining):
    """Interactions by user and time. Those of user u have the indices offsets[u] to offsets[u + 1].

    They are saved with the weights, because scores for an earlier time need them.
    """

    items: Tensor  # (R,) int64
    moments: Tensor  # (R,) int64, ascending: user_idx and seconds since 1970 in one number
    offsets: Tensor  # (U + 1,) int64

    def __init__(self) -> None:
        super().__init__()
        for name in ("items", "moments", "offsets"):
            self.register_buffer(name, torch.zeros(0, dtype=torch.int64))

    def keep(self, ordered: Interactions, n_users: int) -> None:
        """Stores interactions, which must be in the order of `in_order_of_time`."""
        self.items, self.moments = ordered.item_idx, _moments(ordered)
        self.offsets = F.pad(torch.bincount(ordered.user_idx, minlength=n_users).cumsum(0), (1, 0))

    def places(self, pairs: Pairs) -> tuple[Tensor, Tensor]:
        """Returns (B,) the end of the user's interactions before the time, and (B,) the end of all their interactions.

        Interactions in the same second are excluded. If the time is unknown, all interactions are included.
        Interactions at an unknown time are included for every time.
        """
        end_B = self.offsets[pairs.user_idx + 1]
        return torch.where(pairs.rated_at > 0, torch.searchsorted(self.moments, _moments(pairs)), end_B), end_B

    def timeless(self) -> dict[str, Tensor]:
        return {"moments": self.moments >> MOMENT_BITS << MOMENT_BITS}

    def item_at(self, place: Tensor) -> Tensor:
        """Returns the items at these places, in the same shape. Items for places out of range are arbitrary."""
        return self.items[place.clamp(0, len(self.items) - 1)]


def in_order_of_time(train: Interactions) -> Interactions:
    """Sorts by user, then by time. Interactions in the same second are in a pseudo-random but fixed order."""
    order = mix(mix(train.user_idx) ^ train.item_idx).argsort(stable=True)
    order = order[train.rated_at[order].argsort(stable=True)]
    return train.take(order[train.user_idx[order].argsort(stable=True)])


def _moments(pairs: Pairs) -> Tensor:
    return (pairs.user_idx << MOMENT_BITS) + pairs.rated_at.clamp(0, (1 << MOMENT_BITS) - 1)
