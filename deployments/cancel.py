"""Ends the nights that run before their worker does: each would outlive it, and Prefect show it as running for ever.

python -m deployments.cancel        on the server of PREFECT_API_URL; MAINPID is the worker, as systemd calls it
"""

import os
import signal
import time
from contextlib import suppress
from typing import Any

import click
import httpx

from flows.zombies import POOL, find_parent, find_process

STOP_SECONDS = 20.0  # what a night gets to end by itself


def cancel_nights(api: httpx.Client, worker: int | None) -> None:
    """Asks `worker`, a process id, to end its nights, and ends those that no worker answers for any more."""
    with suppress(httpx.TransportError, OSError):  # the server is gone, or the terminal; the worker ends all the same
        nights = _find_nights(api, "PENDING", "RUNNING", "CANCELLING")
        for night in nights:
            _set_state(api, night, "CANCELLING")
            _signal_orphan(night, worker, signal.SIGTERM)
        click.echo("stopping; a night that runs is cancelled, the published tables stay")
        deadline = time.monotonic() + STOP_SECONDS
        while (nights := _find_nights(api, "CANCELLING")) and time.monotonic() < deadline:
            for night in nights:
                if _find_process(night) is None:
                    _set_state(api, night, "CANCELLED")
            time.sleep(0.2)
        for night in nights:
            _signal_orphan(night, worker, signal.SIGKILL)
            _set_state(api, night, "CANCELLED")


def _signal_orphan(night: dict[str, Any], worker: int | None, number: signal.Signals) -> None:
    """Reaches a night whose worker was killed."""
    pid = _find_process(night)
    if pid is not None and worker != find_parent(pid):
        with suppress(ProcessLookupError):
            os.killpg(pid, number)  # Prefect starts each in a group of its own


def _find_process(night: dict[str, Any]) -> int | None:
    return find_process(night["id"], night["infrastructure_pid"])


def _set_state(api: httpx.Client, night: dict[str, Any], state: str) -> None:
    api.post(f"/flow_runs/{night['id']}/set_state", json={"state": {"type": state}}).raise_for_status()


def _find_nights(api: httpx.Client, *states: str) -> list[dict[str, Any]]:
    """Our pool's flow runs that are in one of `states`."""
    wanted = {"flow_runs": {"state": {"type": {"any_": states}}}, "work_pools": {"name": {"any_": [POOL]}}}
    return list(api.post("/flow_runs/filter", json=wanted).raise_for_status().json())


def main() -> None:
    user, _, password = os.environ.get("PREFECT_API_AUTH_STRING", "").partition(":")
    auth = (user, password) if user else None
    worker = os.environ.get("MAINPID")
    with httpx.Client(base_url=os.environ["PREFECT_API_URL"], timeout=30, auth=auth) as api:
        cancel_nights(api, int(worker) if worker else None)


if __name__ == "__main__":
    main()
