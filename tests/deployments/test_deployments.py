"""`make serve` as people meet it: a process that starts others, serves a schedule, runs a night, and leaves nothing."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import duckdb
import pytest
from click import ClickException
from prefect.settings import PREFECT_API_URL, temporary_settings

from deployments.children import DEATHS_SECONDS, MAX_DEATHS, Child, running
from flows.zombies import Zombie, close_zombies
from recsys.home import Home
from tests.support.serving import (
    ROOT,
    Served,
    descendants,
    final_state,
    find_deployment,
    kill_all,
    kill_child,
    logged,
    processes,
    serving,
    start_long_night,
    start_night,
    wait_for,
    wait_until_healthy,
    wait_until_up,
)

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("served")


@pytest.fixture(scope="module")
def served(folder: Path) -> Iterator[Served]:
    with serving(folder) as served:
        wait_until_up(served)
        yield served


@pytest.fixture(scope="module")
def served_again(served: Served, deployment: Any, folder: Path) -> Iterator[Served]:
    """`served` is killed with all it started while a night runs, as by a power cut; then it starts again."""
    start_long_night(served, deployment, folder / "cut")
    kill_all(served.process)
    with serving(folder) as served_again:
        wait_until_up(served_again)
        yield served_again


@pytest.fixture(scope="module")
def deployment(served: Served) -> Any:
    return find_deployment(served)


def test_is_healthy(served: Served) -> None:
    assert served.api.get("/health").json() is True


def test_nightly_is_deployed_from_this_checkout(deployment: Any) -> None:
    assert deployment["work_pool_name"] == "nights"
    assert deployment["entrypoint"] == "flows/nightly.py:nightly"
    assert deployment["pull_steps"] == [
        {"prefect.deployments.steps.set_working_directory": {"directory": str(ROOT)}},
    ]
    assert deployment["parameters"] == {"settings": {"source": "ml-100k"}}
    assert deployment["global_concurrency_limit"]["limit"] == 1
    assert deployment["concurrency_options"]["collision_strategy"] == "CANCEL_NEW"


def test_schedule_makes_runs(served: Served, deployment: Any) -> None:
    """A scheduler that dies silently still shows the schedule, so only the runs count."""
    schedules = [schedule["schedule"] for schedule in deployment["schedules"] if schedule["active"]]
    assert [(schedule["cron"], schedule["timezone"]) for schedule in schedules] == [("0 3 * * *", "UTC")]
    wanted = {
        "deployments": {"id": {"any_": [deployment["id"]]}},
        "flow_runs": {"state": {"type": {"any_": ["SCHEDULED"]}}},
    }
    runs = wait_for("scheduled runs", lambda: served.api.post("/flow_runs/filter", json=wanted).json())
    assert all(run["expected_start_time"].endswith("T03:00:00Z") for run in runs)


def test_another_worker_is_started_when_it_dies(served: Served) -> None:
    """And exactly the runs whose process is gone are closed, in words: a process may outlive its worker."""
    reused = start_run(served, "RUNNING", os.getpid())  # of a process that is alive, and another one
    unborn = start_run(served, "PENDING", None)
    dying = start_run(served, "CANCELLING", os.getpid())
    elsewhere = start_run(served, "RUNNING", 1, {"prefect.worker.name": "serve@another-host"})
    living = start_run(served, "RUNNING", None)
    with subprocess.Popen(["sleep", "600"], env={"PREFECT__FLOW_RUN_ID": living}) as process:
        served.api.patch(f"/flow_runs/{living}", json={"infrastructure_pid": str(process.pid)}).raise_for_status()
        kill_child(served, "worker start")
        process.kill()

    states = {run: state_of(served, run) for run in (reused, unborn, dying, elsewhere, living)}
    assert [state["type"] for state in states.values()] == ["CRASHED"] * 3 + ["RUNNING"] * 2
    assert states[unborn]["message"].startswith("the worker that ran this night ended; it has no process.")
    assert f"its process ({os.getpid()}) is gone" in states[reused]["message"]
    told = served.log.read_text()
    assert "the Prefect worker ended: killed by SIGKILL; starting it again" in told
    assert told.count("which was RUNNING: the worker that ran this night ended; its process") == 1

    assert {zombie.flow_run_id for zombie in close_here(served)} == {UUID(living)}
    served.api.post(f"/flow_runs/{elsewhere}/set_state", json={"state": {"type": "CANCELLED"}}).raise_for_status()


def test_night_runs_from_its_deployment(served: Served, deployment: Any, tmp_path: Path) -> None:
    """Its own settings apply, it publishes, the UI can show what it logged: all of it although the server is killed."""
    run_id = start_night(served, deployment, home=tmp_path / "night", source="synthetic:200x150x8000")
    wait_for("the night", lambda: state_of(served, run_id)["type"] == "RUNNING")
    kill_child(served, "server start")
    wait_until_healthy(served)
    state = wait_for("the end of the night", lambda: final_state(served, run_id))
    assert state == "COMPLETED", served.log.read_text()

    with duckdb.connect(Home(tmp_path / "night").warehouse, read_only=True) as connection:
        assert connection.sql("select count(distinct user_id) from recommendations").fetchall() == [(200,)]
        assert connection.sql("select verdict, model from runs").fetchall() == [("published", "ordinal")]
    wait_for("our lines in Prefect's log", lambda: "publish ..." in logged(served, run_id))  # sent in batches


def test_taken_port_is_told_in_words(served: Served, tmp_path: Path) -> None:
    port = served.port
    command = [sys.executable, "-m", "deployments.serve", "--port", str(port), "--home", str(tmp_path / "home")]
    second = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert second.returncode == 1
    assert f"port {port} of 127.0.0.1 cannot be used" in second.stderr
    assert f"--port {port + 1}" in second.stderr
    assert not (tmp_path / "home").exists()


def test_power_cut_does_not_block_the_next_night(served_again: Served) -> None:
    """Prefect by itself would believe for minutes that the night still runs, and cancel the next. It says what was."""
    wanted = {"flow_runs": {"state": {"type": {"any_": ["CRASHED"]}}}, "sort": "START_TIME_DESC"}
    night = served_again.api.post("/flow_runs/filter", json=wanted).json()[0]
    assert night["deployment_id"] is not None
    assert night["state"]["message"].startswith(
        "`make serve` or its machine was cut off while this night ran; its process"
    )
    limit = find_deployment(served_again)["global_concurrency_limit"]
    assert (limit["limit"], limit["active_slots"]) == (1, 0)


def test_stop_ends_a_running_night_too(served_again: Served, deployment: Any, tmp_path: Path) -> None:
    start_long_night(served_again, deployment, tmp_path)
    started = descendants(served_again.process.pid)
    assert any("prefect.engine" in command for command in started.values()), started
    orphan_id = start_run(served_again, "RUNNING", None)  # of a worker that was killed
    orphan = subprocess.Popen(["sleep", "600"], env={"PREFECT__FLOW_RUN_ID": orphan_id}, start_new_session=True)

    served_again.process.send_signal(signal.SIGTERM)
    assert served_again.process.wait(60) == 0
    assert orphan.wait(0) == -signal.SIGTERM
    assert started.items() & processes().items() == set()
    assert served_again.log.read_text().endswith("stopped\n")
    with duckdb.connect(Home(tmp_path).warehouse, read_only=True) as connection:
        assert connection.sql("select verdict from runs").fetchall() == [("failed",)]


def test_what_dies_too_often_stays_dead(tmp_path: Path) -> None:
    log = tmp_path / "log"
    child = Child("server", ("version",), os.environ, log, deaths=[time.monotonic() - DEATHS_SECONDS - 1])
    with running(child):
        for _ in range(MAX_DEATHS - 1):
            child.process.kill()  # type: ignore[union-attr]
            child.tell_death()
            child.start()
        child.process.kill()  # type: ignore[union-attr]
        with pytest.raises(ClickException) as refusal:
            child.tell_death()
    assert refusal.value.message == (
        f"the Prefect server ended: killed by SIGKILL, 5 times within 10 minutes; see {log}"
    )


def test_interrupt_while_it_starts(tmp_path: Path) -> None:
    with serving(tmp_path) as served:
        wait_for("the server", lambda: "server start" in " ".join(descendants(served.process.pid).values()))
        started = descendants(served.process.pid)
        served.process.send_signal(signal.SIGINT)
        assert served.process.wait(60) == 0
        assert started.items() & processes().items() == set()


def start_run(served: Served, state: str, pid: int | None, labels: Mapping[str, str] | None = None) -> str:
    """A flow run of our pool, as far as Prefect knows; the id."""
    flow = served.api.post("/flows/", json={"name": "pretended"}).raise_for_status().json()["id"]
    run = {"flow_id": flow, "state": {"type": state}, "work_pool_name": "nights", "labels": labels or {}}
    run_id = str(served.api.post("/flow_runs/", json=run).raise_for_status().json()["id"])
    if pid is not None:
        served.api.patch(f"/flow_runs/{run_id}", json={"infrastructure_pid": str(pid)}).raise_for_status()
    return run_id


def state_of(served: Served, run_id: str) -> Any:
    return served.api.get(f"/flow_runs/{run_id}").raise_for_status().json()["state"]


def close_here(served: Served) -> list[Zombie]:
    """As a flow that watches would."""
    with temporary_settings({PREFECT_API_URL: str(served.api.base_url)}):
        return close_zombies(min_age=timedelta(0))
