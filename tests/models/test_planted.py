"""The error of networks on planted ratings, divided by the lowest possible error, which is known.

Networks have their default config. Their errors depend on the number of steps, so fewer ratings are not enough: with
9,000 ratings instead of 20,000, `dot` is no better than the mean of all ratings.
"""

from functools import cache

import numpy as np
import pytest
import torch

from recsys.encode.features import fit_features
from recsys.encode.vocabulary import fit_vocabulary
from recsys.ingest.synthetic.synthetic import plant
from recsys.metrics.errors import rmse
from recsys.models import MODELS, Interactions
from recsys.models.baselines import fit_baselines
from recsys.split.cut import split_validation
from recsys.train.learn import Choice, Learner, learn
from recsys.train.loop import predict
from tests.support.planted import LEVELS

# Upper limits of the holdout RMSE divided by the lowest possible one. The mean of all ratings has 1.69, the mean of the
# movie 1.51, biases 1.43. Only networks with products of vectors and with biases get below 1.43, because planted tastes
# are products. In their few epochs, the other networks learn little more than the biases. Most of them are therefore
# not trained here: test_contract.py tests that each one learns something about users and about movies.
LIMITS = {
    "ordinal": 1.30,
    "softmax": 1.48,
    "dot": 1.48,
    "dot_bias": 1.27,
    "mlp": 1.48,
}


class Planted:
    """Ratings with more taste than noise; 90% of them are for training."""

    def __init__(self) -> None:
        truth = plant(300, 150, 20_000)
        self.known, holdout = split_validation(truth.ratings, 0.1, seed=0)
        vocabulary = fit_vocabulary(truth.ratings)
        self.learner = Learner(vocabulary, LEVELS, 0, "cpu", fit_features(vocabulary, truth.users, truth.movies))
        self.holdout: Interactions = self.learner.encode(holdout)
        users, movies = (holdout[name].to_numpy().astype(np.int64) for name in ("user_id", "movie_id"))
        self.best = truth.best_rmse_mean(users, movies)

    def distance(self, name: str) -> float:
        """The RMSE of the network after all epochs of its default config, divided by the lowest possible RMSE."""
        config = MODELS[name].configure(len(self.known), len(LEVELS))
        network = learn(Choice(name, config, config.training.epochs, {}), self.known, self.learner, label=name)
        stars = network.levels()[self.holdout.level_idx]
        return rmse(predict(network, self.holdout).mean_B, stars) / self.best


planted_data = cache(Planted)


@pytest.mark.slow
@pytest.mark.parametrize("name", LIMITS)
def test_each_network_is_within_its_limit(name: str) -> None:
    # an error below the lowest possible one would mean that training has seen the holdout
    assert 0.98 < planted_data().distance(name) < LIMITS[name]


def test_limits_exclude_networks_that_ignore_users_or_movies() -> None:
    """Such a network is at best as good as the mean of the movie or the mean of the user."""
    data = planted_data()
    baselines = fit_baselines(data.learner.encode(data.known), data.learner.sizes())
    stars = torch.tensor(LEVELS)[data.holdout.level_idx]
    ratio = {
        name: rmse(predict_stars(data.holdout.user_idx, data.holdout.item_idx), stars) / data.best
        for name, predict_stars in baselines.items()
    }
    assert ratio["bias"] > 1.35
    assert min(ratio["user_mean"], ratio["movie_mean"]) > max(LIMITS.values())
