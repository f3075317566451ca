"""`make serve` as people meet it: a process that starts others, serves a schedule, runs a night, and leaves nothing."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest
from serving import (
    ROOT,
    Served,
    descendants,
    final_state,
    find_deployment,
    kill_all,
    logged,
    processes,
    serving,
    start_long_night,
    start_night,
    wait_for,
    wait_until_up,
)

from recsys.home import Home

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


def test_night_runs_from_its_deployment(served: Served, deployment: Any, tmp_path: Path) -> None:
    """Its own settings apply, it publishes, and the UI can show what it logged."""
    run_id = start_night(served, deployment, home=tmp_path / "night", source="synthetic:200x150x8000")
    state = wait_for("the end of the night", lambda: final_state(served, run_id))
    assert state == "COMPLETED", served.log.read_text()

    with duckdb.connect(Home(tmp_path / "night").warehouse, read_only=True) as connection:
        assert connection.sql("select count(distinct user_id) from recommendations").fetchall() == [(200,)]
        assert connection.sql("select verdict, model from runs").fetchall() == [("published", "ordinal")]
    wait_for("our lines in Prefect's log", lambda: "publish_lists ..." in logged(served, run_id))  # sent in batches


def test_taken_port_is_told_in_words(served: Served, tmp_path: Path) -> None:
    port = served.port
    command = [sys.executable, "-m", "deployments.serve", "--port", str(port), "--home", str(tmp_path / "home")]
    second = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert second.returncode == 1
    assert f"port {port} of 127.0.0.1 cannot be used" in second.stderr
    assert f"--port {port + 1}" in second.stderr
    assert not (tmp_path / "home").exists()


def test_power_cut_does_not_block_the_next_night(served_again: Served) -> None:
    """Prefect by itself would believe for minutes that the night still runs, and cancel the next."""
    limit = find_deployment(served_again)["global_concurrency_limit"]
    assert (limit["limit"], limit["active_slots"]) == (1, 0)


def test_stop_ends_a_running_night_too(served_again: Served, deployment: Any, tmp_path: Path) -> None:
    start_long_night(served_again, deployment, tmp_path)
    started = descendants(served_again.process.pid)
    assert any("prefect.engine" in command for command in started.values()), started

    served_again.process.send_signal(signal.SIGTERM)
    assert served_again.process.wait(60) == 0
    assert started.items() & processes().items() == set()
    assert served_again.log.read_text().endswith("stopped\n")
    with duckdb.connect(Home(tmp_path).warehouse, read_only=True) as connection:
        assert connection.sql("select verdict from runs").fetchall() == [("failed",)]


def test_interrupt_while_it_starts(tmp_path: Path) -> None:
    with serving(tmp_path) as served:
        wait_for("the server", lambda: "server start" in " ".join(descendants(served.process.pid).values()))
        started = descendants(served.process.pid)
        served.process.send_signal(signal.SIGINT)
        assert served.process.wait(60) == 0
        assert started.items() & processes().items() == set()
