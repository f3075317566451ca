import pytest
import torch
from torch import nn
from torch.nn import functional as F

from recsys.models.dot_bias import DotBiasNetwork, dot_bias
from recsys.models.network import Sizes
from recsys.models.tables import average_unseen, sum_of_squares
from tests.support.planted import pairs_of, rows_of

SIZES = Sizes(n_users=4, n_items=5, levels=(1.0, 2.0, 3.0))
TRAIN = rows_of(torch.tensor([1, 1, 2]), torch.tensor([1, 2, 2]), torch.tensor([0, 1, 2]))


@pytest.fixture
def network() -> DotBiasNetwork:
    torch.manual_seed(0)
    return DotBiasNetwork(dot_bias(1000, 3).model_copy(update={"l2": 0.01}), SIZES)


def test_unseen_rows_get_the_mean_weighted_by_ratings() -> None:
    weight = torch.tensor([[9.0, 9.0], [1.0, 10.0], [4.0, 40.0], [9.0, 9.0]])
    average_unseen(weight, torch.tensor([0, 2, 1, 0]))
    assert weight.tolist() == [[2.0, 20.0], [1.0, 10.0], [4.0, 40.0], [2.0, 20.0]]


def test_unseen_ids_get_the_mean_row_of_every_table(network: DotBiasNetwork) -> None:
    network.prepare(TRAIN)
    network.freeze()
    (user, user_bias), (item, item_bias) = network.tables()
    for table in (user.weight, user_bias.weight):
        assert torch.equal(table[0], table[3])
        torch.testing.assert_close(table[0], (2 * table[1] + table[2]) / 3)
    for table in (item.weight, item_bias.weight):
        assert torch.equal(table[0], table[4])
        torch.testing.assert_close(table[0], (table[1] + 2 * table[2]) / 3)


def test_the_penalty_is_on_whole_tables_for_any_batch(network: DotBiasNetwork) -> None:
    tables = [table.weight for side in network.tables() for table in side]
    by_hand = sum(number**2 for table in tables for row in table.tolist() for number in row)
    for rows in (slice(0, 1), slice(0, 3)):
        batch = TRAIN.take(rows)
        stars = network.levels()[batch.level_idx]
        squared = F.mse_loss(network.stars(batch), stars).item()
        assert network.loss(batch).item() == pytest.approx(squared + 0.01 * by_hand, rel=1e-5)


def test_sum_of_squares_by_hand() -> None:
    tables = [nn.Embedding(2, 3, _weight=torch.full((2, 3), 2.0)), nn.Embedding(1, 1, _weight=torch.tensor([[5.0]]))]
    assert sum_of_squares(tables).item() == 6 * 4 + 25


def test_the_unknown_pair_is_predicted_near_the_mean(network: DotBiasNetwork) -> None:
    """A row of zeros would predict the middle of the range instead."""
    with torch.no_grad():
        network.user.weight.mul_(0.1)
        network.user_bias.weight.fill_(1.0)
        network.item_bias.weight.fill_(2.0)
    network.prepare(TRAIN)
    network.freeze()
    with torch.no_grad():
        unknown, known = network.stars(pairs_of(torch.tensor([0, 1]), torch.tensor([0, 1]))).tolist()
    assert unknown == pytest.approx(known, abs=0.1)
    assert unknown > 2.8


def test_epochs_are_chosen_by_squared_error(network: DotBiasNetwork) -> None:
    network.prepare(TRAIN)
    network.freeze()
    stars = network.stars(TRAIN).tolist()
    assert network.criterion == "MSE"
    expected = [(hat - given) ** 2 for hat, given in zip(stars, (1.0, 2.0, 3.0), strict=True)]
    assert network.errors(TRAIN).tolist() == pytest.approx(expected, rel=1e-5)
