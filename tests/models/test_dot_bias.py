import math

import pytest
import torch

from recsys.models.dot_bias import DotBiasNetwork, dot_bias, dot_bias_one_cycle
from recsys.models.network import Sizes
from tests.support.planted import pairs_of

SIZES = Sizes(n_users=60, n_items=50, levels=(0.5, 1.0, 5.0))


def test_v2_is_as_published() -> None:
    config = dot_bias(90_000, 10)
    assert (config.embedding_dim, config.widened, config.l2) == (50, 0.0, 1e-6)
    training = config.training
    assert (training.batch_size, training.optimizer, training.learning_rate) == (64, "adam", 0.001)
    assert (training.epochs, training.schedule) == (5, "constant")


def test_one_cycle_is_as_published() -> None:
    config = dot_bias_one_cycle(90_000, 10)
    assert (config.widened, config.l2) == (0.5, 0.0)
    assert config.training.schedule == "one_cycle"
    assert config.training.weight_decay > 0


@pytest.mark.parametrize(("configure", "low", "high"), [(dot_bias, 0.5, 5.0), (dot_bias_one_cycle, 0.0, 5.5)])
def test_stars_by_hand(configure: type, low: float, high: float) -> None:
    torch.manual_seed(0)
    network = DotBiasNetwork(configure(90_000, 10), SIZES)
    users, items = [3, 59, 3], [7, 0, 49]
    p, q = network.user.weight.tolist(), network.item.weight.tolist()
    b, c = network.user_bias.weight.squeeze(1).tolist(), network.item_bias.weight.squeeze(1).tolist()
    logits = [sum(p[u][d] * q[i][d] for d in range(50)) + b[u] + c[i] for u, i in zip(users, items, strict=True)]
    expected = [low + (high - low) / (1 + math.exp(-logit)) for logit in logits]
    stars = network.stars(pairs_of(torch.tensor(users), torch.tensor(items)))
    assert stars.tolist() == pytest.approx(expected, rel=1e-5)


def test_a_widened_range_reaches_its_ends() -> None:
    network = DotBiasNetwork(dot_bias_one_cycle(90_000, 10), SIZES)
    with torch.no_grad():
        network.user_bias.weight[:2] = torch.tensor([[-30.0], [30.0]])
        lowest, highest = network.stars(pairs_of(torch.tensor([0, 1]), torch.tensor([0, 0]))).tolist()
    assert lowest < 0.5
    assert highest > 5.0
