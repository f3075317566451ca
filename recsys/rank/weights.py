"""How much each part of a score counts, learned on validation: the more that is known of a user, the more it says.

Shapes: B users, C candidates, P parts.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from recsys.files import read_json, write_json

MIN_SPREAD = 1e-4  # of logarithms: a part that is the same for all candidates says nothing
MAX_STEPS = 100  # of L-BFGS, which stops by itself after some twenty


@dataclass(frozen=True)
class Weights:
    """Weights of the parts for users of so many ratings or more, up to the next size: `by_size[size][part]`."""

    by_size: dict[int, dict[str, float]]  # ascending, from 0

    def of(self, sizes_B: Tensor, parts: Sequence[str]) -> Tensor:
        """(B, P) float64 for users of these numbers of ratings."""
        table = torch.tensor([[row[part] for part in parts] for row in self.by_size.values()], dtype=torch.float64)
        return table[torch.searchsorted(torch.tensor(list(self.by_size)), sizes_B, right=True) - 1]

    def save(self, folder: Path) -> None:
        """Writes weights.json."""
        write_json(folder / "weights.json", self.by_size)

    @classmethod
    def load(cls, folder: Path) -> "Weights":
        """What `save` wrote to `folder`."""
        return cls.from_json(read_json(folder / "weights.json"))

    @classmethod
    def from_json(cls, by_size: dict[str, dict[str, float]]) -> "Weights":
        """JSON has no numbers for keys, and sorts them as words."""
        return cls(dict(sorted((int(size), row) for size, row in by_size.items())))


NO_WEIGHTS = Weights({})  # of a ranker that has yet to be taught


@dataclass(frozen=True)
class Lesson:
    """Candidates of some users, of which it is known whether they were right."""

    parts_BCP: Tensor
    is_candidate_BC: Tensor  # bool
    is_relevant_BC: Tensor  # bool; only where there is a candidate


def fit_weights(lesson: Lesson, expected_P: Tensor, doubt_users: float) -> Tensor:
    """(P,) float64: the weights under which relevant candidates are likeliest to be drawn from among all of a user's.

    That is the mean over relevant candidates of their log-softmax over the list, less what it costs to leave the
    weights that were expected: the squares of the differences, as if every part had spread 1, times `doubt_users` over
    the number of users who teach. Convex, so there is one answer. Where nobody teaches it is `expected_P`; a part that
    is the same for all candidates gets 0.

    Source: Cao, Qin, Liu, Tsai and Li, "Learning to Rank: From Pairwise Approach to Listwise Approach" (ICML 2007).
    """
    teaches_B = lesson.is_relevant_BC.any(1) & (lesson.is_candidate_BC.sum(1) > 1)
    parts_BCP, candidate_BC = lesson.parts_BCP[teaches_B].double(), lesson.is_candidate_BC[teaches_B]
    relevant_BC = lesson.is_relevant_BC[teaches_B]
    if not len(parts_BCP):
        return expected_P.double()
    given = parts_BCP[candidate_BC]
    std_P = given.std(0, correction=0)
    spread_P = std_P.clamp(min=MIN_SPREAD)
    parts_BCP = ((parts_BCP - given.mean(0)) / spread_P).masked_fill(~candidate_BC[:, :, None], 0.0)
    start_P = expected_P * spread_P
    weight_P = start_P.clone().requires_grad_()
    optimizer = torch.optim.LBFGS([weight_P], max_iter=MAX_STEPS, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        score_BC = (parts_BCP @ weight_P).masked_fill(~candidate_BC, -torch.inf)
        leaving = doubt_users / len(parts_BCP) * (weight_P - start_P).square().sum()
        value = leaving - score_BC.log_softmax(1)[relevant_BC].mean()
        value.backward()
        return value

    optimizer.step(loss)
    return torch.where(std_P > MIN_SPREAD, weight_P.detach() / spread_P, 0.0)
