"""Popularity of movies among all users and among users with the same gender, age or occupation.

Shapes: U users, I items, B users of one block, F properties (in `shares_FI` plus one row for all users).
"""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from recsys.encode.features import Feature, Features, UserFeature
from recsys.retrieve.histories import Histories
from recsys.retrieve.retriever import Retriever, Users, log_affinity
from recsys.settings import PopularityConfig

STATED: tuple[UserFeature, ...] = ("gender", "age", "occupation")  # stated at sign-up, in editions that have them


@dataclass(frozen=True)
class Properties:
    """The stated properties of users, as zeros and ones. Column f is `names[f]`, e.g. gender=F."""

    names: tuple[str, ...]
    of_users_UF: Tensor  # float32

    def of(self, stated: Iterable[str]) -> Tensor:
        """Returns (1, F) for one user with these properties."""
        known = set(stated)
        assert known <= {*self.names}, f"unknown properties: {known - {*self.names}}"
        return torch.tensor([[float(name in known) for name in self.names]])


def gather_properties(features: Features, n_users: int) -> Properties:
    """Collects the properties of all users, including index 0, which has none."""
    columns = [_columns(name, features.user[name], n_users) for name in STATED if name in features.user]
    names = tuple(name for part, _ in columns for name in part)
    return Properties(names, torch.cat([torch.zeros(n_users, 0), *(values for _, values in columns)], dim=1))


def _columns(name: str, feature: Feature, n_users: int) -> tuple[list[str], Tensor]:
    values_UF = torch.zeros(n_users, feature.n_values)
    values_UF[feature.rows(), feature.values] = 1.0
    return [f"{name}={value}" for value in feature.names], values_UF[:, 1:]  # value 0 is "not known"


class Popularity(Retriever):
    """The share of users who rated a movie, adjusted for the user's properties."""

    def __init__(self, shares_FI: Tensor) -> None:
        """shares_FI: the share among all users in row 0, then the amount that each property adds."""
        self.shares_FI = shares_FI

    def log_affinity(self, users: Users) -> Tensor:
        return log_affinity(self.shares_FI[0] + users.properties_BF.to(self.shares_FI.device) @ self.shares_FI[1:])

    def tensors(self) -> dict[str, Tensor]:
        return {"shares_FI": self.shares_FI}


def fit_popularity(
    histories: Histories, properties: Properties, config: PopularityConfig, device: torch.device
) -> Popularity:
    """Fits a ridge regression of "has rated the movie" on the properties. `config.l2` shrinks their effects."""
    matrix, rates_U = histories.matrix(), (histories.sizes() > 0).float()
    known_UF, n_raters = properties.of_users_UF * rates_U[:, None], rates_U.sum().clamp(min=1)
    share_I = histories.counts() / n_raters
    n_F, rated_FI = known_UF.sum(0), torch.from_numpy((matrix.T @ known_UF.numpy()).T)
    gram_FF = known_UF.T @ known_UF + config.l2 * torch.eye(len(n_F))
    effect_FI = torch.linalg.solve(gram_FF, rated_FI - n_F[:, None] * share_I)
    return Popularity(torch.cat([share_I[None], effect_FI]).to(device))
