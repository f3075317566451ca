"""Movies without ratings: do movies that users like later rank above the others?

Shapes: B users of one block, M held-out movies, P parts of a score.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import polars as pl
import torch
from torch import Tensor

from recsys.compare.data import Data, Parts, load_data
from recsys.models import Interactions
from recsys.rank.place import block_size
from recsys.rank.ranker import Ranker
from recsys.rank.score import Candidates, blend, score_parts
from recsys.retrieve.histories import gather_histories
from recsys.retrieve.retriever import Users
from recsys.settings import Settings
from recsys.split.cut import cut_validation
from tests.benches.learned import Trained, make_ranker, train_once
from tests.benches.tables import format_table, pool_seeds, with_interval

SHARE = 0.1
MIN_RATINGS = 10
Floats = npt.NDArray[np.float64]


def measure_cold_movies(settings: Settings, seeds: Sequence[int], epochs: int | None) -> str:
    """Return Markdown: AUC of liked movies among held-out movies, for the blend and each retriever."""
    data = load_data(settings)
    by_seed, counts = [], []
    for seed in seeds:
        rest, held = hold_out_movies(data, seed)
        fitted, validation = cut_validation(rest, settings.split, seed)
        trained = train_once(data, Parts(fitted, validation, held), settings, seed, epochs)
        ranker = make_ranker(trained, settings.rank)
        by_seed.append(measure_placement(ranker, trained, settings.rank.relevant_from))
        item_idx = trained.learner.vocabulary.encode_movies(held["movie_id"].unique().to_numpy())
        counts.append(f"{np.isin(item_idx, ranker.new_movies.item_M.numpy()).sum()} of {len(item_idx)}")
    names = [name for name in by_seed[0].columns if name != "user_id"]
    rows = [(name, with_interval(pool_seeds(by_seed, name))) for name in names]
    users = len(pl.concat(by_seed)["user_id"].unique())
    return "\n".join(
        (
            f"Movies without a rating, {settings.source}, seeds {', '.join(map(str, seeds))}: {SHARE:.0%} of the "
            f"movies with at least {MIN_RATINGS} ratings are held out ({', '.join(counts)} have features and are "
            "placed). Of the held-out movies that a user has not rated, the share that ranks below one that they gave "
            f"{settings.rank.relevant_from:g} stars or more, with ties counting half: the mean over {users:,} users "
            "and its 95% interval. Chance gives 0.5.\n",
            format_table(("placed by", "share below (95%)"), rows),
        )
    )


def hold_out_movies(data: Data, seed: int) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Split the ratings into (others, those of movies drawn by `seed`)."""
    counted = data.ratings.group_by("movie_id").len().filter(pl.col("len") >= MIN_RATINGS).sort("movie_id")
    drawn = np.random.default_rng(seed).permutation(len(counted)) < round(SHARE * len(counted))
    held = counted.filter(drawn).select("movie_id")
    parts = (data.ratings.join(held, on="movie_id", how=how) for how in ("anti", "semi"))
    rest, asked = (part.sort("user_id", "movie_id") for part in parts)
    return rest, asked


def measure_placement(ranker: Ranker, trained: Trained, relevant_from: float) -> pl.DataFrame:
    """Return (user_id, blend, RETRIEVER ...) with `share_below` for users with ratings and a liked held-out movie."""
    learner = trained.learner
    asked = learner.encode(trained.on_holdout.asked)
    held_M = asked.item_idx.unique()
    rated, liked = (
        gather_histories(rows, learner.sizes()) for rows in (asked, _liked(asked, learner.levels, relevant_from))
    )
    users = ((liked.sizes() > 0) & (ranker.histories.sizes() > 0)).nonzero().squeeze(1)
    blocks = []
    for user_B in users.split(block_size(ranker)):
        rated_BM, liked_BM = (part.take(user_B).seen().to_dense()[:, held_M] > 0 for part in (rated, liked))
        scores = score_items(ranker, ranker.users(user_B), held_M)
        shares = {
            name: share_below(score_BM.numpy(), liked_BM.numpy(), ~rated_BM.numpy())
            for name, score_BM in scores.items()
        }
        blocks.append(pl.DataFrame({"user_id": learner.vocabulary.user_ids[user_B.numpy() - 1], **shares}))
    return pl.concat(blocks).filter(pl.col("blend").is_not_nan())


def score_items(ranker: Ranker, users: Users, item_M: Tensor) -> dict[str, Tensor]:
    """Return (B, M) float64 scores of the blend and of each retriever."""
    item_BM = item_M.expand(len(users), -1)
    affinity_BMP = torch.stack(
        [ranker.new_movies.place(one.log_affinity(users)).cpu()[:, item_M] for one in ranker.retrievers.values()], dim=2
    )
    parts_BMP, _ = score_parts(ranker, users, Candidates(item_BM, affinity_BMP))
    return {"blend": blend(ranker, users, parts_BMP)} | {
        name: affinity_BMP[:, :, place].double() for place, name in enumerate(ranker.retrievers)
    }


def share_below(score_BM: Floats, is_liked_BM: npt.NDArray[np.bool_], is_other_BM: npt.NDArray[np.bool_]) -> Floats:
    """Return (B,) AUC: the mean over a user's liked movies of the share of others with a lower score; ties count half.

    NaN for users without other movies.
    """
    shares = np.full(len(score_BM), np.nan)
    for row, (score_M, liked_M, other_M) in enumerate(zip(score_BM, is_liked_BM, is_other_BM, strict=True)):
        others = np.sort(score_M[other_M])
        if len(others):
            below, up_to = (np.searchsorted(others, score_M[liked_M], side=side) for side in ("left", "right"))
            shares[row] = (below + up_to).mean() / 2 / len(others)
    return shares


def _liked(asked: Interactions, levels: tuple[float, ...], relevant_from: float) -> Interactions:
    return asked.take((torch.tensor(levels)[asked.level_idx] >= relevant_from).nonzero().squeeze(1))
