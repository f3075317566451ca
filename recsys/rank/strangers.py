"""Predictions for strangers: users whom the network does not know, from the stars of a few ratings.

The tastes of the users that the network knows are the prior. A taste is how the predicted stars of all movies deviate
from those for a user without ratings. Its principal components are the factors. A few ratings determine the most
probable factors of a stranger, and these determine the expected stars of all movies. Only predictions are used, so this
works with every network. `ask.fold_in` repeats the arithmetic for one user in numpy.

Source: the posterior mean of the factors in Tipping and Bishop, "Probabilistic Principal Component Analysis" (JRSS B,
1999), with a known mean and noise.

Shapes: I items, U sampled users, D factors, B strangers, N given ratings, C candidates.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from recsys.models import Pairs, RatingNetwork
from recsys.rank.common import MIN_CHANCE
from recsys.retrieve.histories import Histories
from recsys.train.loop import predict

FACTORS = 8  # more do not lower the error (docs/experiments.md)
MAX_USERS = 500  # whose tastes are the prior
MAX_PAIRS = 2**23  # of these users and all movies, which limits the users of a large catalogue


@dataclass(frozen=True)
class Strangers:
    """What the network predicts without ratings, and what each factor adds. On the CPU."""

    stars_I: Tensor  # float32, expected stars
    likes_I: Tensor  # float32, the probability of relevant stars
    stars_ID: Tensor  # float32, stars per standard deviation of a factor
    likes_ID: Tensor  # float32, log-odds of relevant stars per standard deviation of a factor
    noise: Tensor  # (), float64: the variance of a rating around its expected stars

    def place(self, own: Histories) -> Tensor:
        """Returns (B, D) float64: the factors of users with these ratings, in standard deviations. 0 without any."""
        user_N, factor_ND = own.user_of_each(), self.stars_ID[own.items].double()
        surprise_N = own.stars.double() - self.stars_I[own.items].double()
        left_BDD = (self.noise * torch.eye(factor_ND.shape[1], dtype=torch.float64)).repeat(len(own), 1, 1)
        left_BDD.index_add_(0, user_N, factor_ND[:, :, None] * factor_ND[:, None, :])
        right_BD = torch.zeros(left_BDD.shape[:2], dtype=torch.float64)
        right_BD.index_add_(0, user_N, surprise_N[:, None] * factor_ND)
        factor_BD1: Tensor = torch.linalg.solve(left_BDD, right_BD[:, :, None])
        return factor_BD1.squeeze(2)

    def predict(self, factor_BD: Tensor, item_BC: Tensor, levels: Sequence[float]) -> tuple[Tensor, Tensor]:
        """Returns (B, C) float64: the expected stars, and the probability of relevant stars.

        Factors do not move stars off the scale.
        """
        stars_BC, chance_BC = self.stars_I[item_BC].double(), self.likes_I[item_BC].double()
        added_BC, odds_BC = (
            (per_factor[item_BC].double() @ factor_BD[:, :, None]).squeeze(2)
            for per_factor in (self.stars_ID, self.likes_ID)
        )
        ends = stars_BC.clamp(max=levels[0]), stars_BC.clamp(min=levels[-1])
        return (stars_BC + added_BC).clamp(*ends), (_log_odds(chance_BC) + odds_BC).sigmoid()


def fit_strangers(network: RatingNetwork, histories: Histories, rated_at: int, relevant_from: float) -> Strangers:
    """Predicts all movies for a user without ratings and for a sample of the known users, and finds the factors."""
    n_items, known = histories.n_items, (histories.sizes() > 0).nonzero().squeeze(1)
    n_users = min(len(known), MAX_USERS, max(1, MAX_PAIRS // n_items))
    users = [0, *known[torch.linspace(0, max(len(known) - 1, 0), n_users).long()].tolist()]
    predicted = [_predict(network, user, n_items, rated_at, relevant_from) for user in users]
    stars_UI, likes_UI, variance_U = (torch.stack(column) for column in zip(*predicted, strict=True))
    taste_UI = (stars_UI[1:] - stars_UI[0]).double()
    odds_UI = _log_odds(likes_UI.double())
    _, user_UU = torch.linalg.eigh(taste_UI @ taste_UI.T)  # ascending
    factor_UD = user_UU[:, -FACTORS:].flip(1) / max(n_users, 1) ** 0.5
    return Strangers(
        stars_I=stars_UI[0],
        likes_I=likes_UI[0],
        stars_ID=(taste_UI.T @ factor_UD).float(),
        likes_ID=((odds_UI[1:] - odds_UI[0]).T @ factor_UD).float(),
        noise=variance_U.double().mean(),
    )


def _predict(
    network: RatingNetwork, user: int, n_items: int, rated_at: int, relevant_from: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Returns (I,) the expected stars, (I,) the probability of relevant stars and () the mean variance of a rating."""
    item_idx, levels_K = torch.arange(n_items), network.levels()
    pairs = Pairs(torch.full_like(item_idx, user), item_idx, torch.full_like(item_idx, rated_at))
    prediction = predict(network, pairs.to(levels_K.device))
    likes_I = prediction.p_BK[:, levels_K >= relevant_from].sum(1)
    variance_I = prediction.p_BK @ levels_K.square() - (prediction.p_BK @ levels_K).square()
    return prediction.mean_B.cpu(), likes_I.cpu(), variance_I.mean().cpu()


def _log_odds(chance: Tensor) -> Tensor:
    return chance.clamp(MIN_CHANCE, 1 - MIN_CHANCE).logit()
