"""The exact top columns of each row, with deterministic ties.

Shapes: B rows, I columns, N places, K largest values, G groups of columns, W columns of a group.
"""

import torch
from torch import Tensor

LEAST_WIDTH = 8  # of a group; with narrower groups, finding the best groups takes longer than it saves


def top_columns(score_BI: Tensor, n: int) -> Tensor:
    """Returns (B, N) int64, ascending in each row: the columns of the `n` largest scores. Ties go to the lower column.

    If a row has fewer than `n` scores above -inf, some of its columns have a score of -inf.
    """
    n = min(n, score_BI.shape[1])
    if n == 0:
        return score_BI.new_empty(len(score_BI), 0, dtype=torch.int64)
    value_BK, best_BK = _largest(score_BI, min(n + 1, score_BI.shape[1]))
    column_BN = best_BK[:, :n].sort(dim=1).values
    last_B1, next_B1 = value_BK[:, n - 1 : n], value_BK[:, n:]  # next is empty if n is the width
    # topk picks arbitrarily among equal scores, so rows with a tie at the cut are recomputed
    tied = (last_B1 == next_B1).any(1).nonzero().squeeze(1)
    for rows in tied.split(max(1, 2**24 // score_BI.shape[1])):
        column_BN[rows] = _lowest_of_equal(score_BI[rows], last_B1[rows], n)
    return column_BN


def _largest(score_BI: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Returns (B, K) the largest values, descending, and their columns. Takes half the time of topk for wide rows.

    The `k` groups with the largest maxima contain the `k` largest values: each of these groups has a value that is at
    least as large as any value outside of them.
    """
    # the width is near the square root, to balance both topk calls; reductions over powers of two are fastest
    width = 1 << (score_BI.shape[1] // k).bit_length() // 2
    if width < LEAST_WIDTH:
        largest = score_BI.topk(k, dim=1)
        return largest.values, largest.indices
    n_grouped = score_BI.shape[1] // width * width
    score_BGW = score_BI[:, :n_grouped].unflatten(1, (-1, width))
    group_BK1 = score_BGW.amax(2).topk(k, dim=1, sorted=False).indices[:, :, None]
    within_BKW = score_BGW.gather(1, group_BK1.expand(-1, -1, width))
    rest_BR = score_BI[:, n_grouped:]  # fewer than a group
    largest = torch.cat([within_BKW.flatten(1), rest_BR], dim=1).topk(k, dim=1)
    place_BK = largest.indices
    group_BK = group_BK1.squeeze(2).gather(1, (place_BK // width).clamp(max=k - 1))
    is_rest_BK = place_BK >= k * width
    column_BK = torch.where(is_rest_BK, place_BK - k * width + n_grouped, group_BK * width + place_BK % width)
    return largest.values, column_BK


def _lowest_of_equal(score_BI: Tensor, last_B1: Tensor, n: int) -> Tensor:
    above_BI, equal_BI = score_BI > last_B1, score_BI == last_B1
    room_B1 = n - above_BI.sum(1, keepdim=True)
    chosen_BI = above_BI | (equal_BI & (equal_BI.cumsum(1) <= room_B1))
    return chosen_BI.nonzero()[:, 1].view(-1, n)
