import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from recsys.retrieve.top_n import top_columns

SHAPES = npst.array_shapes(min_dims=2, max_dims=2, max_side=12)
FEW = st.sampled_from([-np.inf, -1.0, 0.0, 1.0, 2.0, np.inf])  # few values give many ties
ANY = st.floats(allow_nan=False, width=32)
SCORES = st.one_of([npst.arrays(np.float32, SHAPES, elements=elements) for elements in (FEW, ANY)])


def slow_columns(score_BI: np.ndarray[tuple[int, int], np.dtype[np.float32]], n: int) -> list[list[int]]:
    """Ties go to the lower column."""
    order_BI = np.argsort(-score_BI, axis=1, kind="stable")
    return [sorted(row) for row in order_BI[:, :n].tolist()]


@given(score_BI=SCORES, n=st.integers(1, 15))
def test_top_columns_are_those_of_a_stable_sort(
    score_BI: np.ndarray[tuple[int, int], np.dtype[np.float32]], n: int
) -> None:
    column_BN = top_columns(torch.from_numpy(score_BI), n)
    assert column_BN.dtype == torch.int64
    assert column_BN.tolist() == slow_columns(score_BI, n)


@pytest.mark.parametrize("n", [1, 10, 300, 999, 1000, 1001])
@pytest.mark.parametrize("levels", [1, 2, 50, 10**6])
@pytest.mark.parametrize("width", [1000, 1007])  # 1007 is not a multiple of any column group
def test_wide_rows_of_many_ties(levels: int, width: int, n: int) -> None:
    score_BI = np.random.default_rng(0).integers(levels, size=(20, width)).astype(np.float32)
    score_BI[::3, ::2] = -np.inf
    assert top_columns(torch.from_numpy(score_BI), n).tolist() == slow_columns(score_BI, n)


def test_rows_are_independent() -> None:
    """Recomputed rows with ties stay in their positions."""
    score_BI = torch.tensor([[3.0, 1.0, 2.0], [1.0, 1.0, 1.0], [1.0, 2.0, 3.0], [0.0, 5.0, 5.0]])
    assert top_columns(score_BI, 1).tolist() == [[0], [0], [2], [1]]
    assert top_columns(score_BI, 2).tolist() == [[0, 2], [0, 1], [1, 2], [1, 2]]


def test_the_best_can_be_adjacent_or_at_the_end() -> None:
    """The boundaries of column groups have no effect."""
    for first in range(2000 - 5):
        score_I = torch.arange(2000.0, 0.0, -1.0)
        score_I[first : first + 5] += 5000
        others = [column for column in range(7) if not first <= column < first + 5][:2]
        assert top_columns(score_I[None], 7).tolist() == [sorted([*range(first, first + 5), *others])]


def test_integers_and_n_of_zero() -> None:
    assert top_columns(torch.tensor([[3, 1, 3, 2]]), 2).tolist() == [[0, 2]]
    assert top_columns(torch.empty(0, 5), 2).shape == (0, 2)
    assert top_columns(torch.empty(3, 0), 2).shape == (3, 0)
    assert top_columns(torch.ones(3, 5), 0).shape == (3, 0)


def test_the_input_is_not_modified() -> None:
    score_BI = torch.tensor([[1.0, 1.0, 0.0]])
    top_columns(score_BI, 1)
    assert score_BI.tolist() == [[1, 1, 0]]
