import math
from collections.abc import Sequence

import pytest
import torch
from planted import pairs_of, rows_of
from pydantic import ValidationError
from torch import nn

from recsys.models.network import Sizes, TrainingConfig
from recsys.models.softmax import BatchNorm, Dropout, SoftmaxConfig, SoftmaxNetwork, softmax

SIZES = Sizes(n_users=500, n_items=400, levels=(1.0, 2.0, 3.0, 4.0, 5.0))


@pytest.fixture
def network() -> SoftmaxNetwork:
    torch.manual_seed(0)
    return SoftmaxNetwork(softmax(1_000_000, 5), SIZES)


def test_layers_in_the_order_of_the_write_up(network: SoftmaxNetwork) -> None:
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


def test_dropout_acts_on_each_embedding_before_they_meet(network: SoftmaxNetwork) -> None:
    network.head = nn.Sequential()  # lets its input through
    users, items = torch.arange(1, 301), torch.arange(1, 301)
    whole = torch.cat([network.user_embedding(users), network.item_embedding(items)], dim=1)
    dropped = network.train().logits(pairs_of(users, items))
    kept = dropped != 0
    torch.testing.assert_close(dropped[kept], 2 * whole[kept])
    for half in kept.split(32, dim=1):
        assert half.float().mean().item() == pytest.approx(0.5, abs=0.02)
    assert torch.equal(network.eval().logits(pairs_of(users, items)), whole)


def test_loss_is_cross_entropy_by_hand(network: SoftmaxNetwork) -> None:
    network.eval()  # no dropout, so that the two sides see the same logits
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


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_dropout_drops_about_p_and_keeps_the_expectation(p: float) -> None:
    torch.manual_seed(0)
    x = torch.full((1001, 333), 3.0)  # a number of elements that eight does not divide
    dropped = Dropout(p)(x)
    share = (dropped == 0).float().mean().item()
    exact = round(p * 256) / 256
    assert share == pytest.approx(exact, abs=4 * math.sqrt(p * (1 - p) / x.numel()))
    assert abs(exact - p) <= 1 / 512
    assert dropped.mean().item() == pytest.approx(3.0, rel=0.02)
    assert dropped[dropped != 0].unique().tolist() == pytest.approx([3 / (1 - exact)])


def test_dropout_decides_each_element_by_itself() -> None:
    """The eight decisions of one random number are independent of each other, and of those of the next call."""
    torch.manual_seed(0)
    dropout = Dropout(0.5)
    kept = (dropout(torch.ones(40_000, 8)) != 0).double()
    assert (torch.corrcoef(kept.T) - torch.eye(8)).abs().max().item() < 0.03
    again = (dropout(torch.ones(40_000, 8)) != 0).double()
    assert (kept * 2 - 1).mul(again * 2 - 1).mean().abs().item() < 0.02


def test_dropout_follows_the_seed() -> None:
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


def test_a_dropout_that_would_drop_everything_is_refused() -> None:
    training = TrainingConfig(epochs=1, batch_size=2, learning_rate=0.1, schedule="constant")
    with pytest.raises(ValidationError, match="dropout"):
        SoftmaxConfig(dropout=0.999, training=training)
    assert SoftmaxConfig(dropout=0.99, training=training).dropout == 0.99
    assert Dropout(0.99)(torch.ones(10_000)).isfinite().all()


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
