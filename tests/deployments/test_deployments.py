"""`make serve`: its deployments, schedules and restarts."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import pytest
from click import ClickException
from prefect.settings import PREFECT_API_URL, temporary_settings

from deployments.processes import EXITS_SECONDS, MAX_EXITS, Child, running
from flows.zombies import Zombie, close_zombies
from recsys.home import Home
from tests.support.quick_nights import ask, quick_parameters
from tests.support.serving import (
    ROOT,
    Served,
    descendants,
    find_deployment,
    kill_child,
    logged,
    processes,
    serving,
    start_run_by_command,
    state_of,
    wait_for,
    wait_for_end,
    wait_until_healthy,
)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


def test_nightly_is_deployed_from_this_checkout(served: Served) -> None:
    deployment = find_deployment(served)
    assert deployment["work_pool_name"] == "nights"
    assert deployment["entrypoint"] == "flows/nightly.py:nightly"
    assert deployment["pull_steps"] == [
        {"prefect.deployments.steps.set_working_directory": {"directory": str(ROOT)}},
    ]
    assert deployment["parameters"] == {}  # so that RECSYS_SOURCE of the worker counts
    assert deployment["global_concurrency_limit"]["limit"] == 1
    assert deployment["concurrency_options"]["collision_strategy"] == "CANCEL_NEW"


def test_schedule_creates_runs(served: Served) -> None:
    """A scheduler that has died silently still shows the schedule, so the runs themselves are checked."""
    deployment = find_deployment(served)
    schedules = [schedule["schedule"] for schedule in deployment["schedules"] if schedule["active"]]
    assert [(schedule["cron"], schedule["timezone"]) for schedule in schedules] == [("0 3 * * *", "UTC")]
    wanted = {
        "deployments": {"id": {"any_": [deployment["id"]]}},
        "flow_runs": {"state": {"type": {"any_": ["SCHEDULED"]}}},
    }
    runs = wait_for("scheduled runs", lambda: served.api.post("/flow_runs/filter", json=wanted).json())
    assert all(run["expected_start_time"].endswith("T03:00:00Z") for run in runs)


def test_dead_worker_is_restarted_and_its_dead_runs_are_closed(served: Served) -> None:
    """Only runs without a process are closed, because a process may outlive its worker."""
    closed = "which was RUNNING: the worker that ran this night ended; its process"
    n_closed = served.log.read_text().count(closed)  # by earlier tests of this server
    reused = create_run(served, "RUNNING", os.getpid())  # a living process that does not belong to this run
    without_process = create_run(served, "PENDING", None)
    dying = create_run(served, "CANCELLING", os.getpid())
    on_other_host = create_run(served, "RUNNING", 1, {"prefect.worker.name": "serve@another-host"})
    living = create_run(served, "RUNNING", None)
    with subprocess.Popen(["sleep", "600"], env={"PREFECT__FLOW_RUN_ID": living}) as process:
        served.api.patch(f"/flow_runs/{living}", json={"infrastructure_pid": str(process.pid)}).raise_for_status()
        kill_child(served, "worker start")
        process.kill()

    states = {run: state_of(served, run) for run in (reused, without_process, dying, on_other_host, living)}
    assert [state["type"] for state in states.values()] == ["CRASHED"] * 3 + ["RUNNING"] * 2
    assert states[without_process]["message"].startswith("the worker that ran this night ended; it has no process.")
    assert f"its process ({os.getpid()}) is gone" in states[reused]["message"]
    log = served.log.read_text()
    assert "the Prefect worker ended: killed by SIGKILL; restarting it" in log
    assert log.count(closed) == n_closed + 1

    assert {zombie.flow_run_id for zombie in close_zombies_here(served)} == {UUID(living)}
    served.api.post(f"/flow_runs/{on_other_host}/set_state", json={"state": {"type": "CANCELLED"}}).raise_for_status()


def test_night_survives_a_killed_server(served: Served, tmp_path: Path) -> None:
    """A night that `prefect deployment run` has started publishes, and the UI shows its log."""
    home = Home(tmp_path / "home")
    environment = os.environ | {"PREFECT_API_URL": f"{served.address}/api", "PREFECT_HOME": str(tmp_path / "prefect")}
    run_id = start_run_by_command(served, "nightly", {"settings": quick_parameters(home.root)}, environment)
    wait_for("the night", lambda: state_of(served, run_id)["type"] == "RUNNING")
    kill_child(served, "server start")
    wait_until_healthy(served)
    assert wait_for_end(served, run_id)["type"] == "COMPLETED", served.log.read_text()
    assert ask(home, "select verdict, model from runs") == [("published", "ordinal")]
    wait_for("our messages in Prefect's log", lambda: "publish ..." in logged(served, run_id))  # sent in batches
    assert "the Prefect server is back, with its history" in served.log.read_text()


def test_port_in_use_is_refused(served: Served, tmp_path: Path) -> None:
    port = served.port
    command = [sys.executable, "-m", "deployments.serve", "--port", str(port), "--home", str(tmp_path / "home")]
    second = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert second.returncode == 1
    assert f"port {port} of 127.0.0.1 cannot be used" in second.stderr
    assert f"--port {port + 1}" in second.stderr
    assert not (tmp_path / "home").exists()


def test_child_that_exits_too_often_is_not_restarted(tmp_path: Path) -> None:
    log = tmp_path / "log"
    long_ago = time.monotonic() - EXITS_SECONDS - 1
    child = Child("server", ("version",), os.environ, log, pause_seconds=0.01, exits=[long_ago])
    with running(child):
        for _ in range(MAX_EXITS - 1):
            child.process.kill()  # type: ignore[union-attr]
            child.report_exit()
            child.start()
        child.process.kill()  # type: ignore[union-attr]
        with pytest.raises(ClickException) as refusal:
            child.report_exit()
    assert refusal.value.message == (
        f"the Prefect server ended: killed by SIGKILL, 5 times within 10 minutes; see {log}"
    )


def test_interrupt_during_start_leaves_no_process(tmp_path: Path) -> None:
    with serving(tmp_path) as served:
        wait_for("the server", lambda: "server start" in " ".join(descendants(served.process.pid).values()))
        started = descendants(served.process.pid)
        served.process.send_signal(signal.SIGINT)
        assert served.process.wait(60) == 0
        assert started.items() & processes().items() == set()


def create_run(served: Served, state: str, pid: int | None, labels: Mapping[str, str] | None = None) -> str:
    """Registers a flow run of our pool with Prefect, without running anything; returns its id."""
    flow = served.api.post("/flows/", json={"name": "pretended"}).raise_for_status().json()["id"]
    run = {"flow_id": flow, "state": {"type": state}, "work_pool_name": "nights", "labels": labels or {}}
    run_id = str(served.api.post("/flow_runs/", json=run).raise_for_status().json()["id"])
    if pid is not None:
        served.api.patch(f"/flow_runs/{run_id}", json={"infrastructure_pid": str(pid)}).raise_for_status()
    return run_id


def close_zombies_here(served: Served) -> list[Zombie]:
    """Closes zombies from this process, as the flow `watch` does."""
    with temporary_settings({PREFECT_API_URL: str(served.api.base_url)}):
        return close_zombies(min_age=timedelta(0))
