"""Sparse matrices in compressed rows: as torch wants them, and what it cannot do with them."""

import warnings

import torch
from torch import Tensor


def from_offsets(offsets: Tensor, columns: Tensor, values: Tensor, shape: tuple[int, int]) -> Tensor:
    """Row r's entries are those from offsets[r] to offsets[r + 1], in ascending order of columns."""
    with warnings.catch_warnings():
        # torch calls its CSR support beta, once per process; products are all that we ask of it
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta", category=UserWarning)
        return torch.sparse_csr_tensor(offsets, columns, values, shape, check_invariants=False)


def group_rows(rows: Tensor, values: Tensor, n_rows: int) -> tuple[Tensor, Tensor]:
    """Entries (row, value) in any order as compressed rows: offsets, (n_rows + 1,) int64, and the values in order."""
    offsets = torch.cat([rows.new_zeros(1), torch.bincount(rows, minlength=n_rows).cumsum(0)])
    return offsets, values[rows.argsort(stable=True)]


def entries_of(offsets: Tensor, values: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Of some rows, in their order: for each entry its place in `rows` and its value. rows: (R,) int64."""
    sizes = offsets[rows + 1] - offsets[rows]
    place = torch.repeat_interleave(sizes)
    first = offsets[rows] - (sizes.cumsum(0) - sizes)  # less the entries of the rows before
    return place, values[first[place] + torch.arange(len(place), device=place.device)]
