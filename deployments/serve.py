"""`make serve`: a Prefect server, a worker and the deployments on 127.0.0.1, until Ctrl-C.

    make serve
    make serve ARGS="--port 4201 --home /srv/nights"

Server and worker are started again when they die. What Prefect remembers lies in `.prefect` below the home folder,
beside the tables that the nights publish. docs/operations.md tells of passwords, PostgreSQL and other ways to run it.
"""

import os
import signal
import socket
import sys
import time
from contextlib import suppress
from pathlib import Path

import click
import httpx

from deployments.cancel import cancel_nights
from deployments.children import Child, run, running
from deployments.surroundings import AUTH, DATABASE, Surroundings
from flows.zombies import POOL, WORKER_ENDED
from recsys.settings import Settings

START_SECONDS = 120.0  # a server on a busy machine, its first start with the database to make
POWER_CUT = "`make serve` or its machine was cut off while this night ran"


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--port", type=click.IntRange(1, 65535), default=4200, show_default=True, help="Where the server listens."
)
@click.option("--host", default="127.0.0.1", show_default=True, help=f"On which address; others than this need {AUTH}.")
@click.option("--home", type=click.Path(path_type=Path), help="Of tables and runs.  [default: data, or $RECSYS_HOME]")
def main(port: int, host: str, home: Path | None) -> None:
    """Serve the deployments from this machine: server, worker and schedules, until Ctrl-C."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:  # nohup means it
            signal.signal(number, _end)
    around = Surroundings(host, port, (home or Settings().home).absolute(), dict(os.environ))
    around.check()
    with suppress(KeyboardInterrupt):
        _serve(around)
    click.echo("stopped")


def _end(*_: object) -> None:
    """Ends `main`, once: a second Ctrl-C would leave running what the first is about to stop."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


def _serve(around: Surroundings) -> None:
    around.state.mkdir(mode=0o700, parents=True, exist_ok=True)
    log = around.state / "server.log"
    log.unlink(missing_ok=True)
    has_database = any(around.given.get(name) for name in DATABASE)
    click.echo(f"starting Prefect on {around.url}, its state in {'its database and ' * has_database}{around.state}")
    server = Child(
        "server", ("server", "start", "--host", around.host, "--port", str(around.port)), around.of_server(), log
    )
    name = f"serve@{socket.gethostname()}"
    worker = Child("worker", ("worker", "start", "--pool", POOL, "--name", name), around.of_clients())
    with (
        # First, because a Ctrl-C while Python reads httpx's parts would make a clean end look like a broken one.
        httpx.Client(base_url=f"{around.url}/api", timeout=30, trust_env=False, auth=around.auth) as api,
        running(server),
    ):
        if not _is_soon_healthy(api, server):
            raise click.ClickException(f"the Prefect server did not answer within {START_SECONDS:.0f} s; see {log}")
        api.post("/work_pools/", json={"name": POOL, "type": "process"})  # refused when it is there from last time
        _close_zombies(around, POWER_CUT)
        _deploy(around)
        with running(worker):
            try:
                click.echo(_explain(around))
                _keep_up(around, api, server, worker)
            finally:
                cancel_nights(api, worker.pid)


def _is_soon_healthy(api: httpx.Client, server: Child) -> bool:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and server.is_alive:
        with suppress(httpx.TransportError):
            if api.get("/health").is_success:
                return True
        time.sleep(0.2)
    return False


def _deploy(around: Surroundings) -> None:
    command = ("prefect", "--no-prompt", "deploy", "--prefect-file", "deployments/prefect.yaml", "--all")
    went_well, said = run(around.of_clients(), *command)
    if not went_well:
        raise click.ClickException(f"prefect deploy failed:\n{said}")


def _close_zombies(around: Surroundings, because: str) -> None:
    """Ends, for Prefect, the nights whose process is gone: each would block those to come. No worker may run."""
    went_well, said = run(around.of_clients(), "flows.zombies", "--because", because, "--min-age", "0")
    if not went_well:
        click.echo("nights that a worker left behind may still show as running:", err=True)
    click.echo(said, nl=False, err=not went_well)


def _explain(around: Surroundings) -> str:
    prefect = Path(sys.executable).with_name("prefect")
    password = f'PREFECT_API_AUTH_STRING="${AUTH}" ' if around.auth else ""
    return (
        f"UI             {around.ui_url}\n"
        f"a night now    {password}PREFECT_API_URL={around.url}/api {prefect} deployment run nightly/nightly\n"
        "stop           Ctrl-C"
    )


def _keep_up(around: Surroundings, api: httpx.Client, server: Child, worker: Child) -> None:
    """Until Ctrl-C, or one of the two dies too often."""
    while True:
        if not server.is_alive:
            server.tell_death()
            server.start()
            if _is_soon_healthy(api, server):
                click.echo("the Prefect server answers again, its history as it was")
        elif not worker.is_alive:
            worker.tell_death()
            _close_zombies(around, WORKER_ENDED)
            worker.start()
        time.sleep(0.5)


if __name__ == "__main__":
    main()
