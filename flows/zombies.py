"""Flow runs that Prefect believes to be running, although their process is gone: found, and closed as crashed.

A worker reports how the runs it started ended. One that is killed, by a power cut or for want of memory, reports
nothing: its runs stay RUNNING, and a limit of one night at a time cancels every night to come.

    python -m flows.zombies        closes them, on the server of PREFECT_API_URL; run it where the worker runs
"""

import os
import socket
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

import click

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.filters import FlowRunFilterState
    from prefect.client.schemas.objects import FlowRun

POOL = "nights"  # as in prefect.yaml
WORKER_ENDED = "the worker that ran this night ended"
WORKER = "prefect.worker.name"  # the label in which Prefect keeps who started a run
PROC = Path("/proc")


@dataclass(frozen=True)
class Zombie:
    """A flow run that was closed because its process is gone."""

    flow_run_id: UUID
    name: str  # Prefect's, as "amber-lynx"
    was: str  # the type of its state until now, as "RUNNING"
    pid: int | None  # of the process that is gone; None if Prefect was never told
    message: str  # what the UI now says of it


def close_zombies(
    pool: str = POOL, because: str = WORKER_ENDED, min_age: timedelta = timedelta(minutes=1)
) -> list[Zombie]:
    """Closes as CRASHED the flow runs of `pool` whose process is gone, and the subflows within them; returns them.

    `min_age` is how long a run must have been in its state: what is just being started has no process yet, and what has
    just ended is still being reported. Left alone are runs whose worker is named after another host (`worker@host`)
    and all runs of a pool that starts no processes.
    """
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        if client.read_work_pool(pool).type != "process":
            return []
        gone = [
            run
            for run in _find_unfinished(client, pool)
            if _is_of_this_host(run)
            and _age(run) >= min_age
            and find_process(str(run.id), run.infrastructure_pid) is None
        ]
        return [zombie for run in gone for zombie in _close(client, run, because)]


def find_process(flow_run_id: str, recorded_pid: str | None) -> int | None:
    """The id of the process on this machine that runs a flow run; None if it is gone.

    Ids of processes are used again, so that only one counts that Prefect started for this very run, as its environment
    tells. When Prefect was told no id, all processes are looked at; where there is no /proc, the id alone is believed.
    """
    if not PROC.is_dir():
        return int(recorded_pid) if recorded_pid and _exists(int(recorded_pid)) else None
    pids = [int(recorded_pid)] if recorded_pid else [int(path.name) for path in PROC.glob("[0-9]*")]
    return next((pid for pid in pids if _runs(pid, flow_run_id)), None)


def find_parent(pid: int) -> int | None:
    """Who started a process, or has taken it over; None if it is gone, or where there is no /proc."""
    with suppress(FileNotFoundError, ProcessLookupError):
        return int((PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()[1])  # names may hold blanks
    return None


def _runs(pid: int, flow_run_id: str) -> bool:
    folder = PROC / str(pid)
    with suppress(FileNotFoundError, ProcessLookupError):  # it ended meanwhile
        try:
            return f"PREFECT__FLOW_RUN_ID={flow_run_id}".encode() in (folder / "environ").read_bytes().split(b"\0")
        except PermissionError:  # somebody else's process: better a run too many left open than one closed that lives
            return b"prefect" in (folder / "cmdline").read_bytes()
    return False


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _is_of_this_host(run: "FlowRun") -> bool:
    _, named, host = str(run.labels.get(WORKER, "")).rpartition("@")
    return not named or host == socket.gethostname()


def _age(run: "FlowRun") -> timedelta:
    return datetime.now(UTC) - run.state.timestamp if run.state else timedelta(0)


def _find_unfinished(client: "SyncPrefectClient", pool: str) -> "list[FlowRun]":
    from prefect.client.schemas.filters import FlowRunFilter, WorkPoolFilter, WorkPoolFilterName

    ours = WorkPoolFilter(name=WorkPoolFilterName(any_=[pool]))
    return client.read_flow_runs(work_pool_filter=ours, flow_run_filter=FlowRunFilter(state=_unfinished()))


def _find_subflows(client: "SyncPrefectClient", run: "FlowRun") -> "list[FlowRun]":
    """Those that ran in the process of `run`: one of a deployment has a process of its own."""
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterParentFlowRunId

    within = FlowRunFilter(state=_unfinished(), parent_flow_run_id=FlowRunFilterParentFlowRunId(any_=[run.id]))
    return [subflow for subflow in client.read_flow_runs(flow_run_filter=within) if subflow.deployment_id is None]


def _unfinished() -> "FlowRunFilterState":
    from prefect.client.schemas.filters import FlowRunFilterState, FlowRunFilterStateType
    from prefect.client.schemas.objects import StateType

    types = [StateType.PENDING, StateType.RUNNING, StateType.CANCELLING]
    return FlowRunFilterState(type=FlowRunFilterStateType(any_=types))


def _close(client: "SyncPrefectClient", run: "FlowRun", because: str) -> Iterator[Zombie]:
    """Closes a run and what ran within it, unless its last words have come in meanwhile."""
    from prefect.states import Crashed

    for subflow in _find_subflows(client, run):
        yield from _close(client, subflow, because)
    now = client.read_flow_run(run.id).state
    if run.state is None or now is None or now.id != run.state.id:
        return
    pid = int(run.infrastructure_pid) if run.infrastructure_pid else None
    process = f"its process ({pid}) is gone" if pid else "it has no process"
    message = f"{because}; {process}. Readers see whole tables, as before; start it again or wait for the next one"
    client.set_flow_run_state(run.id, Crashed(message=message), force=True)  # one that is cancelled may not crash, else
    yield Zombie(run.id, run.name, run.state.type.value, pid, message)


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--pool", default=POOL, show_default=True, help="The work pool whose runs to look at.")
@click.option("--because", default=WORKER_ENDED, show_default=True, help="What the UI says of why they ended.")
@click.option("--min-age", default=60.0, show_default=True, help="Seconds that a run must have been in its state.")
def main(pool: str, because: str, min_age: float) -> None:
    """Closes flow runs whose process is gone; says which, and sends the alerts that are wanted."""
    from flows.alerting import alert_about_zombie

    for zombie in close_zombies(pool, because, timedelta(seconds=min_age)):
        click.echo(f"closed {zombie.name}, which was {zombie.was}: {zombie.message}")
        alert_about_zombie(zombie)


if __name__ == "__main__":
    main()
