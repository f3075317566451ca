"""`recsys serve`. The server itself is in `deployments.serve`, which this command becomes."""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from flows.cli.console import home_option

AUTH = "PREFECT_SERVER_API_AUTH_STRING"


def serve_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options of `recsys serve` and of `deployments.serve`."""
    options = (
        click.option(
            "--port",
            type=click.IntRange(1, 65534),
            default=4200,
            show_default=True,
            help="Port of the UI. The pages of runs use the next one.",
        ),
        click.option(
            "--host",
            default="127.0.0.1",
            show_default=True,
            help=f"Address to listen on. Any address other than loopback requires {AUTH}.",
        ),
        home_option,
    )
    for option in reversed(options):
        command = option(command)
    return command


@click.command()
@serve_options
def serve(port: int, host: str, home: Path | None) -> None:
    """Run Prefect with all deployments until Ctrl-C.

    Starts a Prefect server, a worker, the schedules and the pages of runs on this machine, and restarts any of them
    that dies.

    \b
    Examples:
      recsys serve
      recsys serve --port 4201 --home /srv/nights
    """
    options = ["--port", str(port), "--host", host, *(["--home", str(home)] if home else [])]
    sys.stdout.flush()
    # -P: a folder `deployments` or `flows` in the current folder is not ours. -u: a log shows each line at once.
    os.execv(sys.executable, [sys.executable, "-P", "-u", "-m", "deployments.serve", *options])
