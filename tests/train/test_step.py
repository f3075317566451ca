"""Training steps checked by explicit arithmetic, and the schedule checked against torch's."""

import math
import re

import pytest
import torch
from torch import Tensor, nn

from recsys.errors import ModelError
from recsys.models import BatchNetwork, NetworkConfig, RatingNetwork
from recsys.train.loop import fit_network
from recsys.train.step import OWN_ROWS_RATE, TILE_BETAS, Optimizer, clip_gradient, rate_at
from tests.support.planted import build, change, fit, parts, quick_config, same_weights

FLIPPED = 3e-3  # by so much may a gradient change if a ReLU flips, because training adds up the rows in another order


def one_step(**training: object) -> NetworkConfig:
    """One step over all rows, by plain gradient descent at a rate of 0.5."""
    plain = {"epochs": 1, "batch_size": 1000, "optimizer": "sgd", "learning_rate": 0.5, "schedule": "constant"}
    return change(quick_config("softmax", **plain | training), dropout=0.0)


def softmax(config: NetworkConfig) -> BatchNetwork:
    network = build("softmax", config)
    assert isinstance(network, BatchNetwork)
    return network


def weights_of(network: nn.Module) -> Tensor:
    return nn.utils.parameters_to_vector(network.parameters()).detach().clone()


def before_and_after(config: NetworkConfig) -> tuple[Tensor, Tensor, Tensor]:
    """Weights before and after a step, and its gradient, each as one flat vector."""
    network = softmax(config)
    rows = parts()[0]
    network.prepare(rows)
    before = weights_of(network)
    network.train().loss(rows).backward()
    gradient = torch.cat([weight.grad.flatten() for weight in network.parameters() if weight.grad is not None])
    return before, weights_of(fit("softmax", config)[0]), gradient


def test_a_step_of_gradient_descent() -> None:
    before, after, gradient = before_and_after(one_step())
    torch.testing.assert_close(after, before - 0.5 * gradient, rtol=0, atol=FLIPPED)
    assert (after - before).abs().max() > 10 * FLIPPED


def test_sgd_weight_decay_is_part_of_the_gradient() -> None:
    before, after, gradient = before_and_after(one_step(weight_decay=0.1))
    torch.testing.assert_close(after, before - 0.5 * (gradient + 0.1 * before), rtol=0, atol=FLIPPED)
    assert (0.5 * 0.1 * before).abs().max() > 3 * FLIPPED


def test_adam_weight_decay_is_decoupled_from_the_gradient() -> None:
    """As in AdamW, the first step moves every weight by the rate, regardless of the size of its gradient."""
    before, after, gradient = before_and_after(one_step(optimizer="adam", learning_rate=0.001, weight_decay=0.1))
    moved = gradient.abs() > 1e-4
    expected = before * (1 - 0.001 * 0.1) - 0.001 * gradient.sign()
    torch.testing.assert_close(after[moved], expected[moved], rtol=1e-3, atol=1e-6)


def test_a_clipped_gradient_has_the_given_norm() -> None:
    before, after, gradient = before_and_after(one_step(clip_norm=0.01))
    assert gradient.norm() > 0.02
    assert (after - before).norm().item() == pytest.approx(0.5 * 0.01, rel=1e-3)
    torch.testing.assert_close((after - before) / 0.005, -gradient / gradient.norm(), rtol=0, atol=FLIPPED)


def test_a_gradient_below_the_limit_is_not_changed() -> None:
    network = softmax(one_step())
    network.loss(parts()[0]).backward()
    before = [weight.grad.clone() for weight in network.parameters() if weight.grad is not None]
    clip_gradient(network.parameters(), 1e6)
    clip_gradient(network.parameters(), None)
    after = [weight.grad for weight in network.parameters() if weight.grad is not None]
    assert all(torch.equal(one, other) for one, other in zip(before, after, strict=True))


@pytest.mark.parametrize("name", ["ordinal", "softmax"])
def test_clipping_changes_the_trained_weights(name: str) -> None:
    assert not same_weights(fit(name)[0], fit(name, quick_config(name, clip_norm=0.01))[0])


@pytest.mark.parametrize("n_steps", [2, 3, 4, 7, 10, 100, 1261])
def test_one_cycle_equals_that_of_torch(n_steps: int) -> None:
    weight = nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([weight], lr=0.02)
    theirs = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.02, total_steps=n_steps, cycle_momentum=False)
    training = quick_config("softmax", learning_rate=0.02, schedule="one_cycle").training
    for step in range(n_steps):
        assert rate_at(step, n_steps, training) == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-9)
        optimizer.step()
        if step < n_steps - 1:
            theirs.step()


def test_the_shape_of_one_cycle() -> None:
    training = quick_config("softmax", learning_rate=1.0, schedule="one_cycle").training
    rates = [rate_at(step, 100, training) for step in range(100)]
    assert rates[0] == pytest.approx(1 / 25)
    assert rates[29] == max(rates) == 1.0
    assert rates[99] == pytest.approx(1 / 25 / 10_000)
    assert rate_at(0, 1, training) == 1.0  # a cycle of one step is just the peak


def test_a_constant_rate() -> None:
    training = quick_config("softmax", learning_rate=0.3, schedule="constant").training
    assert {rate_at(step, 10, training) for step in range(10)} == {0.3}


def test_the_error_names_the_largest_weight_and_gradient() -> None:
    config = quick_config("ordinal_basic", learning_rate=1e30, schedule="constant", batch_size=64)
    with pytest.raises(ModelError) as caught:
        fit("ordinal_basic", config)
    tied = "user|item|user_thresholds|item_thresholds"  # Adam's first step moves these weights by three times the rate
    assert re.fullmatch(
        r"train: epoch 1, step 2 of 16: the loss is nan after [\d.]+ in the previous step\. The largest weight is "
        rf"3e\+30 in ({tied}), the largest gradient nan in user_implicit\. Lower learning_rate, now 1e\+30, or set "
        r"clip_norm; recsys compare --find-lr suggests a rate\.",
        str(caught.value),
    )


def test_weights_that_are_not_finite_after_the_last_step_are_named() -> None:
    config = quick_config("ordinal", epochs=1, batch_size=1000, learning_rate=3e38, schedule="constant")
    with pytest.raises(
        ModelError, match=r"train: weights of .*user_table.* are not finite\. Lower learning_rate, now 3e"
    ):
        fit("ordinal", config)


def test_divergence_in_the_gradient_alone_is_detected() -> None:
    """The loss of the step itself is finite, but that of the next step is not."""
    network = softmax(one_step(epochs=3))
    root = nn.Parameter(torch.zeros(1))  # the square root has an infinite slope at zero
    network.register_parameter("root", root)
    plain = network.loss
    network.loss = lambda batch: plain(batch) + root.sqrt().sum()  # type: ignore[method-assign]
    with pytest.raises(
        ModelError, match=r"epoch 2, step 1 of 1: the loss is nan\. The largest weight is -?inf in root"
    ):
        fit_network(network, parts()[0], one_step(epochs=3).training)
    assert math.isinf(root.item())


def some_rows() -> tuple[Optimizer, RatingNetwork]:
    config = quick_config("ordinal_basic", weight_decay=0.1)
    network = build("ordinal_basic", config)
    return Optimizer(network, config.training), network


def test_steps_on_rows_are_those_of_adam_on_these_rows_alone() -> None:
    """Two sweeps over two blocks of rows. Every row is changed once in a sweep, and counts its own steps."""
    optimizer, network = some_rows()
    table = dict(network.named_parameters())["user"]
    blocks = (slice(0, 30), slice(30, len(table)))
    alone = [nn.Parameter(table.detach()[rows].clone()) for rows in blocks]
    theirs = [torch.optim.AdamW([part], lr=0.1 * OWN_ROWS_RATE, betas=TILE_BETAS, weight_decay=0.1) for part in alone]
    for _ in range(2):
        for rows, part, other in zip(blocks, alone, theirs, strict=True):
            own = optimizer.rows({"user": rows})
            gradient = torch.randn_like(own["user"])
            own["user"].grad, part.grad = gradient.clone(), gradient.clone()
            optimizer.step_rows(own, {"user": rows}, 0.1)
            other.step()
            torch.testing.assert_close(table.detach()[rows], part.detach())
        optimizer.count_step(["user"])


def test_arranged_tables_keep_their_rows_and_averages() -> None:
    optimizer, network = some_rows()
    tables = dict(network.named_parameters())
    tables["user"].grad = torch.randn_like(tables["user"])
    optimizer.step(0.1)
    before = {name: value.clone() for name, value in (optimizer.tensors() | network.state_dict()).items()}
    order = torch.randperm(len(tables["user"]))
    optimizer.arrange({"user": order})
    assert torch.equal(tables["user"].detach(), before["user"][order])
    optimizer.arrange_back()
    after = optimizer.tensors() | network.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())
