import pytest
import torch

from recsys.models.groups import Groups, Sorted, decay, offsets

KEYS, MEMBERS = torch.tensor([2, 0, 2, 3, 2]), torch.tensor([0, 0, 1, 2, 2])  # of five ratings
WEIGHTS = torch.tensor([2.0, -1.0, 0.5, 0.25, 4.0])
ROWS = torch.tensor([[1.0, 10.0], [2.0, 20.0], [3.0, 30.0]])


@pytest.fixture
def ratings() -> Sorted:
    return Sorted(KEYS, 5)


@pytest.fixture
def groups(ratings: Sorted) -> Groups:
    return ratings.group(MEMBERS, WEIGHTS)


def test_members_are_grouped_by_key_in_the_order_of_the_ratings(groups: Groups) -> None:
    assert groups.first.tolist() == [0, 1, 1, 4, 5, 5]
    assert groups.members.tolist() == [0, 0, 1, 2, 2]
    assert groups.weights.tolist() == [-1.0, 2.0, 0.5, 4.0, 0.25]


def test_counts_and_scales(ratings: Sorted) -> None:
    assert ratings.counts_R.tolist() == [1, 0, 3, 1, 0]
    torch.testing.assert_close(ratings.scale_R1[:, 0], torch.tensor([1, 1, 3**-0.5, 1, 1]))


def test_ratings_in_another_order_of_their_ids(ratings: Sorted) -> None:
    order = torch.tensor([4, 3, 2, 1, 0])
    assert ratings.by(order).tolist() == [3, 0, 2, 4, 1]
    assert torch.equal(ratings.by(torch.arange(5)), ratings.order_N)


def test_sums_of_groups(groups: Groups) -> None:
    assert groups.sum(ROWS, weighted=False).tolist() == [[1, 10], [0, 0], [6, 60], [3, 30], [0, 0]]
    weighted = [[-1, -10], [0, 0], [2 + 1 + 12, 20 + 10 + 120], [0.75, 7.5], [0, 0]]
    assert groups.sum(ROWS, weighted=True).tolist() == weighted


def test_a_part_of_the_groups(groups: Groups) -> None:
    part = groups.part(slice(2, 4), slice(1, 5))
    assert part.sum(ROWS, weighted=True).tolist() == groups.sum(ROWS, weighted=True)[2:4].tolist()


def test_no_groups_have_no_sums(groups: Groups) -> None:
    assert groups.part(slice(1, 1), slice(1, 1)).sum(ROWS, weighted=True).shape == (0, 2)


def test_sums_are_not_computed_in_half_precision(groups: Groups) -> None:
    rows = torch.rand(3, 8)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = groups.sum(rows, weighted=True)
    assert torch.equal(inside, groups.sum(rows, weighted=True))


def test_offsets() -> None:
    assert offsets(torch.tensor([2, 0, 3])).tolist() == [0, 2, 2, 5]


def test_decay_adds_the_gradient_of_the_weighted_squares() -> None:
    table = torch.rand(3, 2, requires_grad=True)
    l2 = torch.tensor([[0.1], [0.0], [0.7]])
    (l2 * table.square()).sum().backward()
    assert table.grad is not None
    expected = table.grad.clone()
    table.grad.zero_()
    decay(table, l2)
    torch.testing.assert_close(table.grad, expected)
