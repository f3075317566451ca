"""Cancels running nights before their worker stops.

Otherwise, a night would outlive its worker, and Prefect would show it as running forever.

    python -m deployments.cancel

PREFECT_API_URL is the address of the server. MAINPID, which systemd sets, is the process id of the worker.
"""

import os
import signal
import time
from contextlib import suppress
from typing import Any

import click
import httpx

from flows.zombies import POOL, find_parent, find_process

STOP_SECONDS = 20.0  # how long a night may take to stop before it is killed
UNFINISHED = ("PENDING", "RUNNING", "CANCELLING")  # Prefect's types of states


def cancel_nights(api: httpx.Client, worker: int | None) -> None:
    """Cancels every unfinished night, and kills those that are still running after `STOP_SECONDS`.

    The worker, whose process id is `worker`, terminates its own nights. A second SIGTERM would interrupt their
    clean-up, so only nights of a worker that died are signalled here.
    """
    with suppress(httpx.TransportError, OSError):  # a missing server or terminal must not prevent stopping
        nights = find_nights(api, *UNFINISHED)
        for night in nights:
            _set_state(api, night, "CANCELLING")
            _signal_orphan(night, worker, signal.SIGTERM)
        click.echo("stopping: running nights are cancelled, the published tables stay")
        deadline = time.monotonic() + STOP_SECONDS
        while (nights := find_nights(api, "CANCELLING")) and time.monotonic() < deadline:
            for night in nights:
                if _find_process(night) is None:
                    _set_state(api, night, "CANCELLED")
            time.sleep(0.2)
        for night in nights:
            _signal_orphan(night, worker, signal.SIGKILL)
            _set_state(api, night, "CANCELLED")


def find_nights(api: httpx.Client, *states: str) -> list[dict[str, Any]]:
    """Returns the flow runs of our work pool that are in one of `states`."""
    wanted = {"flow_runs": {"state": {"type": {"any_": states}}}, "work_pools": {"name": {"any_": [POOL]}}}
    return list(api.post("/flow_runs/filter", json=wanted).raise_for_status().json())


def _signal_orphan(night: dict[str, Any], worker: int | None, number: signal.Signals) -> None:
    """Signals the process group of a night, unless `worker` is its parent. Prefect starts a group for each night."""
    pid = _find_process(night)
    if pid is not None and worker != find_parent(pid):
        with suppress(ProcessLookupError):
            os.killpg(pid, number)


def _find_process(night: dict[str, Any]) -> int | None:
    return find_process(night["id"], night["infrastructure_pid"])


def _set_state(api: httpx.Client, night: dict[str, Any], state: str) -> None:
    api.post(f"/flow_runs/{night['id']}/set_state", json={"state": {"type": state}}).raise_for_status()


def main() -> None:
    user, _, password = os.environ.get("PREFECT_API_AUTH_STRING", "").partition(":")
    auth = (user, password) if user else None
    worker = os.environ.get("MAINPID")
    with httpx.Client(base_url=os.environ["PREFECT_API_URL"], timeout=30, auth=auth) as api:
        cancel_nights(api, int(worker) if worker else None)


if __name__ == "__main__":
    main()
