"""Measures lists from any source on the holdout: quality, confidence intervals, and quality by slice of users."""

import logging
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import polars as pl
from torch import Tensor

from recsys.encode.features import Features
from recsys.encode.vocabulary import Vocabulary
from recsys.evaluate.slices import measure_list_slices
from recsys.metrics.bootstrap import bootstrap_interval
from recsys.metrics.differences import MIN_USERS, Difference, Paired, measure_differences
from recsys.metrics.lists import Catalogue, list_metrics, metric_values, user_metrics
from recsys.models import Interactions
from recsys.rank.films import films_of

logger = logging.getLogger(__name__)

JUDGED = "network"  # the source of the lists that are measured with intervals and slices


@dataclass(frozen=True)
class ListQuality:
    """Figures of lists: `metrics` by source of the lists, and `slices` of the network's lists, by slice.

    `users` has the metrics of each user with a relevant movie, by source; the users and their order are the same.
    """

    metrics: dict[str, dict[str, float]]
    slices: dict[str, dict[str, float]]
    users: dict[str, pl.DataFrame] = field(compare=False)


def judge_lists(
    lists: dict[str, pl.DataFrame],
    relevant: pl.DataFrame,
    train: Interactions,
    vocabulary: Vocabulary,
    features: Features,
    listable: Tensor,
    seed: int,
) -> ListQuality:
    """Measures `lists`, by their source. The network's lists also get slices, and 95% intervals of means over users.

    Lists (user_id, rank, movie_id) contain `listable` items, (I,) bool, for the users of `train`; `relevant` holds the
    relevant (user_id, movie_id) pairs of these users. Hits are counted by film, catalogue metrics by movie_id.
    Intervals are named ndcg_at_10_low and ndcg_at_10_high.
    """
    twins = train.take(films_of(vocabulary).has_twin[train.item_idx].nonzero().squeeze(1))
    user_ids, movie_ids = (vocabulary.user_ids, vocabulary.movie_ids)
    seen = pl.DataFrame(
        {"user_id": user_ids[twins.user_idx.numpy() - 1], "movie_id": movie_ids[twins.item_idx.numpy() - 1]}
    )
    relevant = name_unseen_films(relevant, seen, vocabulary)
    catalogue = gather_catalogue(train, vocabulary, features, listable)
    users = {name: user_metrics(name_films(frame, vocabulary), relevant) for name, frame in lists.items()}
    metrics = {name: list_metrics(users[name], frame, catalogue) for name, frame in lists.items()}
    metrics[JUDGED] |= _intervals(users[JUDGED], seed)
    return ListQuality(metrics, measure_list_slices(users[JUDGED], train, vocabulary, features), users)


def compare_lists(quality: ListQuality, others: Iterable[str], error_rate: float, seed: int) -> tuple[Difference, ...]:
    """Returns NDCG@10 of the network's lists minus that of each other source, with intervals as `measure_differences`.

    The slice of a difference is the name of the other source. Empty if there are fewer than MIN_USERS users.
    """
    ndcg = {name: users["ndcg_at_10"].to_numpy() for name, users in quality.users.items()}
    n_users = len(ndcg[JUDGED])
    if n_users < MIN_USERS:
        logger.info("lists of %d users on the holdout are too few for a comparison with the baselines", n_users)
        return ()
    pairs = [Paired("ndcg_at_10", name, ndcg[JUDGED] - ndcg[name], np.ones(n_users)) for name in others if name in ndcg]
    return measure_differences(pairs, error_rate, seed)


def name_films(rows: pl.DataFrame, vocabulary: Vocabulary) -> pl.DataFrame:
    """Replaces each movie_id by the film_id."""
    return rows.with_columns(pl.col("movie_id").replace(dict(vocabulary.film_of)))


def name_unseen_films(relevant: pl.DataFrame, seen: pl.DataFrame, vocabulary: Vocabulary) -> pl.DataFrame:
    """Returns the relevant (user_id, movie_id) by film_id, without films that the user has seen under another id.

    No list can contain such a film.
    """
    relevant, seen = (name_films(rows.select("user_id", "movie_id"), vocabulary) for rows in (relevant, seen))
    return relevant.unique().join(seen, on=["user_id", "movie_id"], how="anti")


def gather_catalogue(train: Interactions, vocabulary: Vocabulary, features: Features, listable: Tensor) -> Catalogue:
    """Returns the listable movies with the number of their raters in `train`, and the genres known to `features`."""
    rated = pl.DataFrame({"user_idx": train.user_idx.numpy(), "item_idx": train.item_idx.numpy()}).unique()
    may_be_listed = pl.DataFrame({"item_idx": listable.nonzero().squeeze(1).numpy()})
    counts = rated.group_by("item_idx").len("n_users")
    counted = may_be_listed.join(counts, on="item_idx", how="left", maintain_order="left").fill_null(0)
    movies = pl.DataFrame({"movie_id": _movie_ids(counted["item_idx"], vocabulary), "n_users": counted["n_users"]})
    return Catalogue(movies, _genres(vocabulary, features), rated["user_idx"].n_unique())


def _genres(vocabulary: Vocabulary, features: Features) -> pl.DataFrame:
    """Returns (movie_id, genre)."""
    if "genres" not in features.item:
        return pl.DataFrame(schema={"movie_id": pl.Int32, "genre": pl.String})
    feature = features.item["genres"]
    known = pl.DataFrame({"item_idx": feature.rows().numpy(), "value": feature.values.numpy()}).filter(
        pl.col("value") > 0
    )
    names = np.array(feature.names)
    genre = pl.Series(names[known["value"].to_numpy() - 1], dtype=pl.String)
    return pl.DataFrame({"movie_id": _movie_ids(known["item_idx"], vocabulary), "genre": genre})


def _movie_ids(item_idx: pl.Series, vocabulary: Vocabulary) -> pl.Series:
    return pl.Series(vocabulary.movie_ids[item_idx.to_numpy() - 1])


def _intervals(users: pl.DataFrame, seed: int) -> dict[str, float]:
    """Returns NAME_low and NAME_high for each of `user_metrics`; empty without users."""
    if users.is_empty():
        return {}
    ends = {name: bootstrap_interval(values, seed) for name, values in metric_values(users).items()}
    return {f"{name}_{end}": ends[name][place] for name in ends for place, end in enumerate(("low", "high"))}
