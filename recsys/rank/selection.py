"""Fills the places of lists one by one from scored candidates, with caps on groups and with diversity.

Shapes: B users, C candidates, N places, I items, G groups, D dimensions, A users whose list is not full yet.

Source of diversity: Carbonell and Goldstein, "The Use of MMR, Diversity-Based Reranking for Reordering Documents and
Producing Summaries" (SIGIR 1998).
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from recsys.models.sparse import entries_of, group_rows

NUMBERS_AT_ONCE = 2**24  # numbers in memory, of candidates' vectors or of remaining capacities: 128 MB


@dataclass(frozen=True)
class Caps:
    """At most `at_most_G[g]` movies of group g in a list; item i is in the groups groups[offsets[i]:offsets[i + 1]].

    offsets: (I + 1,) int64. groups: int64. at_most_G: (G,) int64, from 1.
    """

    offsets: Tensor
    groups: Tensor
    at_most_G: Tensor

    def to(self, device: torch.device) -> "Caps":
        return Caps(self.offsets.to(device), self.groups.to(device), self.at_most_G.to(device))


def make_caps(item_idx: Tensor, group_idx: Tensor, at_most_G: Tensor, n_items: int) -> Caps:
    """Builds caps from unique memberships (item_idx, group_idx) in any order. Groups within their cap are dropped.

    item_idx, group_idx: (M,) int64.
    """
    size_G = torch.bincount(group_idx, minlength=len(at_most_G))
    binds_G = size_G > at_most_G
    binds_M = binds_G[group_idx]
    group_idx = (binds_G.cumsum(0) - 1)[group_idx]  # renumbered without the dropped groups
    offsets, groups = group_rows(item_idx[binds_M], group_idx[binds_M], n_items)
    return Caps(offsets, groups, at_most_G[binds_G])


def select_places(
    score_BC: Tensor,
    item_BC: Tensor,
    n: int,
    *,
    caps: Caps | None = None,
    vectors_ID: Tensor | None = None,
    diversity: float = 0.0,
) -> Tensor:
    """Returns (B, N) int64, the column of `score_BC` for each place, padded with -1.

    Each place takes the best remaining candidate whose groups are not full. Ties go to the first column, which is the
    lower item if candidates ascend. The best candidate has the highest score or, with `diversity` in [0, 1), the most
    (1 - diversity) · relevance - diversity · similarity. Relevance is the score, scaled to [0, 1] over each user's
    candidates; similarity is the largest cosine with a movie already in the list, at least 0. The value of successive
    places therefore never increases.

    score_BC: floating, -inf if there is no candidate. item_BC: (B, C) int64. vectors_ID: floating.
    """
    assert 0 <= diversity < 1, f"diversity {diversity} is not in [0, 1)"
    assert bool((score_BC < torch.inf).all()), "scores must be below infinity and not NaN"
    if score_BC.shape[1] == 0:
        return torch.full((len(score_BC), n), -1, device=score_BC.device)
    if diversity > 0:
        assert vectors_ID is not None, "diversity needs vectors"
        similarity = _Similarity(F.normalize(vectors_ID, dim=1), diversity)
        return _in_parts(score_BC, item_BC, n, caps, similarity, score_BC.shape[1] * vectors_ID.shape[1])
    if caps is not None and len(caps.at_most_G):
        return _in_parts(score_BC, item_BC, n, caps, None, score_BC.shape[1])
    column_BN = score_BC.argsort(dim=1, descending=True, stable=True)[:, :n]
    column_BN = torch.where(score_BC.gather(1, column_BN) > -torch.inf, column_BN, -1)
    return F.pad(column_BN, (0, n - column_BN.shape[1]), value=-1)


@dataclass(frozen=True)
class _Similarity:
    """Unit vectors of the items (zero vectors stay zero), and the weight of similarity."""

    unit_ID: Tensor
    weight: float


def _in_parts(
    score_BC: Tensor, item_BC: Tensor, n: int, caps: Caps | None, similarity: _Similarity | None, numbers_per_user: int
) -> Tensor:
    """Splits the users into parts of bounded memory."""
    n_groups = len(caps.at_most_G) if caps is not None else 0
    rows = max(1, NUMBERS_AT_ONCE // max(numbers_per_user, n_groups))
    parts = zip(score_BC.split(rows), item_BC.split(rows), strict=True)
    return torch.cat([_fill_in_turn(score, item, n, caps, similarity) for score, item in parts])


def _fill_in_turn(
    score_BC: Tensor, item_BC: Tensor, n: int, caps: Caps | None, similarity: _Similarity | None
) -> Tensor:
    """Takes the best remaining candidate of each list that is not full; places it if its groups have room.

    Otherwise, drops it. A full group stays full, so no candidate is considered twice.
    """
    worth_BC = (1 - similarity.weight) * _relevance(score_BC) if similarity else score_BC.clone()
    value_BC = worth_BC.clone()  # worth minus the weighted similarity
    if similarity is not None:
        closest_BC = torch.zeros_like(worth_BC)
        unit_BCD = F.embedding(item_BC, similarity.unit_ID)
    room_BG = caps.at_most_G.repeat(len(score_BC), 1) if caps else None
    column_BN = torch.full((len(score_BC), n), -1, device=score_BC.device)
    filled_B = torch.zeros(len(score_BC), dtype=torch.int64, device=score_BC.device)
    open_A = torch.arange(len(score_BC), device=score_BC.device)
    while len(open_A):
        best = value_BC[open_A].max(dim=1)  # ties: first column
        found_A = best.values > -torch.inf
        user, column = open_A[found_A], best.indices[found_A]
        worth_BC[user, column] = value_BC[user, column] = -torch.inf
        if caps is not None and room_BG is not None:
            fits_A = _take_room(room_BG, caps, user, item_BC[user, column])
            user, column = user[fits_A], column[fits_A]
        column_BN[user, filled_B[user]] = column
        filled_B[user] += 1
        if similarity is not None:
            unit_ACD = unit_BCD if len(user) == len(unit_BCD) else unit_BCD[user]  # avoids a copy
            cosine_AC = (unit_ACD @ similarity.unit_ID[item_BC[user, column]].unsqueeze(2)).squeeze(2)
            closest_BC[user] = torch.maximum(closest_BC[user], cosine_AC)
            value_BC[user] = worth_BC[user] - similarity.weight * closest_BC[user]
        open_A = open_A[found_A]
        open_A = open_A[filled_B[open_A] < n]
    return column_BN


def _relevance(score_BC: Tensor) -> Tensor:
    """Returns (B, C) float64: 1 for each user's best candidate, 0 for the worst, -inf for no candidate."""
    known_BC = score_BC > -torch.inf
    score_BC = score_BC.double()
    lowest_B1 = score_BC.masked_fill(~known_BC, torch.inf).amin(dim=1, keepdim=True)
    span_B1 = score_BC.amax(dim=1, keepdim=True) - lowest_B1
    span_B1[~(span_B1 > 0)] = 1.0  # all scores are equal, or there are no candidates
    return ((score_BC - lowest_B1) / span_B1).masked_fill(~known_BC, -torch.inf)


def _take_room(room_BG: Tensor, caps: Caps, user_A: Tensor, item_A: Tensor) -> Tensor:
    """Returns (A,) whether all groups of the item have room in the user's list, and reduces the room in place."""
    row, group = entries_of(caps.offsets, caps.groups, item_A)
    fits_A = torch.ones_like(item_A, dtype=torch.bool)
    fits_A[row[room_BG[user_A[row], group] == 0]] = False
    placed = fits_A[row]
    room_BG[user_A[row[placed]], group[placed]] -= 1  # no repeats: users are unique, and so are an item's groups
    return fits_A
