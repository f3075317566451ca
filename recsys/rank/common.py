"""Constants and file access shared by all code for lists. Does not import torch, so that `fold_in` starts fast."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from polars.exceptions import PolarsError
from safetensors import SafetensorError

from recsys.errors import NotPublished
from recsys.files import read_json
from recsys.home import Run
from recsys.runs.seal import find_damage

FORMAT = 2  # version of a saved ranker's files; increased when older code would misread newer files

ROUNDING = 1e-4  # stars; tolerance of comparisons with a user's mean, which has rounding errors
MEAN_DAMPING = 5.0  # additional ratings at the mean of all ratings, so that a single low rating is a low rating
NO_RATINGS = 1e-9  # replaces a number of ratings of 0 in a division
REASONS = 3  # reasons (because_movie_ids) per recommendation

EVERYBODY = "all"  # the segment of users without known properties
FEW_RATINGS = 10  # users with fewer ratings are served_by "few ratings"
MIN_STARS = 0.1  # lower bound, because networks from write-ups may predict negative stars
MIN_CHANCE = 1e-4  # lower bound of the probability of relevant stars


def middle_of(levels: Sequence[float]) -> float:
    """Returns the middle of a rating scale. A movie rated below it, or below the user's mean, is never a reason."""
    return (levels[0] + levels[-1]) / 2


def liked_from(total: Any, n: Any, middle: float, rating_mean: float) -> Any:
    """Returns the fewest stars of a movie that can be a reason, for users with `n` ratings that sum to `total`.

    It is at least the middle of the scale, the mean of the user's ratings, and this mean damped towards `rating_mean`,
    the mean of all ratings. Takes and returns arrays or tensors with one number per user.
    """
    damped = (total + MEAN_DAMPING * rating_mean) / (n + MEAN_DAMPING)
    own = (total + NO_RATINGS * rating_mean) / (n + NO_RATINGS)
    return damped.clip(own).clip(middle) - ROUNDING


def name_service(n_ratings: int, *, is_stated: bool) -> str:
    """Returns the value of the published column `served_by`, which names the basis of a list."""
    if n_ratings:
        return "history" if n_ratings >= FEW_RATINGS else "few ratings"
    return "features" if is_stated else "default"


@contextmanager
def reading_ranker(run: Run, purpose: str) -> Iterator[None]:
    """Reports errors from reading the saved ranker of `run`. `purpose` completes the message "…, so …".

    Raises: NotPublished if its files are missing, damaged or of another version.
    """
    after = f"so {purpose}. Next: `recsys nightly --home {run.home.root}`"
    if not (run.ranker / "ranker.json").exists():
        raise NotPublished(f"{run.folder} has no saved ranker, {after}")
    if damage := find_damage(run, run.ranker, run.vocabulary, run.tonight_model):
        raise NotPublished(f"{run.folder}: {damage}, {after}")
    try:
        yield
    except (OSError, ValueError, LookupError, TypeError, PolarsError, SafetensorError) as error:
        raise NotPublished(
            f"cannot read the saved ranker in {run.folder} ({type(error).__name__}: {error}), {after}"
        ) from error


def read_description(folder: Path) -> dict[str, Any]:
    """Reads the ranker.json that `recsys.rank.saved_ranker` wrote.

    Raises: NotPublished if it has another format version.
    """
    path = folder / "ranker.json"
    described: dict[str, Any] = read_json(path)
    if described["format"] != FORMAT:
        raise NotPublished(
            f"{path} has format {described['format']}; this version reads format {FORMAT}. Next: run `recsys nightly` "
            "on this home"
        )
    return described
