"""Decodes a distribution over stars to one number. The right decoder depends on the metric.

Shapes: B batch, K rating levels.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

PURPOSES = {  # the purpose of each decoder, and of the probabilities themselves
    "median": "one number with the least absolute error",
    "rounded": "the level nearest to the mean, for networks that predict one number only",
    "mode": "the level that is most often exactly right",
    "mean": "expected stars (rating_hat), with the least squared error; RMSE and MSE measure it",
    "log loss, ECE": "the probabilities themselves: the likelihood of the ratings, and whether 70% means 70%",
}


@dataclass(frozen=True)
class Prediction:
    """Predicted ratings: p_BK (B, K) float32, rows sum to 1; mean_B (B,) float32, expected stars, not clipped."""

    p_BK: Tensor
    mean_B: Tensor

    def cpu(self) -> "Prediction":
        return Prediction(self.p_BK.cpu(), self.mean_B.cpu())


def decode_mean(p_BK: Tensor, levels_K: Tensor) -> Tensor:
    """Expected stars, (B,), with the lowest squared error; published as `rating_hat`."""
    return p_BK @ levels_K


def decode_median(p_BK: Tensor, levels_K: Tensor) -> Tensor:
    """The median level, (B,), with the lowest absolute error. If there are several medians, the lowest one."""
    index_B = (p_BK.cumsum(1) < 0.5).sum(1).clamp(max=p_BK.shape[1] - 1)
    return levels_K[index_B]


def decode_mode(p_BK: Tensor, levels_K: Tensor) -> Tensor:
    """The most probable level, (B,), which is most often exactly right. Ties: the lowest level."""
    return levels_K[p_BK.argmax(1)]


def decode_rounded(stars_B: Tensor, levels_K: Tensor) -> Tensor:
    """The level nearest to a number of stars, (B,), for networks that predict one number. Ties: the lower level."""
    middles = (levels_K[1:] + levels_K[:-1]) / 2
    return levels_K[torch.bucketize(stars_B, middles)]
