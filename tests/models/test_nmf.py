import math

import pytest
import torch

from recsys.models.network import Sizes
from recsys.models.nmf import NmfNetwork, nmf
from tests.support.planted import fit, pairs_of, quick_config, rows_of

SIZES = Sizes(n_users=500, n_items=400, levels=(1.0, 2.0, 3.0, 4.0, 5.0))


@pytest.fixture
def network() -> NmfNetwork:
    torch.manual_seed(0)
    return NmfNetwork(nmf(90_000, 5), SIZES)


def test_initial_predictions_are_about_the_middle_of_the_levels(network: NmfNetwork) -> None:
    for table in (network.user.weight, network.item.weight):
        assert table.min().item() >= 0
        assert table.max().item() == pytest.approx(2 * math.sqrt(3 / table.shape[1]), rel=1e-2)
    every = pairs_of(torch.arange(400), torch.arange(400))
    assert network.stars(every).mean().item() == pytest.approx(3.0, abs=0.15)


def test_stars_by_hand(network: NmfNetwork) -> None:
    p, q = network.user.weight[3].tolist(), network.item.weight[7].tolist()
    expected = sum(first * second for first, second in zip(p, q, strict=True))
    assert network.stars(pairs_of(torch.tensor([3]), torch.tensor([7]))).item() == pytest.approx(expected, rel=1e-5)


def test_no_value_is_negative_after_training() -> None:
    network, _ = fit("nmf", quick_config("nmf", epochs=10, learning_rate=0.1))
    assert isinstance(network, NmfNetwork)
    for table in (network.user.weight, network.item.weight):
        assert table.min().item() == 0.0  # at this high rate, steps lead below 0 before the projection
        assert table.max().item() > 0.0


def test_the_loss_is_computed_after_projection(network: NmfNetwork) -> None:
    network.prepare(rows_of(torch.tensor([1]), torch.tensor([1]), torch.tensor([4])))
    with torch.no_grad():
        network.user.weight[1] = -1.0
    loss = network.loss(rows_of(torch.tensor([1]), torch.tensor([1]), torch.tensor([4]))).item()
    assert (network.user.weight[1] == 0).all()
    squares = network.user.weight.square().sum() + network.item.weight.square().sum()
    assert loss == pytest.approx(5.0**2 + network.l2 * squares.item(), rel=1e-5)
