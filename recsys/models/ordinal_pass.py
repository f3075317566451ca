"""The loss of `ordinal` on tiles, with its gradient by hand, which takes less than half of autograd's time.

Shapes: B ratings of a part of a tile, R ids of a block, D embedding_dim, E = D + 1, T thresholds, W = E + T: a row has
a vector, a bias and thresholds.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from recsys.models.feature_pass import FeaturePass
from recsys.models.feature_tables import FeatureSum
from recsys.models.groups import decay
from recsys.models.moments_pass import MomentsPass, RatedMoments
from recsys.models.thresholds import exceedances, sum_of_cross_entropies
from recsys.models.tiles import Layout, Own, Side, Tile, TiledPass, Tiles

if TYPE_CHECKING:  # a circular import at runtime
    from recsys.models.ordinal import OrdinalConfig, OrdinalNetwork

ROWS_PER_PART = 8192  # ratings whose vectors are in memory at once, few enough for a CPU's cache


class OrdinalPass(TiledPass):
    """An epoch of `OrdinalNetwork`.

    Users, movies, thresholds, days and knots change in the steps of their block. All other tables change in every step,
    since a user's vector is a sum over the history vectors of all movies that the user rated, and vice versa.
    """

    def __init__(self, network: "OrdinalNetwork", moments: RatedMoments, tiles: Tiles) -> None:
        self.tiles, self._network = tiles, network
        self._users = _Half("user", "item", tiles.users, tiles.items, network)
        self._items = _Half("item", "user", tiles.items, tiles.users, network)
        self._moments = MomentsPass(network.moments, network.config, moments, tiles)
        self.layouts = self._users.layouts() | self._items.layouts() | self._moments.layouts

    @torch.no_grad()
    def loss(self, tile: Tile, own: Own) -> Tensor:
        blocks = self._compute_blocks(tile, own)
        parts = [self._forward(rows, blocks, own).loss for rows in tile.parts(ROWS_PER_PART)]
        return torch.stack(parts).sum() / len(tile)

    @torch.no_grad()
    def gradients(self, tile: Tile, own: Own) -> Tensor:
        blocks = self._compute_blocks(tile, own)
        self._moments.start(own)
        losses, thresholds_T = [], torch.zeros_like(self._network.thresholds)
        for rows in tile.parts(ROWS_PER_PART):
            part = self._forward(rows, blocks, own)
            losses.append(part.loss)
            part.slope_BT.div_(len(tile))
            thresholds_T -= part.slope_BT.sum(0)
            self._backward(part, rows, blocks, own, len(tile))
        self._network.thresholds.grad = thresholds_T
        self._moments.finish()
        for half, block in zip((self._users, self._items), blocks, strict=True):
            half.finish(block, own, len(tile))
        for half, block in zip((self._users, self._items), blocks, strict=True):
            half.add_own_opinions(block)
        return torch.stack(losses).sum() / len(tile)

    def _compute_blocks(self, tile: Tile, own: Own) -> tuple["_Block", "_Block"]:
        return (
            self._users.compute(tile.user_block, tile.item_block, own),
            self._items.compute(tile.item_block, tile.user_block, own),
        )

    def _forward(self, rows: slice, blocks: tuple["_Block", "_Block"], own: Own) -> "_Part":
        """The loss of some ratings. rows: their range in the order of the tiles."""
        users, items = blocks
        user_B, item_B = self.tiles.user_N[rows], self.tiles.item_N[rows]
        p_BW, q_BW = users.table_RW.index_select(0, user_B), items.table_RW.index_select(0, item_B)
        opinion_B1 = self.tiles.opinion_N1[rows]
        if users.opinion_RE is not None and items.opinion_RE is not None:
            # Each rating's own opinion is removed from the sums that predict it, as holdout ratings are in neither.
            width = users.opinion_RE.shape[1]
            p_BW[:, :width].addcmul_(
                opinion_B1 * users.scale_R1[user_B], items.opinion_RE.index_select(0, item_B), value=-1
            )
            q_BW[:, :width].addcmul_(
                opinion_B1 * items.scale_R1[item_B], users.opinion_RE.index_select(0, user_B), value=-1
            )
        dim = self._network.config.embedding_dim
        score_B = p_BW[:, dim] + q_BW[:, dim] + self._moments.add_week(rows, p_BW[:, :dim], q_BW[:, :dim])
        score_B += (p_BW[:, :dim] * q_BW[:, :dim]).sum(1)
        score_B += self._moments.score(rows, own)
        levels_BT = self._network.thresholds + p_BW[:, dim + 1 :] + q_BW[:, dim + 1 :]
        logits_BT, level_B = score_B[:, None] - levels_BT, self.tiles.level_N[rows]
        exceeds_BT = exceedances(level_B, logits_BT.shape[1])
        return _Part(
            user_B, item_B, p_BW, q_BW, sum_of_cross_entropies(logits_BT, level_B), logits_BT.sigmoid() - exceeds_BT
        )

    def _backward(self, part: "_Part", rows: slice, blocks: tuple["_Block", "_Block"], own: Own, n: int) -> None:
        """Adds the gradient of some ratings to those of the blocks."""
        users, items = blocks
        dim = self._network.config.embedding_dim
        slope_B = part.slope_BT.sum(1)
        # The factor of a user's vector is the movie's, and vice versa: their rows become each other's gradient.
        of_users_BW, of_items_BW = part.q_BW, part.p_BW
        for slope_BW in (of_users_BW, of_items_BW):
            slope_BW[:, :dim] *= slope_B[:, None]
            slope_BW[:, dim] = slope_B
            slope_BW[:, dim + 1 :] = -part.slope_BT
        users.slope_RW.index_add_(0, part.user_B, of_users_BW)
        items.slope_RW.index_add_(0, part.item_B, of_items_BW)
        if users.opinion_RE is not None:
            opinion_B1 = -self.tiles.opinion_N1[rows]
            of_items_BE = of_users_BW[:, : dim + 1] * (opinion_B1 * users.scale_R1[part.user_B])
            of_users_BE = of_items_BW[:, : dim + 1] * (opinion_B1 * items.scale_R1[part.item_B])
            items.opinion_slope_RE.index_add_(0, part.item_B, of_items_BE)
            users.opinion_slope_RE.index_add_(0, part.user_B, of_users_BE)
        self._moments.backward(rows, slope_B, of_users_BW[:, :dim], of_items_BW[:, :dim], own, n)


@dataclass(frozen=True)
class _Part:
    """Some ratings of a tile: their users and movies, within blocks, the rows of both, the loss, and its derivative by
    each logit. The vectors include that of the week, and exclude the rating's own opinion.
    """

    user_B: Tensor
    item_B: Tensor
    p_BW: Tensor
    q_BW: Tensor
    loss: Tensor
    slope_BT: Tensor


@dataclass(frozen=True)
class _Block:
    """The rows of a block's ids with all their parts, and the gradient by them."""

    block: int
    other: int  # block of the other side
    table_RW: Tensor
    slope_RW: Tensor
    scale_R1: Tensor
    opinion_RE: Tensor | None  # opinion vectors of these ids
    opinion_slope_RE: Tensor


class _Half:
    """What concerns users, or what concerns movies."""

    def __init__(self, name: str, other: str, side: Side, others: Side, network: "OrdinalNetwork") -> None:
        """name, other: "user" and "item", with which the names of the tables of both sides begin."""
        self._config: OrdinalConfig = network.config
        self._name, self._side, self._others = name, side, others
        self._history: Tensor = getattr(network, f"{other}_implicit")
        self._opinions: Tensor | None = getattr(network, f"{other}_opinion", None)
        self._own_opinions: Tensor | None = getattr(network, f"{name}_opinion", None)
        self._features: FeaturePass | None = None
        features: FeatureSum | None = getattr(network, f"{name}_features", None)
        if features and features.tables:
            self._features = FeaturePass(features, side, self._config.l2_features or 0.0)
        share_R1 = others.counts_R1 / len(others.order_N)
        self._l2_history_R1 = self._config.l2 * share_R1
        self._l2_opinions_R1 = (self._config.l2_opinions or 0.0) * share_R1
        self._l2_E = share_R1.new_full((self._history.shape[1],), self._config.l2)
        self._l2_E[-1] = self._config.l2_biases

    def layouts(self) -> dict[str, Layout]:
        blocks, of_users = self._side.blocks, self._name == "user"
        own = Layout(blocks.order, blocks.starts, of_users)
        shared = [f"{self._name}_implicit", *([f"{self._name}_opinion"] if self._own_opinions is not None else [])]
        return {self._name: own, f"{self._name}_thresholds": own} | dict.fromkeys(shared, Layout(blocks.order))

    def compute(self, block: int, other: int, own: Own) -> _Block:
        """Adds up own vectors, histories and features of a block's ids."""
        rows, history = self._side.blocks.rows(block), self._side.history(block)
        scale_R1 = self._side.scale_R1[rows]
        vectors_RE = history.sum(self._history, weighted=False)
        if self._opinions is not None:
            vectors_RE += history.sum(self._opinions, weighted=True)
        vectors_RE *= scale_R1
        vectors_RE += own[self._name]
        if self._features:
            self._features.add(block, vectors_RE)
        table_RW = torch.cat([vectors_RE, own[f"{self._name}_thresholds"]], dim=1)
        opinion_RE = None if self._own_opinions is None else self._own_opinions[rows]
        return _Block(
            block, other, table_RW, torch.zeros_like(table_RW), scale_R1, opinion_RE, torch.zeros_like(vectors_RE)
        )

    def finish(self, block: _Block, own: Own, n_tile: int) -> None:
        """Sets the gradients of all tables of this side, and of the history vectors of the other side.

        Rows of the block are penalised in proportion to their ratings in the tile; rows of other tables in proportion
        to all their ratings, as in an average tile.
        """
        width = block.opinion_slope_RE.shape[1]
        slope_RE = block.slope_RW[:, :width]
        across, scaled_RE = self._others.across(block.block), block.scale_R1 * slope_RE
        self._history.grad = across.sum(scaled_RE, weighted=False)
        decay(self._history, self._l2_history_R1)
        if self._opinions is not None:
            self._opinions.grad = across.sum(scaled_RE, weighted=True)
            decay(self._opinions, self._l2_opinions_R1)
        if self._features:
            self._features.finish(block.block, slope_RE)
        used_R1 = self._side.counts(block.block, block.other) / n_tile
        vectors, thresholds = own[self._name], own[f"{self._name}_thresholds"]
        vectors.grad, thresholds.grad = slope_RE.contiguous(), block.slope_RW[:, width:].contiguous()
        decay(vectors, used_R1 * self._l2_E)
        decay(thresholds, self._config.l2_thresholds * used_R1)

    def add_own_opinions(self, block: _Block) -> None:
        """Adds the gradient that arises because ratings are predicted without their own opinions."""
        if self._own_opinions is not None:
            assert self._own_opinions.grad is not None
            self._own_opinions.grad[self._side.blocks.rows(block.block)] += block.opinion_slope_RE
