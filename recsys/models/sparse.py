"""Sparse matrices in compressed row format: construction, grouping and selection of rows."""

import warnings

import torch
from torch import Tensor


def from_offsets(offsets: Tensor, columns: Tensor, values: Tensor, shape: tuple[int, int]) -> Tensor:
    """Builds a CSR matrix. The entries of row r are offsets[r] to offsets[r + 1], with ascending columns."""
    with warnings.catch_warnings():
        # torch warns once per process that CSR support is in beta; only products are used here
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta", category=UserWarning)
        return torch.sparse_csr_tensor(offsets, columns, values, shape, check_invariants=False)


def group_rows(rows: Tensor, values: Tensor, n_rows: int) -> tuple[Tensor, Tensor]:
    """Groups (row, value) entries by row; returns offsets, (n_rows + 1,) int64, and the ordered values."""
    offsets = torch.cat([rows.new_zeros(1), torch.bincount(rows, minlength=n_rows).cumsum(0)])
    return offsets, values[rows.argsort(stable=True)]


def entries_of(offsets: Tensor, values: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the entries of `rows` in order: for each, its position in `rows` and its value. rows: (R,) int64."""
    sizes = offsets[rows + 1] - offsets[rows]
    place = torch.repeat_interleave(sizes)
    first = offsets[rows] - (sizes.cumsum(0) - sizes)  # minus the number of entries in the rows before
    return place, values[first[place] + torch.arange(len(place), device=place.device)]
