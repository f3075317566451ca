"""What every computation of a list has in common. No torch here: `fold_in` does without."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from polars.exceptions import PolarsError
from safetensors import SafetensorError

from recsys.errors import NotPublished
from recsys.files import read_json
from recsys.home import Run

FORMAT = 1  # of a saved ranker's files; raised when an older reader would misunderstand newer ones

ROUNDING = 1e-4  # of a mean of equal stars
REASONS = 3  # because-movies per recommendation

EVERYBODY = "all"  # the segment of whom nothing is known
FEW_RATINGS = 10  # a user with fewer is served as one with few
MIN_STARS = 0.1  # networks of the write-ups may expect less than none
MIN_CHANCE = 1e-4  # of stars that are relevant


def name_service(n_ratings: int, *, is_stated: bool) -> str:
    """What stands behind a list: `served_by` in the published table."""
    if n_ratings:
        return "history" if n_ratings >= FEW_RATINGS else "few ratings"
    return "features" if is_stated else "default"


@contextmanager
def reading_ranker(run: Run, purpose: str) -> Iterator[None]:
    """What is read of `run` within is what its lists were made with; `purpose` ends "without which ...".

    Raises: NotPublished if that is gone, damaged or of another version.
    """
    after = f"without which {purpose}. Next: `recsys nightly --home {run.home.root}`"
    if not (run.ranker / "ranker.json").exists():
        raise NotPublished(f"{run.folder} does not hold what its lists were made with, {after}")
    try:
        yield
    except (OSError, ValueError, LookupError, TypeError, PolarsError, SafetensorError) as error:
        raise NotPublished(
            f"what lists were made with cannot be read from {run.folder} ({type(error).__name__}: {error}), {after}"
        ) from error


def read_description(folder: Path) -> dict[str, Any]:
    """The ranker.json of `recsys.rank.saved_ranker`.

    Raises: NotPublished if it is of another format.
    """
    path = folder / "ranker.json"
    described: dict[str, Any] = read_json(path)
    if described["format"] != FORMAT:
        raise NotPublished(
            f"{path} has format {described['format']}; this version reads format {FORMAT}. Next: `recsys nightly`"
        )
    return described
