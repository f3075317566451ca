"""`recsys serve`: a Prefect server, a worker, the deployments and the pages of runs on 127.0.0.1, until Ctrl-C.

    recsys serve
    recsys serve --port 4201 --home /srv/nights

The server and the worker are restarted when they die. Prefect keeps its state in `.prefect` in the home folder, next to
the published tables. docs/operations.md describes passwords, PostgreSQL and other ways to host it.

Prefect's own `serve()` is not an alternative (tried with Prefect 3.8.8): it starts no server, and if it is stopped
during a run, the run stays RUNNING and keeps its concurrency slot.
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

from deployments.cancel import UNFINISHED, cancel_nights, find_nights
from deployments.environment import DATABASE, ServeEnvironment
from deployments.processes import PREFECT, Child, run, running
from flows.cli.serve import AUTH, serve_options
from flows.zombies import POOL, WORKER_ENDED
from recsys.home import Home
from recsys.settings import Settings

START_SECONDS = 300.0  # allows for a busy machine and for creating the database
SERVE_ENDED = "`recsys serve` was killed, or its machine went down, while this night ran"


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@serve_options
def main(port: int, host: str, home: Path | None) -> None:
    """Run a Prefect server, a worker and the schedules on this machine until Ctrl-C."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:  # ignored under nohup
            signal.signal(number, _interrupt)
    environment = ServeEnvironment(host, port, (home or Settings().home).absolute(), dict(os.environ))
    environment.check()
    with suppress(KeyboardInterrupt):
        _serve(environment)
    click.echo("stopped")


def _interrupt(*_: object) -> None:
    """Interrupts `main` once. A second Ctrl-C would leave processes running that the first one is about to stop."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


def _serve(environment: ServeEnvironment) -> None:
    Home(environment.home).create()
    environment.state.mkdir(mode=0o700, exist_ok=True)
    log = environment.state / "server.log"
    log.unlink(missing_ok=True)
    has_database = any(environment.inherited.get(name) for name in DATABASE)
    click.echo(
        f"starting Prefect on {environment.url}, state in {'its database and ' * has_database}{environment.state}"
    )
    start_server = (*PREFECT, "server", "start", "--host", environment.host, "--port", str(environment.port))
    server = Child("Prefect server", start_server, environment.for_server(), log)
    start_worker = (*PREFECT, "worker", "start", "--pool", POOL, "--name", f"serve@{socket.gethostname()}")
    worker = Child("Prefect worker", start_worker, environment.for_clients())
    where = ("--host", environment.host, "--port", str(environment.pages_port), "--home", str(environment.home))
    start_pages = (sys.executable, "-m", "deployments.pages", *where)
    pages = Child("server of the pages", start_pages, environment.for_pages(), environment.state / "pages.log")
    with (
        # Opened first, because a Ctrl-C while Python imports parts of httpx would look like an error.
        httpx.Client(base_url=f"{environment.url}/api", timeout=30, trust_env=False, auth=environment.auth) as api,
        running(server),
        running(pages),
    ):
        if not _wait_until_healthy(api, server):
            raise click.ClickException(f"the Prefect server did not answer within {START_SECONDS:.0f} s; see {log}")
        api.post("/work_pools/", json={"name": POOL, "type": "process"})  # fails if the pool exists, which is fine
        _close_zombies(environment, api, SERVE_ENDED)
        _deploy(environment)
        with running(worker):
            try:
                click.echo(_describe(environment))
                _supervise(environment, api, server, worker, pages)
            finally:
                cancel_nights(api, worker.pid)


def _wait_until_healthy(api: httpx.Client, server: Child) -> bool:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and server.is_alive:
        with suppress(httpx.TransportError):
            if api.get("/health").is_success:
                return True
        time.sleep(0.2)
    return False


def _deploy(environment: ServeEnvironment) -> None:
    command = ("prefect", "--no-prompt", "deploy", "--prefect-file", "deployments/prefect.yaml", "--all")
    succeeded, output = run(environment.for_clients(), *command)
    if not succeeded:
        raise click.ClickException(f"prefect deploy failed:\n{output}")


def _close_zombies(environment: ServeEnvironment, api: httpx.Client, because: str) -> None:
    """Closes nights whose process is gone, because they would block later nights. No worker may run meanwhile."""
    if not find_nights(api, *UNFINISHED):
        return
    succeeded, output = run(environment.for_clients(), "flows.zombies", "--because", because, "--min-age", "0")
    if not succeeded:
        click.echo("dead nights may still show as running, because closing them failed:", err=True)
    click.echo(output, nl=False, err=not succeeded)


def _describe(environment: ServeEnvironment) -> str:
    prefect = Path(sys.executable).with_name("prefect")
    password = f'PREFECT_API_AUTH_STRING="${AUTH}" ' if environment.auth else ""
    return (
        f"UI             {environment.ui_url}\n"
        f"pages of runs  {environment.pages_url}\n"
        f"a night now    {password}PREFECT_API_URL={environment.url}/api {prefect} deployment run nightly/nightly\n"
        "stop           Ctrl-C"
    )


def _supervise(
    environment: ServeEnvironment, api: httpx.Client, server: Child, worker: Child, pages: Child | None
) -> None:
    """Restarts the children when they die. Ends only by Ctrl-C, or if the server or the worker exits too often."""
    while True:
        if not server.is_alive:
            server.report_exit()
            server.start()
            if _wait_until_healthy(api, server):
                click.echo("the Prefect server is back, with its history")
        elif not worker.is_alive:
            worker.report_exit()
            _close_zombies(environment, api, WORKER_ENDED)
            worker.start()
        elif pages and not pages.is_alive:
            pages = _restart(pages)
        time.sleep(0.5)


def _restart(pages: Child) -> Child | None:
    """Restarts the server of the pages. If it exits too often, nights go on without it."""
    try:
        pages.report_exit()
    except click.ClickException as error:
        click.echo(f"{error.message}. It is not restarted; nights go on without the pages of runs", err=True)
        return None
    pages.start()
    return pages


if __name__ == "__main__":
    main()
