import math

import pytest
import torch
from torch import nn

from recsys.models.layers import (
    TRUNCATED_STD,
    BatchNorm,
    Dropout,
    he_normal_table,
    initialise_as_keras,
    scale_to_stars,
    three_dense_layers,
)


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_dropout_drops_a_share_p_and_keeps_the_mean(p: float) -> None:
    torch.manual_seed(0)
    x = torch.full((1001, 333), 3.0)  # a number of elements that is not a multiple of eight
    dropped = Dropout(p)(x)
    share = (dropped == 0).float().mean().item()
    exact = round(p * 256) / 256
    assert share == pytest.approx(exact, abs=4 * math.sqrt(p * (1 - p) / x.numel()))
    assert abs(exact - p) <= 1 / 512
    assert dropped.mean().item() == pytest.approx(3.0, rel=0.02)
    assert dropped[dropped != 0].unique().tolist() == pytest.approx([3 / (1 - exact)])


def test_dropout_decisions_are_independent() -> None:
    """Eight decisions come from one random number. They are independent of each other and of the next call."""
    torch.manual_seed(0)
    dropout = Dropout(0.5)
    kept = (dropout(torch.ones(40_000, 8)) != 0).double()
    assert (torch.corrcoef(kept.T) - torch.eye(8)).abs().max().item() < 0.03
    again = (dropout(torch.ones(40_000, 8)) != 0).double()
    assert (kept * 2 - 1).mul(again * 2 - 1).mean().abs().item() < 0.02


def test_dropout_depends_on_the_seed() -> None:
    x = torch.ones(1000)
    drawn = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        drawn.append(Dropout(0.5)(x))
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


def test_dropout_changes_nothing_in_prediction_or_at_zero() -> None:
    x = torch.randn(50, 7)
    assert Dropout(0.5).eval()(x) is x
    assert Dropout(0.0)(x) is x


def test_batch_norm_of_one_row_uses_the_averages() -> None:
    norm = BatchNorm(3)
    for _ in range(5):
        norm(torch.randn(20, 3) * 2 + 1)
    row = torch.tensor([[1.0, 2.0, 3.0]])
    trained = norm.train()(row)
    averages = norm.state_dict()
    assert torch.equal(trained, norm.eval()(row))
    assert all(torch.equal(value, norm.state_dict()[name]) for name, value in averages.items())
    assert norm.running_mean is not None
    assert norm.running_var is not None
    torch.testing.assert_close(trained, (row - norm.running_mean) / (norm.running_var + 1e-3).sqrt())


def test_three_dense_layers_in_their_order() -> None:
    head = three_dense_layers(6, 4, 0.5, 2)
    block = [nn.Linear, nn.ReLU, Dropout, BatchNorm]
    assert [type(layer) for layer in head] == [*block, *block, nn.Linear, nn.ReLU, nn.Linear]
    assert [tuple(layer.weight.shape) for layer in head if isinstance(layer, nn.Linear)] == [
        (4, 6),
        (4, 4),
        (4, 4),
        (2, 4),
    ]


def test_initial_values_are_those_of_keras() -> None:
    torch.manual_seed(0)
    table, dense = nn.Embedding(400, 30).apply(initialise_as_keras), nn.Linear(300, 100).apply(initialise_as_keras)
    assert isinstance(table, nn.Embedding)
    assert isinstance(dense, nn.Linear)
    assert table.weight.std().item() == pytest.approx(0.1 / math.sqrt(12), rel=0.02)
    assert table.weight.abs().max().item() <= 0.05
    bound = math.sqrt(6 / 400)
    assert dense.weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.02)
    assert dense.weight.abs().max().item() <= bound
    assert (dense.bias == 0).all()


@pytest.mark.parametrize("n_rows", [300, 5000])
def test_he_normal_has_its_spread_and_no_outliers(n_rows: int) -> None:
    torch.manual_seed(0)
    weight = he_normal_table(n_rows, 50).weight
    assert weight.shape == (n_rows, 50)
    assert weight.std().item() == pytest.approx(math.sqrt(2 / n_rows), rel=0.02)
    assert weight.mean().item() == pytest.approx(0.0, abs=5 * math.sqrt(2 / n_rows / weight.numel()))
    end = 2 * math.sqrt(2 / n_rows) / TRUNCATED_STD
    assert 0.99 * end < weight.abs().max().item() <= end


def test_the_truncated_standard_deviation_agrees_with_its_formula() -> None:
    """1 - 2aφ(a)/(2Φ(a) - 1) at a = 2 is the variance of a standard normal distribution truncated at ±2."""
    density = math.exp(-2) / math.sqrt(2 * math.pi)
    variance = 1 - 4 * density / math.erf(math.sqrt(2))
    assert pytest.approx(math.sqrt(variance), rel=1e-7) == TRUNCATED_STD


@pytest.mark.parametrize(("widened", "low", "high"), [(0.0, 0.5, 5.0), (0.5, 0.0, 5.5)])
def test_scaled_logits_span_the_range_of_stars(widened: float, low: float, high: float) -> None:
    logits = torch.tensor([-50.0, 0.0, 1.0, 50.0])
    stars = scale_to_stars(logits, (0.5, 1.0, 5.0), widened).tolist()
    assert stars == pytest.approx([low, (low + high) / 2, low + (high - low) / (1 + math.exp(-1)), high], abs=1e-5)
