"""Compiled rules, which mask the movies of a block of users at once and count the movies that each rule removes.

Shapes: B users of one block, N places of a list, U users, I items (index 0 is "unknown"), G genres (0 is "none").
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import polars as pl
import torch
from torch import Tensor

from recsys.encode.features import Feature
from recsys.encode.vocabulary import Vocabulary
from recsys.errors import UsageError
from recsys.models.sparse import entries_of, group_rows
from recsys.rank.read_rules import Rule, Rules
from recsys.rank.selection import Caps, make_caps, select_places

USERS_AT_ONCE = 128  # users whose matrix of forbidden movies is in memory at once: 45 MB at 87,000 movies
MAX_INDEXED_SHARE = 0.1  # share of all movies; below it, writing single columns is faster than a pass over the block


class Filter(Protocol):
    """The movies that one rule forbids."""

    def mask_(self, score_BI: Tensor, user_idx_B: Tensor) -> None:
        """Sets the scores of forbidden movies to -inf, in place. user_idx_B: int64."""

    def forbids(self, user_idx_B: Tensor, item_BN: Tensor) -> Tensor:
        """Returns (B, N) bool, whether each item is forbidden for its user. item_BN: int64, item_idx."""

    def to(self, device: torch.device) -> "Filter":
        """Returns a copy with its tensors on `device`."""


@dataclass(frozen=True, eq=False)
class MovieFilter:
    """Movies that are forbidden for all users. closed_I: bool."""

    closed_I: Tensor

    def mask_(self, score_BI: Tensor, user_idx_B: Tensor) -> None:
        closed = self.closed_I.nonzero().squeeze(1)
        if len(closed) < MAX_INDEXED_SHARE * len(self.closed_I):
            score_BI.index_fill_(1, closed, -torch.inf)
        else:
            score_BI += _additive_mask(self.closed_I)

    def forbids(self, user_idx_B: Tensor, item_BN: Tensor) -> Tensor:
        return self.closed_I[item_BN]

    def to(self, device: torch.device) -> "MovieFilter":
        return MovieFilter(self.closed_I.to(device))


@dataclass(frozen=True, eq=False)
class PairFilter:
    """Movies forbidden for single users: items[offsets[u]:offsets[u + 1]] for user u. Both int64."""

    offsets: Tensor
    items: Tensor
    n_items: int

    def mask_(self, score_BI: Tensor, user_idx_B: Tensor) -> None:
        row, item = entries_of(self.offsets, self.items, user_idx_B)
        score_BI[row, item] = -torch.inf

    def forbids(self, user_idx_B: Tensor, item_BN: Tensor) -> Tensor:
        row, item = entries_of(self.offsets, self.items, user_idx_B)
        row_B1 = torch.arange(len(item_BN), device=item_BN.device).unsqueeze(1)
        return torch.isin(row_B1 * self.n_items + item_BN, row * self.n_items + item)

    def to(self, device: torch.device) -> "PairFilter":
        return PairFilter(self.offsets.to(device), self.items.to(device), self.n_items)


@dataclass(frozen=True, eq=False)
class GenreFilter:
    """Genres forbidden for single users: genres[offsets[u]:offsets[u + 1]] for user u.

    offsets, genres: int64. has_GI: float32, 1 where the item has the genre.
    """

    offsets: Tensor
    genres: Tensor
    has_GI: Tensor

    def mask_(self, score_BI: Tensor, user_idx_B: Tensor) -> None:
        forbidden_BG = self._forbidden(user_idx_B)
        for rows in forbidden_BG.any(dim=1).nonzero().squeeze(1).split(USERS_AT_ONCE):
            sets_SG, set_R = forbidden_BG[rows].unique(
                dim=0, return_inverse=True
            )  # few distinct sets: many users share one
            mask_SI = _additive_mask(sets_SG.float() @ self.has_GI > 0)
            for row, place in zip(rows.tolist(), set_R.tolist(), strict=True):
                score_BI[row] += mask_SI[place]

    def forbids(self, user_idx_B: Tensor, item_BN: Tensor) -> Tensor:
        has_BNG = self.has_GI.T[item_BN] > 0
        return (has_BNG & self._forbidden(user_idx_B).unsqueeze(1)).any(dim=2)

    def to(self, device: torch.device) -> "GenreFilter":
        return GenreFilter(self.offsets.to(device), self.genres.to(device), self.has_GI.to(device))

    def _forbidden(self, user_idx_B: Tensor) -> Tensor:
        """Returns (B, G) bool."""
        row, genre = entries_of(self.offsets, self.genres, user_idx_B)
        forbidden_BG = torch.zeros(len(user_idx_B), len(self.has_GI), dtype=torch.bool, device=user_idx_B.device)
        forbidden_BG[row, genre] = True
        return forbidden_BG


@dataclass(frozen=True, eq=False)
class Eligibility:
    """The movies that may be listed for each user, and the caps on groups. Rules are named as in `metrics`."""

    filters: dict[str, Filter]  # min_ratings, blocked[0], ..., eligible[0], ...
    caps: Caps  # all caps together
    caps_by_rule: dict[str, Caps]  # caps[0], ...
    closed_I: Tensor  # bool: movies closed for all users by any rule, and the unknown item

    def mask_(self, score_BI: Tensor, user_idx_B: Tensor) -> None:
        """Sets the scores of forbidden movies to -inf, in place. Caps are applied later, by `select_places`.

        score_BI: floating. user_idx_B: (B,) int64.
        """
        MovieFilter(self.closed_I).mask_(score_BI, user_idx_B)
        for one in self.filters.values():
            if not isinstance(one, MovieFilter):
                one.mask_(score_BI, user_idx_B)

    def count_removed(self, user_idx_B: Tensor, naive_BN: Tensor) -> dict[str, int]:
        """Counts the places that each rule removes from lists made without any rules.

        Rules are counted independently: a movie that two rules forbid counts for both. A cap removes the lowest ranks
        that exceed it.

        user_idx_B: (B,) int64. naive_BN: (B, N) int64, the best unseen items by rank, padded with -1.
        """
        is_place_BN = naive_BN >= 0
        item_BN = naive_BN.clamp(min=0)
        removed = {
            name: int((one.forbids(user_idx_B, item_BN) & is_place_BN).sum()) for name, one in self.filters.items()
        }
        n = naive_BN.shape[1]
        by_rank_BN = torch.arange(0, -n, -1, dtype=torch.float32, device=naive_BN.device).repeat(len(naive_BN), 1)
        by_rank_BN[~is_place_BN] = -torch.inf
        for name, caps in self.caps_by_rule.items():
            kept = (select_places(by_rank_BN, item_BN, n, caps=caps) >= 0).sum()
            removed[name] = int(is_place_BN.sum() - kept)
        return removed

    def count_closed(self) -> dict[str, int]:
        """Counts the movies that each rule closes for all users; rules on users or groups are left out."""
        return {name: int(one.closed_I.sum()) for name, one in self.filters.items() if isinstance(one, MovieFilter)}

    def to(self, device: torch.device) -> "Eligibility":
        return Eligibility(
            {name: one.to(device) for name, one in self.filters.items()},
            self.caps.to(device),
            {name: caps.to(device) for name, caps in self.caps_by_rule.items()},
            self.closed_I.to(device),
        )


def no_rules(n_items: int) -> Eligibility:
    """Allows everything except the unknown item."""
    nothing = torch.zeros(0, dtype=torch.int64)
    return Eligibility({}, make_caps(nothing, nothing, nothing, n_items), {}, torch.arange(n_items) == 0)


def compile_rules(rules: Rules, vocabulary: Vocabulary, genres: Feature | None, counts_I: Tensor) -> Eligibility:
    """Converts `rules` from ids to indices. Ids outside of `vocabulary` have no effect, because no list has them.

    genres: of the items, None if no item has any. counts_I: (I,) int64, the number of ratings of each item.

    Raises: UsageError if the rules exclude all movies.
    """
    filters: dict[str, Filter] = {"min_ratings": _close(counts_I.cpu() < rules.min_ratings)}
    filters |= {rule.name: _make_filter(rule.table, vocabulary, genres) for rule in rules.blocked}
    filters |= {rule.name: _close(~_named(rule.table, vocabulary)) for rule in rules.eligible}
    closed_I = torch.zeros(vocabulary.n_movies, dtype=torch.bool)
    closed_I[0] = True
    for one in filters.values():
        if isinstance(one, MovieFilter):
            closed_I |= one.closed_I
    caps_by_rule = {rule.name: _make_caps([rule], vocabulary) for rule in rules.caps}
    eligibility = Eligibility(filters, _make_caps(rules.caps, vocabulary), caps_by_rule, closed_I)
    if closed_I.all():
        counts = ", ".join(f"rules.{name} excludes {count:,}" for name, count in eligibility.count_closed().items())
        raise UsageError(
            f"the rules leave none of {vocabulary.n_movies - 1:,} movies to recommend: {counts}. Next: loosen one of "
            "them"
        )
    return eligibility


def _additive_mask(forbidden: Tensor) -> Tensor:
    """Returns -inf where forbidden, else 0, float32. Adding this is faster than writing to many places of a block."""
    return torch.zeros(forbidden.shape, device=forbidden.device).masked_fill_(forbidden, -torch.inf)


def _close(closed_I: Tensor) -> MovieFilter:
    """Closes these movies. The unknown item is excluded, so that it is not counted as a movie."""
    closed_I[0] = False
    return MovieFilter(closed_I)


def _named(table: pl.DataFrame, vocabulary: Vocabulary) -> Tensor:
    """Returns (I,) bool: the movies of a table."""
    named_I = torch.zeros(vocabulary.n_movies, dtype=torch.bool)
    named_I[vocabulary.encode_movies(table["movie_id"].to_numpy())] = True
    return named_I


def _make_filter(table: pl.DataFrame, vocabulary: Vocabulary, genres: Feature | None) -> Filter:
    has_GI = genre_matrix(genres, vocabulary.n_movies)
    genre_idx = {name: place for place, name in enumerate(genres.names if genres else (), start=1)}
    if "user_id" not in table.columns:
        if "movie_id" in table.columns:
            return _close(_named(table, vocabulary))
        return _close(has_GI[[genre_idx.get(name, 0) for name in table["genre"]]].any(dim=0))
    user_idx = torch.from_numpy(vocabulary.encode_users(table["user_id"].to_numpy()))
    if "movie_id" in table.columns:
        forbidden_idx = torch.from_numpy(vocabulary.encode_movies(table["movie_id"].to_numpy()))
    else:
        forbidden_idx = torch.tensor([genre_idx.get(name, 0) for name in table["genre"]], dtype=torch.int64)
    known = (user_idx > 0) & (forbidden_idx > 0)
    offsets, values = group_rows(user_idx[known], forbidden_idx[known], vocabulary.n_users)
    if "movie_id" in table.columns:
        return PairFilter(offsets, values, vocabulary.n_movies)
    return GenreFilter(offsets, values, has_GI)


def genre_matrix(genres: Feature | None, n_items: int) -> Tensor:
    """Returns (G, I) float32, 1 where the item has the genre. Row 0 is for no genre and is empty."""
    if genres is None:
        return torch.zeros(1, n_items)
    assert len(genres.offsets) == n_items + 1, "genres do not match the vocabulary"
    has_GI = torch.zeros(genres.n_values, n_items)
    has_GI[genres.values, torch.repeat_interleave(genres.offsets.diff())] = 1.0
    has_GI[0] = 0.0
    return has_GI


def _make_caps(rules: Sequence[Rule], vocabulary: Vocabulary) -> Caps:
    """Combines the caps of all rules. Groups of different rules are different groups, even if their names are equal."""
    tables = [rule.table.with_columns(pl.lit(place).alias("rule")) for place, rule in enumerate(rules)]
    if not tables:
        nothing = torch.zeros(0, dtype=torch.int64)
        return make_caps(nothing, nothing, nothing, vocabulary.n_movies)
    table = pl.concat(tables)
    item_idx = torch.from_numpy(vocabulary.encode_movies(table["movie_id"].to_numpy()))
    groups = table.select("rule", "group_name", "at_most").unique().sort("rule", "group_name").with_row_index("group")
    group_idx = table.join(groups, on=["rule", "group_name"], how="left", maintain_order="left")["group"]
    known = item_idx > 0
    return make_caps(
        item_idx[known],
        torch.from_numpy(group_idx.cast(pl.Int64).to_numpy().copy())[known],
        torch.from_numpy(groups["at_most"].cast(pl.Int64).to_numpy().copy()),
        vocabulary.n_movies,
    )
