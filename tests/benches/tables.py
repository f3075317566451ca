"""Formats figures with intervals as Markdown."""

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt
import polars as pl

from recsys.metrics.bootstrap import bootstrap_interval

Floats = npt.NDArray[np.float64]

SEED = 0  # of the bootstrap's draws


def format_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def with_interval(values_U: Floats) -> str:
    """Return the mean and its 95% interval over users."""
    low, high = bootstrap_interval(values_U, SEED)
    return f"{values_U.mean():.4f} ({low:.4f} to {high:.4f})"


def with_difference(values_a: Floats, values_b: Floats) -> str:
    """Return the mean of `values_a` minus that of `values_b`, paired by user, and its 95% interval."""
    low, high = bootstrap_interval(values_a - values_b, SEED)
    return f"{values_a.mean() - values_b.mean():+.4f} ({low:+.4f} to {high:+.4f})"


def pool_seeds(by_seed: Sequence[pl.DataFrame], value: str) -> Floats:
    """Return one value per user, sorted by user_id: the mean over the seeds that measured the user.

    Intervals must resample users, because three seeds of one user are not three independent users.
    """
    rows = pl.concat([frame.select("user_id", value) for frame in by_seed])
    return rows.group_by("user_id").agg(pl.col(value).mean()).sort("user_id")[value].to_numpy()
