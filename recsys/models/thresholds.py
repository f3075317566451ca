"""Distributions over levels, given by the log-odds of exceeding each level but the last.

Shapes: B batch, K rating levels, T = K - 1 thresholds.

Source: the cumulative logit model, McCullagh, "Regression Models for Ordinal Data" (JRSS B, 1980).
"""

import torch
from torch import Tensor
from torch.nn import functional as F


def empirical_log_odds(level_idx: Tensor, n_levels: int) -> Tensor:
    """(T,): initial log-odds, with which every pair starts near the overall distribution of ratings."""
    counts_K = torch.bincount(level_idx, minlength=n_levels).float() + 1.0
    return torch.logit(counts_K.flip(0).cumsum(0).flip(0)[1:] / counts_K.sum())


def sum_of_cross_entropies(logits_BT: Tensor, level_idx: Tensor) -> Tensor:
    """(): binary cross-entropies summed over all rows and thresholds."""
    exceeds_BT = exceedances(level_idx, logits_BT.shape[1])
    return F.binary_cross_entropy_with_logits(logits_BT, exceeds_BT, reduction="sum")


def exceedances(level_idx: Tensor, n_thresholds: int) -> Tensor:
    """(B, T) float32: 1 where a rating exceeds a level, else 0."""
    return (level_idx[:, None] > torch.arange(n_thresholds, device=level_idx.device)).float()


def from_exceeding(logits_BT: Tensor) -> Tensor:
    """(B, K) probabilities. Where thresholds cross, the running minimum keeps the probabilities from being negative."""
    exceeds_BT = torch.cummin(torch.sigmoid(logits_BT.float()), dim=1).values
    one_B1 = exceeds_BT.new_ones(len(exceeds_BT), 1)
    return torch.cat([one_B1, exceeds_BT], dim=1) - torch.cat([exceeds_BT, torch.zeros_like(one_B1)], dim=1)
