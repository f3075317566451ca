"""Measures how much lists change from one night to the next.

Shapes: U users, N ranks of a list.
"""

import numpy as np
import numpy.typing as npt
import polars as pl

PERSISTENCE = 0.9  # probability that a reader continues to the next rank; gives the first ten ranks 86% of the weight

Floats = npt.NDArray[np.float64]


def churn(before: pl.DataFrame, now: pl.DataFrame, n: int = 10) -> dict[str, float]:
    """Compares the first `n` ranks of two nights. The metrics are means over the users who have a list in both nights.

    `before`, `now`: (user_id, rank, movie_id), ranks from 1 without gaps, each movie once per list. churn_at_n: share
    of the earlier movies that are gone. changed_at_n: share of users whose list differs at any rank. rbo_at_n:
    `rank_biased_overlap`, 1 for identical lists and 0 for lists without a common movie. users_with_both: number of
    users with a list in both nights; if it is 0, the other metrics are omitted.
    """
    before, now = (lists.filter(pl.col("rank") <= n).select("user_id", "rank", "movie_id") for lists in (before, now))
    lengths = before.group_by("user_id").len("before").join(now.group_by("user_id").len("now"), on="user_id")
    lengths = lengths.sort("user_id").with_row_index("row")
    users = {"users_with_both": float(len(lengths))}
    if lengths.is_empty():
        return users
    both = before.join(now, on=["user_id", "movie_id"], suffix="_now").join(lengths, on="user_id")
    longest = pl.max_horizontal("before", "now")
    same = both.filter(pl.col("rank") == pl.col("rank_now")).group_by("row").len("same")
    unmoved = lengths.join(same, on="row", how="left").select(pl.col("same").fill_null(0) == longest).to_series()
    common_UN = _common(both, len(lengths), n)
    before_U, now_U = (lengths[name].to_numpy().astype(np.int64) for name in ("before", "now"))
    return {
        f"churn_at_{n}": float((1 - common_UN[:, -1] / before_U).mean()),
        f"changed_at_{n}": float(1 - unmoved.to_numpy().mean()),
        f"rbo_at_{n}": float(rank_biased_overlap(common_UN, before_U, now_U).mean()),
        **users,
    }


def rank_biased_overlap(
    common_UN: npt.NDArray[np.int64], before_U: npt.NDArray[np.int64], now_U: npt.NDArray[np.int64]
) -> Floats:
    """(U,) extrapolated rank-biased overlap of two lists per user: agreement by depth, weighted towards the top ranks.

    common_UN: number of movies that both lists have in their first 1, ..., N ranks. before_U, now_U: lengths of the
    lists, 1 to N. The missing ranks of the shorter list are assumed to agree as often as its existing ranks. Beyond the
    end of the longer list, the agreement is assumed to stay constant.

    Source: Webber, Moffat and Zobel, "A similarity measure for indefinite rankings" (TOIS 2010), equation 32.
    """
    depth_N = np.arange(1, common_UN.shape[1] + 1)
    shorter_U, longer_U = np.minimum(before_U, now_U), np.maximum(before_U, now_U)
    depth_UN = np.minimum(depth_N, longer_U[:, None])
    at_shorter_U = common_UN[np.arange(len(common_UN)), shorter_U - 1] / shorter_U
    beyond_UN = np.maximum(depth_UN - shorter_U[:, None], 0)
    agreement_UN = (common_UN + at_shorter_U[:, None] * beyond_UN) / depth_UN
    weights_N = (1 - PERSISTENCE) * PERSISTENCE ** (depth_N - 1)
    within_U: Floats = (agreement_UN * weights_N).sum(axis=1)
    beyond_U: Floats = agreement_UN[:, -1] * PERSISTENCE ** len(depth_N)
    return within_U + beyond_U


def _common(both: pl.DataFrame, n_users: int, n: int) -> npt.NDArray[np.int64]:
    """(U, N): number of movies that occur in both lists up to each depth."""
    deeper = np.maximum(both["rank"].to_numpy(), both["rank_now"].to_numpy()).astype(np.int64)
    found = np.bincount(both["row"].to_numpy() * n + deeper - 1, minlength=n_users * n)
    return found.reshape(n_users, n).cumsum(axis=1)
