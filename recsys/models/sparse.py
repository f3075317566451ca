"""Sparse matrices in compressed rows, as torch wants them."""

import warnings

import torch
from torch import Tensor


def from_offsets(offsets: Tensor, columns: Tensor, values: Tensor, shape: tuple[int, int]) -> Tensor:
    """Row r's entries are those from offsets[r] to offsets[r + 1], in ascending order of columns."""
    with warnings.catch_warnings():
        # torch calls its CSR support beta, once per process; products are all that we ask of it
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta", category=UserWarning)
        return torch.sparse_csr_tensor(offsets, columns, values, shape, check_invariants=False)
