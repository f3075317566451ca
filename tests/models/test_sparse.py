import torch

from recsys.models.sparse import entries_of, from_offsets, group_rows


def test_entries_of_rows_are_in_the_requested_order() -> None:
    """Row 0 has the values 5 and 6, row 1 is empty, row 2 has 7."""
    offsets, values = torch.tensor([0, 2, 2, 3]), torch.tensor([5, 6, 7])
    place, value = entries_of(offsets, values, torch.tensor([2, 1, 0, 2]))
    assert place.tolist() == [0, 2, 2, 3]
    assert value.tolist() == [7, 5, 6, 7]
    place, value = entries_of(offsets, values, torch.tensor([], dtype=torch.int64))
    assert (place.tolist(), value.tolist()) == ([], [])


def test_entries_are_grouped_by_row() -> None:
    offsets, values = group_rows(torch.tensor([2, 0, 2]), torch.tensor([7, 5, 6]), 4)
    assert offsets.tolist() == [0, 1, 1, 3, 3]
    assert values.tolist() == [5, 7, 6]


def test_a_sparse_matrix_equals_its_dense_form() -> None:
    matrix = from_offsets(torch.tensor([0, 1, 1, 3]), torch.tensor([1, 0, 2]), torch.tensor([4.0, 5.0, 6.0]), (3, 3))
    assert matrix.to_dense().tolist() == [[0, 4, 0], [0, 0, 0], [5, 0, 6]]
