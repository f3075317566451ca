"""Checks that the holdout does not leak into training: looks for shared rows, and trains with a changed holdout."""

from collections.abc import Callable

import polars as pl
import torch
from torch import Tensor

from recsys.errors import DataRefused

KEY = ["user_id", "movie_id"]

Answer = Callable[[pl.DataFrame], Tensor]


def check_apart(train: pl.DataFrame, holdout: pl.DataFrame, names: tuple[str, str] = ("train", "holdout")) -> None:
    """Raises: DataRefused if a (user_id, movie_id) is in both frames. The message calls the frames by `names`."""
    both = holdout.select(KEY).join(train, on=KEY, how="semi")
    if len(both):
        user_id, movie_id = both.row(0)
        raise DataRefused(
            f"{len(both):,} of {len(holdout):,} rows of {names[1]} are in {names[0]} as well, e.g. user {user_id}, "
            f"movie {movie_id}; a model must not be tested on the rows that it was trained on. "
            "Next: remove them from one of the two"
        )


def check_order(train: pl.DataFrame, holdout: pl.DataFrame) -> None:
    """For a holdout by time. Raises: DataRefused if a rating in train is later than the first one in the holdout."""
    first = holdout["rated_at"].min()
    later = train.filter(pl.col("rated_at") > first)
    if len(later):
        raise DataRefused(
            f"{len(later):,} of {len(train):,} rows of train were rated after {first!s}, the first moment of the "
            "holdout; the model would learn from the future. Next: remove them from train"
        )


def find_leaks(answer: Answer, holdout: pl.DataFrame) -> list[str]:
    """Lists the changes to the holdout that change the predictions; empty if nothing leaks.

    `answer` trains with a fixed seed while `holdout` is held out, and returns predictions for fixed pairs. The changes
    are: reversed stars, half of the rows, the rows in reverse order, and shifted times. The predictions must stay
    identical, bit for bit.
    """
    expected = answer(holdout)
    stars = pl.col("rating")
    changes = {
        "its stars": holdout.with_columns(stars.min() + stars.max() - stars),
        "which rows it has": holdout.gather_every(2),
        "the order of its rows": holdout.reverse(),
        "its moments": holdout.with_columns(pl.col("rated_at") - pl.duration(days=400)),
    }
    return [change for change, changed in changes.items() if not torch.equal(answer(changed), expected)]
