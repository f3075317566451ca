"""A Prefect of `make serve` for tests: on a free port, with a home of its own, killed with all it started."""

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

import httpx
import pytest

ROOT = Path(__file__).parents[2]

LONG = "synthetic:3000x2000x900000"  # a night that is still training when a test ends it

T = TypeVar("T")


@dataclass(frozen=True)
class Served:
    """A running `deployments.serve`."""

    process: subprocess.Popen[bytes]
    api: httpx.Client
    port: int
    log: Path


class Patient(httpx.HTTPTransport):
    """Asks again when the database is being written to by others, as Prefect's own client does."""

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
    """`deployments.serve` on a free port, its home below `folder`; killed with all it started if a test leaves it."""
    port = find_free_port()
    command = [sys.executable, "-u", "-m", "deployments.serve", "--port", str(port), "--home", str(folder / "home")]
    log = folder / "serve.log"
    with log.open("wb") as output:
        around = os.environ | {"PREFECT_WORKER_QUERY_SECONDS": "2"} | environment  # by itself it looks every ten
        process = subprocess.Popen(command, cwd=ROOT, env=around, stdout=output, stderr=output)
    user, _, password = environment.get("PREFECT_SERVER_API_AUTH_STRING", "").partition(":")
    auth = (user, password) if user else None
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}/api", timeout=30, auth=auth, transport=Patient()) as api:
            yield Served(process, api, port, log)
    finally:
        if process.poll() is None:
            kill_all(process)


def find_free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until_up(served: Served) -> None:
    wait_for("the start", lambda: "Ctrl-C" in served.log.read_text() or served.process.poll() is not None)
    assert served.process.poll() is None, served.log.read_text()


def kill_all(process: subprocess.Popen[bytes]) -> None:
    for pid in (process.pid, *descendants(process.pid)):
        os.kill(pid, signal.SIGKILL)
    process.wait()


def kill_child(served: Served, command: str) -> None:
    """`kill -9` of the server or the worker, by what stands in its command line; returns once there is another."""
    pid = find_child(served, command)
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
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


def listens_on(pid: int) -> set[str]:
    """The addresses, as /proc/net/tcp writes them, on which a process waits for connections."""
    with suppress(FileNotFoundError, ProcessLookupError):
        opened = {str(fd.readlink()) for fd in Path(f"/proc/{pid}/fd").iterdir()}
        lines = [line.split() for name in ("tcp", "tcp6") for line in read_table(f"/proc/{pid}/net/{name}")]
        return {line[1].partition(":")[0] for line in lines if line[3] == "0A" and f"socket:[{line[9]}]" in opened}
    return set()


def read_table(path: str) -> list[str]:
    table = Path(path)  # there is no tcp6 where IPv6 is off
    return table.read_text().splitlines()[1:] if table.exists() else []


def parent_of(pid: int) -> int | None:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return int(stat.rpartition(")")[2].split()[1])  # the name before it, in brackets, may hold blanks
