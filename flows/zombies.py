"""Zombies: flow runs that Prefect shows as running although their process is gone. They are closed as crashed.

Workers report the final states of their runs. A worker that is killed, by a power cut or for lack of memory, reports
nothing. Its runs stay RUNNING, and the limit of one night at a time then cancels every later night.

    python -m flows.zombies        closes them on the server of PREFECT_API_URL; run it on the worker's machine
"""

import logging
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
WORKER = "prefect.worker.name"  # the label with the name of the worker that started a run
PROC = Path("/proc")

logger = logging.getLogger("recsys.zombies")


@dataclass(frozen=True)
class Zombie:
    """A flow run that was closed because its process is gone."""

    flow_run_id: UUID
    name: str  # given by Prefect, such as "amber-lynx"
    was: str  # the type of its previous state, such as "RUNNING"
    pid: int | None  # of the process that is gone; None if Prefect has no record of it
    message: str  # of its new state, as shown in the UI


def close_zombies(
    pool: str = POOL, because: str = WORKER_ENDED, min_age: timedelta = timedelta(minutes=1)
) -> list[Zombie]:
    """Closes the flow runs of `pool` whose process is gone, and their subflows, as CRASHED. Returns them.

    `min_age` is the minimum time that a run must have been in its state: a run that is starting has no process yet, and
    a run that has just ended may not have been reported yet. Runs of workers on other hosts (named `worker@host`) are
    skipped, and so are pools of other types than process.
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
    """Returns the id of the process on this machine that executes a flow run; None if it is gone.

    Process ids are reused, so the environment of the process must contain this flow run. Without a recorded id, all
    processes are searched. Without /proc, only the recorded id is checked.
    """
    if not PROC.is_dir():
        return int(recorded_pid) if recorded_pid and _exists(int(recorded_pid)) else None
    pids = [int(recorded_pid)] if recorded_pid else [int(path.name) for path in PROC.glob("[0-9]*")]
    return next((pid for pid in pids if _runs(pid, flow_run_id)), None)


def find_parent(pid: int) -> int | None:
    """Returns the id of the parent of a process; None if the process is gone, or if there is no /proc."""
    with suppress(FileNotFoundError, ProcessLookupError):
        return int((PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()[1])  # names may contain spaces
    return None


def _runs(pid: int, flow_run_id: str) -> bool:
    folder = PROC / str(pid)
    with suppress(FileNotFoundError, ProcessLookupError):  # the process has just ended
        try:
            return f"PREFECT__FLOW_RUN_ID={flow_run_id}".encode() in (folder / "environ").read_bytes().split(b"\0")
        except PermissionError:  # another user's process: leaving a dead run open is better than closing a live one
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
    """The subflows that ran in the process of `run`. A subflow of a deployment has its own process."""
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterParentFlowRunId

    within = FlowRunFilter(state=_unfinished(), parent_flow_run_id=FlowRunFilterParentFlowRunId(any_=[run.id]))
    return [subflow for subflow in client.read_flow_runs(flow_run_filter=within) if subflow.deployment_id is None]


def _unfinished() -> "FlowRunFilterState":
    from prefect.client.schemas.filters import FlowRunFilterState, FlowRunFilterStateType
    from prefect.client.schemas.objects import StateType

    types = [StateType.PENDING, StateType.RUNNING, StateType.CANCELLING]
    return FlowRunFilterState(type=FlowRunFilterStateType(any_=types))


def _close(client: "SyncPrefectClient", run: "FlowRun", because: str) -> Iterator[Zombie]:
    """Closes a run and its subflows, unless its state has changed since it was read."""
    from prefect.states import Crashed

    for subflow in _find_subflows(client, run):
        yield from _close(client, subflow, because)
    now = client.read_flow_run(run.id).state
    if run.state is None or now is None or now.id != run.state.id:
        return
    pid = int(run.infrastructure_pid) if run.infrastructure_pid else None
    process = f"its process ({pid}) is gone" if pid else "it has no process"
    message = (
        f"{because}; {process}. The published tables are complete and unchanged; start it again or wait for the next"
    )
    client.set_flow_run_state(run.id, Crashed(message=message), force=True)  # CANCELLING to CRASHED needs force
    yield Zombie(run.id, run.name, run.state.type.value, pid, message)


def send_alert_of(zombie: Zombie) -> None:
    """Logs a closed run and sends its alert. A subflow gets no alert, because its parent run is reported."""
    from prefect.client.orchestration import get_client

    from flows.alerting import alert_about

    with get_client(sync_client=True) as client:
        flow_run = client.read_flow_run(zombie.flow_run_id)
        name = client.read_flow(flow_run.flow_id).name
    logger.warning("closed %s, a run of %s: %s", zombie.name, name, zombie.message)
    if flow_run.state and flow_run.parent_task_run_id is None:
        alert_about(name, flow_run, flow_run.state)


def delete_runs(deployment_id: str, state: str) -> None:
    """Deletes the runs of a deployment that ended in the state of this name, at most 200 at a time."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import (
        FlowRunFilter,
        FlowRunFilterDeploymentId,
        FlowRunFilterState,
        FlowRunFilterStateName,
    )

    ended = FlowRunFilter(
        deployment_id=FlowRunFilterDeploymentId(any_=[UUID(deployment_id)]),
        state=FlowRunFilterState(name=FlowRunFilterStateName(any_=[state])),
    )
    with get_client(sync_client=True) as client:
        for run in client.read_flow_runs(flow_run_filter=ended):
            client.delete_flow_run(run.id)


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--pool", default=POOL, show_default=True, help="The work pool whose runs are checked.")
@click.option("--because", default=WORKER_ENDED, show_default=True, help="The cause, shown in the UI and in alerts.")
@click.option("--min-age", default=60.0, show_default=True, help="Seconds that a run must have been in its state.")
def main(pool: str, because: str, min_age: float) -> None:
    """Close flow runs whose process is gone, list them, and send an alert for each."""
    for zombie in close_zombies(pool, because, timedelta(seconds=min_age)):
        click.echo(f"closed {zombie.name}, which was {zombie.was}: {zombie.message}")
        send_alert_of(zombie)


if __name__ == "__main__":
    main()
