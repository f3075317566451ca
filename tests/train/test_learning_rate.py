import math
from pathlib import Path

import pytest
import torch

from recsys.compare.plots import draw_learning_rates
from recsys.errors import ModelError
from recsys.models import Interactions
from recsys.models.softmax import SoftmaxNetwork
from recsys.train.learning_rate import HIGHEST, LOWEST, LearningRateCurve, find_learning_rate
from tests.support.planted import LOOP_NETWORKS, build, build_any, parts, quick_config, same_weights


def curve_of(name: str, seed: int = 0) -> LearningRateCurve:
    config = quick_config(name)
    return find_learning_rate(build_any(name, config), parts()[0], config.training, seed=seed)


@pytest.mark.parametrize("name", LOOP_NETWORKS)
def test_the_suggestion_is_a_tenth_of_the_rate_with_the_lowest_loss(name: str) -> None:
    curve = curve_of(name)
    assert len(curve.rates) == len(curve.losses) <= 100
    assert curve.rates[0] == LOWEST
    assert all(after > before for before, after in zip(curve.rates, curve.rates[1:], strict=False))
    assert all(math.isfinite(loss) for loss in curve.losses)
    least = min(curve.losses)
    assert least < curve.losses[0]
    assert curve.suggestion == pytest.approx(curve.rates[curve.losses.index(least)] / 10)
    assert LOWEST < curve.suggestion <= HIGHEST / 10


@pytest.mark.parametrize("name", ["ordinal", "softmax"])
def test_neither_the_network_nor_the_global_generator_changes(name: str) -> None:
    config = quick_config(name)
    network, copy = build(name, config), build(name, config)
    before = torch.get_rng_state()
    find_learning_rate(network, parts()[0], config.training)
    assert torch.equal(torch.get_rng_state(), before)
    assert same_weights(network, copy)


def test_all_draws_come_from_the_seed() -> None:
    assert curve_of("softmax", seed=1) == curve_of("softmax", seed=1) != curve_of("softmax", seed=2)


@pytest.mark.parametrize("name", ["ordinal", "dot_bias"])
def test_seeds_agree_on_the_suggestion(name: str) -> None:
    """Suggestions differ at most by a factor of ten, so the order of rows matters little."""
    suggestions = [curve_of(name, seed).suggestion for seed in range(3)]
    assert max(suggestions) <= 10 * min(suggestions)


class Exploding(SoftmaxNetwork):
    """Has a loss of 1 for the first `last` calls, then of `after`."""

    last, after = 40, 5.0

    def loss(self, batch: Interactions) -> torch.Tensor:
        self.n_calls = getattr(self, "n_calls", 0) + 1
        return super().loss(batch) * 0 + (1.0 if self.n_calls <= self.last else self.after)


def explode(last: int, after: float) -> LearningRateCurve:
    config = quick_config("softmax")
    network = build("softmax", config)
    network.__class__ = type("Exploding", (Exploding,), {"last": last, "after": after})
    return find_learning_rate(network, parts()[0], config.training)


def test_the_curve_ends_where_the_loss_explodes() -> None:
    """Each step computes the loss twice, and smoothing delays the detection by a few steps."""
    curve = explode(40, 5.0)
    assert len(curve.losses) == 23
    assert max(curve.losses) < 4
    assert len(explode(40, 1e9).losses) == 20
    assert len(explode(40, 3.9).losses) == 100


@pytest.mark.parametrize("after", [math.nan, math.inf])
def test_the_curve_ends_where_the_loss_is_not_finite(after: float) -> None:
    assert len(explode(40, after).losses) == 20


def test_a_loss_that_is_never_finite_is_refused() -> None:
    with pytest.raises(ModelError, match="the loss is nan even at the lowest learning rate, 1e-06"):
        explode(0, math.nan)


def test_curves_can_be_drawn(tmp_path: Path) -> None:
    curves = {name: curve_of(name) for name in ("ordinal", "softmax")}
    draw_learning_rates(curves, tmp_path / "rates.png")
    assert (tmp_path / "rates.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    draw_learning_rates({"ordinal": curves["ordinal"]}, tmp_path / "one.png")
    assert (tmp_path / "one.png").read_bytes() != (tmp_path / "rates.png").read_bytes()
