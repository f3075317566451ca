"""`make bench`: whole nights in processes of their own, their figures as a Markdown table for docs/benchmarks.md.

    make bench                                            ML-100K, seeds 0 to 2, both networks
    make bench ARGS="--source ml-1m.zip --seeds 1"        one night on a local archive

Seconds are wall-clock time of the whole process, Prefect's start-up included; memory is its peak resident set.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

RECSYS = Path(sys.executable).parent / "recsys"
SHOWN = ("mae_median", "mae_mean", "rmse_mean", "ndcg_at_10", "recall_at_10", "coverage_at_10")


@dataclass(frozen=True)
class Measured:
    """One night."""

    summary: dict[str, Any]
    seconds: float
    peak_mib: float


def measure_night(source: str, model: str, seed: int, home: Path) -> Measured:
    """Runs one night from the command line; a night that is not published ends the benchmark."""
    command = [RECSYS, "nightly", "--source", source, "--model", model, "--seed", str(seed), "--home", home, "--json"]
    with tempfile.TemporaryFile() as log, tempfile.TemporaryFile() as output:
        start = time.monotonic()
        process = subprocess.Popen([str(part) for part in command], stdout=output, stderr=log)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.monotonic() - start
        if os.waitstatus_to_exitcode(status) != 0:
            log.seek(0)
            raise SystemExit(log.read().decode())
        output.seek(0)
        return Measured(json.load(output), seconds, usage.ru_maxrss / 1024)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", default="ml-100k")
    parser.add_argument("--models", nargs="+", default=["ordinal", "softmax"])
    parser.add_argument("--seeds", type=int, default=3, help="seeds 0 to SEEDS - 1; figures are means over them")
    options = parser.parse_args()
    print("| network | " + " | ".join(SHOWN) + " | seconds (median) | train, s | peak MiB |")
    print("|---" * (len(SHOWN) + 4) + "|")
    with tempfile.TemporaryDirectory() as folder:
        for model in options.models:
            nights = [measure_night(options.source, model, seed, Path(folder)) for seed in range(options.seeds)]
            print(describe(model, nights), flush=True)


def describe(model: str, nights: list[Measured]) -> str:
    """One row of the table."""
    means = [statistics.mean(night.summary["metrics"]["holdout"][metric] for night in nights) for metric in SHOWN]
    training = statistics.median(night.summary["seconds"]["train_for_holdout"] for night in nights)
    return (
        f"| {model} | "
        + " | ".join(f"{mean:.4f}" for mean in means)
        + f" | {statistics.median(night.seconds for night in nights):.1f} | {training:.1f}"
        + f" | {max(night.peak_mib for night in nights):.0f} |"
    )


if __name__ == "__main__":
    main()
