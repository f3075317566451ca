"""Exact lists at scale: ours and the top-k of `implicit`, each in a separate process."""

import os
import statistics
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from tests.benches.processes import Measured, measure_process
from tests.benches.tables import format_table

SAMPLE = 1_000  # users whose lists are compared
TOLERANCE = 1e-4
MAKERS = {"ours": "recsys, rank_alone", "implicit": "implicit, recommend"}


@dataclass(frozen=True)
class Agreement:
    """Agreement of two sources of lists for the same users."""

    n_users: int
    same_movies: float  # share of places
    largest_difference: float  # of the scores at one place, in float64


def measure_scale(
    n_users: int, n_movies: int, dim: int, n: int, *, repeats: int, threads: int, folder: Path | None
) -> str:
    """Return Markdown with seconds and memory of both on the same inputs. `folder` needs a few GB."""
    with tempfile.TemporaryDirectory(dir=folder) as inside:
        _run("inputs", Path(inside), threads, n_users, n_movies, dim)
        runs: dict[str, list[Measured]] = {maker: [] for maker in MAKERS}
        for _ in range(repeats):
            for maker in MAKERS:
                runs[maker].append(_run(maker, Path(inside), threads, n))
        agreement = compare_lists(Path(inside))
    assert agreement.largest_difference < TOLERANCE, f"the two disagree: {agreement}"
    rows = [_row(MAKERS[maker], measured) for maker, measured in runs.items()]
    ours, theirs = (_median(runs[maker]) for maker in MAKERS)
    return "\n".join(
        (
            f"The {n} best unseen movies of {n_users:,} users among {n_movies:,} movies, {dim} dimensions, {threads} "
            f"threads, from the vectors to a Parquet file, medians of {repeats}; reading the inputs is not counted.\n",
            format_table(("top-n", "seconds", "runs", "of it writing", "CPU of the process, s", "peak MiB"), rows),
            f"\nOurs takes {ours / theirs:.2f} times the seconds of implicit. Of {agreement.n_users:,} users' lists "
            f"{agreement.same_movies:.4%} of the places have the same movie, and the scores at one place differ by at "
            f"most {agreement.largest_difference:.1e}.",
        )
    )


def compare_lists(folder: Path) -> Agreement:
    """Compare lists by place. Where float32 allows different orders, the float64 scores are about equal."""
    user_UD, movie_ID = (np.load(folder / f"{name}.npy").astype(np.float64) for name in ("users", "movies"))
    drawn = np.random.default_rng(0).permutation(np.arange(1, len(user_UD)))[:SAMPLE]
    ours, theirs = (
        pl.scan_parquet(folder / f"{maker}.parquet")
        .filter(pl.col("user_idx").is_in(drawn.tolist()))
        .collect()
        .sort("user_idx", "rank")
        for maker in MAKERS
    )
    assert ours.select("user_idx", "rank").equals(theirs.select("user_idx", "rank")), "lists of different lengths"
    user = user_UD[ours["user_idx"].to_numpy()]
    item, other = (frame["item_idx"].to_numpy() for frame in (ours, theirs))
    differences = (user * (movie_ID[item] - movie_ID[other])).sum(axis=1)
    return Agreement(len(drawn), float((item == other).mean()), float(np.abs(differences).max()))


def _run(part: str, folder: Path, threads: int, *numbers: int) -> Measured:
    """Run with the same number of threads. `implicit` has its own threads and requires a single BLAS thread."""
    blas = 1 if part == "implicit" else threads
    env: Mapping[str, str] = os.environ | {
        "PYTHONPATH": os.pathsep.join(sys.path),
        "OMP_NUM_THREADS": str(threads),
        "MKL_NUM_THREADS": str(threads),
        "OPENBLAS_NUM_THREADS": str(blas),
    }
    command = (sys.executable, "-m", "tests.benches.scale_parts", part, folder, threads, *numbers)
    return measure_process(command, env)


def _median(measured: list[Measured]) -> float:
    return float(statistics.median(one.output["seconds"] for one in measured))


def _row(name: str, measured: list[Measured]) -> tuple[str, ...]:
    writing, cpu = (
        statistics.median(values)
        for values in ([one.output["writing_seconds"] for one in measured], [one.cpu_seconds for one in measured])
    )
    runs = " ".join(f"{one.output['seconds']:.1f}" for one in measured)
    peak = max(one.peak_mib for one in measured)
    return (name, f"{_median(measured):.1f}", runs, f"{writing:.1f}", f"{cpu:.1f}", f"{peak:.0f}")
