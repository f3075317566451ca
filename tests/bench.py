"""`make bench`: run whole commands in separate processes and print Markdown tables for docs/benchmarks.md.

    make bench                                            ML-100K, seeds 0 to 2, both networks
    make bench ARGS="--source ml-1m.zip --seeds 1"        one night on a local archive
    make bench ARGS="--scale /tmp/scale"                  ingest and checks of 32 million ratings and of ML-1M
    make bench ARGS="--overheads"                         the overhead of Prefect for each way to start a night

--scale needs a folder with 4 GB free; generated ratings of an earlier call are reused. ML-1M is read from
RECSYS_TEST_DATA, by default ../shared/data. Seconds are wall-clock time of the whole process, Prefect's start-up
included; memory is its peak resident set.
"""

import argparse
import os
import re
import statistics
import sys
import tempfile
from pathlib import Path

from tests.benches.overheads import measure_overheads
from tests.benches.processes import Measured, measure_process

RECSYS = Path(sys.executable).parent / "recsys"
REAL_DATA = Path(os.environ.get("RECSYS_TEST_DATA", Path(__file__).parents[2] / "shared" / "data"))
LARGE = "200948x87585x32000000"  # users, movies and ratings of ML-32M
STEPS = ("fetch_archive", "write_snapshot", "check_ratings")
SHOWN = ("mae_median", "mae_mean", "rmse_mean", "ndcg_at_10", "recall_at_10", "coverage_at_10")


def measure(*arguments: object) -> Measured:
    """Run `recsys` with these arguments and --json; stop if it fails."""
    return measure_process((RECSYS, *arguments, "--json"))


def measure_nights(source: str, models: list[str], n_seeds: int) -> None:
    print("| network | " + " | ".join(SHOWN) + " | seconds (median) | train, s | peak MiB |")
    print("|---" * (len(SHOWN) + 4) + "|")
    with tempfile.TemporaryDirectory() as home:
        for model in models:
            options = ("--source", source, "--model", model, "--home", home)
            nights = [measure("nightly", *options, "--seed", seed) for seed in range(n_seeds)]
            print(describe_nights(model, nights), flush=True)


def measure_scale(folder: Path) -> None:
    """Measure `recsys check` on a new home and again without changes; generate the large archive first."""
    large = folder / f"made-up-{LARGE}.zip"
    if not large.exists():
        made = measure("generate", LARGE, large)
        print(f"{large}: made in {made.seconds:.1f} s ({made.cpu_seconds:.1f} s of CPU), {made.peak_mib:.0f} MiB\n")
    print("| source | run | s | CPU, s | " + " | ".join(f"{step}, s" for step in STEPS) + " | peak MiB |")
    print("|---" * (len(STEPS) + 5) + "|")
    for source in (REAL_DATA / "ml-1m.zip", large):
        if not source.exists():
            print(f"| {source.name} | not measured: {source} is not there |")
            continue
        with tempfile.TemporaryDirectory(dir=folder) as home:
            for run in ("first", "unchanged", "unchanged"):
                checked = measure("check", "--source", source, "--home", home)
                print(describe_check(source.name, run, checked), flush=True)


def describe_check(source: str, run: str, checked: Measured) -> str:
    """Return a row of the table; seconds of steps are taken from the log."""
    steps = [re.search(rf"{step}: ([\d.]+) s$", checked.log, re.MULTILINE) for step in STEPS]
    return (
        f"| {source} | {run} | {checked.seconds:.1f} | {checked.cpu_seconds:.1f} | "
        + " | ".join(step[1] if step else "" for step in steps)
        + f" | {checked.peak_mib:.0f} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", default="ml-100k")
    parser.add_argument("--models", nargs="+", default=["ordinal", "softmax"])
    parser.add_argument("--seeds", type=int, default=3, help="seeds 0 to SEEDS - 1; figures are means over them")
    parser.add_argument("--scale", type=Path, metavar="FOLDER", help="measure ingest and checks instead, in FOLDER")
    parser.add_argument("--overheads", action="store_true", help="measure what orchestration costs instead")
    options = parser.parse_args()
    if options.overheads:
        measure_overheads(options.seeds)
    elif options.scale:
        measure_scale(options.scale)
    else:
        measure_nights(options.source, options.models, options.seeds)


def describe_nights(model: str, nights: list[Measured]) -> str:
    """Return a row of the table."""
    means = [statistics.mean(night.output["metrics"]["holdout"][metric] for night in nights) for metric in SHOWN]
    training = statistics.median(night.output["seconds"]["train"] for night in nights)
    return (
        f"| {model} | "
        + " | ".join(f"{mean:.4f}" for mean in means)
        + f" | {statistics.median(night.seconds for night in nights):.1f} | {training:.1f}"
        + f" | {max(night.peak_mib for night in nights):.0f} |"
    )


if __name__ == "__main__":
    main()
