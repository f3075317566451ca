"""The interface of retrievers.

Shapes: B users of one block, I items (index 0 is "unknown"), F known properties of users.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass

from torch import Tensor

from recsys.retrieve.histories import Histories
from recsys.retrieve.scales import MIN_AFFINITY


@dataclass(frozen=True)
class Users:
    """A block of users with their ratings and properties. They may be unknown to the model.

    The history of a user with an index above 0 is the one that the model was fitted to.
    """

    user_idx: Tensor  # (B,) int64; 0 for users unknown to the network
    histories: Histories  # of B users: input of the retrievers
    properties_BF: Tensor  # float32, see `Properties`
    seen: Histories  # of B users: movies to leave out of their lists

    def __len__(self) -> int:
        return len(self.user_idx)

    def take(self, rows: Tensor) -> "Users":
        """Returns the users in these rows."""
        parts = (self.user_idx[rows], self.histories.take(rows), self.properties_BF[rows], self.seen.take(rows))
        return Users(*parts)


class Retriever(ABC):
    """Estimates how likely a user is to rate each movie."""

    @abstractmethod
    def log_affinity(self, users: Users) -> Tensor:
        """Returns (B, I) float32 on the retriever's device: higher is more likely. Seen movies get scores like others.

        The tensor is new, so the caller may modify it in place.
        """

    @abstractmethod
    def tensors(self) -> dict[str, Tensor]:
        """Returns the learned tensors by name, as `recsys.rank.saved_ranker` stores them."""


def log_affinity(affinity: Tensor) -> Tensor:
    """Returns the elementwise logarithm, after raising values below `MIN_AFFINITY` to it."""
    return affinity.clamp(min=MIN_AFFINITY).log()
