"""The best places of each row, exactly, whatever ties there are.

Shapes: B rows, I columns, N places.
"""

import torch
from torch import Tensor


def top_columns(score_BI: Tensor, n: int) -> Tensor:
    """(B, N) int64, ascending in each row: the columns of its `n` largest scores; of equal ones the lower columns.

    Where a row has fewer than `n` scores above -inf, some of the columns have -inf.
    """
    n = min(n, score_BI.shape[1])
    if n == 0:
        return score_BI.new_empty(len(score_BI), 0, dtype=torch.int64)
    best = score_BI.topk(min(n + 1, score_BI.shape[1]), dim=1)
    column_BN = best.indices[:, :n].sort(dim=1).values
    last_B1, next_B1 = best.values[:, n - 1 : n], best.values[:, n:]  # the latter of no column, if these are all
    # topk leaves open which of equal scores it takes, so rows where the last one taken has an equal are redone
    tied = (last_B1 == next_B1).any(1).nonzero().squeeze(1)
    for rows in tied.split(max(1, 2**24 // score_BI.shape[1])):
        column_BN[rows] = _lowest_of_equal(score_BI[rows], last_B1[rows], n)
    return column_BN


def _lowest_of_equal(score_BI: Tensor, last_B1: Tensor, n: int) -> Tensor:
    above_BI, equal_BI = score_BI > last_B1, score_BI == last_B1
    room_B1 = n - above_BI.sum(1, keepdim=True)
    chosen_BI = above_BI | (equal_BI & (equal_BI.cumsum(1) <= room_B1))
    return chosen_BI.nonzero()[:, 1].view(-1, n)
