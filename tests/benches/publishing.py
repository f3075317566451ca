"""Seconds, memory and bytes of publishing generated lists, each night in a separate process.

python -m tests.benches.publishing inputs FOLDER USERS MOVIES N     a night's Parquet files; MOVIES is a prime number
python -m tests.benches.publishing publish FOLDER NIGHT N RUNS      publishes them as another night
"""

import json
import os
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from tests.benches.processes import Measured, measure_process
from tests.benches.tables import format_table

HEADER = ("night", "seconds", "CPU, s", "peak MiB", "file, MB", "bytes for each place remembered or served")


def measure_publishing(n_users: int, n_movies: int, n: int, *, nights: int, folder: Path | None) -> str:
    """Return Markdown with a row for each night. The history grows by one run per night."""
    with tempfile.TemporaryDirectory(dir=folder) as inside:
        _run("inputs", Path(inside), n_users, n_movies, n)
        runs = [_run("publish", Path(inside), night, n, nights) for night in range(1, nights + 1)]
    rows = [_row(night, measured, n_users * n) for night, measured in enumerate(runs, start=1)]
    return "\n".join(
        (
            f"Publishing lists of {n} movies for {n_users:,} users from Parquet files, audit included, among "
            f"{n_movies:,} movies with {n} similar ones each; all nights are remembered.\n",
            format_table(HEADER, rows),
        )
    )


def _run(part: str, folder: Path, *numbers: int) -> Measured:
    env = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    return measure_process((sys.executable, "-m", "tests.benches.publishing", part, folder, *numbers), env)


def _row(night: int, measured: Measured, places: int) -> tuple[str, ...]:
    size = measured.output["bytes"]
    took = (f"{measured.output['seconds']:.1f}", f"{measured.cpu_seconds:.1f}", f"{measured.peak_mib:.0f}")
    return (str(night), *took, f"{size / 1e6:.1f}", f"{size / (places * (1 + night)):.1f}")


def write_inputs(folder: Path, n_users: int, n_movies: int, n: int) -> dict[str, float]:
    """Write the Parquet files of a night.

    The list of each user steps through the movies with its own stride, and scores have random digits. Real lists are no
    easier to compress.
    """
    import numpy as np
    import polars as pl

    from tests.support.warehouses import make_frames, write_night

    frames = make_frames(n_users, n_movies, n)
    lists = frames["recommendations"]
    user, rank = (lists[name].to_numpy().astype(np.int64) for name in ("user_id", "rank"))
    stride = 1 + user * 7919 % (n_movies - 1)
    score = np.random.default_rng(0).random(len(lists)) - rank
    frames["recommendations"] = lists.with_columns(
        movie_id=pl.Series((user % n_movies + rank * stride) % n_movies + 1, dtype=pl.Int32), score=pl.Series(score)
    )
    write_night(folder / "inputs", frames, n)
    return {"rows": len(lists)}


def publish_night(folder: Path, night: int, n: int, runs: int) -> dict[str, float]:
    from recsys.home import Home
    from recsys.warehouse.build import Tonight
    from recsys.warehouse.publish import publish
    from tests.support.warehouses import make_outcome

    inputs = folder / "inputs"
    tonight = Tonight(
        recommendations=inputs / "recommendations.parquet",
        movies=inputs / "movies.parquet",
        films=inputs / "films.parquet",
        users=inputs / "users.parquet",
        ratings=inputs / "ratings.parquet",
        quarantine=inputs / "quarantine.parquet",
        metrics=(),
        n=n,
        history_runs=runs,
        default_recommendations=inputs / "default_recommendations.parquet",
        similar_movies=inputs / "similar_movies.parquet",
        copies=folder / "copies",
    )
    outcome = make_outcome(f"202611{night:02}T030000Z", as_of=datetime(1998, 4, 1, tzinfo=UTC) + timedelta(days=night))
    start = time.monotonic()
    publish(outcome, tonight, Home(folder / "home"))
    return {"seconds": time.monotonic() - start, "bytes": Home(folder / "home").warehouse.stat().st_size}


def main(part: str, folder: str, *numbers: str) -> None:
    given = [int(number) for number in numbers]
    print(json.dumps({"inputs": write_inputs, "publish": publish_night}[part](Path(folder), *given)))


if __name__ == "__main__":
    main(*sys.argv[1:])
