"""`recsys serve` for tests: on a free port, with its own home, and killed together with all its processes."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import httpx
import pytest

from recsys.home import Home

ROOT = Path(__file__).parents[2]
PREFECT = (sys.executable, "-m", "prefect", "--no-prompt")
LONG = "synthetic:3000x2000x900000"  # a night that is still running when a test stops it
REQUEST_PAUSE = 1.0  # seconds between requests about a long run, each of which costs the server 40 ms of CPU time
FINAL = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}  # types of states

# Shorter than Prefect's intervals for production, for which tests would have to wait.
SHORT_INTERVALS = {
    "PREFECT_WORKER_QUERY_SECONDS": "1",
    "PREFECT_SERVER_SERVICES_SCHEDULER_LOOP_SECONDS": "3",
    "PREFECT_LOGGING_TO_API_BATCH_INTERVAL": "0.5",
}

T = TypeVar("T")


@dataclass(frozen=True)
class Served:
    """A running `recsys serve`."""

    process: subprocess.Popen[bytes]
    api: httpx.Client
    port: int
    log: Path

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"


class RetryTransport(httpx.HTTPTransport):
    """Retries while the database is busy (status 503), as Prefect's own client does."""

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        for _ in range(50):
            answer = super().handle_request(request)
            if answer.status_code != 503:
                break
            answer.close()
            time.sleep(0.2)
        return answer


@contextmanager
def serving(folder: Path, **environment: str) -> Iterator[Served]:
    """Runs `recsys serve` on a free port, with its home in `folder`; kills all its processes at the end."""
    port = find_free_port()
    program = "from flows.cli.main import program; program()"
    command = [sys.executable, "-c", program, "serve", "--port", str(port), "--home", str(folder / "home")]
    log = folder / "serve.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, cwd=ROOT, env=os.environ | SHORT_INTERVALS | environment, stdout=output, stderr=output
        )
    user, _, password = environment.get("PREFECT_SERVER_API_AUTH_STRING", "").partition(":")
    auth = (user, password) if user else None
    transport = RetryTransport()
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}/api", timeout=30, auth=auth, transport=transport) as api:
            yield Served(process, api, port, log)
    finally:
        if process.poll() is None:
            kill_all(process)


def find_free_port() -> int:
    """A free port whose successor is free, too."""
    while True:
        with socket.socket() as probe, socket.socket() as next_probe, suppress(OSError, OverflowError):
            probe.bind(("127.0.0.1", 0))
            port = int(probe.getsockname()[1])
            next_probe.bind(("127.0.0.1", port + 1))
            return port


def wait_until_up(served: Served) -> None:
    """Waits for the start, which takes 25 CPU seconds: long on a machine that runs other tests, too."""
    wait_for("the start", lambda: "Ctrl-C" in served.log.read_text() or served.process.poll() is not None, 400)
    assert served.process.poll() is None, served.log.read_text()


def kill_all(process: subprocess.Popen[bytes]) -> None:
    for pid in (process.pid, *descendants(process.pid)):
        with suppress(ProcessLookupError):  # it died with its parent
            os.kill(pid, signal.SIGKILL)
    process.wait()


def kill_child(served: Served, command: str, *others: int) -> None:
    """`kill -9` of the server or the worker, found by its command line, then of others; returns after its restart."""
    pid = find_child(served, command)
    assert pid is not None
    for victim in (pid, *others):
        os.kill(victim, signal.SIGKILL)
    wait_for(f"another `{command}`", lambda: find_child(served, command) not in (None, pid))


def find_child(served: Served, command: str) -> int | None:
    children = descendants(served.process.pid).items()
    return next((pid for pid, line in children if f"prefect --no-prompt {command}" in line), None)


def wait_until_healthy(served: Served) -> None:
    def ask() -> bool:
        with suppress(httpx.TransportError):
            return served.api.get("/health").is_success
        return False

    wait_for("the server", ask)


def find_deployment(served: Served, name: str = "nightly") -> Any:
    return served.api.get(f"/deployments/name/{name}/{name}").raise_for_status().json()


def disable_schedules(served: Served, name: str) -> None:
    deployment = find_deployment(served, name)
    for schedule in deployment["schedules"]:
        url = f"/deployments/{deployment['id']}/schedules/{schedule['id']}"
        served.api.patch(url, json={"active": False}).raise_for_status()


def post_run(served: Served, name: str, parameters: dict[str, Any]) -> httpx.Response:
    """Asks for a run of a deployment, as the form in the UI does."""
    return served.api.post(
        f"/deployments/{find_deployment(served, name)['id']}/create_flow_run", json={"parameters": parameters}
    )


def start_run(served: Served, name: str, parameters: dict[str, Any]) -> str:
    """Starts a run of a deployment; returns the id of the flow run."""
    return str(post_run(served, name, parameters).raise_for_status().json()["id"])


def start_run_by_command(served: Served, name: str, parameters: dict[str, Any], environment: dict[str, str]) -> str:
    """Starts a run of a deployment by `prefect deployment run`; returns the id of the flow run."""
    before = newest_run(served, name)
    arguments = [word for key, value in parameters.items() for word in ("--param", f"{key}={json.dumps(value)}")]
    command = [*PREFECT, "deployment", "run", f"{name}/{name}", *arguments]
    subprocess.run(command, env=environment, check=True, capture_output=True)
    return str(wait_for("the run", lambda: newer_run(served, name, before))["id"])


def create_run(served: Served, state: str, pid: int | None, labels: Mapping[str, str] | None = None) -> str:
    """Registers a flow run of our pool with Prefect, without running anything; returns its id."""
    flow = served.api.post("/flows/", json={"name": "pretended"}).raise_for_status().json()["id"]
    run = {"flow_id": flow, "state": {"type": state}, "work_pool_name": "nights", "labels": labels or {}}
    run_id = str(served.api.post("/flow_runs/", json=run).raise_for_status().json()["id"])
    if pid is not None:
        served.api.patch(f"/flow_runs/{run_id}", json={"infrastructure_pid": str(pid)}).raise_for_status()
    return run_id


def start_long_night(served: Served, home: Path, *, stop: bool = False) -> str:
    """Starts a night and returns the id of its flow run once its first step runs.

    With `stop`, its process gets SIGSTOP: it keeps its lock and its concurrency slot, and uses no more CPU.
    """
    run_id = start_run(served, "nightly", {"settings": {"source": LONG, "home": str(home), "model": "ordinal"}})
    wait_for("the first step of the night", lambda: has_started(Home(home)))
    if stop:
        os.kill(int(served.api.get(f"/flow_runs/{run_id}").json()["infrastructure_pid"]), signal.SIGSTOP)
    return run_id


def has_started(home: Home) -> bool:
    return home.runs.exists() and any(home.run(folder.name).underway.exists() for folder in home.runs.iterdir())


@contextmanager
def reporting(served: Served, **environment: str) -> Iterator[None]:
    """Flows of this process report to the server during the block, like those of a command in a terminal.

    The threads that report are ended with it: they would wait for this server after it has been killed.
    """
    from prefect.events.worker import EventsWorker
    from prefect.logging.handlers import APILogWorker
    from prefect.settings import PREFECT_API_URL, PREFECT_UI_URL, temporary_settings

    url = f"{served.address}/api"
    with (
        temporary_settings({PREFECT_API_URL: url, PREFECT_UI_URL: served.address}),
        pytest.MonkeyPatch.context() as patch,
    ):
        for name, value in ({"PREFECT_API_URL": url} | environment).items():
            patch.setenv(name, value)
        try:
            yield
        finally:
            APILogWorker.drain_all(timeout=60, at_exit=False)
            EventsWorker.drain_all(timeout=60, at_exit=False)


def state_of(served: Served, run_id: str) -> Any:
    return served.api.get(f"/flow_runs/{run_id}").raise_for_status().json()["state"]


def wait_for_end(served: Served, run_id: str, seconds: float = 300) -> Any:
    """The final state of a flow run."""

    def find() -> Any:
        state = state_of(served, run_id)
        return state if state["type"] in FINAL else None

    return wait_for("the end of the run", find, seconds, REQUEST_PAUSE)


def newest_run(served: Served, name: str) -> str | None:
    """The id of the newest run of a deployment that was not started by its schedule."""
    run = newer_run(served, name, None)
    return run["id"] if run else None


def newer_run(served: Served, name: str, before: str | None) -> Any:
    """The newest run of a deployment that was not started by its schedule, unless its id is `before`."""
    wanted = {"deployments": {"name": {"any_": [name]}}, "sort": "EXPECTED_START_TIME_DESC", "limit": 200}
    runs = served.api.post("/flow_runs/filter", json=wanted).raise_for_status().json()
    manual = sorted((run for run in runs if not run["auto_scheduled"]), key=lambda run: run["created"])
    return manual[-1] if manual and manual[-1]["id"] != before else None


def start_on_schedule(served: Served, settings: dict[str, Any]) -> list[str]:
    """The ids of the runs that a new cron schedule has started. It is deleted when the first one starts.

    The sixth field of the cron is seconds: it starts a run every ten seconds, so tests need not wait for the next
    minute. The worker takes two of them at once if both are due soon; the concurrency limit then cancels one.
    """
    url = f"/deployments/{find_deployment(served)['id']}/schedules"
    cron = {"cron": "* * * * * */10", "timezone": "UTC"}
    schedule = {"schedule": cron, "active": True, "parameters": {"settings": settings}}
    (made,) = served.api.post(url, json=[schedule]).raise_for_status().json()
    wanted = {"deployments": {"name": {"any_": ["nightly"]}}, "sort": "EXPECTED_START_TIME_ASC", "limit": 200}

    def find_started() -> list[str]:
        runs = served.api.post("/flow_runs/filter", json=wanted).raise_for_status().json()
        ours = [run for run in runs if run["auto_scheduled"] and run["parameters"] == {"settings": settings}]
        return [run["id"] for run in ours if run["state_type"] != "SCHEDULED"]

    try:
        wait_for("a scheduled run", find_started, pause=REQUEST_PAUSE)
    finally:
        served.api.delete(f"{url}/{made['id']}").raise_for_status()
    return find_started()


def logged(served: Served, run_id: str) -> set[str]:
    """The messages of our loggers that Prefect has stored for a run."""
    wanted = {"logs": {"flow_run_id": {"any_": [run_id]}}, "limit": 200}
    lines = served.api.post("/logs/filter", json=wanted).raise_for_status().json()
    return {line["message"] for line in lines if line["name"].startswith("recsys.")}


def wait_for(what: str, ask: Callable[[], T | None], seconds: float = 300, pause: float = 0.2) -> T:
    """Calls `ask` until its answer is true, and returns it. The test fails after `seconds`."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if answer := ask():
            return answer
        time.sleep(pause)
    pytest.fail(f"waited {seconds:.0f} s for {what}")


def descendants(pid: int) -> dict[int, str]:
    """Command lines, by process id, of all descendants of a process, in any session."""
    running = processes()
    found: dict[int, str] = {}
    parents = {pid}
    while parents:
        children = {child for child in running if parent_of(child) in parents}
        found |= {child: running[child] for child in children}
        parents = children
    return found


def processes() -> dict[int, str]:
    """Command lines of the living processes, by process id."""
    commands = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(FileNotFoundError, ProcessLookupError):  # it has just ended
            command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            if command:  # empty for a zombie
                commands[int(folder.name)] = command
    return commands


def listens_on(pid: int) -> set[str]:
    """The addresses on which a process listens, in the notation of /proc/net/tcp."""
    with suppress(FileNotFoundError, ProcessLookupError):
        opened = {str(fd.readlink()) for fd in Path(f"/proc/{pid}/fd").iterdir()}
        lines = [line.split() for name in ("tcp", "tcp6") for line in read_table(f"/proc/{pid}/net/{name}")]
        return {line[1].partition(":")[0] for line in lines if line[3] == "0A" and f"socket:[{line[9]}]" in opened}
    return set()


def read_table(path: str) -> list[str]:
    table = Path(path)  # without IPv6 there is no tcp6
    return table.read_text().splitlines()[1:] if table.exists() else []


def parent_of(pid: int) -> int | None:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return int(stat.rpartition(")")[2].split()[1])  # the command name in brackets may contain spaces
