"""The steps of a night as Prefect tasks: their states on a real server."""

import logging
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from recsys.errors import DataRefused
from recsys.files import write_json
from recsys.home import Home
from recsys.nightly import STEPS
from recsys.runs.step import Step
from recsys.settings import Settings
from tests.support.quick_nights import ask, quick_parameters, run_night
from tests.support.serving import Served, reporting

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def api(served: Served) -> Iterator[httpx.Client]:
    """The server, to which the flows of this process report."""
    with reporting(served):
        yield served.api


def test_a_resumed_night_reports_kept_steps_as_cached(api: httpx.Client, tmp_path: Path) -> None:
    """The night is killed without a server and resumed with one. Steps with a kept result are Cached."""
    from flows.launch import run_nightly

    parameters = quick_parameters(tmp_path)
    assert run_night(parameters, kill_at="evaluate ...") == -9
    summary = run_nightly(Settings.model_validate(parameters))
    assert summary.verdict == "published"
    assert ask(Home(tmp_path), "select count(*) from runs") == [(1,)]
    names = [step.name for step in STEPS]
    kept = {step.name for step in STEPS[: names.index("evaluate")] if step.is_kept}
    assert wait_for_states(api) == {name: "Cached" if name in kept else "Completed" for name in names}


def test_a_refusal_is_logged_once_and_without_a_traceback(
    api: httpx.Client, home: Home, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the log of a night there was a traceback for the step, and another one for the process of the run."""
    from prefect import flow

    from flows.endings import hide_expected_tracebacks, with_final_states
    from flows.step import TaskExecutor

    def refuse() -> None:
        raise DataRefused("line 7 is bad")

    @flow(name="refusing")
    @with_final_states
    def refusing() -> None:
        TaskExecutor(run)(Step(refuse, "refuse"))

    run = home.run("20261121T030000Z")
    write_json(run.inputs, {"served": None})
    for name in ("prefect.flow_runs", "prefect.task_runs"):
        monkeypatch.setattr(logging.getLogger(name), "filters", [])
        monkeypatch.setattr(logging.getLogger(name), "propagate", False)
        caplog.set_level(logging.INFO, logger=name)
        logging.getLogger(name).addHandler(caplog.handler)
    hide_expected_tracebacks()
    state = refusing(return_state=True)
    assert (state.name, state.message) == ("Data refused", "line 7 is bad")
    assert caplog.text.count("line 7 is bad") == 1
    assert "Finished in state Data refused('The state of the flow run has the reason.'" in caplog.text
    assert "Traceback" not in caplog.text
    assert "NoneType: None" not in caplog.text


def test_earlier_runs_of_the_watchdog_that_found_nothing_wrong_are_deleted(api: httpx.Client) -> None:
    """288 of them a day would hide the nights in the list of runs."""
    from flows.zombies import delete_runs

    flow = api.post("/flows/", json={"name": "watching"}).raise_for_status().json()["id"]
    names = ("watched", "another")
    ours, other = (
        api.post("/deployments/", json={"name": name, "flow_id": flow}).raise_for_status().json()["id"]
        for name in names
    )
    for deployment, state in ((ours, "Fresh"), (ours, "Fresh"), (ours, "Late"), (other, "Fresh")):
        run = {"flow_id": flow, "deployment_id": deployment, "state": {"type": "COMPLETED", "name": state}}
        api.post("/flow_runs/", json=run).raise_for_status()
    delete_runs(ours, "Fresh")
    left = api.post("/flow_runs/filter", json={"flows": {"name": {"any_": ["watching"]}}}).raise_for_status().json()
    assert sorted((run["deployment_id"] == ours, run["state_name"]) for run in left) == [
        (False, "Fresh"),
        (True, "Late"),
    ]


def wait_for_states(api: httpx.Client) -> dict[str, str]:
    """The states of the steps of the newest flow run of this process. They arrive shortly after its end."""
    ours = {"flows": {"name": {"any_": ["nightly"]}}, "flow_runs": {"deployment_id": {"is_null_": True}}}
    newest = ours | {"sort": "START_TIME_DESC", "limit": 1}
    deadline = time.monotonic() + 30
    while True:
        flow_run = api.post("/flow_runs/filter", json=newest).raise_for_status().json()[0]
        wanted: dict[str, Any] = {"flow_runs": {"id": {"any_": [flow_run["id"]]}}}
        tasks = api.post("/task_runs/filter", json=wanted).raise_for_status().json()
        states = {task["name"].rpartition("-")[0]: task["state_name"] for task in tasks}
        if len(states) == len(STEPS) and "Running" not in states.values():
            return states
        assert time.monotonic() < deadline, states
        time.sleep(0.5)
