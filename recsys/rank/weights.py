"""Weights of the parts of a score, learned on validation for users with different numbers of ratings.

Shapes: B users, C candidates, P parts.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import optimize
from torch import Tensor

from recsys.files import read_json, write_json

MIN_SPREAD = 1e-4  # of logarithms; a part that is constant over all candidates gets weight 0
MAX_STEPS = 100  # of L-BFGS, which usually converges after about twenty


@dataclass(frozen=True)
class Weights:
    """`by_size[size][part]` are the weights for users with at least `size` ratings and fewer than the next size."""

    by_size: dict[int, dict[str, float]]  # ascending, from 0

    def of(self, sizes_B: Tensor, parts: Sequence[str]) -> Tensor:
        """Returns (B, P) float64 for users with these numbers of ratings."""
        table = torch.tensor([[row[part] for part in parts] for row in self.by_size.values()], dtype=torch.float64)
        return table[torch.searchsorted(torch.tensor(list(self.by_size)), sizes_B, right=True) - 1]

    def save(self, folder: Path) -> None:
        """Writes weights.json."""
        write_json(folder / "weights.json", self.by_size)

    @classmethod
    def load(cls, folder: Path) -> "Weights":
        """Reads what `save` wrote to `folder`."""
        return cls.from_json(read_json(folder / "weights.json"))

    @classmethod
    def from_json(cls, by_size: dict[str, dict[str, float]]) -> "Weights":
        """Converts the text keys of JSON to numbers and sorts by them."""
        return cls(dict(sorted((int(size), row) for size, row in by_size.items())))


NO_WEIGHTS = Weights({})  # for a ranker whose weights are not learned yet


@dataclass(frozen=True)
class LabelledCandidates:
    """Candidates of some users, each labelled as relevant or not."""

    parts_BCP: Tensor
    is_candidate_BC: Tensor  # bool
    is_relevant_BC: Tensor  # bool; implies is_candidate_BC


def fit_weights(labelled: LabelledCandidates, prior_P: Tensor, doubt_users: float) -> Tensor:
    """Returns (P,) float64: the weights that maximise the mean log-softmax of the relevant candidates of each user.

    A penalty keeps the weights near the prior. It is the sum of squared differences, in units of each part's spread,
    times `doubt_users` divided by the number of users with a relevant candidate. The problem is convex, so the solution
    is unique. Without such users, the result is `prior_P`. A part that is constant over all candidates gets 0.

    Source: Cao, Qin, Liu, Tsai and Li, "Learning to Rank: From Pairwise Approach to Listwise Approach" (ICML 2007).
    """
    has_relevant_B = labelled.is_relevant_BC.any(1) & (labelled.is_candidate_BC.sum(1) > 1)
    parts_BCP, candidate_BC = labelled.parts_BCP[has_relevant_B].double(), labelled.is_candidate_BC[has_relevant_B]
    relevant_BC = labelled.is_relevant_BC[has_relevant_B]
    if not len(parts_BCP):
        return prior_P.double()
    given = parts_BCP[candidate_BC]
    std_P = given.std(0, correction=0)
    spread_P = std_P.clamp(min=MIN_SPREAD)
    parts_BCP = ((parts_BCP - given.mean(0)) / spread_P).masked_fill(~candidate_BC[:, :, None], 0.0)
    start_P = prior_P * spread_P

    def loss(values: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        weight_P = torch.from_numpy(values).requires_grad_()
        score_BC = (parts_BCP @ weight_P).masked_fill(~candidate_BC, -torch.inf)
        penalty = doubt_users / len(parts_BCP) * (weight_P - start_P).square().sum()
        value = penalty - score_BC.log_softmax(1)[relevant_BC].mean()
        (gradient_P,) = torch.autograd.grad(value, weight_P)
        return value.item(), gradient_P.numpy()

    tolerances = {"maxiter": MAX_STEPS, "gtol": 1e-7, "ftol": 1e-12}
    solved = optimize.minimize(loss, start_P.numpy(), jac=True, method="L-BFGS-B", options=tolerances)
    weight_P = torch.from_numpy(solved.x)
    return torch.where(std_P > MIN_SPREAD, weight_P / spread_P, 0.0)
