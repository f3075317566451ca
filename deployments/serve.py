"""`make serve`: a Prefect server, a worker and the nightly deployment on 127.0.0.1, until Ctrl-C.

    make serve
    make serve ARGS="--port 4201 --home /srv/nights"

What Prefect remembers lies in `.prefect` below the home folder, beside the tables that the nights publish.
"""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

import click
import httpx

from recsys.settings import Settings

CHECKOUT = Path(__file__).parents[1]
HOST = "127.0.0.1"
POOL = "nights"  # as in prefect.yaml
PREFECT = (sys.executable, "-m", "prefect", "--no-prompt")
START_SECONDS = 120.0  # a server on a busy machine, its first start with the database to make
STOP_SECONDS = 20.0  # what a process gets to end by itself

Process = subprocess.Popen[bytes]


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--port", type=click.IntRange(1, 65535), default=4200, show_default=True, help="Where the server listens."
)
@click.option("--home", type=click.Path(path_type=Path), help="Of tables and runs.  [default: data, or $RECSYS_HOME]")
def main(port: int, home: Path | None) -> None:
    """Serve the nightly deployment from this machine: server, worker and schedule, until Ctrl-C."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:  # nohup means it
            signal.signal(number, _end)
    _check_free(port)
    home = (home or Settings().home).absolute()
    with suppress(KeyboardInterrupt):
        _serve(f"http://{HOST}:{port}", port, home)
    click.echo("stopped")


def _end(*_: object) -> None:
    """Ends `main`, once: a second Ctrl-C would leave running what the first is about to stop."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


def _check_free(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the server does
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise click.ClickException(
                f"port {port} of {HOST} cannot be used: {error.strerror}. Another `make serve` may be running: stop "
                f'it, or choose another port: make serve ARGS="--port {port + 1}"'
            ) from None


def _serve(address: str, port: int, home: Path) -> None:
    state = home / ".prefect"
    state.mkdir(parents=True, exist_ok=True)
    environment = _environment(address, home, state)
    click.echo(f"starting Prefect on {address}, its state in {state}")
    log = state / "server.log"
    with (
        log.open("wb") as output,
        _running(environment, output, "server", "start", "--host", HOST, "--port", str(port)) as server,
        httpx.Client(base_url=f"{address}/api", timeout=30, trust_env=False) as api,
    ):
        _wait_until_healthy(api, server, log)
        _set_state_of_nights(api, "CANCELLED")  # those that a power cut left running, as Prefect believes
        api.post("/work_pools/", json={"name": POOL, "type": "process"})  # refused when it is there from last time
        _deploy(environment)
        with _running(environment, None, "worker", "start", "--pool", POOL, "--name", "serve") as worker:
            try:
                click.echo(_explain(address))
                _wait_for_end(server, worker, log)
            finally:
                _cancel_nights(api)


def _environment(address: str, home: Path, state: Path) -> Mapping[str, str]:
    """What server, worker and nights find in theirs; nothing of it touches the user's own Prefect."""
    return os.environ | {
        "PREFECT_HOME": str(state),
        "PREFECT_API_URL": f"{address}/api",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
        "PREFECT_LOGGING_EXTRA_LOGGERS": "recsys",  # the UI shows what a night logs
        "RECSYS_HOME": str(home),
        "OMP_WAIT_POLICY": "PASSIVE",  # spinning threads starve each other on a busy machine
    }


@contextmanager
def _running(environment: Mapping[str, str], output: IO[bytes] | None, *command: str) -> Iterator[Process]:
    """A Prefect command as a child, ended when the block is left.

    A session of its own keeps Ctrl-C from it, so that the worker ends before the server that it talks to.
    """
    process = subprocess.Popen(
        [*PREFECT, *command], cwd=CHECKOUT, env=environment, stdout=output, stderr=output, start_new_session=True
    )
    try:
        yield process
    finally:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(STOP_SECONDS)
        process.kill()
        process.wait()


def _wait_until_healthy(api: httpx.Client, server: Process, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and server.poll() is None:
        with suppress(httpx.TransportError):
            if api.get("/health").is_success:
                return
        time.sleep(0.2)
    raise click.ClickException(f"the Prefect server did not answer within {START_SECONDS:.0f} s; see {log}")


def _deploy(environment: Mapping[str, str]) -> None:
    command = [*PREFECT, "deploy", "--prefect-file", "deployments/prefect.yaml", "--all"]
    deployed = subprocess.run(command, cwd=CHECKOUT, env=environment, capture_output=True, text=True, check=False)
    if deployed.returncode != 0:
        raise click.ClickException(f"prefect deploy failed:\n{deployed.stdout}{deployed.stderr}")


def _explain(address: str) -> str:
    prefect = Path(sys.executable).with_name("prefect")
    return (
        f"UI             {address}\n"
        f"a night now    PREFECT_API_URL={address}/api {prefect} deployment run nightly/nightly\n"
        "stop           Ctrl-C"
    )


def _wait_for_end(server: Process, worker: Process, log: Path) -> None:
    while server.poll() is None and worker.poll() is None:
        time.sleep(0.5)
    ended = "worker ended; the lines above say" if server.poll() is None else f"server ended; {log} says"
    raise click.ClickException(f"the Prefect {ended} why")


def _cancel_nights(api: httpx.Client) -> None:
    """Ends the nights that run: each would outlive its worker, and Prefect would show it as running for ever."""
    with suppress(httpx.TransportError, OSError):  # the server is gone, or the terminal; the worker ends all the same
        _set_state_of_nights(api, "CANCELLING")
        click.echo("stopping; a night that runs is cancelled, the published tables stay")
        deadline = time.monotonic() + STOP_SECONDS
        while _find_nights(api, "CANCELLING") and time.monotonic() < deadline:
            time.sleep(0.2)


def _set_state_of_nights(api: httpx.Client, state: str) -> None:
    for night in _find_nights(api, "PENDING", "RUNNING", "CANCELLING"):
        api.post(f"/flow_runs/{night}/set_state", json={"state": {"type": state}}).raise_for_status()


def _find_nights(api: httpx.Client, *states: str) -> list[str]:
    """Ids of our pool's flow runs that are in one of `states`."""
    wanted = {"flow_runs": {"state": {"type": {"any_": states}}}, "work_pools": {"name": {"any_": [POOL]}}}
    return [night["id"] for night in api.post("/flow_runs/filter", json=wanted).raise_for_status().json()]


if __name__ == "__main__":
    main()
