"""Every user's training interactions in order of time, and how many of them came before a moment.

Shapes: B batch, U users, R interactions of training.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from recsys.models.moments import SizedByTraining
from recsys.models.negatives import mix
from recsys.models.network import Interactions, Pairs

MOMENT_BITS = 40  # of a number that holds user and moment; seconds since 1970 fit into 34 for the next 500 years


class Timeline(SizedByTraining):
    """User u's interactions are those from offsets[u] to offsets[u + 1]; saved with the weights of a network that reads
    them, since its scores of an earlier moment need them.
    """

    items: Tensor  # (R,) int64
    moments: Tensor  # (R,) int64, ascending: user_idx and seconds since 1970 in one number
    offsets: Tensor  # (U + 1,) int64

    def __init__(self) -> None:
        super().__init__()
        for name in ("items", "moments", "offsets"):
            self.register_buffer(name, torch.zeros(0, dtype=torch.int64))

    def keep(self, ordered: Interactions, n_users: int) -> None:
        """Takes interactions that stand as `in_order_of_time` puts them."""
        self.items, self.moments = ordered.item_idx, _moments(ordered)
        self.offsets = F.pad(torch.bincount(ordered.user_idx, minlength=n_users).cumsum(0), (1, 0))

    def places(self, pairs: Pairs) -> tuple[Tensor, Tensor]:
        """(B,) up to which place stands what the user did before the moment; (B,) where all that they did ends.

        Nothing of the same second is before it. Where nobody knows the moment, all is. What was itself done nobody
        knows when is before every moment.
        """
        end_B = self.offsets[pairs.user_idx + 1]
        return torch.where(pairs.rated_at > 0, torch.searchsorted(self.moments, _moments(pairs)), end_B), end_B

    def item_at(self, place: Tensor) -> Tensor:
        """The item at a place, any for a place outside; of the same shape."""
        return self.items[place.clamp(0, len(self.items) - 1)]


def in_order_of_time(train: Interactions) -> Interactions:
    """By user, then by moment; those of one second in an order that says nothing, since none is known."""
    order = mix(mix(train.user_idx) ^ train.item_idx).argsort(stable=True)
    order = order[train.rated_at[order].argsort(stable=True)]
    return train.take(order[train.user_idx[order].argsort(stable=True)])


def _moments(pairs: Pairs) -> Tensor:
    return (pairs.user_idx << MOMENT_BITS) + pairs.rated_at.clamp(0, (1 << MOMENT_BITS) - 1)
