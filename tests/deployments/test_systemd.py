"""The systemd units. `systemd-analyze` checks them, and the tests start their commands without systemd."""

import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path

import httpx
import pytest

from tests.support.postgres import POSTGRES, postgres
from tests.support.serving import ROOT, find_free_port, wait_for

UNITS = ("recsys-server", "recsys-worker", "recsys-watch")
EXAMPLE = ROOT / "deployments" / "recsys.env.example"


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd-analyze; Debian's package is systemd")
@pytest.mark.parametrize("name", UNITS)
def test_units_are_valid(name: str, tmp_path: Path) -> None:
    """Checks all keys, values and programs, with this checkout and its Python in place of /opt/recsys."""
    for unit in UNITS:
        (tmp_path / f"{unit}.service").write_text(read_unit(unit))
    environment = os.environ | {"SYSTEMD_UNIT_PATH": f"{tmp_path}:"}
    verify = ["systemd-analyze", "verify", str(tmp_path / f"{name}.service")]
    done = subprocess.run(verify, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")

    security = ["systemd-analyze", "security", "--offline=true", "--no-pager", "--threshold=40", verify[-1]]
    exposed = subprocess.run(security, env=environment, capture_output=True, text=True, check=False)
    assert exposed.returncode == 0, exposed.stdout  # 4.0 of 10


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd-analyze; Debian's package is systemd")
def test_timer_is_valid(tmp_path: Path) -> None:
    (tmp_path / "recsys-watch.service").write_text(read_unit("recsys-watch"))
    timer = shutil.copy(ROOT / "deployments" / "systemd" / "recsys-watch.timer", tmp_path)
    environment = os.environ | {"SYSTEMD_UNIT_PATH": f"{tmp_path}:"}
    done = subprocess.run(
        ["systemd-analyze", "verify", timer], env=environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_commands_of_the_units_work_together(tmp_path: Path) -> None:
    """The commands run with the settings of the example: server, preparation of the worker, worker, and stopping both.

    They use PostgreSQL if it is installed. The history survives a `kill -9` of the server.
    """
    (tmp_path / "home").mkdir()  # StateDirectory of systemd
    with postgres() if POSTGRES else nullcontext() as database:
        environment = read_example() | {
            "RECSYS_HOME": str(tmp_path / "home"),
            "PREFECT_HOME": str(tmp_path / "home" / ".prefect"),
            "PREFECT_SERVER_API_PORT": (port := str(find_free_port())),
            "PREFECT_API_URL": (url := f"http://127.0.0.1:{port}/api"),
        }
        environment |= {"PREFECT_API_DATABASE_CONNECTION_URL": database} if database else {}
        user, _, password = environment["PREFECT_API_AUTH_STRING"].partition(":")
        for_worker = {key: value for key, value in environment.items() if key not in list_unset()}
        server_only = {"PREFECT_SERVER_API_AUTH_STRING"} | (
            {"PREFECT_API_DATABASE_CONNECTION_URL"} if database else set()
        )
        assert environment.keys() - for_worker.keys() == server_only
        server = read_commands("recsys-server", "ExecStart")[0]
        with started(server, environment, tmp_path / "server.log", kill=True):
            for command in read_commands("recsys-worker", "ExecStartPre"):
                run(command, for_worker)
        log = tmp_path / "worker.log"
        with (
            httpx.Client(base_url=url, auth=(user, password), trust_env=False) as api,
            started(server, environment, tmp_path / "server-2.log"),
        ):
            run(read_commands("recsys-worker", "ExecStartPre")[0], for_worker)
            found = api.get("/deployments/name/nightly/nightly")
            assert found.raise_for_status().json()["pull_steps"][0].popitem()[1] == {"directory": str(ROOT)}
            with started(read_commands("recsys-worker", "ExecStart")[0], for_worker, log) as worker:
                wait_for("the worker", lambda: f"'worker@{socket.gethostname()}' started" in log.read_text())
                run(read_commands("recsys-worker", "ExecStop")[0], for_worker | {"MAINPID": str(worker.pid)})
            run(read_commands("recsys-worker", "ExecStopPost")[0], for_worker)
        assert bool(database) != bool(list(tmp_path.rglob("*.db")))


@contextmanager
def started(
    command: str, environment: Mapping[str, str], log: Path, *, kill: bool = False
) -> Iterator[subprocess.Popen[bytes]]:
    """Starts a command and stops it with SIGTERM, as systemd does. With `kill`, sends SIGKILL instead."""
    with log.open("wb") as output:
        process = subprocess.Popen(shlex.split(command), cwd=ROOT, env=environment, stdout=output, stderr=output)
    try:
        yield process
        process.send_signal(signal.SIGKILL if kill else signal.SIGTERM)
        process.wait(30)
    finally:
        process.kill()
        process.wait()


def run(command: str, environment: Mapping[str, str]) -> None:
    may_fail = command.startswith("-")
    words = shlex.split(command.removeprefix("-"))
    done = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert may_fail or done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"


def read_unit(name: str) -> str:
    text = (ROOT / "deployments" / "systemd" / f"{name}.service").read_text()
    return text.replace("/opt/recsys/.venv/bin", str(Path(sys.executable).parent)).replace("/opt/recsys", str(ROOT))


def read_commands(unit: str, key: str) -> list[str]:
    lines = read_unit(unit).replace("%H", socket.gethostname()).splitlines()
    return [line.partition("=")[2] for line in lines if line.startswith(f"{key}=")]


def list_unset() -> set[str]:
    return set(read_commands("recsys-worker", "UnsetEnvironment")[0].split())


def read_example() -> dict[str, str]:
    lines = EXAMPLE.read_text().splitlines()
    settings = [line.partition("=") for line in lines if line and not line.startswith("#")]
    return {"PATH": os.environ["PATH"], "HOME": "/nowhere"} | {name: value for name, _, value in settings}
