"""The loss of `ordinal` on tiles by hand, and its gradient against autograd."""

import math
from typing import cast

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from recsys.models.feature_tables import FeatureTable
from recsys.models.network import Interactions
from recsys.models.ordinal import OrdinalConfig, OrdinalNetwork
from recsys.models.tiles import Own, Tile, TiledPass
from recsys.train.step import Optimizer
from tests.models.test_ordinal import (
    BASIC,
    CONFIG,
    FEATURES,
    PARTS,
    RATED,
    SIZES,
    TRAIN,
    build,
    logits_by_hand,
    opinions,
    sigmoid,
)
from tests.support.planted import rows_of


def cut(network: OrdinalNetwork, n_blocks: int) -> tuple[TiledPass, Optimizer]:
    """Cuts the ratings, and puts the tables into the order of the blocks."""
    tiled = network.cut(n_blocks, torch.Generator().manual_seed(1))
    optimizer = Optimizer(network, network.config.training)
    optimizer.arrange({name: layout.order for name, layout in tiled.layouts.items()})
    return tiled, optimizer


def tiles_of(tiled: TiledPass) -> list[Tile]:
    return [tile for sweep in tiled.tiles.sweeps(torch.Generator()) for tile in sweep if len(tile)]


def own_of(tiled: TiledPass, optimizer: Optimizer, tile: Tile) -> Own:
    return optimizer.rows({name: layout.rows(tile) for name, layout in tiled.layouts.items() if layout.edges})


@pytest.mark.parametrize("config", [CONFIG, BASIC], ids=["whole", "basic"])
@pytest.mark.parametrize("n_blocks", [1, 2, 3])
def test_the_loss_of_each_tile_by_hand(config: OrdinalConfig, n_blocks: int) -> None:
    """Binary cross-entropy summed over thresholds, mean over ratings, each predicted without its own opinion."""
    network = build(config)
    by_hand = [loss_by_hand(network, *rating) for rating in RATED]
    tiled, optimizer = cut(network, n_blocks)
    for tile in tiles_of(tiled):
        ratings = tiled.tiles.order_N[tile.ratings].tolist()
        expected = sum(by_hand[rating] for rating in ratings) / len(ratings)
        own = own_of(tiled, optimizer, tile)
        assert tiled.loss(tile, own).item() == pytest.approx(expected, rel=1e-5)
        assert tiled.gradients(tile, own).item() == pytest.approx(expected, rel=1e-5)


def loss_by_hand(network: OrdinalNetwork, user: int, item: int, level: int, day: int) -> float:
    exceed = [sigmoid(logit) for logit in logits_by_hand(network, user, item, day, own=False)]
    return -sum(math.log(chance if level > t else 1 - chance) for t, chance in enumerate(exceed))


def test_a_rating_is_predicted_without_its_own_opinion() -> None:
    """Otherwise training would use the rating that it predicts. For a holdout rating, this is not possible."""
    network = build(CONFIG)
    user, item, level, day = RATED[0]
    with_own = [sigmoid(logit) for logit in logits_by_hand(network, user, item, day)]
    leaking = -sum(math.log(chance if level > t else 1 - chance) for t, chance in enumerate(with_own))
    assert loss_by_hand(network, *RATED[0]) != pytest.approx(leaking, rel=0.01)


VARIANTS = {"whole": CONFIG, "basic": BASIC} | {
    f"without {part}": CONFIG.model_copy(update={part: None}) for part in PARTS
}


@pytest.mark.parametrize("parts", [1, 8192], ids=["rating by rating", "whole tiles"])
@pytest.mark.parametrize("n_blocks", [1, 2])
@pytest.mark.parametrize("variant", VARIANTS)
def test_gradients_against_autograd(variant: str, n_blocks: int, parts: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recsys.models.ordinal_pass.ROWS_PER_PART", parts)
    network = build(VARIANTS[variant])
    tiled, optimizer = cut(network, n_blocks)
    for tile in tiles_of(tiled):
        own = own_of(tiled, optimizer, tile)
        optimizer.zero_grad()
        tiled.gradients(tile, own)
        found = gradients_by_id(network, tiled, tile, own)
        optimizer.arrange_back()
        expected = reference_gradients(network, tiled.tiles.order_N[tile.ratings])
        for name, gradient in expected.items():
            assert torch.allclose(found[name].double(), gradient, rtol=1e-4, atol=1e-6), name
        assert found.keys() == expected.keys()
        optimizer.arrange({name: layout.order for name, layout in tiled.layouts.items()})


def gradients_by_id(network: OrdinalNetwork, tiled: TiledPass, tile: Tile, own: Own) -> dict[str, Tensor]:
    """The gradients of all parameters, in their usual order. Rows outside the tile's blocks have none."""
    found = {}
    for name, weight in network.named_parameters():
        gradient = torch.zeros_like(weight)
        if name in own:
            assert weight.grad is None
            rows = own[name].grad
            assert rows is not None
            gradient[tiled.layouts[name].rows(tile)] = rows
        else:
            assert weight.grad is not None, name
            gradient += weight.grad
        layout = tiled.layouts.get(name)
        found[name] = gradient if layout is None else torch.empty_like(gradient).index_copy_(0, layout.order, gradient)
    return found


def reference_gradients(network: OrdinalNetwork, ratings: Tensor) -> dict[str, Tensor]:
    """Gradients of the mean loss and the penalties of these ratings, by autograd on dense matrices in float64."""
    names = [name for name, _ in network.named_parameters()]
    weights = {name: weight.detach().double().requires_grad_() for name, weight in network.named_parameters()}
    batch, config = TRAIN.take(ratings), network.config
    loss = (_cross_entropy(network, weights, batch) + _penalty(network, weights, batch)) / len(batch)
    gradients = torch.autograd.grad(loss, list(weights.values()), materialize_grads=True)
    by_name = dict(zip(names, gradients, strict=True))
    if config.l2_weeks is not None:
        by_name["moments.weeks.vectors"][0] = 0.0
    return by_name


Weights = dict[str, Tensor]


def _cross_entropy(network: OrdinalNetwork, weights: Weights, batch: Interactions) -> Tensor:
    """Each rating has its own two vectors, from which its own opinion is missing."""
    rated_UI = torch.zeros(SIZES.n_users, SIZES.n_items, dtype=torch.float64)
    rated_UI[TRAIN.user_idx, TRAIN.item_idx] = 1.0
    opinion_UI = torch.zeros_like(rated_UI)
    for (user, item), opinion in opinions().items():
        opinion_UI[user, item] = opinion
    total = torch.zeros((), dtype=torch.float64)
    for user, item, rated_at, level in zip(*(column.tolist() for column in vars(batch).values()), strict=True):
        others_UI = opinion_UI.clone()
        others_UI[user, item] = 0.0
        p_E = _vector(network, weights, "user", "item", user, rated_UI, others_UI)
        q_E = _vector(network, weights, "item", "user", item, rated_UI.T, others_UI.T)
        score = (p_E[:-1] * q_E[:-1]).sum() + p_E[-1] + q_E[-1]
        score = score + _moments(network, weights, batch_of(user, item, rated_at), p_E + q_E)
        levels_T = weights["thresholds"] + weights["user_thresholds"][user] + weights["item_thresholds"][item]
        exceeds_T = (level > torch.arange(len(levels_T))).double()
        total = total + F.binary_cross_entropy_with_logits(score - levels_T, exceeds_T, reduction="sum")
    return total


def _vector(
    network: OrdinalNetwork, weights: Weights, name: str, other: str, idx: int, rated: Tensor, opinion: Tensor
) -> Tensor:
    vector: Tensor = rated[idx] @ weights[f"{other}_implicit"]
    if network.config.l2_opinions is not None:
        vector = vector + opinion[idx] @ weights[f"{other}_opinion"]
    vector = weights[name][idx] + vector / max(rated[idx].sum().item(), 1) ** 0.5
    if network.config.l2_features is not None:
        for weight, table in _features(network, weights, name):
            vector = vector + weight[table.values[table.offsets[idx] : table.offsets[idx + 1]]].mean(0)
    return vector


def _features(network: OrdinalNetwork, weights: Weights, name: str) -> list[tuple[Tensor, FeatureTable]]:
    side = network.user_features if name == "user" else network.item_features
    return [
        (weights[f"{name}_features.tables.{key}.weight"], cast(FeatureTable, table))
        for key, table in side.tables.items()
    ]


def batch_of(user: int, item: int, rated_at: int) -> Interactions:
    return Interactions(*(torch.tensor([value]) for value in (user, item, rated_at, 0)))


def _moments(network: OrdinalNetwork, weights: Weights, pair: Interactions, sum_E: Tensor) -> Tensor:
    moments, total = network.moments, torch.zeros((), dtype=torch.float64)
    if moments.days is not None and (row := int(moments.days.row(pair))):
        total = total + weights["moments.days.bias"][row, 0]
    if moments.mood is not None and pair.rated_at > 0:
        (knot,), (share,) = (column.tolist() for column in moments.mood.knot(pair))
        knots = weights["moments.mood.knots"][:, 0]
        total = total + (1 - share) * knots[knot] + share * knots[knot + 1]
    if moments.weeks is not None:
        week_E = weights["moments.weeks.vectors"][int(moments.weeks.row(pair))]
        total = total + (sum_E[:-1] * week_E[:-1]).sum() + week_E[-1]
    return total


def _penalty(network: OrdinalNetwork, weights: Weights, batch: Interactions) -> Tensor:
    """On own rows for each rating of the batch, and on shared tables as for an average batch of this length."""
    config, share = network.config, len(batch) / len(TRAIN)
    total = torch.zeros((), dtype=torch.float64)
    for name, of_batch, of_train in (
        ("user", batch.user_idx, TRAIN.user_idx),
        ("item", batch.item_idx, TRAIN.item_idx),
    ):
        total = total + config.l2 * weights[name][of_batch, :-1].square().sum()
        total = total + config.l2_biases * weights[name][of_batch, -1].square().sum()
        total = total + config.l2_thresholds * weights[f"{name}_thresholds"][of_batch].square().sum()
        total = total + config.l2 * share * weights[f"{name}_implicit"][of_train].square().sum()
        if config.l2_opinions is not None:
            total = total + config.l2_opinions * share * weights[f"{name}_opinion"][of_train].square().sum()
        if config.l2_features is not None:
            for weight, table in _features(network, weights, name):
                for idx in of_train.tolist():
                    squares = weight[table.values[table.offsets[idx] : table.offsets[idx + 1]]].square().sum(1).mean()
                    total = total + config.l2_features * share * squares
    return total + _penalty_of_moments(network, weights, batch, share)


def _penalty_of_moments(network: OrdinalNetwork, weights: Weights, batch: Interactions, share: float) -> Tensor:
    config, moments, total = network.config, network.moments, torch.zeros((), dtype=torch.float64)
    if moments.days is not None:
        rows = moments.days.row(batch)
        total = total + (config.l2_days or 0) * weights["moments.days.bias"][rows[rows > 0]].square().sum()
    if moments.mood is not None:
        knots, knot_B = weights["moments.mood.knots"], moments.mood.knot(batch)[0]
        total = total + (config.l2_mood or 0) * (knots[knot_B].square().sum() + knots[knot_B + 1].square().sum())
    if moments.weeks is not None:
        rows = moments.weeks.row(TRAIN)
        total = total + (config.l2_weeks or 0) * share * weights["moments.weeks.vectors"][rows].square().sum()
    return total


def test_the_minimum_number_of_ratings_per_day_changes_the_loss() -> None:
    """User 1 has two ratings on day 10. The day has a bias if the minimum is two, and none if it is three."""
    losses = []
    for least in (2, 3):
        torch.manual_seed(0)
        network = OrdinalNetwork(CONFIG.model_copy(update={"min_ratings_per_day": least}), SIZES)
        network.prepare(TRAIN)
        assert network.moments.days is not None
        with torch.no_grad():
            network.moments.days.bias[1:].fill_(0.5)
        tiled, optimizer = cut(network, 1)
        (tile,) = tiles_of(tiled)
        losses.append(tiled.loss(tile, own_of(tiled, optimizer, tile)).item())
    assert losses[0] != losses[1]


def test_ratings_at_unknown_times_can_be_trained_on() -> None:
    network = OrdinalNetwork(CONFIG, SIZES, FEATURES)
    network.prepare(rows_of(TRAIN.user_idx, TRAIN.item_idx, TRAIN.level_idx))
    tiled, optimizer = cut(network, 1)
    (tile,) = tiles_of(tiled)
    own = own_of(tiled, optimizer, tile)
    tiled.gradients(tile, own)
    gradients = [weight.grad for weight in (*network.parameters(), *own.values()) if weight.grad is not None]
    assert all(gradient.isfinite().all() for gradient in gradients)
    knots = own["moments.mood.knots"].grad
    assert knots is not None
    assert (knots == 0).all()  # an unknown time has no mood


def test_the_row_of_unknown_weeks_is_not_trained() -> None:
    network = build(CONFIG)
    tiled, optimizer = cut(network, 1)
    (tile,) = tiles_of(tiled)
    tiled.gradients(tile, own_of(tiled, optimizer, tile))
    assert network.moments.weeks is not None
    gradient = network.moments.weeks.vectors.grad
    assert gradient is not None
    assert (gradient[0] == 0).all()
    assert (gradient[1:] != 0).any()
