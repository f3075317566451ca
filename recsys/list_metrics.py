"""How good ranked lists are; arithmetic only, no models."""

import polars as pl
import torch


def list_metrics(lists: pl.DataFrame, relevant: pl.DataFrame, n_movies: int) -> dict[str, float]:
    """Quality of ranked lists, the mean over users with at least one relevant movie.

    `lists` (user_id, rank, movie_id) holds 50 ranks per user, fewer where there are no more movies to show; `relevant`
    (user_id, movie_id) what each user was right to be shown, a pair once; relevance is yes or no. A user without a list
    was shown nothing relevant. Coverage counts every list: the share of `n_movies` in some top 10. Where no user has a
    relevant movie, NDCG and recall do not exist and are left out.
    """
    # sorted, because sums of floats end differently in another order
    n_relevant = relevant.group_by("user_id").len("n_relevant").sort("user_id")
    hits = lists.join(relevant, on=["user_id", "movie_id"], how="semi").join(n_relevant, on="user_id")
    hits = hits.sort("user_id", "rank")
    top10 = lists.filter(pl.col("rank") <= 10)
    counts = {
        "coverage_at_10": top10["movie_id"].n_unique() / n_movies,
        "users_with_relevant": float(len(n_relevant)),
    }
    if n_relevant.is_empty():
        return counts
    return {
        "ndcg_at_10": _ndcg(hits, n_relevant, 10),
        "recall_at_10": _recall(hits, 10, len(n_relevant)),
        "recall_at_50": _recall(hits, 50, len(n_relevant)),
        **counts,
    }


def _ndcg(hits: pl.DataFrame, n_relevant: pl.DataFrame, k: int) -> float:
    """DCG with discount 1 / log2(rank + 1), over that of a list with every relevant movie first."""
    ideal_by_n = [0.0]
    for rank in range(1, k + 1):
        ideal_by_n.append(ideal_by_n[-1] + _discount(rank))
    gain = (1 / (pl.col("rank") + 1).log(2)).sum()
    dcg = hits.filter(pl.col("rank") <= k).group_by("user_id").agg(gain.alias("dcg"))
    ideal = pl.lit(pl.Series(ideal_by_n)).gather(pl.col("n_relevant").clip(upper_bound=k))
    joined = n_relevant.join(dcg, on="user_id", how="left", maintain_order="left")
    return float(joined.select(pl.col("dcg").fill_null(0.0) / ideal).to_series().mean())  # type: ignore[arg-type]


def _discount(rank: int) -> float:
    return 1 / torch.log2(torch.tensor(rank + 1.0, dtype=torch.float64)).item()


def _recall(hits: pl.DataFrame, k: int, n_users: int) -> float:
    """Share of a user's relevant movies among the first k."""
    return float((hits.filter(pl.col("rank") <= k).select(1 / pl.col("n_relevant")).to_series().sum()) / n_users)
