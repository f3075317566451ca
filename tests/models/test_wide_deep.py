import math

import pytest
import torch
from torch import nn

from recsys.encode.features import NO_FEATURES, Feature, Features
from recsys.models.layers import Dropout
from recsys.models.network import Sizes
from recsys.models.wide_deep import WideDeepConfig, WideDeepNetwork, crossed_columns, wide_deep
from tests.support.planted import pairs_of, rows_of

SIZES = Sizes(n_users=4, n_items=3, levels=(1.0, 2.0, 5.0))
# genres: none for the unknown movie 0, both for movie 1, the second for movie 2
GENRES = Feature(("Comedy", "Drama"), torch.tensor([0, 1, 3, 4]), torch.tensor([0, 1, 2, 2]))
GENDER = Feature(("F", "M"), torch.tensor([0, 1, 2, 3, 4]), torch.tensor([0, 2, 1, 0]))
FEATURES = Features({"gender": GENDER}, {"genres": GENRES})


@pytest.fixture
def network() -> WideDeepNetwork:
    torch.manual_seed(0)
    config = WideDeepConfig(
        user_dim=2, item_dim=3, hidden_dim=4, l2=0.01, l2_wide=0.02, training=wide_deep(90_000, 10).training
    )
    network = WideDeepNetwork(config, SIZES, FEATURES).eval()
    with torch.no_grad():
        for weight in network.parameters():
            weight.normal_()
    return network


def test_columns_are_a_one_and_the_shares_of_values() -> None:
    columns = crossed_columns(3, {"genres": GENRES}, ("genres", "decade"))
    assert columns.tolist() == [[1, 1, 0, 0], [1, 0, 0.5, 0.5], [1, 0, 0, 1]]


def test_without_features_the_wide_part_is_two_biases() -> None:
    network = WideDeepNetwork(wide_deep(90_000, 10), SIZES, NO_FEATURES)
    assert network.user_wide.weight.shape == (4, 1)
    assert network.item_wide.weight.shape == (3, 1)
    with torch.no_grad():
        network.user_wide.weight.fill_(2.0)
        network.item_wide.weight.fill_(0.5)
        assert network.wide(pairs_of(torch.tensor([1]), torch.tensor([2]))).item() == 2.5


def test_the_wide_part_by_hand(network: WideDeepNetwork) -> None:
    """User 1 is M (value 2); movie 1 has both genres, each with weight one half."""
    user, item = network.user_wide.weight[1].tolist(), network.item_wide.weight[1].tolist()
    expected = user[0] + (user[2] + user[3]) / 2 + item[0] + item[3]
    assert network.wide(pairs_of(torch.tensor([1]), torch.tensor([1]))).item() == pytest.approx(expected, rel=1e-5)


def test_unknown_features_have_their_own_weights(network: WideDeepNetwork) -> None:
    user, item = network.user_wide.weight[3].tolist(), network.item_wide.weight[0].tolist()
    expected = user[0] + user[1] + item[0] + item[1]
    assert network.wide(pairs_of(torch.tensor([3]), torch.tensor([0]))).item() == pytest.approx(expected, rel=1e-5)


def test_stars_are_the_scaled_sum_of_both_parts(network: WideDeepNetwork) -> None:
    pair = pairs_of(torch.tensor([1]), torch.tensor([2]))
    first, last = (layer for layer in network.deep_layers if isinstance(layer, nn.Linear))
    both = [*network.user.weight[1].tolist(), *network.item.weight[2].tolist()]
    hidden = []
    for row, bias in zip(first.weight.tolist(), first.bias.tolist(), strict=True):
        hidden.append(max(0.0, bias + sum(w * x for w, x in zip(row, both, strict=True))))
    deep = last.bias.item() + sum(w * h for w, h in zip(last.weight[0].tolist(), hidden, strict=True))
    assert network.deep(pair).item() == pytest.approx(deep, rel=1e-4)
    expected = 1 + 4 / (1 + math.exp(-deep - network.wide(pair).item()))
    assert network.stars(pair).item() == pytest.approx(expected, rel=1e-5)


def test_each_part_has_its_own_penalty(network: WideDeepNetwork) -> None:
    batch = rows_of(torch.tensor([1]), torch.tensor([1]), torch.tensor([0]))
    deep = sum(number**2 for table in (network.user, network.item) for row in table.weight.tolist() for number in row)
    tables = (network.user_wide, network.item_wide)
    wide = sum(number**2 for table in tables for row in table.weight.tolist() for number in row)
    assert network.penalty(batch).item() == pytest.approx(0.01 * deep + 0.02 * wide, rel=1e-5)


def test_crossed_weights_start_at_zero_and_dropout_is_only_in_the_deep_part() -> None:
    network = WideDeepNetwork(wide_deep(90_000, 10), SIZES, FEATURES)
    assert (network.user_wide.weight == 0).all()
    assert (network.item_wide.weight == 0).all()
    assert [type(layer) for layer in network.deep_layers] == [Dropout, nn.Linear, nn.ReLU, Dropout, nn.Linear]
    pair = pairs_of(torch.tensor([1]), torch.tensor([1]))
    assert torch.equal(network.train().wide(pair), network.eval().wide(pair))


def test_new_users_are_predicted_by_gender(network: WideDeepNetwork) -> None:
    """Two users without ratings have the same id weights and differ only in their gender."""
    network.prepare(rows_of(torch.tensor([3]), torch.tensor([1]), torch.tensor([0])))
    network.freeze()
    f, m = network.stars(pairs_of(torch.tensor([2, 1]), torch.tensor([1, 1]))).tolist()
    assert torch.equal(network.user_wide.weight[1], network.user_wide.weight[2])
    assert abs(f - m) > 0.01
