"""What every retriever offers.

Shapes: B users of one block, I items (index 0 is "unknown"), F known properties of users.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass

from torch import Tensor

from recsys.retrieve.histories import Histories
from recsys.retrieve.scales import MIN_AFFINITY


@dataclass(frozen=True)
class Users:
    """Some users, known to the model or not: what they have rated, and what else is known of them.

    One with an index has the history that the model was fitted to.
    """

    user_idx: Tensor  # (B,) int64; 0 for those whom no network knows
    histories: Histories  # of B users: what the retrievers go by
    properties_BF: Tensor  # float32, see `Properties`
    seen: Histories  # of B users: what is not to be shown to them

    def __len__(self) -> int:
        return len(self.user_idx)

    def take(self, rows: Tensor) -> "Users":
        """Some of them, by their places."""
        parts = (self.user_idx[rows], self.histories.take(rows), self.properties_BF[rows], self.seen.take(rows))
        return Users(*parts)


class Retriever(ABC):
    """Says for any user how likely each movie is to be one that they rate."""

    @abstractmethod
    def log_affinity(self, users: Users) -> Tensor:
        """(B, I) float32 on the retriever's device: the larger, the likelier. Movies seen are scored like others.

        A new tensor, which whoever asks may write over.
        """

    @abstractmethod
    def tensors(self) -> dict[str, Tensor]:
        """What it has learned, by name, for `recsys.ask.fold_in` and whoever else reads the ranker from disk."""


def log_affinity(affinity: Tensor) -> Tensor:
    """The logarithm, of whatever shape; what is no affinity at all counts as `MIN_AFFINITY`."""
    return affinity.clamp(min=MIN_AFFINITY).log()
