"""Movies that a user has not watched: random ones for training, and fixed ones for evaluation.

Shapes: B rows, N negatives of each, U users, I items (index 0 of both is "unknown").
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from recsys.models.network import Interactions, Pairs, Sizes

NEGATIVES_PER_ROW = 20  # in evaluation: enough to make the error of a single row meaningful


class Watched:
    """Who watched what in training, regardless of the rating."""

    def __init__(self, train: Interactions, sizes: Sizes) -> None:
        self.n_items = sizes.n_items
        self.count_U = torch.bincount(train.user_idx, minlength=sizes.n_users)
        self.count_I = torch.bincount(train.item_idx, minlength=sizes.n_items)
        self.items = self.count_I.nonzero().squeeze(1)  # ascending
        self._keys = (train.user_idx * self.n_items + train.item_idx).unique()  # ascending

    def contains(self, user_idx: Tensor, item_idx: Tensor) -> Tensor:
        """Whether each user watched each item: int64 of two broadcastable shapes -> bool."""
        keys = user_idx * self.n_items + item_idx
        places = torch.searchsorted(self._keys, keys).clamp(max=len(self._keys) - 1)
        return torch.eq(self._keys[places], keys)


@dataclass(frozen=True)
class NegativeSampler:
    """Draws items with probability proportional to a power of their count: 0 is uniform, 1 is by popularity."""

    cumulative_I: Tensor  # float64, ends in 1; unwatched items are never drawn
    log_probability_I: Tensor  # float32; 0 for unwatched items

    @classmethod
    def fit(cls, watched: Watched, exponent: float) -> "NegativeSampler":
        weight_I = torch.where(watched.count_I > 0, watched.count_I.double() ** exponent, 0.0)
        probability_I = weight_I / weight_I.sum()
        log_probability_I = torch.where(watched.count_I > 0, probability_I.log(), 0.0)
        return cls(probability_I.cumsum(0), log_probability_I.float())

    def draw(self, *shape: int) -> Tensor:
        """Draws int64 items independently, from torch's global generator."""
        at = torch.rand(shape, dtype=torch.float64, device=self.cumulative_I.device) * self.cumulative_I[-1]
        return torch.searchsorted(self.cumulative_I, at, right=True)

    def correct(self, score: Tensor, item_idx: Tensor) -> Tensor:
        """Subtracts log P(drawn) from each score, for use in a training loss; same shapes.

        A network trained to distinguish watched from drawn items learns log(P(watched) / P(drawn)). With the correction
        the score itself learns log P(watched), independently of how negatives are drawn.

        Source: Bengio and Senécal, "Adaptive Importance Sampling to Accelerate Training of a Neural Probabilistic
        Language Model", IEEE Transactions on Neural Networks 19 (2008), for the sampled softmax.
        """
        return score - self.log_probability_I[item_idx]


def fixed_negatives(pairs: Pairs, watched: Watched, n: int = NEGATIVES_PER_ROW) -> tuple[Tensor, Tensor]:
    """(B, N) int64 items that occur in training, and (B, N) bool: which of them count.

    An item counts if the row's user did not watch it in training and it is not the row's own item. The draw is uniform
    and depends on the pair only, so all networks are evaluated on the same items.
    """
    state_B = mix(mix(pairs.user_idx) ^ pairs.item_idx)
    state_BN = state_B[:, None] + torch.arange(1, n + 1, device=state_B.device)
    place_BN = torch.remainder(mix(state_BN), len(watched.items))
    item_BN = watched.items[place_BN]
    counts_BN = ~watched.contains(pairs.user_idx[:, None], item_BN) & (item_BN != pairs.item_idx[:, None])
    return item_BN, counts_BN


def mix(values: Tensor) -> Tensor:
    """The output of the splitmix64 generator for each state: int64 -> int64, bijective; products wrap around.

    Source: Steele, Lea and Flood, "Fast Splittable Pseudorandom Number Generators", OOPSLA 2014, figure 16.
    """
    z = values + _signed(0x9E3779B97F4A7C15)
    z = (z ^ _shift(z, 30)) * _signed(0xBF58476D1CE4E5B9)
    z = (z ^ _shift(z, 27)) * _signed(0x94D049BB133111EB)
    return z ^ _shift(z, 31)


def _signed(constant: int) -> int:
    """The int64 with the same bits."""
    return constant - (1 << 64)


def _shift(values: Tensor, places: int) -> Tensor:
    """Logical right shift; torch's own is arithmetic."""
    return (values >> places) & ((1 << (64 - places)) - 1)
