"""Seconds to write the lists of all users with a trained ranker."""

import statistics
import tempfile
import time
from pathlib import Path

from recsys.compare.data import Parts, load_data
from recsys.rank.write_lists import write_lists
from recsys.settings import Settings
from recsys.split.cut import cut_validation
from tests.benches.learned import make_ranker, train_once
from tests.benches.tables import format_table

RUNS = 3
PLACES = 100


def measure_speed(settings: Settings, epochs: int | None) -> str:
    """Return Markdown: seconds to write lists of 100 movies with reasons for all users, like a night."""
    data = load_data(settings)
    fitted, validation = cut_validation(data.ratings, settings.split, settings.seed)
    parts = Parts(fitted, validation, holdout=data.ratings.clear())
    trained = train_once(data, parts, settings, settings.seed, epochs)
    ranker = make_ranker(trained, settings.rank)
    seconds = []
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(RUNS):
            start = time.monotonic()
            write_lists(ranker, PLACES, trained.learner.vocabulary, Path(folder) / "lists.parquet")
            seconds.append(time.monotonic() - start)
    median, n_users = statistics.median(seconds), len(trained.learner.vocabulary.user_ids)
    header = ("source", "users", "movies", "n", "seconds (median)", "runs", "users a second")
    counts = (f"{n_users:,}", f"{len(trained.learner.vocabulary.movie_ids):,}", str(PLACES))
    runs = " ".join(f"{each:.2f}" for each in seconds)
    return format_table(header, [(settings.source, *counts, f"{median:.2f}", runs, f"{n_users / median:,.0f}")])
