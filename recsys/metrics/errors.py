"""Errors of predicted ratings."""

from torch import Tensor

from recsys.metrics.decode import Prediction, decode_median, decode_mode, decode_rounded

MIN_PROBABILITY = 1e-7  # a level with probability 0 costs 16 nats instead of infinity


def mae(stars_hat: Tensor, stars: Tensor) -> float:
    """Mean absolute error in stars."""
    return (stars_hat.double() - stars.double()).abs().mean().item()


def rmse(stars_hat: Tensor, stars: Tensor) -> float:
    """Root mean squared error in stars."""
    return (stars_hat.double() - stars.double()).square().mean().sqrt().item()


def log_loss(p_BK: Tensor, level_idx_B: Tensor) -> float:
    """Mean negative log-probability of the actual level, in nats."""
    given_B = p_BK.double().gather(1, level_idx_B[:, None]).squeeze(1)
    return -given_B.clamp(min=MIN_PROBABILITY).log().mean().item()


def prediction_metrics(prediction: Prediction, level_idx_B: Tensor, levels_K: Tensor) -> dict[str, float]:
    """Errors of all decoders on the same rows."""
    stars, p_BK = levels_K[level_idx_B], prediction.p_BK
    return {
        "mae_median": mae(decode_median(p_BK, levels_K), stars),
        "mae_mode": mae(decode_mode(p_BK, levels_K), stars),
        **number_metrics(prediction.mean_B, stars, levels_K),
        "log_loss": log_loss(p_BK, level_idx_B),
    }


def number_metrics(stars_hat: Tensor, stars: Tensor, levels_K: Tensor) -> dict[str, float]:
    """Errors of one number per rating, both unrounded and rounded to the nearest level."""
    return {
        "mae_mean": mae(stars_hat, stars),
        "mae_rounded": mae(decode_rounded(stars_hat, levels_K), stars),
        "rmse_mean": rmse(stars_hat, stars),
    }
