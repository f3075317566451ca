"""Lists from other sources for comparison: expected stars, tuned EASE, and ALS from the package `implicit`.

Shapes: B users of one block, I items.
"""

from dataclasses import asdict, dataclass, replace
from itertools import product

import numpy as np
import polars as pl
import torch
from implicit.cpu.als import AlternatingLeastSquares
from scipy import sparse
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]
from torch import Tensor

from recsys.encode.vocabulary import Vocabulary
from recsys.metrics.lists import user_metrics
from recsys.models import Pairs, RatingNetwork
from recsys.rank.lists import list_alone
from recsys.rank.ranker import Ranker
from recsys.retrieve.ease import fit_ease
from recsys.retrieve.histories import Histories
from recsys.retrieve.retriever import Retriever, Users
from recsys.settings import EaseConfig
from recsys.train.device import pick_device
from recsys.train.loop import predict
from tests.benches.learned import Stage

THREADS = 2
EASE_L2 = (100.0, 200.0, 300.0, 500.0, 700.0, 1000.0, 1500.0)
FACTORS, REGULARIZATION, ALPHA = (16, 32, 64, 128), (3.0, 30.0, 100.0), (1.0, 4.0, 16.0)
ITERATIONS, ITERATIONS_FIRST = (5, 10, 15, 30), 15


@dataclass(frozen=True)
class AlsSetting:
    """Settings of ALS under the names that `implicit` uses."""

    factors: int
    regularization: float
    alpha: float
    iterations: int

    def __str__(self) -> str:
        return ", ".join(f"{name} {value:g}" for name, value in asdict(self).items())


class Stars(Retriever):
    """The rating network alone as a retriever."""

    def __init__(self, network: RatingNetwork, rated_at: int, n_items: int) -> None:
        self.network, self.rated_at, self.n_items = network, rated_at, n_items

    def log_affinity(self, users: Users) -> Tensor:
        """Return expected stars. Without other parts, no logarithm is needed."""
        user_idx, item_idx = torch.cartesian_prod(users.user_idx, torch.arange(self.n_items)).unbind(1)
        pairs = Pairs(user_idx, item_idx, torch.full_like(user_idx, self.rated_at)).to(self.network.levels().device)
        return predict(self.network, pairs).mean_B.view(len(users), self.n_items)

    def tensors(self) -> dict[str, Tensor]:
        return {}


def list_by_stars(ranker: Ranker, n: int, vocabulary: Vocabulary) -> pl.DataFrame:
    stars = Stars(ranker.network, ranker.rated_at, ranker.histories.n_items)
    return list_alone(replace(ranker, retrievers={"stars": stars}), "stars", n, vocabulary)


def list_by_ease(ranker: Ranker, l2: float, n: int, stage: Stage) -> pl.DataFrame:
    """Make lists by EASE alone with this l2."""
    config, device = EaseConfig(l2=l2), pick_device(stage.learner.device)
    ease = fit_ease(ranker.histories, config, device)
    return list_alone(replace(ranker, retrievers={"ease": ease}), "ease", n, stage.learner.vocabulary)


def list_by_implicit(histories: Histories, setting: AlsSetting, n: int, stage: Stage) -> pl.DataFrame:
    """Make lists by the ALS and top-k of the package `implicit`; movies without ratings are left out."""
    seen_UI = sparse.csr_matrix(histories.matrix())
    unrated = (histories.counts() == 0).nonzero().squeeze(1).numpy()
    user_idx = np.arange(1, len(histories))
    with threadpool_limits(1, "blas"):  # `implicit` requires this, because it has its own threads
        model = AlternatingLeastSquares(**asdict(setting), num_threads=THREADS, random_state=stage.learner.seed)
        model.fit(seen_UI, show_progress=False)
        item_BN, score_BN = model.recommend(user_idx, seen_UI[user_idx], N=n, filter_items=unrated)
    row, place = (score_BN > np.finfo(np.float32).min).nonzero()  # padding of short lists
    vocabulary = stage.learner.vocabulary
    return pl.DataFrame(
        {
            "user_id": vocabulary.user_ids[row],
            "rank": place + 1,
            "movie_id": vocabulary.movie_ids[item_BN[row, place] - 1],
        }
    )


class Tuner:
    """Measures NDCG@10 of settings on a stage. Each setting is computed once and reused for all sets of users."""

    def __init__(self, ranker: Ranker, stage: Stage) -> None:
        self.ranker, self.stage = ranker, stage
        self.relevant = stage.relevant(ranker.config.relevant_from)
        self.measured: dict[float | AlsSetting, pl.DataFrame] = {}

    def ease_l2(self, users: pl.DataFrame) -> float:
        """Return the best l2 for these users (user_id). Ties go to the first value, here and below."""
        return max(EASE_L2, key=lambda l2: self.ndcg(l2, users))

    def als_setting(self, users: pl.DataFrame) -> AlsSetting:
        """Return the best factors, regularization and alpha, and then the best number of iterations."""
        mixes = (AlsSetting(*mix, ITERATIONS_FIRST) for mix in product(FACTORS, REGULARIZATION, ALPHA))
        best = max(mixes, key=lambda setting: self.ndcg(setting, users))
        longer = (replace(best, iterations=iterations) for iterations in ITERATIONS)
        return max(longer, key=lambda setting: self.ndcg(setting, users))

    def ndcg(self, setting: float | AlsSetting, users: pl.DataFrame) -> float:
        """Return the mean over `users` for EASE with this l2, or for ALS with these settings."""
        if setting not in self.measured:
            self.measured[setting] = user_metrics(self._list(setting), self.relevant)
        measured = self.measured[setting].join(users, on="user_id", how="semi")
        return float(measured["ndcg_at_10"].to_numpy().mean())

    def _list(self, setting: float | AlsSetting) -> pl.DataFrame:
        if isinstance(setting, AlsSetting):
            return list_by_implicit(self.ranker.histories, setting, 10, self.stage)
        return list_by_ease(self.ranker, setting, 10, self.stage)
