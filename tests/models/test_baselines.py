import pytest
import torch

from recsys.metrics.errors import rmse
from recsys.models import Sizes
from recsys.models.baselines import RATING_BASELINES, fit_baselines
from tests.support.planted import LEVELS, SIZES, parts, rows_of

# (user, item, stars); user 3 and movie 4 have no rating
RATED = [(1, 1, 5), (1, 2, 3), (2, 1, 4), (2, 3, 1), (2, 2, 2)]
USERS, ITEMS, STARS = torch.tensor(RATED).T
TRAIN, TRAIN_SIZES = rows_of(USERS, ITEMS, STARS - 1), Sizes(n_users=4, n_items=5, levels=LEVELS)
MEAN = 15 / 5


def stars_hat(name: str, user: int, item: int) -> float:
    return fit_baselines(TRAIN, TRAIN_SIZES)[name](torch.tensor([user]), torch.tensor([item])).item()


def test_means_by_hand() -> None:
    assert stars_hat("global_mean", 1, 1) == pytest.approx(MEAN)
    assert stars_hat("user_mean", 1, 3) == pytest.approx((5 + 3) / 2)
    assert stars_hat("user_mean", 2, 3) == pytest.approx((4 + 1 + 2) / 3)
    assert stars_hat("movie_mean", 2, 1) == pytest.approx((5 + 4) / 2)


def test_biases_by_hand() -> None:
    """Movie biases damped by 25 ratings, then user biases of the residuals damped by 10."""
    movie = {1: (2 + 1) / 27, 2: (0 - 1) / 27, 3: -2 / 26}
    user_1 = ((2 - movie[1]) + (0 - movie[2])) / 12
    user_2 = ((1 - movie[1]) + (-2 - movie[3]) + (-1 - movie[2])) / 13
    assert stars_hat("bias", 1, 3) == pytest.approx(MEAN + user_1 + movie[3])
    assert stars_hat("bias", 2, 1) == pytest.approx(MEAN + user_2 + movie[1])
    assert stars_hat("bias", 3, 1) == pytest.approx(MEAN + movie[1])
    assert stars_hat("bias", 1, 4) == pytest.approx(MEAN + user_1)


@pytest.mark.parametrize("name", RATING_BASELINES)
@pytest.mark.parametrize(("user", "item"), [(0, 0), (3, 4), (0, 4)])
def test_ids_without_a_rating_get_the_global_mean(name: str, user: int, item: int) -> None:
    assert stars_hat(name, user, item) == pytest.approx(MEAN)


def test_a_baseline_predicts_one_number_per_pair() -> None:
    for predict in fit_baselines(TRAIN, TRAIN_SIZES).values():
        assert predict(USERS, ITEMS).shape == (5,)


def test_baselines_with_more_parameters_have_lower_errors() -> None:
    train, validation = parts()
    stars = validation.level_idx + 1.0
    errors = {
        name: rmse(predict(validation.user_idx, validation.item_idx), stars)
        for name, predict in fit_baselines(train, SIZES).items()
    }
    assert errors["bias"] < min(errors["user_mean"], errors["movie_mean"])
    assert max(errors["user_mean"], errors["movie_mean"]) < errors["global_mean"]
