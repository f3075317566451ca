import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from recsys.metrics.decode import decode_mean, decode_median, decode_mode, decode_rounded

STARS = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0])
HALF_STARS = torch.arange(1, 11) / 2
LIKES = torch.tensor([0.0, 1.0])


def distribution(*p: float) -> Tensor:
    return torch.tensor([p], dtype=torch.float32)


@pytest.mark.parametrize(
    ("p_K", "levels_K", "mean", "median", "mode"),
    [
        ((0.1, 0.2, 0.3, 0.25, 0.15), STARS, 0.1 + 0.4 + 0.9 + 1.0 + 0.75, 3.0, 3.0),
        ((0.5, 0.0, 0.0, 0.0, 0.5), STARS, 3.0, 1.0, 1.0),  # exactly half: the lowest
        ((0.25, 0.25, 0.0, 0.0, 0.5), STARS, 0.25 + 0.5 + 2.5, 2.0, 5.0),
        ((0.0, 0.375, 0.375, 0.25, 0.0), STARS, 0.75 + 1.125 + 1.0, 3.0, 2.0),  # two modes: the lower one
        ((0.4375, 0.0, 0.0, 0.0, 0.5625), STARS, 0.4375 + 2.8125, 5.0, 5.0),
        ((0.0, 0.0, 0.0, 0.0, 1.0), STARS, 5.0, 5.0, 5.0),
        ((0.5, 0.5), LIKES, 0.5, 0.0, 0.0),
        ((0.25, 0.75), LIKES, 0.75, 1.0, 1.0),
        ((0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.125, 0.375, 0.25, 0.25), HALF_STARS, 0.4375 + 1.5 + 1.125 + 1.25, 4.0, 4.0),
        ((0.125,) * 4 + (0.0,) * 2 + (0.125,) * 4, HALF_STARS, 0.125 * 27.5 - 0.125 * 5.5, 2.0, 0.5),
    ],
)
def test_decoders_by_hand(p_K: tuple[float, ...], levels_K: Tensor, mean: float, median: float, mode: float) -> None:
    p_BK = distribution(*p_K)
    assert decode_mean(p_BK, levels_K).item() == pytest.approx(mean)
    assert decode_median(p_BK, levels_K).tolist() == [median]
    assert decode_mode(p_BK, levels_K).tolist() == [mode]


def test_a_distribution_that_sums_to_less_than_half_still_has_a_median() -> None:
    assert decode_median(distribution(0.1, 0.1, 0.1, 0.1, 0.05), STARS).tolist() == [5.0]


def test_rows_are_decoded_independently() -> None:
    p_BK = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.25, 0.75]])
    assert decode_mean(p_BK, LIKES).tolist() == [0.0, 1.0, 0.75]
    assert decode_median(p_BK, LIKES).tolist() == [0.0, 1.0, 1.0]
    assert decode_mode(p_BK, LIKES).tolist() == [0.0, 1.0, 1.0]


@pytest.mark.parametrize(
    ("stars", "levels_K", "rounded"),
    [
        (3.2, STARS, 3.0),
        (3.5, STARS, 3.0),  # halfway: the lower one
        (3.51, STARS, 4.0),
        (-2.0, STARS, 1.0),
        (9.0, STARS, 5.0),
        (3.75, HALF_STARS, 3.5),
        (3.76, HALF_STARS, 4.0),
        (0.5, LIKES, 0.0),
        (0.6, LIKES, 1.0),
    ],
)
def test_numbers_are_rounded_to_the_nearest_level(stars: float, levels_K: Tensor, rounded: float) -> None:
    assert decode_rounded(torch.tensor([stars]), levels_K).tolist() == [rounded]


WEIGHTS = st.lists(st.integers(0, 20), min_size=2, max_size=10).filter(any)


@given(weights=WEIGHTS)
def test_each_decoder_minimises_its_error(weights: list[int]) -> None:
    """The median minimises the expected absolute error, the mean the squared error. The mode is right most often."""
    levels_K = torch.arange(len(weights), dtype=torch.float64) / 2
    p_K = torch.tensor(weights, dtype=torch.float64) / sum(weights)
    p_BK = p_K[None, :]

    def absolute(guess: Tensor) -> float:
        return (p_K @ (levels_K - guess).abs()).item()

    def squared(guess: Tensor) -> float:
        return (p_K @ (levels_K - guess).square()).item()

    assert absolute(decode_median(p_BK, levels_K)) <= min(map(absolute, levels_K)) + 1e-9
    assert squared(decode_mean(p_BK, levels_K)) <= min(map(squared, levels_K)) + 1e-9
    assert p_K[levels_K == decode_mode(p_BK, levels_K)].item() == p_K.max().item()
