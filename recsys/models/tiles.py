"""Tiles: the ratings of one block of users on one block of movies. A step of training can use one tile.

Before every epoch, users and movies are dealt into blocks at random. An epoch visits all tiles in sweeps; a sweep
visits every block of users and every block of movies once. A step computes the vectors of two blocks only, so its cost
is that of the ratings of their ids. During an epoch, tables are kept in the order of blocks, so that a block is a slice
of a table. The place of an id is its row in that order.

Shapes: N training ratings, R ids of a side, M blocks of a side, B ratings of a tile.

Source: blocks after Gemulla et al., "Large-Scale Matrix Factorization with Distributed Stochastic Gradient Descent"
(KDD 2011).
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from recsys.models.groups import Groups, Sorted, offsets
from recsys.models.history import History
from recsys.models.network import RatingNetwork


@dataclass(frozen=True)
class Blocks:
    """A division of the ids of one side into blocks with nearly equal numbers of ids and of ratings."""

    order: Tensor  # (R,) int64: the id at each place; ids ascend within a block
    place: Tensor  # (R,) int64: the place of each id
    within: Tensor  # (R,) int64: the place of each id, counted from the start of its block
    block: Tensor  # (R,) uint8: the block of each id
    starts: tuple[int, ...]  # (M + 1,) the first place of each block, and R

    def rows(self, block: int) -> slice:
        """The places of a block."""
        return slice(self.starts[block], self.starts[block + 1])


def deal(counts_R: Tensor, n_blocks: int, generator: torch.Generator) -> Blocks:
    """Deals ids to blocks at random. Ids with similar numbers of ratings go to different blocks.

    counts_R: (R,) number of training ratings of each id.
    """
    n_ids = len(counts_R)
    strata = torch.rand(-(-n_ids // n_blocks), n_blocks, generator=generator).argsort(1)
    block = torch.empty_like(counts_R)
    block[counts_R.argsort(descending=True, stable=True)] = strata.flatten()[:n_ids].to(counts_R)
    order = block.argsort(stable=True)
    starts = offsets(block.bincount(minlength=n_blocks))
    place = invert(order)
    return Blocks(order, place, place - starts[block], block.to(torch.uint8), tuple(starts.tolist()))


def invert(order: Tensor) -> Tensor:
    """The inverse of a permutation: the position of each element in `order`."""
    position = torch.empty_like(order)
    position[order] = torch.arange(len(order), device=order.device)
    return position


class Side:
    """The ratings as one side sees them, users or movies. Groups of ids are in the order of its blocks."""

    def __init__(self, ratings: Sorted, other_N: Tensor, opinion_N: Tensor, blocks: Blocks, others: Blocks) -> None:
        """ratings: sorted by this side's ids. other_N: (N,) ids of the other side. opinion_N: (N,) weights."""
        n_ids, n_blocks = len(blocks.order), len(blocks.starts) - 1
        self.blocks, self._n_ids = blocks, n_ids
        order_N = ratings.by(blocks.order)
        counts_R = ratings.counts_R[blocks.order]
        self.counts_R1 = counts_R[:, None].float()  # ratings of each id
        self.scale_R1 = ratings.scale_R1[blocks.order]
        first, members_N, weights_N = offsets(counts_R), other_N[order_N], opinion_N[order_N]
        self._all = Groups(first, others.place[members_N].int(), weights_N)
        block_N = others.block[members_N]
        by_tile_N = block_N.argsort(stable=True)
        self.order_N = order_N[by_tile_N]  # ratings by the other side's block, then by own place
        place_N = torch.arange(n_ids, device=first.device).repeat_interleave(counts_R)
        first_of_tile = offsets((block_N.long() * n_ids + place_N).bincount(minlength=n_blocks * n_ids))
        self._cut = Groups(first_of_tile, others.within[members_N[by_tile_N]].int(), weights_N[by_tile_N])
        starts = torch.tensor(blocks.starts, device=first.device)
        self._edges: list[int] = first[starts].tolist()  # (M + 1,) first rating of each block
        tiles = torch.arange(n_blocks, device=first.device)[:, None] * n_ids + starts
        self._tile_edges: list[list[int]] = first_of_tile[tiles].tolist()  # (M, M + 1): by block of the other side

    def history(self, block: int) -> Groups:
        """All ratings of each id of a block. Members are places of the other side."""
        return self._all.part(self.blocks.rows(block), slice(*self._edges[block : block + 2]))

    def across(self, other: int) -> Groups:
        """The ratings of every id with one block of the other side. Members are places within that block."""
        edges = self._tile_edges[other]
        return self._cut.part(slice(other * self._n_ids, (other + 1) * self._n_ids), slice(edges[0], edges[-1]))

    def tile(self, block: int, other: int) -> slice:
        """The range of a tile's ratings in `order_N`."""
        return slice(*self._tile_edges[other][block : block + 2])

    def counts(self, block: int, other: int) -> Tensor:
        """(rows of the block, 1) float32: the number of ratings of each id in a tile."""
        rows, first = self.blocks.rows(block), other * self._n_ids
        return self._cut.first[first + rows.start : first + rows.stop + 1].diff()[:, None].float()


@dataclass(frozen=True)
class Tile:
    """The ratings of a block of users on a block of movies."""

    user_block: int
    item_block: int
    ratings: slice  # range in `Tiles.order_N`

    def __len__(self) -> int:
        return int(self.ratings.stop - self.ratings.start)

    def parts(self, n_rows: int) -> Iterator[slice]:
        """Ranges of at most `n_rows` ratings."""
        for first in range(self.ratings.start, self.ratings.stop, n_rows):
            yield slice(first, min(first + n_rows, self.ratings.stop))


class Tiles:
    """The training ratings of one epoch, cut into tiles."""

    def __init__(self, history: History, n_blocks: int, generator: torch.Generator) -> None:
        train, opinion_N = history.train, history.opinion_N
        user_blocks = deal(history.by_user.counts_R, n_blocks, generator)
        item_blocks = deal(history.by_item.counts_R, n_blocks, generator)
        self.n_blocks = n_blocks
        self.users = Side(history.by_user, train.item_idx, opinion_N, user_blocks, item_blocks)
        self.items = Side(history.by_item, train.user_idx, opinion_N, item_blocks, user_blocks)
        self.order_N = self.users.order_N  # the ratings, tile after tile
        self.user_block_N = user_blocks.block[train.user_idx[self.order_N]].int()
        self.user_N = user_blocks.within[train.user_idx[self.order_N]]  # (N,) int64: place of the user in its block
        self.item_N = item_blocks.within[train.item_idx[self.order_N]]
        self.level_N = train.level_idx[self.order_N]
        self.opinion_N1 = opinion_N[self.order_N, None]

    def sweeps(self, generator: torch.Generator) -> Iterator[list[Tile]]:
        """Yields all tiles in random order, in sweeps that visit every block of users and of movies once."""
        n = self.n_blocks
        for shift in torch.randperm(n, generator=generator).tolist():
            pairs = [(user, (user + shift) % n) for user in torch.randperm(n, generator=generator).tolist()]
            yield [Tile(*pair, self.users.tile(*pair)) for pair in pairs]


@dataclass(frozen=True)
class Layout:
    """The order of a table's rows during an epoch."""

    order: Tensor  # (rows,) int64: the row at each place
    edges: tuple[int, ...] | None = None  # (M + 1,) first row of each block; None: a step changes all rows
    of_users: bool = True  # whether the blocks are those of users

    @classmethod
    def of_owners(cls, owners: Tensor, users: Blocks) -> "Layout":
        """For a table whose rows belong to users. owners: (rows,) int64 user_idx, ascending."""
        order = users.place[owners].argsort(stable=True)
        sizes = users.block[owners].bincount(minlength=len(users.starts) - 1)
        return cls(order, tuple(offsets(sizes).tolist()))

    def within(self, rows_N: Tensor, blocks_N: Tensor) -> Tensor:
        """(N,) int64: rows of the table, counted from the start of their block. blocks_N: (N,) int32."""
        assert self.edges is not None
        return invert(self.order)[rows_N] - torch.tensor(self.edges, device=rows_N.device)[blocks_N]

    def sizes(self, blocks_N: Tensor) -> Tensor:
        """(N,) int64: the number of rows that belong to each of these blocks."""
        assert self.edges is not None
        return torch.tensor(self.edges, device=blocks_N.device).diff()[blocks_N]

    def rows(self, tile: Tile) -> slice:
        """The rows that a step on `tile` changes."""
        assert self.edges is not None
        block = tile.user_block if self.of_users else tile.item_block
        return slice(self.edges[block], self.edges[block + 1])


Own = dict[str, Tensor]  # the rows of a tile's blocks in the tables with edges, by parameter name


class TiledPass(ABC):
    """One epoch of a network on tiles."""

    tiles: Tiles
    layouts: dict[str, Layout]  # by parameter name; other parameters keep their rows and change in every step

    @abstractmethod
    def gradients(self, tile: Tile, own: Own) -> Tensor:
        """Sets the gradients of a tile's mean loss and penalties on `own` and on the network's other parameters.

        All tables are in the order of their layouts. Returns the mean loss without penalties, a scalar.
        """

    @abstractmethod
    def loss(self, tile: Tile, own: Own) -> Tensor:
        """The mean loss of a tile without penalties, a scalar without gradient."""


class TiledNetwork(RatingNetwork):
    """A network that is trained on tiles instead of random batches."""

    @abstractmethod
    def cut(self, n_blocks: int, generator: torch.Generator) -> TiledPass:
        """Cuts the training ratings of `prepare` into tiles, at random, for one epoch."""
