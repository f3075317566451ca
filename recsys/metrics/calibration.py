"""Calibration: 70% of the statements that are predicted with a probability of 70% should be true.

Shapes: B ratings, K levels, T = K - 1 thresholds, S statements, N bins.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

BINS = 10  # of equal width


@dataclass(frozen=True)
class Bin:
    """The statements with a probability in (lower, upper]; the first bin also includes 0."""

    lower: float
    upper: float
    n: int
    predicted: float  # mean probability
    observed: float  # share of true statements


def reliability(p_BK: Tensor, level_idx_B: Tensor) -> list[Bin]:
    """Bins of the statements "the rating is above level k", for all K - 1 levels below the highest.

    Empty bins are omitted.

    Source: the reliability diagram of DeGroot and Fienberg, "The Comparison and Evaluation of Forecasters" (The
    Statistician, 1983).
    """
    above_BT = 1.0 - p_BK.double().cumsum(1)[:, :-1]
    is_above_BT = level_idx_B[:, None] > torch.arange(above_BT.shape[1], device=level_idx_B.device)
    return _bins(above_BT.flatten().clamp(0.0, 1.0), is_above_BT.flatten())


def top_reliability(p_BK: Tensor, level_idx_B: Tensor) -> list[Bin]:
    """Bins of the statements "the rating is the most probable level", one per rating."""
    top = p_BK.double().max(dim=1)
    return _bins(top.values, top.indices == level_idx_B)


def calibration_error(bins: list[Bin]) -> float:
    """Expected calibration error: the mean difference between predicted probability and observed share.

    Source: Naeini, Cooper and Hauskrecht, "Obtaining Well Calibrated Probabilities Using Bayesian Binning" (AAAI 2015).
    """
    return sum(one.n * abs(one.predicted - one.observed) for one in bins) / sum(one.n for one in bins)


def calibration_metrics(p_BK: Tensor, level_idx_B: Tensor) -> dict[str, float]:
    """`ece` over all thresholds and `ece_top` of the most probable level; both are shares, 0 is best."""
    return {
        "ece": calibration_error(reliability(p_BK, level_idx_B)),
        "ece_top": calibration_error(top_reliability(p_BK, level_idx_B)),
    }


def _bins(p_S: Tensor, came_true_S: Tensor) -> list[Bin]:
    place_S = (p_S * BINS).ceil().long().clamp(min=1) - 1
    n_N = torch.bincount(place_S, minlength=BINS)
    predicted_N = torch.bincount(place_S, weights=p_S, minlength=BINS) / n_N
    observed_N = torch.bincount(place_S, weights=came_true_S.double(), minlength=BINS) / n_N
    figures = zip(n_N.tolist(), predicted_N.tolist(), observed_N.tolist(), strict=True)
    return [Bin(place / BINS, (place + 1) / BINS, *figure) for place, figure in enumerate(figures) if figure[0]]
