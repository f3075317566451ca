"""Metrics of ranked lists, per user and over the catalogue.

Shapes: U users, I movies of the catalogue, G genres, B users of one block, N ranks of a list.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

N = 10  # number of ranks that metrics consider
DEPTH = 50  # number of ranks that recall_at_50 and mrr_at_50 consider
USERS_PER_BLOCK = 4096  # lists whose distances are in memory at once, about 10 MB

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Catalogue:
    """The movies from which lists are made, as known when the lists were made.

    The rows of both frames are unique, in any order.
    """

    movies: pl.DataFrame  # (movie_id, n_users): every movie that may be shown, with its number of raters
    genres: pl.DataFrame  # (movie_id, genre); without movies that have no known genre
    n_users: int  # users with a rating, who get lists


def list_metrics(users: pl.DataFrame, lists: pl.DataFrame, catalogue: Catalogue) -> dict[str, float]:
    """All metrics of `lists`: the means over `users`, the result of `user_metrics`, and `catalogue_metrics`.

    `users_with_relevant` is the number of users behind the means, `users_without_relevant` the number of other users,
    whose lists cannot be evaluated.
    """
    counts = {
        "users_with_relevant": float(len(users)),
        "users_without_relevant": float(catalogue.n_users - len(users)),
    }
    return mean_metrics(users) | catalogue_metrics(lists, catalogue) | counts


def mean_metrics(users: pl.DataFrame) -> dict[str, float]:
    """The mean of each of `user_metrics` over users; empty if no user has a relevant movie."""
    if users.is_empty():
        return {}
    return {name: float(values.mean()) for name, values in metric_values(users).items()}


def metric_values(users: pl.DataFrame) -> dict[str, Floats]:
    """(U,) float64: the values of each of `user_metrics`, by name."""
    return {name: users[name].to_numpy() for name in users.columns if name != "user_id"}


def user_metrics(lists: pl.DataFrame, relevant: pl.DataFrame) -> pl.DataFrame:
    """One row for each user with a relevant movie, sorted by user_id, with a column per metric.

    The metrics are ndcg_at_10, recall_at_10, recall_at_50, mrr_at_50 and hit_rate_at_10, each from 0 to 1; higher is
    better. `lists` (user_id, rank, movie_id) has 50 ranks per user, or fewer if there are no more movies; `relevant`
    (user_id, movie_id) has the relevant movies of each user, without duplicates. A user without a list gets 0 in every
    metric. The result is bit-identical for any order of rows.

    Source of NDCG: Järvelin and Kekäläinen, "Cumulated gain-based evaluation of IR techniques" (TOIS 2002), with gains
    0 and 1 and the discount 1 / log2(rank + 1).
    """
    users = relevant.group_by("user_id").len("n_relevant").sort("user_id").with_row_index("row")
    hits = lists.join(relevant, on=["user_id", "movie_id"], how="semi").join(users, on="user_id").sort("row", "rank")
    row, rank = (hits[name].to_numpy().astype(np.int64) for name in ("row", "rank"))
    n_relevant = users["n_relevant"].to_numpy()
    hits_at_10, hits_at_50 = (np.bincount(row[rank <= n], minlength=len(users)) for n in (N, DEPTH))
    return users.select("user_id").with_columns(
        ndcg_at_10=_ndcg(row, rank, n_relevant),
        recall_at_10=hits_at_10 / n_relevant,
        recall_at_50=hits_at_50 / n_relevant,
        mrr_at_50=_reciprocal_rank(row, rank, len(users)),
        hit_rate_at_10=(hits_at_10 > 0).astype(np.float64),
    )


def _ndcg(row: Indices, rank: Indices, n_relevant: Indices) -> Floats:
    """(U,) DCG divided by the ideal DCG; `row` is ascending, and `rank` within each row."""
    discount_N = 1 / np.log2(np.arange(1, N + 1) + 1)
    shown = rank <= N
    dcg_U = np.bincount(row[shown], weights=discount_N[rank[shown] - 1], minlength=len(n_relevant))
    ideal_U: Floats = discount_N.cumsum()[np.minimum(n_relevant, N) - 1]
    return dcg_U / ideal_U


def _reciprocal_rank(row: Indices, rank: Indices, n_users: int) -> Floats:
    """(U,) 1 / rank of the first relevant movie, 0 if there is none."""
    shown = rank <= DEPTH
    best_U = np.zeros(n_users)
    np.maximum.at(best_U, row[shown], 1 / rank[shown])
    return best_U


def catalogue_metrics(lists: pl.DataFrame, catalogue: Catalogue) -> dict[str, float]:
    """Metrics of all top-10 lists, whether or not their users have a relevant movie.

    coverage_at_10: share of the catalogue that occurs in any top 10. gini_at_10: Gini index of the number of top-10
    lists per movie of the catalogue, 0 if all movies occur equally often, near 1 if few movies take all ranks.
    novelty_at_10: mean of -log2 of the share of users who rated a movie, in bits; an unrated movie counts as rated by
    one user. diversity_at_10: see `_diversity`. The last two are averaged over each list first, then over users. A
    metric without any value is omitted. All movies in lists must be in the catalogue.

    Source of novelty: Zhou et al., "Solving the apparent diversity-accuracy dilemma of recommender systems" (PNAS
    2010); of the Gini index for lists: Fleder and Hosanagar, "Blockbuster culture's next rise or fall" (2009).
    """
    movies = catalogue.movies.sort("movie_id").with_row_index("column")
    top_UN = _places(lists, movies)
    counts_I = np.bincount(top_UN[top_UN >= 0], minlength=len(movies))
    coverage = {"coverage_at_10": float((counts_I > 0).mean())}
    if not len(top_UN):
        return coverage
    diversity = _diversity(top_UN, _genre_table(catalogue.genres, movies))
    return coverage | {
        "gini_at_10": gini(counts_I),
        "novelty_at_10": _novelty(top_UN, movies["n_users"].to_numpy(), catalogue.n_users),
        **({} if diversity is None else {"diversity_at_10": diversity}),
    }


def gini(counts: npt.NDArray[np.int64]) -> float:
    """Half the mean absolute difference of two counts divided by the mean count, which must be above 0."""
    ascending = np.sort(counts)
    n = len(counts)
    weights = 2 * np.arange(1, n + 1) - n - 1
    return float((weights * ascending).sum() / (n * ascending.sum()))


def _places(lists: pl.DataFrame, movies: pl.DataFrame) -> Indices:
    """(U, N): the column of the movie at each rank, -1 past the end of a list. Rows: users with a list, by user_id."""
    top = lists.filter(pl.col("rank") <= N)
    shown = top.join(movies.select("movie_id", "column"), on="movie_id")
    assert len(shown) == len(top), "a list has a movie that is not in the catalogue"
    users = shown.select("user_id").unique().sort("user_id").with_row_index("row")
    shown = shown.join(users, on="user_id")
    top_UN = np.full((len(users), N), -1)
    top_UN[shown["row"].to_numpy(), shown["rank"].to_numpy() - 1] = shown["column"].to_numpy()
    return top_UN


def _novelty(top_UN: Indices, raters_I: Indices, n_users: int) -> float:
    bits_I = -np.log2(np.maximum(raters_I, 1) / n_users)
    shown_UN = top_UN >= 0
    bits_UN = np.where(shown_UN, bits_I[top_UN], 0.0)
    return float((bits_UN.sum(axis=1) / shown_UN.sum(axis=1)).mean())


def _genre_table(genres: pl.DataFrame, movies: pl.DataFrame) -> npt.NDArray[np.float32]:
    """(I, G) float32: 1 if the movie has the genre."""
    names = genres.select("genre").unique().sort("genre").with_row_index("index")
    known = genres.join(names, on="genre").join(movies.select("movie_id", "column"), on="movie_id")
    table_IG = np.zeros((len(movies), len(names)), dtype=np.float32)
    table_IG[known["column"].to_numpy(), known["index"].to_numpy()] = 1
    return table_IG


def _diversity(top_UN: Indices, genres_IG: npt.NDArray[np.float32]) -> float | None:
    """Mean over users of the mean Jaccard distance between the genres of any two movies in the top 10.

    Movies without known genres are ignored, and so are lists with fewer than two others. None if no list is left.

    Source: Ziegler et al., "Improving recommendation lists through topic diversification" (WWW 2005).
    """
    means = [_mean_distances(top_UN[first : first + USERS_PER_BLOCK], genres_IG)
             for first in range(0, len(top_UN), USERS_PER_BLOCK)]  # fmt: skip
    means_U = np.concatenate(means)
    return float(means_U.mean()) if len(means_U) else None


def _mean_distances(top_BN: Indices, genres_IG: npt.NDArray[np.float32]) -> Floats:
    """The mean distance of each list that has a pair. Set sizes are small integers, which are exact in float32."""
    has_BNG = genres_IG[top_BN] * (top_BN >= 0)[:, :, None]
    size_BN = has_BNG.sum(axis=2)
    first, second = np.triu_indices(N, k=1)
    shared = (has_BNG @ has_BNG.transpose(0, 2, 1))[:, first, second].astype(np.float64)
    either = size_BN[:, first] + size_BN[:, second] - shared
    is_pair = (size_BN[:, first] > 0) & (size_BN[:, second] > 0)
    distance = np.where(is_pair, 1 - shared / np.maximum(either, 1), 0.0)
    n_pairs = is_pair.sum(axis=1)
    means: Floats = distance.sum(axis=1)[n_pairs > 0] / n_pairs[n_pairs > 0]
    return means
