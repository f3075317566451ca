"""Whether anything of the holdout has reached what learned: by its rows, and by what changes when it changes."""

from collections.abc import Callable

import polars as pl
import torch
from torch import Tensor

from recsys.errors import DataRefused

KEY = ["user_id", "movie_id"]

Answer = Callable[[pl.DataFrame], Tensor]


def check_apart(train: pl.DataFrame, holdout: pl.DataFrame, names: tuple[str, str] = ("train", "holdout")) -> None:
    """Raises: DataRefused if a (user_id, movie_id) stands in both; `names` are of the two in the message."""
    both = holdout.select(KEY).join(train, on=KEY, how="semi")
    if len(both):
        user_id, movie_id = both.row(0)
        raise DataRefused(
            f"{len(both):,} of {len(holdout):,} rows of {names[1]} are in {names[0]} as well, e.g. user {user_id}, "
            f"movie {movie_id}; what has been learned cannot be tested. Take them out of one of the two."
        )


def check_order(train: pl.DataFrame, holdout: pl.DataFrame) -> None:
    """For a holdout by time. Raises: DataRefused if a rating of train is later than the first of the holdout."""
    first = holdout["rated_at"].min()
    later = train.filter(pl.col("rated_at") > first)
    if len(later):
        raise DataRefused(
            f"{len(later):,} of {len(train):,} rows of train were rated after {first!s}, the first moment of the "
            "holdout; what is predicted would be known from later. Take them out of train."
        )


def find_leaks(answer: Answer, holdout: pl.DataFrame) -> list[str]:
    """In which ways the holdout moves the answers; none, where nothing of it is learned from.

    `answer` trains on what it is given to train on, with `holdout` as the part held out, and returns predictions for
    pairs of its own choice, on a seed of its own. The holdout's stars are turned round, half of its rows taken away,
    their order changed and their moments moved; every answer must stay the same, bit for bit.
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
