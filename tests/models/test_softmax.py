import math
from collections.abc import Sequence

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from recsys.models.layers import BatchNorm, Dropout
from recsys.models.network import Sizes, TrainingConfig
from recsys.models.softmax import SoftmaxConfig, SoftmaxNetwork, softmax
from tests.support.planted import pairs_of, rows_of

SIZES = Sizes(n_users=500, n_items=400, levels=(1.0, 2.0, 3.0, 4.0, 5.0))


@pytest.fixture
def network() -> SoftmaxNetwork:
    torch.manual_seed(0)
    return SoftmaxNetwork(softmax(1_000_000, 5), SIZES)


def test_layers_are_those_of_the_write_up(network: SoftmaxNetwork) -> None:
    dense_block = [nn.Linear, nn.ReLU, Dropout, BatchNorm]
    assert [type(layer) for layer in network.head] == [*dense_block, *dense_block, nn.Linear, nn.ReLU, nn.Linear]
    assert widths(network.head) == [(64, 128), (128, 128), (128, 128), (128, 5)]
    assert network.user_embedding.weight.shape == (500, 32)
    assert network.item_embedding.weight.shape == (400, 32)
    dropouts = [module for module in network.modules() if isinstance(module, Dropout)]
    assert [dropout.dropped_of_256 for dropout in dropouts] == [128, 128, 128]
    norms = [module for module in network.modules() if isinstance(module, BatchNorm)]
    assert [(norm.num_features, norm.momentum, norm.eps) for norm in norms] == [(128, 0.01, 0.001)] * 2


def widths(layers: nn.Sequential) -> Sequence[tuple[int, int]]:
    return [(layer.in_features, layer.out_features) for layer in layers if isinstance(layer, nn.Linear)]


def test_dropout_is_applied_to_each_embedding(network: SoftmaxNetwork) -> None:
    network.head = nn.Sequential()  # returns its input
    users, items = torch.arange(1, 301), torch.arange(1, 301)
    whole = torch.cat([network.user_embedding(users), network.item_embedding(items)], dim=1)
    dropped = network.train().logits(pairs_of(users, items))
    kept = dropped != 0
    torch.testing.assert_close(dropped[kept], 2 * whole[kept])
    for half in kept.split(32, dim=1):
        assert half.float().mean().item() == pytest.approx(0.5, abs=0.02)
    assert torch.equal(network.eval().logits(pairs_of(users, items)), whole)


def test_loss_is_cross_entropy_by_hand(network: SoftmaxNetwork) -> None:
    network.eval()  # without dropout, so that both computations use the same logits
    users, items, levels = torch.tensor([1, 2]), torch.tensor([3, 4]), torch.tensor([4, 0])
    given = [
        math.log(p[k]) for p, k in zip(network.probabilities(pairs_of(users, items)).tolist(), (4, 0), strict=True)
    ]
    assert network.loss(rows_of(users, items, levels)).item() == pytest.approx(-sum(given) / 2, rel=1e-5)


def test_initial_values_are_those_of_keras(network: SoftmaxNetwork) -> None:
    for embedding in (network.user_embedding, network.item_embedding):
        assert embedding.weight.abs().max().item() == pytest.approx(0.05, rel=1e-2)
        assert embedding.weight.std().item() == pytest.approx(0.1 / math.sqrt(12), rel=0.02)
    for layer in (module for module in network.head if isinstance(module, nn.Linear)):
        bound = math.sqrt(6 / (layer.in_features + layer.out_features))
        assert (layer.bias == 0).all()
        assert layer.weight.abs().max().item() == pytest.approx(bound, rel=0.02)
        assert layer.weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.1)


def test_a_dropout_that_rounds_to_one_is_refused() -> None:
    training = TrainingConfig(epochs=1, batch_size=2, learning_rate=0.1, schedule="constant")
    with pytest.raises(ValidationError, match="dropout"):
        SoftmaxConfig(dropout=0.999, training=training)
    assert SoftmaxConfig(dropout=0.99, training=training).dropout == 0.99
    assert Dropout(0.99)(torch.ones(10_000)).isfinite().all()
