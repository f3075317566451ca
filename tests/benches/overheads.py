"""The cost of orchestration: seconds of a night outside its steps, without a server, with one, and deployed."""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path

from recsys.files import read_sealed
from tests.support.quick_nights import quick_parameters
from tests.support.serving import Served, find_deployment, serving, wait_for, wait_until_up

RECSYS = str(Path(sys.executable).with_name("recsys"))


def measure_overheads(n_runs: int) -> None:
    """Print a row for each way to start a night: medians over `n_runs` runs of the same small night."""
    with tempfile.TemporaryDirectory() as folder:
        print("| started by | s in all | s in steps | the rest, s | runs |")
        print("|---" * 5 + "|")
        print_row("`recsys nightly`, no server", [run_here(folder, {}) for _ in range(n_runs)])
        began = time.monotonic()
        with serving(Path(folder)) as served:
            wait_until_up(served)
            up = time.monotonic() - began
            url = {"PREFECT_API_URL": str(served.api.base_url).rstrip("/")}
            print_row("`recsys nightly`, with a server", [run_here(folder, url) for _ in range(n_runs)])
            deployed = [run_deployed(served, folder) for _ in range(n_runs)]
            print_row("a deployment, from its button to its end", deployed)
        print(f"\n`recsys serve` until it prints the address: {up:.1f} s")


def print_row(what: str, measured: list[tuple[float, float]]) -> None:
    whole, steps = (statistics.median(one) for one in zip(*measured, strict=True))
    rest = [total - in_steps for total, in_steps in measured]
    print(
        f"| {what} | {whole:.1f} | {steps:.1f} | {statistics.median(rest):.1f} | "
        f"{' '.join(f'{one:.1f}' for one in rest)} |",
        flush=True,
    )


def run_here(folder: str, environment: dict[str, str]) -> tuple[float, float]:
    """Return the seconds of the process and of its steps."""
    with tempfile.TemporaryDirectory(dir=folder) as home:
        parameters = quick_parameters(Path(home))
        settings = {f"RECSYS_{name.upper()}": as_text(value) for name, value in parameters.items()}
        began = time.monotonic()
        done = subprocess.run(
            [RECSYS, "nightly", "--json"], env=os.environ | settings | environment, capture_output=True, check=True
        )
        return time.monotonic() - began, sum(json.loads(done.stdout)["seconds"].values())


def run_deployed(served: Served, folder: str) -> tuple[float, float]:
    with tempfile.TemporaryDirectory(dir=folder) as home:
        deployment = find_deployment(served)
        body = {"parameters": {"settings": quick_parameters(Path(home))}}
        run = served.api.post(f"/deployments/{deployment['id']}/create_flow_run", json=body).raise_for_status().json()
        ended = wait_for("its end", lambda: find_end(served, run["id"]))
        created = datetime.fromisoformat(run["created"])
        (steps,) = Path(home).glob("runs/*/steps.json")
        return (ended - created).total_seconds(), sum(read_sealed(steps).values())


def find_end(served: Served, run_id: str) -> datetime | None:
    end_time = served.api.get(f"/flow_runs/{run_id}").raise_for_status().json()["end_time"]
    return datetime.fromisoformat(end_time) if end_time else None


def as_text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)
