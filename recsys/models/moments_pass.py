"""The time effects of `Moments` in training, with their gradients by hand.

Shapes: N training ratings, B ratings of a part of a tile, D embedding_dim.
"""

import torch
from torch import Tensor

from recsys.models.groups import decay
from recsys.models.moments import Moments, MomentsConfig
from recsys.models.network import Interactions
from recsys.models.tiles import Layout, Own, Tiles

DAYS, KNOTS = "moments.days.bias", "moments.mood.knots"  # names of parameters


class RatedMoments:
    """The rows of the training ratings in the tables of time effects, which are slow to find."""

    def __init__(self, moments: Moments, train: Interactions) -> None:
        self.known_N = train.rated_at > 0
        if moments.days is not None:
            self.day_N = moments.days.row(train)
        if moments.mood is not None:
            self.knot_N, self.share_N = moments.mood.knot(train)
        if moments.weeks is not None:
            self.week_N = moments.weeks.row(train)


class MomentsPass:
    """The time effects in an epoch on tiles."""

    def __init__(self, moments: Moments, config: MomentsConfig, rated: RatedMoments, tiles: Tiles) -> None:
        users, order_N = tiles.users.blocks, tiles.order_N
        self.layouts: dict[str, Layout] = {}
        self._config, self._weeks = config, moments.weeks
        block_N = tiles.user_block_N
        if moments.days is not None:
            self.layouts[DAYS] = layout = Layout.of_owners(moments.days.owners(), users)
            row_N = rated.day_N[order_N]
            self._day_N = torch.where(row_N > 0, layout.within(row_N, block_N), layout.sizes(block_N))
        if moments.mood is not None:
            self.layouts[KNOTS] = layout = Layout.of_owners(moments.mood.owners(), users)
            self._knot_N = layout.within(rated.knot_N[order_N], block_N)
            known_N, share_N = rated.known_N[order_N].float(), rated.share_N[order_N]
            self._before_N, self._after_N = known_N * (1 - share_N), known_N * share_N
        if moments.weeks is not None:
            self._week_N = rated.week_N[order_N]
            counts_W = self._week_N.bincount(minlength=len(moments.weeks.vectors))
            self._l2_weeks_W1 = (config.l2_weeks or 0.0) * counts_W[:, None] / len(order_N)

    def start(self, own: Own) -> None:
        """Sets all gradients to zero, before the parts of a tile."""
        if DAYS in own:
            own[DAYS].grad = torch.zeros_like(own[DAYS])
        if KNOTS in own:
            own[KNOTS].grad = torch.zeros_like(own[KNOTS])
        if self._weeks is not None:
            self._weeks.vectors.grad = torch.zeros_like(self._weeks.vectors)

    def add_week(self, rows: slice, p_BD: Tensor, q_BD: Tensor) -> Tensor:
        """Adds the vectors of the weeks to those of users and movies. Returns (B,) to add to their products.

        ⟨p + w, q + w⟩ = ⟨p, q⟩ + ⟨p + q, w⟩ + ⟨w, w⟩, whose last term is subtracted.
        """
        if self._weeks is None:
            return p_BD.new_zeros(())
        vectors, week_B = self._weeks.vectors, self._week_N[rows]
        week_BD = vectors.index_select(0, week_B)[:, :-1]
        p_BD += week_BD
        q_BD += week_BD
        return (vectors[:, -1] - vectors[:, :-1].square().sum(1)).index_select(0, week_B)

    def score(self, rows: slice, own: Own) -> Tensor:
        """(B,) to add to the scores, or a zero."""
        score_B = own["user"].new_zeros(())
        if DAYS in own:
            score_B = score_B + self._days(rows, own)
        if KNOTS in own:
            before_B, after_B = self._knots(rows, own)
            score_B = score_B + self._before_N[rows] * before_B + self._after_N[rows] * after_B
        return score_B

    def backward(
        self, rows: slice, slope_B: Tensor, of_users_BD: Tensor, of_items_BD: Tensor, own: Own, n_tile: int
    ) -> None:
        """Adds the gradients of some ratings. slope_B: derivative of the loss by the score.

        of_users_BD, of_items_BD: derivatives by the vectors of users and of movies.
        """
        if DAYS in own:
            slopes_B = slope_B + 2 * (self._config.l2_days or 0.0) / n_tile * self._days(rows, own)
            slopes = slope_B.new_zeros(len(own[DAYS]) + 1).index_add_(0, self._day_N[rows], slopes_B)
            _gradient(own[DAYS])[:, 0] += slopes[:-1]
        if KNOTS in own:
            l2, knot_B = 2 * (self._config.l2_mood or 0.0) / n_tile, self._knot_N[rows]
            before_B, after_B = self._knots(rows, own)
            slopes = _gradient(own[KNOTS])[:, 0]
            slopes.index_add_(0, knot_B, self._before_N[rows] * slope_B + l2 * before_B)
            slopes.index_add_(0, knot_B + 1, self._after_N[rows] * slope_B + l2 * after_B)
        if self._weeks is not None:
            slopes = _gradient(self._weeks.vectors)
            week_B, vectors = self._week_N[rows], self._weeks.vectors
            slopes_W = slope_B.new_zeros(len(vectors)).index_add_(0, week_B, slope_B)
            slopes[:, :-1].index_add_(0, week_B, of_users_BD + of_items_BD)
            slopes[:, :-1].addcmul_(slopes_W[:, None], vectors[:, :-1], value=-2)
            slopes[:, -1] += slopes_W

    def finish(self) -> None:
        """Adds what does not depend on the parts of a tile."""
        if self._weeks is not None:
            decay(self._weeks.vectors, self._l2_weeks_W1)
            _gradient(self._weeks.vectors)[0] = 0.0  # row 0: no such week

    def _days(self, rows: slice, own: Own) -> Tensor:
        """(B,): the bias of each rating's day, 0 without one."""
        bias = torch.cat([own[DAYS][:, 0], own[DAYS].new_zeros(1)])
        return bias.index_select(0, self._day_N[rows])

    def _knots(self, rows: slice, own: Own) -> tuple[Tensor, Tensor]:
        """(B,), (B,): the knots before and after each rating."""
        knots, knot_B = own[KNOTS][:, 0], self._knot_N[rows]
        return knots.index_select(0, knot_B), knots.index_select(0, knot_B + 1)


def _gradient(table: Tensor) -> Tensor:
    assert table.grad is not None
    return table.grad
