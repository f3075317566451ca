import math

import pytest
import torch
from torch import nn

from recsys.models.layers import BatchNorm, Dropout
from recsys.models.mlp import DeepMlpNetwork, MlpConfig, MlpNetwork, mlp, mlp_deep
from recsys.models.network import Sizes
from tests.support.planted import pairs_of

SIZES = Sizes(n_users=60, n_items=50, levels=(0.5, 1.0, 5.0))


def test_mlp_is_as_published() -> None:
    config = mlp(90_000, 10)
    assert (config.user_dim, config.item_dim, config.hidden_dim) == (50, 50, 10)
    assert (config.dropout_embedding, config.dropout, config.l2) == (0.05, 0.5, 1e-6)
    training = config.training
    assert (training.batch_size, training.optimizer, training.learning_rate) == (64, "adam", 0.001)
    assert (training.epochs, training.schedule) == (5, "constant")
    layers = MlpNetwork(config, SIZES).head
    assert [type(layer) for layer in layers] == [Dropout, nn.Linear, nn.ReLU, Dropout, nn.Linear]
    assert [layer.dropped_of_256 for layer in layers if isinstance(layer, Dropout)] == [13, 128]
    assert widths(layers) == [(100, 10), (10, 1)]


def widths(layers: nn.Sequential) -> list[tuple[int, int]]:
    return [(layer.in_features, layer.out_features) for layer in layers if isinstance(layer, nn.Linear)]


def test_stars_of_mlp_by_hand() -> None:
    torch.manual_seed(0)
    config = MlpConfig(user_dim=3, item_dim=2, hidden_dim=4, training=mlp(90_000, 10).training)
    network = MlpNetwork(config, SIZES).eval()
    with torch.no_grad():
        for weight in network.parameters():
            weight.normal_()
    first, last = (layer for layer in network.head if isinstance(layer, nn.Linear))
    both = [*network.user.weight[5].tolist(), *network.item.weight[9].tolist()]
    hidden = []
    for row, bias in zip(first.weight.tolist(), first.bias.tolist(), strict=True):
        hidden.append(max(0.0, bias + sum(w * x for w, x in zip(row, both, strict=True))))
    logit = last.bias.item() + sum(w * h for w, h in zip(last.weight[0].tolist(), hidden, strict=True))
    expected = 0.5 + 4.5 / (1 + math.exp(-logit))
    assert network.stars(pairs_of(torch.tensor([5]), torch.tensor([9]))).item() == pytest.approx(expected, rel=1e-5)


def test_mlp_deep_is_as_published() -> None:
    config = mlp_deep(100_000, 5)
    assert (config.user_dim, config.item_dim, config.hidden_dim, config.dropout) == (32, 32, 128, 0.5)
    assert (config.l2, config.training.epochs, config.training.optimizer) == (0.0, 10, "adam")
    layers = DeepMlpNetwork(config, SIZES).head
    block = [nn.Linear, nn.ReLU, Dropout, BatchNorm]
    assert [type(layer) for layer in layers] == [*block, *block, nn.Linear, nn.ReLU, nn.Linear]
    assert widths(layers) == [(64, 128), (128, 128), (128, 128), (128, 1)]


def test_dropout_is_applied_to_each_vector_of_mlp_deep() -> None:
    torch.manual_seed(0)
    network = DeepMlpNetwork(mlp_deep(100_000, 5), SIZES)
    network.head = nn.Sequential()  # returns its input
    pair = pairs_of(torch.tensor([5]), torch.tensor([9]))
    whole = torch.cat([network.user.weight[5], network.item.weight[9]])
    dropped = torch.stack([network.train().stars(pair) for _ in range(200)]).squeeze(1)
    kept = dropped != 0
    torch.testing.assert_close(dropped[kept], (2 * whole).expand_as(dropped)[kept])
    assert kept[:, :32].float().mean().item() == pytest.approx(0.5, abs=0.03)
    assert kept[:, 32:].float().mean().item() == pytest.approx(0.5, abs=0.03)


def test_the_output_of_mlp_deep_is_not_bounded() -> None:
    """Rounding to the nearest level is done by the decoder."""
    network = DeepMlpNetwork(mlp_deep(100_000, 5), SIZES).eval()
    last = network.head[-1]
    assert isinstance(last, nn.Linear)
    with torch.no_grad():
        last.bias.fill_(100.0)
        assert network.stars(pairs_of(torch.tensor([5]), torch.tensor([9]))).item() > 50
