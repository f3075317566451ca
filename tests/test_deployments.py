"""`make serve` as people meet it: a process that starts others, serves a schedule, runs a night, and leaves nothing."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import duckdb
import httpx
import pytest

from recsys.home import Home

ROOT = Path(__file__).parents[1]

LONG = "synthetic:3000x2000x900000"  # a night that is still training when a test ends it

pytestmark = pytest.mark.slow

T = TypeVar("T")


@dataclass(frozen=True)
class Served:
    """A running `deployments.serve`."""

    process: subprocess.Popen[bytes]
    api: httpx.Client
    port: int
    log: Path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("served")


@pytest.fixture(scope="module")
def served(folder: Path) -> Iterator[Served]:
    with serving(folder) as served:
        wait_until_up(served)
        yield served


@pytest.fixture(scope="module")
def served_again(served: Served, deployment: Any, folder: Path) -> Iterator[Served]:
    """`served` is killed with all it started while a night runs, as by a power cut; then it starts again."""
    start_long_night(served, deployment, folder / "cut")
    kill_all(served.process)
    with serving(folder) as served_again:
        wait_until_up(served_again)
        yield served_again


@pytest.fixture(scope="module")
def deployment(served: Served) -> Any:
    return find_deployment(served)


def test_is_healthy(served: Served) -> None:
    assert served.api.get("/health").json() is True


def test_nightly_is_deployed_from_this_checkout(deployment: Any) -> None:
    assert deployment["work_pool_name"] == "nights"
    assert deployment["entrypoint"] == "flows/nightly.py:nightly"
    assert deployment["pull_steps"] == [
        {"prefect.deployments.steps.set_working_directory": {"directory": str(ROOT)}},
    ]
    assert deployment["parameters"] == {"settings": {"source": "ml-100k"}}
    assert deployment["global_concurrency_limit"]["limit"] == 1
    assert deployment["concurrency_options"]["collision_strategy"] == "CANCEL_NEW"


def test_schedule_makes_runs(served: Served, deployment: Any) -> None:
    """A scheduler that dies silently still shows the schedule, so only the runs count."""
    schedules = [schedule["schedule"] for schedule in deployment["schedules"] if schedule["active"]]
    assert [(schedule["cron"], schedule["timezone"]) for schedule in schedules] == [("0 3 * * *", "UTC")]
    wanted = {
        "deployments": {"id": {"any_": [deployment["id"]]}},
        "flow_runs": {"state": {"type": {"any_": ["SCHEDULED"]}}},
    }
    runs = wait_for("scheduled runs", lambda: served.api.post("/flow_runs/filter", json=wanted).json())
    assert all(run["expected_start_time"].endswith("T03:00:00Z") for run in runs)


def test_night_runs_from_its_deployment(served: Served, deployment: Any, tmp_path: Path) -> None:
    """Its own settings apply, it publishes, and the UI can show what it logged."""
    run_id = start_night(served, deployment, home=tmp_path / "night", source="synthetic:200x150x8000")
    state = wait_for("the end of the night", lambda: final_state(served, run_id))
    assert state == "COMPLETED", served.log.read_text()

    with duckdb.connect(Home(tmp_path / "night").warehouse, read_only=True) as connection:
        assert connection.sql("select count(distinct user_id) from recommendations").fetchall() == [(200,)]
        assert connection.sql("select verdict, model from runs").fetchall() == [("published", "ordinal")]
    wait_for("our lines in Prefect's log", lambda: "publish_lists ..." in logged(served, run_id))  # sent in batches


def test_taken_port_is_told_in_words(served: Served, tmp_path: Path) -> None:
    port = served.port
    command = [sys.executable, "-m", "deployments.serve", "--port", str(port), "--home", str(tmp_path / "home")]
    second = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert second.returncode == 1
    assert f"port {port} of 127.0.0.1 cannot be used" in second.stderr
    assert f"--port {port + 1}" in second.stderr
    assert not (tmp_path / "home").exists()


def test_power_cut_does_not_block_the_next_night(served_again: Served) -> None:
    """Prefect by itself would believe for minutes that the night still runs, and cancel the next."""
    limit = find_deployment(served_again)["global_concurrency_limit"]
    assert (limit["limit"], limit["active_slots"]) == (1, 0)


def test_stop_ends_a_running_night_too(served_again: Served, deployment: Any, tmp_path: Path) -> None:
    start_long_night(served_again, deployment, tmp_path)
    started = descendants(served_again.process.pid)
    assert any("prefect.engine" in command for command in started.values()), started

    served_again.process.send_signal(signal.SIGTERM)
    assert served_again.process.wait(60) == 0
    assert started.items() & processes().items() == set()
    assert served_again.log.read_text().endswith("stopped\n")
    with duckdb.connect(Home(tmp_path).warehouse, read_only=True) as connection:
        assert connection.sql("select verdict from runs").fetchall() == [("failed",)]


def test_interrupt_while_it_starts(tmp_path: Path) -> None:
    with serving(tmp_path) as served:
        wait_for("the server", lambda: "server start" in " ".join(descendants(served.process.pid).values()))
        started = descendants(served.process.pid)
        served.process.send_signal(signal.SIGINT)
        assert served.process.wait(60) == 0
        assert started.items() & processes().items() == set()


@contextmanager
def serving(folder: Path) -> Iterator[Served]:
    """`deployments.serve` on a free port, its home below `folder`; killed with all it started if a test leaves it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-u", "-m", "deployments.serve", "--port", str(port), "--home", str(folder / "home")]
    log = folder / "serve.log"
    with log.open("wb") as output:
        process = subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=output)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}/api", timeout=30, trust_env=False) as api:
            yield Served(process, api, port, log)
    finally:
        if process.poll() is None:
            kill_all(process)


def wait_until_up(served: Served) -> None:
    wait_for("the start", lambda: "Ctrl-C" in served.log.read_text() or served.process.poll() is not None)
    assert served.process.poll() is None, served.log.read_text()


def kill_all(process: subprocess.Popen[bytes]) -> None:
    for pid in (process.pid, *descendants(process.pid)):
        os.kill(pid, signal.SIGKILL)
    process.wait()


def find_deployment(served: Served) -> Any:
    return served.api.get("/deployments/name/nightly/nightly").raise_for_status().json()


def start_long_night(served: Served, deployment: Any, home: Path) -> None:
    """Returns once the night has work to lose."""
    start_night(served, deployment, home, LONG)
    wait_for("the night", lambda: any(home.glob("runs/*/validation")))


def start_night(served: Served, deployment: Any, home: Path, source: str) -> str:
    """As the button in the UI does; returns the id of Prefect's flow run."""
    parameters = {"settings": {"source": source, "home": str(home), "model": "ordinal"}}

    def press() -> str | None:
        answer = served.api.post(f"/deployments/{deployment['id']}/create_flow_run", json={"parameters": parameters})
        busy = answer.status_code == 503  # a database that others write to; Prefect's own client asks again, too
        return None if busy else str(answer.raise_for_status().json()["id"])

    return str(wait_for("a server that is not busy", press))


def final_state(served: Served, run_id: str) -> str | None:
    state = str(served.api.get(f"/flow_runs/{run_id}").raise_for_status().json()["state_type"])
    return state if state in {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"} else None


def logged(served: Served, run_id: str) -> set[str]:
    wanted = {"logs": {"flow_run_id": {"any_": [run_id]}}, "limit": 200}
    lines = served.api.post("/logs/filter", json=wanted).raise_for_status().json()
    return {line["message"] for line in lines if line["name"].startswith("recsys.")}


def wait_for(what: str, ask: Callable[[], T | None], seconds: float = 120) -> T:
    """The first answer that is not empty."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if answer := ask():
            return answer
        time.sleep(0.2)
    pytest.fail(f"{what} did not come within {seconds:.0f} s")


def descendants(pid: int) -> dict[int, str]:
    """Command lines, by process id, of all that a process and its children have started, whatever their session."""
    running = processes()
    found: dict[int, str] = {}
    parents = {pid}
    while parents:
        children = {child for child in running if parent_of(child) in parents}
        found |= {child: running[child] for child in children}
        parents = children
    return found


def processes() -> dict[int, str]:
    """Command lines of the processes that are alive, by process id."""
    commands = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(FileNotFoundError, ProcessLookupError):  # it ended meanwhile
            command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            if command:  # a zombie has none
                commands[int(folder.name)] = command
    return commands


def parent_of(pid: int) -> int | None:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return int(stat.rpartition(")")[2].split()[1])  # the name before it, in brackets, may hold blanks
