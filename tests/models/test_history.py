import pytest
import torch
from torch import Tensor

from recsys.models.history import History, _group, _sum
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
    matrix_UI = dense(history.opinion(TRAIN) if by_opinion else torch.ones(len(TRAIN)))
    count_U, count_I = (torch.bincount(keys, minlength=n) for keys, n in ((USERS, 5), (ITEMS, 6)))
    vectors_IE, vectors_UE = torch.rand(6, 3), torch.rand(5, 3)
    of_users = history.sum_over_items(vectors_IE, by_opinion=by_opinion)
    of_items = history.sum_over_users(vectors_UE, by_opinion=by_opinion)
    torch.testing.assert_close(of_users, (matrix_UI / count_U.clamp(min=1).sqrt()[:, None]) @ vectors_IE)
    torch.testing.assert_close(of_items, (matrix_UI.T / count_I.clamp(min=1).sqrt()[:, None]) @ vectors_UE)
    assert (of_users[0] == 0).all()
    assert (of_users[4] == 0).all()
    assert (of_items[5] == 0).all()


@pytest.mark.parametrize("by_opinion", [False, True])
def test_gradients_against_matrices(history: History, by_opinion: bool) -> None:
    matrix_UI = dense(history.opinion(TRAIN) if by_opinion else torch.ones(len(TRAIN)))
    vectors_IE = torch.rand(6, 3, requires_grad=True)
    weight_UE = torch.rand(5, 3)
    (history.sum_over_items(vectors_IE, by_opinion=by_opinion) * weight_UE).sum().backward()
    scale_U1 = torch.bincount(USERS, minlength=5).clamp(min=1).rsqrt()[:, None]
    assert vectors_IE.grad is not None
    torch.testing.assert_close(vectors_IE.grad, matrix_UI.T @ (scale_U1 * weight_UE))


def test_own_shares_are_the_contribution_of_a_rating(history: History) -> None:
    """Subtracting the own share of a rating equals a sum without the opinion of that rating."""
    vectors_IE = torch.rand(6, 3)
    share_of_user_B1, share_of_item_B1 = history.own_shares(TRAIN)
    whole = history.sum_over_items(vectors_IE, by_opinion=True)[USERS]
    for row in range(len(TRAIN)):
        others = [other for other in range(len(TRAIN)) if USERS[other] == USERS[row] and other != row]
        opinion = history.opinion(TRAIN)
        sums = [opinion[other] * vectors_IE[ITEMS[other]] for other in others]
        expected = torch.stack(sums).sum(0) * (len(others) + 1) ** -0.5 if sums else torch.zeros(3)
        torch.testing.assert_close(whole[row] - share_of_user_B1[row] * vectors_IE[ITEMS[row]], expected)
    assert share_of_item_B1[5].item() == pytest.approx(history.opinion(TRAIN)[5].item())  # the only rating of its movie


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


def test_groups_without_members_sum_to_zero() -> None:
    groups = _group(torch.tensor([2]), torch.tensor([1]), torch.tensor([0.5]), 4)
    turned = _group(torch.tensor([1]), torch.tensor([2]), torch.tensor([0.5]), 3)
    assert _sum(groups, turned, torch.ones(3, 2), True).tolist() == [[0, 0], [0, 0], [0.5, 0.5], [0, 0]]
