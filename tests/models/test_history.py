import pytest
import torch
from torch import Tensor

from recsys.models.history import History
from recsys.models.network import Sizes
from tests.support.planted import rows_of

USERS, ITEMS = torch.tensor([1, 1, 1, 2, 2, 3]), torch.tensor([3, 1, 2, 2, 1, 4])
LEVELS = torch.tensor([0, 2, 1, 2, 0, 1])
SIZES = Sizes(n_users=5, n_items=6, levels=(1.0, 2.0, 4.0))
TRAIN = rows_of(USERS, ITEMS, LEVELS)


def dense(weights_N: Tensor) -> Tensor:
    """(U, I): the training ratings as a dense matrix."""
    matrix = torch.zeros(SIZES.n_users, SIZES.n_items)
    matrix[USERS, ITEMS] = weights_N
    return matrix


@pytest.fixture
def history() -> History:
    return History(TRAIN, SIZES)


@pytest.mark.parametrize("by_opinion", [False, True])
def test_sums_against_matrices(history: History, by_opinion: bool) -> None:
    matrix_UI = dense(history.opinion_N if by_opinion else torch.ones(len(TRAIN)))
    count_U, count_I = (torch.bincount(keys, minlength=n) for keys, n in ((USERS, 5), (ITEMS, 6)))
    vectors_IE, vectors_UE = torch.rand(6, 3), torch.rand(5, 3)
    of_users = history.sum_over_items(vectors_IE, by_opinion=by_opinion)
    of_items = history.sum_over_users(vectors_UE, by_opinion=by_opinion)
    torch.testing.assert_close(of_users, (matrix_UI / count_U.clamp(min=1).sqrt()[:, None]) @ vectors_IE)
    torch.testing.assert_close(of_items, (matrix_UI.T / count_I.clamp(min=1).sqrt()[:, None]) @ vectors_UE)
    assert (of_users[0] == 0).all()
    assert (of_users[4] == 0).all()
    assert (of_items[5] == 0).all()


def test_the_order_of_the_ratings_does_not_matter(history: History) -> None:
    order = torch.tensor([5, 0, 3, 1, 4, 2])
    other = History(TRAIN.take(order), SIZES)
    vectors_IE = torch.rand(6, 3)
    torch.testing.assert_close(
        other.sum_over_items(vectors_IE, by_opinion=True), history.sum_over_items(vectors_IE, by_opinion=True)
    )


def test_autocast_does_not_change_the_sums(history: History) -> None:
    vectors_IE = torch.rand(6, 3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = history.sum_over_items(vectors_IE)
    assert torch.equal(inside, history.sum_over_items(vectors_IE))
