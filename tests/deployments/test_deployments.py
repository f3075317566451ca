"""`recsys serve`: its deployments and its child processes."""

import os
import signal
import time
from pathlib import Path

import pytest
from click import ClickException

from deployments.environment import ServeEnvironment
from deployments.processes import EXITS_SECONDS, MAX_EXITS, PREFECT, Child, running
from tests.support.serving import ROOT, Served, descendants, find_deployment, processes, serving, wait_for

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


def test_port_in_use_is_refused(served: Served, tmp_path: Path) -> None:
    with pytest.raises(ClickException) as refusal:
        ServeEnvironment("127.0.0.1", served.port, tmp_path, {}).check()
    assert f"port {served.port} of 127.0.0.1 cannot be used" in refusal.value.message
    assert f"--port {served.port + 2}" in refusal.value.message
    with pytest.raises(ClickException, match=f"port {served.port + 1} of 127.0.0.1 cannot be used"):
        ServeEnvironment("127.0.0.1", served.port + 1, tmp_path, {}).check()


def test_child_that_exits_too_often_is_not_restarted(tmp_path: Path) -> None:
    log = tmp_path / "log"
    long_ago = time.monotonic() - EXITS_SECONDS - 1
    child = Child("Prefect server", (*PREFECT, "version"), os.environ, log, pause_seconds=0.01, exits=[long_ago])
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
