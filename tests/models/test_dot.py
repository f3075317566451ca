import math

import pytest
import torch

from recsys.models.dot import DotNetwork, dot, dot_sgd
from recsys.models.network import Sizes
from tests.support.planted import pairs_of

SIZES = Sizes(n_users=500, n_items=400, levels=(0.5, 1.0, 5.0))


def test_v1_is_as_published() -> None:
    config = dot(90_000, 10)
    assert (config.embedding_dim, config.initial, config.l2) == (50, "he_normal", 1e-6)
    training = config.training
    assert (training.batch_size, training.optimizer, training.learning_rate) == (64, "adam", 0.001)
    assert (training.epochs, training.schedule) == (5, "constant")


def test_dot_sgd_is_as_published() -> None:
    config = dot_sgd(90_000, 10)
    assert (config.initial, config.l2) == ("uniform", 0.0)
    assert (config.training.epochs, config.training.optimizer) == (3, "sgd")
    assert config.training.weight_decay == 0.0


def test_initial_values_depend_on_the_length_of_the_table() -> None:
    torch.manual_seed(0)
    network = DotNetwork(dot(90_000, 10), SIZES)
    assert network.user.weight.std().item() == pytest.approx(math.sqrt(2 / 500), rel=0.02)
    assert network.item.weight.std().item() == pytest.approx(math.sqrt(2 / 400), rel=0.02)


def test_uniform_initial_values_are_between_zero_and_a_twentieth() -> None:
    torch.manual_seed(0)
    network = DotNetwork(dot_sgd(90_000, 10), SIZES)
    for table in (network.user.weight, network.item.weight):
        assert 0 <= table.min().item() < 1e-4
        assert table.max().item() == pytest.approx(0.05, rel=1e-3)
        assert table.mean().item() == pytest.approx(0.025, rel=0.02)


def test_stars_by_hand() -> None:
    torch.manual_seed(0)
    network = DotNetwork(dot(90_000, 10), SIZES)
    users, items = [3, 499, 3], [7, 0, 399]
    p, q = network.user.weight.tolist(), network.item.weight.tolist()
    expected = [sum(p[u][d] * q[i][d] for d in range(50)) for u, i in zip(users, items, strict=True)]
    stars = network.stars(pairs_of(torch.tensor(users), torch.tensor(items)))
    assert stars.tolist() == pytest.approx(expected, rel=1e-4, abs=1e-7)
