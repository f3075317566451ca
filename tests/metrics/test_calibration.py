import pytest
import torch

from recsys.metrics.calibration import Bin, calibration_error, calibration_metrics, reliability, top_reliability

# Two ratings, three levels. Probabilities above the first level: 0.75 and 0.25; above the second: 0.25 and 0.0.
P_BK = torch.tensor([[0.25, 0.5, 0.25], [0.75, 0.25, 0.0]])


def test_reliability_by_hand() -> None:
    """The ratings have the third and the second level. Both are above the first level, one is above the second."""
    assert reliability(P_BK, torch.tensor([2, 1])) == [
        Bin(0.0, 0.1, n=1, predicted=0.0, observed=0.0),
        Bin(0.2, 0.3, n=2, predicted=0.25, observed=1.0),
        Bin(0.7, 0.8, n=1, predicted=0.75, observed=1.0),
    ]


def test_the_most_probable_level_by_hand() -> None:
    assert top_reliability(P_BK, torch.tensor([1, 1])) == [
        Bin(0.4, 0.5, n=1, predicted=0.5, observed=1.0),
        Bin(0.7, 0.8, n=1, predicted=0.75, observed=0.0),
    ]


def test_errors_by_hand() -> None:
    metrics = calibration_metrics(P_BK, torch.tensor([2, 1]))
    assert metrics == {
        "ece": pytest.approx((1 * 0 + 2 * 0.75 + 1 * 0.25) / 4),
        "ece_top": pytest.approx((0.5 + 0.75) / 2),  # neither most probable level was right
    }


def test_a_bin_includes_its_upper_edge_and_the_first_bin_includes_zero() -> None:
    p_BK = torch.tensor([[1.0, 0.0], [0.5, 0.5], [0.0, 1.0], [0.25, 0.75]], dtype=torch.float64)
    bins = reliability(p_BK, torch.tensor([0, 1, 1, 1]))
    assert [(one.lower, one.upper, one.n) for one in bins] == [
        (0.0, 0.1, 1),
        (0.4, 0.5, 1),
        (0.7, 0.8, 1),
        (0.9, 1.0, 1),
    ]


def test_ratings_drawn_from_the_probabilities_are_calibrated() -> None:
    generator = torch.Generator().manual_seed(0)
    p_BK = torch.rand(100_000, 5, generator=generator)
    p_BK /= p_BK.sum(1, keepdim=True)
    drawn = torch.multinomial(p_BK, 1, generator=generator).squeeze(1)
    calibrated = calibration_metrics(p_BK, drawn)
    assert max(calibrated.values()) < 0.01
    overconfident = p_BK**3 / (p_BK**3).sum(1, keepdim=True)
    assert all(error > 5 * calibrated[name] for name, error in calibration_metrics(overconfident, drawn).items())


def test_the_error_weights_bins_by_their_number_of_statements() -> None:
    bins = [Bin(0.0, 0.1, n=30, predicted=0.05, observed=0.15), Bin(0.5, 0.6, n=10, predicted=0.55, observed=0.25)]
    assert calibration_error(bins) == pytest.approx((30 * 0.1 + 10 * 0.3) / 40)
