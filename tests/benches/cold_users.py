"""New users: the value of a few ratings and of stated properties.

Shapes: B held-out users, I items, N places of a list.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl
import torch
from torch import Tensor

from recsys.compare.data import Data, Parts, load_data
from recsys.compare.plots import new_figure, write_figure
from recsys.metrics.bootstrap import bootstrap_interval
from recsys.metrics.lists import user_metrics
from recsys.models import Sizes
from recsys.rank.place import block_size, rank_users
from recsys.rank.ranker import Ranker
from recsys.retrieve.histories import Histories, gather_histories
from recsys.retrieve.retriever import Users
from recsys.settings import Settings
from recsys.split.cut import cut_validation
from tests.benches.learned import Trained, make_ranker, train_once
from tests.benches.tables import format_table, pool_seeds, with_difference, with_interval

SHARE = 0.2
GIVEN = (0, 1, 3, 5, 10)
PLACES = 10
STATED, UNSTATED, POPULAR = "fold-in, with what they state", "fold-in, nothing stated", "most rated"

Lists = Iterator[tuple[Tensor, Tensor, Tensor]]  # row of the user, rank, item_idx


@dataclass(frozen=True)
class Strangers:
    """Held-out users by row: ids, ratings and properties."""

    user_ids: pl.Series
    histories: Histories
    properties_BF: Tensor

    def given(self, n: int, seed: int) -> Users:
        """Return the users with `n` given ratings. Smaller sets of given ratings are subsets of larger ones."""
        known = self.histories.shorten(n, seed)
        return Users(torch.zeros(len(known), dtype=torch.int64), known, self.properties_BF, seen=known)


def measure_cold_users(settings: Settings, seeds: Sequence[int], epochs: int | None, picture: Path) -> str:
    """Return Markdown with NDCG@10 by number of given ratings, and draw it."""
    data = load_data(settings)
    by_seed: dict[tuple[int, str], list[pl.DataFrame]] = defaultdict(list)
    for seed in seeds:
        rest, held = hold_out_users(data, seed)
        fitted, validation = cut_validation(rest, settings.split, seed)
        trained = train_once(data, Parts(fitted, validation, held), settings, seed, epochs)
        ranker = make_ranker(trained, settings.rank)
        for point, users in measure_strangers(ranker, trained, settings.rank.relevant_from).items():
            by_seed[point].append(users)
    pooled = {point: pool_seeds(frames, "ndcg_at_10") for point, frames in by_seed.items()}
    draw(pooled, picture)
    rows = [
        (
            str(n),
            f"{len(pooled[n, STATED]):,}",
            *(with_interval(pooled[n, maker]) for maker in (STATED, UNSTATED, POPULAR)),
            with_difference(pooled[n, STATED], pooled[n, POPULAR]),
        )
        for n in GIVEN
    ]
    caption = (
        f"New users, {settings.source}, seeds {', '.join(map(str, seeds))}: {SHARE:.0%} of the "
        "users are held out with all their ratings; some of these, drawn at random, are given. NDCG@10 on the others, "
        f"relevant from {settings.rank.relevant_from:g} stars, with 95% intervals over users. Lists leave out given "
        "movies.\n"
    )
    header = ("ratings given", "users", STATED, UNSTATED, POPULAR, "the first above the last")
    return f"{caption}\n{format_table(header, rows)}"


def hold_out_users(data: Data, seed: int) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Split the ratings into (others, those of users drawn by `seed`)."""
    users = data.ratings.select("user_id").unique().sort("user_id")
    held = users.filter(np.random.default_rng(seed).permutation(len(users)) < round(SHARE * len(users)))
    rest, asked = (
        data.ratings.join(held, on="user_id", how=how).sort("user_id", "movie_id") for how in ("anti", "semi")
    )
    return rest, asked


def gather_strangers(ranker: Ranker, trained: Trained) -> Strangers:
    """Collect the users of the holdout. They have no training ratings; their index is used only for properties."""
    learner, held = trained.learner, trained.on_holdout.asked
    user_ids = held["user_id"].unique().sort()
    rows = learner.encode(held)
    assert not (ranker.histories.sizes()[rows.user_idx] > 0).any(), "a user is held out entirely or not at all"
    places = torch.from_numpy(user_ids.search_sorted(held["user_id"]).to_numpy().astype(np.int64))
    sizes = Sizes(len(user_ids), learner.sizes().n_items, learner.levels)
    histories = gather_histories(replace(rows, user_idx=places), sizes)
    user_idx = torch.from_numpy(learner.vocabulary.encode_users(user_ids.to_numpy()))
    return Strangers(user_ids, histories, ranker.properties.of_users_UF[user_idx])


def measure_strangers(ranker: Ranker, trained: Trained, relevant_from: float) -> dict[tuple[int, str], pl.DataFrame]:
    """Return `user_metrics` by number of given ratings and source of the lists."""
    strangers = gather_strangers(ranker, trained)
    measured = {}
    for n in GIVEN:
        users = strangers.given(n, trained.learner.seed)
        relevant = name_rows([find_relevant(strangers, users, relevant_from)], strangers, trained)
        unstated = replace(users, properties_BF=torch.zeros_like(users.properties_BF))
        lists = {
            STATED: list_strangers(ranker, users),
            UNSTATED: list_strangers(ranker, unstated),
            POPULAR: list_most_rated(ranker, users),
        }
        for maker, blocks in lists.items():
            measured[n, maker] = user_metrics(name_rows(blocks, strangers, trained), relevant.drop("rank"))
    return measured


def find_relevant(strangers: Strangers, users: Users, relevant_from: float) -> tuple[Tensor, Tensor, Tensor]:
    """Return the liked movies that were not given, in the form of a list."""
    histories = strangers.histories
    row, item_idx = histories.user_of_each(), histories.items
    is_given = torch.isin(
        _keys(row, item_idx, histories), _keys(users.seen.user_of_each(), users.seen.items, histories)
    )
    is_asked = (histories.stars >= relevant_from) & ~is_given & (item_idx > 0)
    return row[is_asked], torch.ones_like(row[is_asked]), item_idx[is_asked]


def list_strangers(ranker: Ranker, users: Users) -> Lists:
    """Make lists by fold-in. All new users have user_idx 0, so a new user begins where ranks restart."""
    for rows in torch.arange(len(users)).split(block_size(ranker)):
        block = rank_users(ranker, users.take(rows), PLACES, reasons=0)
        user_of_place = (block.rank == 1).cumsum(0) - 1
        assert int(user_of_place[-1]) == len(rows) - 1, "a user has no list"
        yield rows[user_of_place], block.rank, block.item_idx


def list_most_rated(ranker: Ranker, users: Users) -> Lists:
    """Return the most rated movies that these users have not seen; ties go to the lower index."""
    counts = ranker.histories.counts()
    for rows in torch.arange(len(users)).split(block_size(ranker)):
        count_BI = counts.repeat(len(rows), 1)
        seen = users.seen.take(rows)
        count_BI[seen.user_of_each(), seen.items] = 0
        best_BN = count_BI.argsort(dim=1, descending=True, stable=True)[:, :PLACES]
        row, place = (count_BI.gather(1, best_BN) > 0).nonzero(as_tuple=True)
        yield rows[row], place + 1, best_BN[row, place]


def name_rows(
    blocks: Iterator[tuple[Tensor, ...]] | list[tuple[Tensor, ...]], strangers: Strangers, trained: Trained
) -> pl.DataFrame:
    """(user_id, rank, movie_id)."""
    row, rank, item_idx = (torch.cat(parts).numpy() for parts in zip(*blocks, strict=True))
    movie_ids = trained.learner.vocabulary.movie_ids[item_idx - 1]
    return pl.DataFrame({"user_id": strangers.user_ids.to_numpy()[row], "rank": rank, "movie_id": movie_ids})


def draw(pooled: dict[tuple[int, str], np.ndarray], path: Path) -> None:
    """Draw a line per source of lists, with 95% intervals."""
    figure = new_figure(7, 4.5)
    axes = figure.subplots()
    for maker in (STATED, UNSTATED, POPULAR):
        values = [pooled[n, maker] for n in GIVEN]
        ends = [bootstrap_interval(values_U, seed=0) for values_U in values]
        means = [values_U.mean() for values_U in values]
        reach = [[mean - low for mean, (low, _) in zip(means, ends, strict=True)],
                 [high - mean for mean, (_, high) in zip(means, ends, strict=True)]]  # fmt: skip
        axes.errorbar(GIVEN, means, yerr=reach, fmt="o-", capsize=3, markersize=4, linewidth=1.2, label=maker)
    axes.set(xlabel="ratings given", ylabel="NDCG@10", xticks=GIVEN)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    write_figure(figure, path)


def _keys(row: Tensor, item_idx: Tensor, histories: Histories) -> Tensor:
    return row * histories.n_items + item_idx
