import math

import pytest
import torch

from recsys.metrics.decode import Prediction, decode_mean
from recsys.metrics.errors import log_loss, mae, number_metrics, prediction_metrics, rmse

STARS = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0])


def test_mae_and_rmse_by_hand() -> None:
    stars_hat, stars = torch.tensor([1.0, 2.5, 5.0, 3.0]), torch.tensor([2.0, 2.0, 3.0, 3.0])
    assert mae(stars_hat, stars) == pytest.approx((1 + 0.5 + 2 + 0) / 4)
    assert rmse(stars_hat, stars) == pytest.approx(math.sqrt((1 + 0.25 + 4 + 0) / 4))


def test_errors_are_summed_in_double_precision() -> None:
    stars_hat = torch.rand(100_000, generator=torch.Generator().manual_seed(0))
    off = [value - 1.0 for value in stars_hat.tolist()]
    assert mae(stars_hat, torch.ones(100_000)) == pytest.approx(math.fsum(map(abs, off)) / 100_000, rel=1e-12)
    mean_square = math.fsum(value**2 for value in off) / 100_000
    assert rmse(stars_hat, torch.ones(100_000)) == pytest.approx(math.sqrt(mean_square), rel=1e-12)


def test_log_loss_by_hand() -> None:
    p_BK = torch.tensor([[0.5, 0.25, 0.25], [0.125, 0.75, 0.125]])
    assert log_loss(p_BK, torch.tensor([1, 0])) == pytest.approx((math.log(4) + math.log(8)) / 2)


def test_an_impossible_level_costs_16_nats_not_infinity() -> None:
    p_BK = torch.tensor([[0.0, 1.0], [1.0, 0.0], [1e-9, 1.0]])
    assert log_loss(p_BK, torch.tensor([0, 0, 0])) == pytest.approx((math.log(1e7) + 0 + math.log(1e7)) / 3)
    assert math.log(1e7) == pytest.approx(16, abs=0.2)


def test_every_decoder_on_the_same_rows() -> None:
    p_BK = torch.tensor([[0.0, 0.0, 0.25, 0.25, 0.5], [0.5, 0.0, 0.0, 0.0, 0.5]])
    prediction = Prediction(p_BK, decode_mean(p_BK, STARS))
    metrics = prediction_metrics(prediction, torch.tensor([4, 1]), STARS)  # 5 and 2 stars
    assert metrics == {
        "mae_median": pytest.approx((1 + 1) / 2),  # medians 4 and 1
        "mae_mode": pytest.approx((0 + 1) / 2),  # modes 5 and 1
        "mae_mean": pytest.approx((0.75 + 1) / 2),  # means 4.25 and 3
        "mae_rounded": pytest.approx((1 + 1) / 2),  # means rounded 4 and 3
        "rmse_mean": pytest.approx(math.sqrt((0.75**2 + 1) / 2)),
        "log_loss": pytest.approx((math.log(2) + math.log(1e7)) / 2),
    }


def test_metrics_of_a_network_that_predicts_one_number() -> None:
    metrics = number_metrics(torch.tensor([3.6, 2.0]), torch.tensor([4.0, 3.0]), STARS)
    assert metrics == {
        "mae_mean": pytest.approx((0.4 + 1) / 2),
        "mae_rounded": pytest.approx((0 + 1) / 2),
        "rmse_mean": pytest.approx(math.sqrt((0.16 + 1) / 2)),
    }
