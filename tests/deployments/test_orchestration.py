"""Nights under Prefect: the form of the UI, artifacts, alerts, concurrent nights, kills, schedules, backfills.

Everything is real: the server, the worker, the browser, and a web server that receives the alerts. A flow that need not
be started by the worker runs in this process, which has imported everything already.
"""

import json
import os
import subprocess
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from flows.cli.main import main
from flows.nightly import nightly
from flows.watch import watch
from flows.zombies import close_zombies
from recsys.home import Home
from recsys.ingest.synthetic.synthetic import plant
from recsys.settings import Settings
from tests.deployments.conftest import SECRET
from tests.support.archives import write_archive
from tests.support.browser import BROWSER, browsing, choose, field, fill_as_json, open_form, submit
from tests.support.quick_nights import SOURCE, ask, quick_parameters
from tests.support.serving import (
    Served,
    create_run,
    find_deployment,
    kill_child,
    logged,
    newer_run,
    newest_run,
    post_run,
    reporting,
    start_long_night,
    start_on_schedule,
    start_run,
    start_run_by_command,
    state_of,
    wait_for,
    wait_for_end,
    wait_until_healthy,
)
from tests.support.sinks import Sink

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


@pytest.fixture(scope="module")
def published(served: Served, tmp_path_factory: pytest.TempPathFactory) -> tuple[Home, Any]:
    """A home with a night started from the form in the UI, and its flow run. Without a browser, a request starts it."""
    home = Home(tmp_path_factory.mktemp("published") / "home")
    settings = {"source": SOURCE, "n": 7, "model": "dot", "home": str(home.root)}
    if BROWSER is None:
        start_run(served, "nightly", {"settings": settings})
        run = newer_run(served, "nightly", None)
    else:
        run = fill_in_form(served, settings)
    assert run["parameters"]["settings"] == settings
    assert wait_for_end(served, run["id"])["name"] == "Published", served.log.read_text()
    return home, run


@pytest.fixture(scope="module")
def busy(served: Served, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Home, str]]:
    """A home on which a night of the deployment runs, and the id of its flow run. SIGSTOP suspends its process."""
    home = Home(tmp_path_factory.mktemp("busy"))
    yield home, start_long_night(served, home.root, stop=True)


@pytest.fixture(scope="module")
def killed(served: Served, busy: tuple[Home, str]) -> Iterator[dict[str, str]]:
    """Ids of runs, by what has become of their processes when the worker is restarted.

    The worker and the night of `busy` are killed with `kill -9`. The other runs are registered with Prefect, but not
    executed. The process of "living" runs until the worker is back.
    """
    _, night = busy
    runs = {
        "killed": night,
        "reused": create_run(served, "RUNNING", os.getpid()),  # a living process that does not belong to this run
        "without a process": create_run(served, "PENDING", None),
        "dying": create_run(served, "CANCELLING", os.getpid()),
        "on another host": create_run(served, "RUNNING", 1, {"prefect.worker.name": "serve@another-host"}),
        "living": create_run(served, "RUNNING", None),
    }
    with subprocess.Popen(["sleep", "600"], env={"PREFECT__FLOW_RUN_ID": runs["living"]}) as process:
        served.api.patch(f"/flow_runs/{runs['living']}", json={"infrastructure_pid": str(process.pid)})
        kill_child(served, "worker start", int(served.api.get(f"/flow_runs/{night}").json()["infrastructure_pid"]))
        process.kill()
    yield runs
    other = f"/flow_runs/{runs['on another host']}/set_state"
    served.api.post(other, json={"state": {"type": "CANCELLED"}}).raise_for_status()


def test_form_describes_its_fields(served: Served) -> None:
    """The form has descriptions, bounds and choices. Defaults are absent: they would override the environment."""
    schema = find_deployment(served)["parameter_openapi_schema"]["definitions"]
    shown = schema["Settings"]["properties"]
    assert list(shown) == ["source", "model", "as_of", "n", "seed", "device", "gate", "home"]
    assert all("description" in one or "$ref" in one for one in shown.values())
    assert (shown["n"]["minimum"], shown["n"]["maximum"]) == (1, 1000)
    assert "ordinal" in shown["model"]["enum"]
    assert "ml-1m" in shown["source"]["anyOf"][0]["enum"]
    assert not any("default" in one for one in (*shown.values(), *schema["GateConfig"]["properties"].values()))


@pytest.mark.parametrize("name", ["nightly", "backfill", "compare", "check", "rollback", "watch"])
def test_each_field_of_a_form_has_a_description(served: Served, name: str) -> None:
    schema = find_deployment(served, name)["parameter_openapi_schema"]
    groups = [schema, *schema.get("definitions", {}).values()]
    fields = {title: field for group in groups for title, field in group["properties"].items()}
    assert fields
    assert [title for title, field in fields.items() if not field.get("description") and "$ref" not in field] == []


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("nightly", {"settings": {"n": 0}}),
        ("nightly", {"settings": {"model": "ordnial"}}),
        ("nightly", {"settings": {"device": "tpu"}}),
        ("nightly", {"settings": {"gate": {"max_mae_median": -1}}}),
        ("compare", {"seeds": 0}),
        ("rollback", {"run_id": "../../etc"}),
        ("watch", {"max_age_hours": 0}),
    ],
    ids=str,
)
def test_server_refuses_invalid_parameters(served: Served, name: str, parameters: dict[str, Any]) -> None:
    answer = post_run(served, name, parameters)
    assert answer.status_code in (409, 422)
    assert "alidation" in answer.text or "alid" in answer.text


def test_unknown_setting_fails_the_run_before_the_night(served: Served, tmp_path: Path) -> None:
    with reporting(served):
        state = run_here(nightly, {"source": SOURCE, "home": str(tmp_path / "home"), "nn": 3})
    assert (state.type, "Settings.nn: Extra inputs" in state.message) == ("FAILED", True), state.message
    assert not (tmp_path / "home").exists()


def test_night_from_the_form_uses_its_settings(published: tuple[Home, Any]) -> None:
    home, run = published
    assert ask(home, "select max(rank) from recommendations") == [(7,)]
    assert ask(home, "select model, verdict from runs") == [("dot", "published")]
    assert "nights" in run["tags"]


def test_ui_shows_the_night(served: Served, published: tuple[Home, Any]) -> None:
    """The UI shows the table of metrics, the page of the verdict, a plot of the last nights, progress bars, the log."""
    _, run = published
    wanted = {"flow_runs": {"id": {"any_": [run["id"]]}}}
    artifacts = {one["key"]: one for one in served.api.post("/artifacts/filter", json=wanted).json()}
    assert {"metrics", "verdict", "nights", "dot-for-tonight"} <= artifacts.keys()
    models = [row["model"] for row in json.loads(artifacts["metrics"]["data"])]
    assert models[0] == "dot"
    assert {"bias", "popularity"} <= set(models)
    assert "# Published" in artifacts["verdict"]["data"]
    assert "MAE, stars" in artifacts["verdict"]["data"]
    assert artifacts["nights"]["data"].startswith("![nights](data:image/png;base64,")
    assert artifacts["dot-for-tonight"]["data"] == 100
    wait_for("our messages in Prefect's log", lambda: "publish ..." in logged(served, run["id"]))  # sent in batches
    assert served.api.get(f"/flow_runs/{run['id']}").json()["name"] == f"{today()} {SOURCE}, dot"


def test_each_failure_has_its_own_state_and_one_alert(
    served: Served, published: tuple[Home, Any], hook: Sink, tmp_path: Path
) -> None:
    """Data refused, held back by the gate, and failed. Each alert names the cause, the step and the next command.

    The last one is started by `prefect deployment run`.
    """
    home, _ = published
    planted = plant(60, 40, 2000)
    broken = write_archive(
        tmp_path / "broken", "ml-1m", planted.ratings, planted.movies, planted.users,
        dict.fromkeys(range(1, 200), "1::1::9::978300760"),
    )  # fmt: skip
    popular = {"retrievers": ["popularity"]}
    strict = quick_parameters(home.root, gate={"max_mae_median": 0.01}, rank=popular)
    with reporting(served, RECSYS_ALERT_WEBHOOK_URL=hook.address):
        for name, step, settings in (
            ("Data refused", "check_ratings", quick_parameters(home.root, broken)),
            ("Held back", "check_gate", strict),
        ):
            state = run_here(nightly, Settings.model_validate(settings))
            assert state.name == name
            check_alert(served, hook, home, name.lower(), step, str(state.state_details.flow_run_id))
    assert "stars is above the gate" in hook.of_kind("held back", home)[0]["reason"]

    environment = os.environ | {"PREFECT_API_URL": f"{served.address}/api", "PREFECT_HOME": str(tmp_path / "prefect")}
    damaged = tmp_path / f"{SECRET}.zip"
    damaged.write_text("not a zip")
    run = start_run_by_command(served, "nightly", {"settings": quick_parameters(home.root, damaged)}, environment)
    assert wait_for_end(served, run)["name"] == "Failed"
    check_alert(served, hook, home, "failed", "fetch_archive", run)
    assert SECRET not in json.dumps(hook.received)
    assert [len(hook.of_kind(kind, home)) for kind in ("data refused", "held back", "failed")] == [1, 1, 1]


def test_missing_night_is_late(served: Served, hook: Sink, tmp_path: Path) -> None:
    """tests/alerts checks that each missing night causes exactly one alert."""
    with reporting(served, RECSYS_ALERT_WEBHOOK_URL=hook.address):
        state = run_here(watch, 26, tmp_path)
    assert (state.type, state.name) == ("FAILED", "Late")
    assert state.message.startswith("nothing is published")
    (alert,) = hook.of_kind("late", Home(tmp_path))
    assert alert["served"].startswith("nothing")


def test_only_one_night_runs_at_a_time(served: Served, busy: tuple[Home, str]) -> None:
    """While a night runs, the deployment, its schedule, a backfill and the command line start no other night."""
    home, night = busy
    settings = {"source": SOURCE, "home": str(home.root)}
    other = start_run(served, "backfill", {"first": "2000-06-01", "last": "2000-06-02", "settings": settings})
    again = wait_for_end(served, start_run(served, "nightly", {"settings": settings}))
    assert (again["type"], "concurrency limit" in again["message"]) == ("CANCELLED", True)
    scheduled = start_on_schedule(served, settings)
    assert {wait_for_end(served, run)["type"] for run in scheduled} == {"CANCELLED"}

    with reporting(served):
        done = CliRunner().invoke(main, ["nightly", "--source", SOURCE, "--home", str(home.root)])
    assert done.exit_code == 1
    assert "and only one may run at a time" in done.stderr

    state = wait_for_end(served, other)
    assert (state["type"], state["name"]) == ("CANCELLED", "Busy")
    assert f"is running on {home.root}, and only one may run at a time" in state["message"]
    pid = served.api.get(f"/flow_runs/{night}").json()["infrastructure_pid"]
    assert f"a night of process {pid} on " in state["message"]
    assert f"(run {first_run(home)}, in step " in state["message"]
    assert state_of(served, night)["type"] == "RUNNING"
    assert len(list(home.runs.iterdir())) == 1


def test_dead_worker_is_restarted_and_its_dead_runs_are_closed(served: Served, killed: dict[str, str]) -> None:
    """Only runs without a process are closed, because a process may outlive its worker."""
    states = {name: state_of(served, run) for name, run in killed.items()}
    assert {name for name, state in states.items() if state["type"] == "RUNNING"} == {"on another host", "living"}
    closed = {name: state["message"] for name, state in states.items() if state["type"] == "CRASHED"}
    assert closed.keys() == {"killed", "reused", "without a process", "dying"}
    assert closed["without a process"].startswith("the worker that ran this night ended; it has no process.")
    assert f"its process ({os.getpid()}) is gone" in closed["reused"]
    log = served.log.read_text()
    assert "the Prefect worker ended: killed by SIGKILL; restarting it" in log
    assert log.count("which was RUNNING: the worker that ran this night ended; its process") == 2

    with reporting(served):
        assert {str(zombie.flow_run_id) for zombie in close_zombies(min_age=timedelta(0))} == {killed["living"]}


def test_next_scheduled_night_survives_a_killed_server(
    served: Served, busy: tuple[Home, str], killed: dict[str, str], hook: Sink
) -> None:
    """After `kill -9` of night and worker, one alert is sent. The server is killed during the next night."""
    home, night = busy
    assert killed["killed"] == night
    (alert,) = wait_for("the alert", lambda: hook.of_kind("crashed", home))
    assert alert["run_id"] == first_run(home)
    assert alert["step"] in {"fetch_archive", "write_snapshot", "check_ratings", "split"}

    scheduled = start_on_schedule(served, quick_parameters(home.root))
    wait_for("the night", lambda: "RUNNING" in {state_of(served, run)["type"] for run in scheduled})
    kill_child(served, "server start")
    wait_until_healthy(served)
    wait_for("the message", lambda: "the Prefect server is back, with its history" in served.log.read_text())
    assert "COMPLETED" in {wait_for_end(served, run)["type"] for run in scheduled}, served.log.read_text()
    assert ask(home, "select verdict, model from runs where published") == [("published", "ordinal")]
    assert len(hook.of_kind("crashed", home)) == 1


def test_backfill_runs_the_missing_night(served: Served, published: tuple[Home, Any]) -> None:
    """Two nights, two days apart, are requested in the UI if there is a browser. The later one is published already."""
    home, _ = published
    [(last,)] = ask(home, "select as_of from runs where published")
    parameters = {
        "first": (last - timedelta(days=2)).isoformat(),
        "last": last.isoformat(),
        "step": "P2D",
        "settings": quick_parameters(home.root, audit={"max_rows_share": None}),
    }
    run = fill_in_json(served, "backfill", parameters) if BROWSER else start_run(served, "backfill", parameters)
    assert wait_for_end(served, run)["name"] == "Completed", served.log.read_text()
    nights = ask(home, "select as_of, verdict from runs where run_id in (select run_id from recommendation_history)")
    assert sorted(nights) == [(last - timedelta(days=2), "backfilled"), (last, "published")]
    wanted = {"flow_runs": {"id": {"any_": [run]}}}
    (table,) = (one for one in served.api.post("/artifacts/filter", json=wanted).json() if one["key"] == "nights")
    assert [row["verdict"] for row in json.loads(table["data"])] == ["backfilled", "there already"]


def today() -> date:
    return datetime.now(UTC).date()


def run_here(flow: Any, *parameters: Any) -> Any:
    """Runs a flow in this process; returns its final state."""
    return flow(*parameters, return_state=True)


def check_alert(served: Served, hook: Sink, home: Home, kind: str, step: str, flow_run: str) -> None:
    """Checks that there is exactly one alert of this kind, and what it names."""
    (alert,) = wait_for(f"the alert {kind}", lambda: hook.of_kind(kind, home))
    assert (alert["flow"], alert["step"]) == ("nightly", step)
    assert alert["run_url"] == f"{served.address}/runs/flow-run/{flow_run}"
    assert published_run(home) in alert["served"]
    assert f"--home {home.root}" in alert["next_command"]
    assert alert["run_id"] in {path.name for path in home.runs.iterdir()}


def fill_in_form(served: Served, settings: dict[str, Any]) -> Any:
    """Starts a night from the form in the browser and checks its page after the end. Returns the flow run."""
    before = newest_run(served, "nightly")
    with browsing() as page:
        open_form(page, served.address, find_deployment(served)["id"])
        field(page, "N").locator("input").fill(str(settings["n"]))
        choose(page, "Model", settings["model"])
        field(page, "Home").locator("input, textarea").first.fill(settings["home"])
        page.get_by_text("path or synthetic", exact=True).click()
        field(page, "Source").locator("input, textarea").first.fill(settings["source"])
        submit(page)
        run = wait_for("the run", lambda: newer_run(served, "nightly", before))
        page.goto("about:blank")  # pages of the UI ask the server again and again
        wait_for_end(served, run["id"])
        page.goto(f"{served.address}/runs/flow-run/{run['id']}")
        page.get_by_text(f"{today()} {settings['source']}, dot").first.wait_for()
        page.get_by_text("Artifacts").first.click()
        page.get_by_text("verdict").first.wait_for()
    return run


def fill_in_json(served: Served, name: str, parameters: dict[str, Any]) -> str:
    """Starts a run from the form with all parameters as JSON; returns the id of the flow run."""
    before = newest_run(served, name)
    with browsing() as page:
        open_form(page, served.address, find_deployment(served, name)["id"])
        fill_as_json(page, json.dumps(parameters))
        submit(page)
        run = wait_for("the run", lambda: newer_run(served, name, before))
    assert run["parameters"] == parameters
    return str(run["id"])


def published_run(home: Home) -> str:
    """The id of the run whose lists are published."""
    return str(ask(home, "select any_value(run_id) from recommendations")[0][0])


def first_run(home: Home) -> str:
    return sorted(path.name for path in home.runs.iterdir())[0]
