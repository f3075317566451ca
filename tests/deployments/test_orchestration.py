"""Nights as on-call people meet them: schedules, the form of the UI, two at once, workers that die, who is told.

Everything is real: a server, a worker, a browser, and a web server that gets the alerts.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from recsys.home import Home
from recsys.ingest.synthetic.synthetic import plant
from tests.support.archives import write_archive
from tests.support.browser import BROWSER, browser_only, browsing, choose, field, fill_as_json, open_form, submit
from tests.support.quick_nights import SOURCE, ask, quick_parameters
from tests.support.serving import LONG, Served, kill_child, serving, wait_for, wait_until_up
from tests.support.sinks import Sink, webhook

SECRET = "hunter2-of-the-source"
RECSYS = str(Path(sys.executable).with_name("recsys"))

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]  # a scheduled night begins on the minute


@pytest.fixture(scope="module")
def hook() -> Iterator[Sink]:
    with webhook() as sink:
        yield sink


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, hook: Sink) -> Iterator[Served]:
    """Gates are open: networks of a few seconds learn little."""
    environment = {
        "RECSYS_ALERT_WEBHOOK_URL": hook.address,
        "RECSYS_GATE__MAX_MAE_MEDIAN": "5",
        "RECSYS_GATE__MUST_BEAT_BIAS": "false",
        "RECSYS_GATE__MIN_POPULARITY_COVERAGE_RATIO": "0",
        "RECSYS_AUDIT__MAX_TOP_MOVIE_SHARE": "1",
        "SOURCE_PASSWORD": SECRET,
    }
    with serving(tmp_path_factory.mktemp("orchestration"), **environment) as served:
        wait_until_up(served)
        yield served


@pytest.fixture(scope="module")
def busy(served: Served, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Home, str]]:
    """A home on which a long night of the deployment runs, and the id of its flow run. Its process is stopped, as it
    need not get anywhere: it holds what it holds.
    """
    home = Home(tmp_path_factory.mktemp("busy"))
    night = press(served, "nightly", {"settings": {"source": LONG, "home": str(home.root), "model": "ordinal"}})
    wait_for("the night", lambda: any(home.root.glob("runs/*/validation")))
    os.kill(int(served.api.get(f"/flow_runs/{night}").json()["infrastructure_pid"]), signal.SIGSTOP)
    yield home, night


def test_the_form_says_what_fields_are(served: Served) -> None:
    """Descriptions, bounds and choices; no default is filled in, which would hide what the worker's environment has."""
    schema = deployment(served, "nightly")["parameter_openapi_schema"]["definitions"]
    shown = schema["Settings"]["properties"]
    assert list(shown) == ["source", "model", "as_of", "n", "seed", "device", "gate", "home"]
    assert all("description" in one or "$ref" in one for one in shown.values())
    assert (shown["n"]["minimum"], shown["n"]["maximum"]) == (1, 1000)
    assert "ordinal" in shown["model"]["enum"]
    assert "ml-1m" in shown["source"]["anyOf"][0]["enum"]
    assert not any("default" in one for one in (*shown.values(), *schema["GateConfig"]["properties"].values()))


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
def test_wrong_values_are_refused_before_anything_runs(served: Served, name: str, parameters: dict[str, Any]) -> None:
    answer = post(served, name, parameters)
    assert answer.status_code in (409, 422)
    assert "alidation" in answer.text or "alid" in answer.text


def test_a_setting_that_there_is_not_ends_the_run_before_a_night_begins(served: Served, tmp_path: Path) -> None:
    run = press(served, "nightly", {"settings": {"source": SOURCE, "home": str(tmp_path / "home"), "nn": 3}})
    assert wait_for_end(served, run)["type"] == "FAILED"
    assert not (tmp_path / "home").exists()


@browser_only
def test_a_run_from_the_form_publishes_what_it_asks_for(served: Served, tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    before = newest_run(served, "nightly")
    with browsing() as page:
        open_form(page, address(served), deployment(served, "nightly")["id"])
        field(page, "N").locator("input").fill("7")
        choose(page, "Model", "dot")
        field(page, "Home").locator("input, textarea").first.fill(str(home.root))
        page.get_by_text("path or synthetic", exact=True).click()
        field(page, "Source").locator("input, textarea").first.fill(SOURCE)
        submit(page)
        run = wait_for("the run", lambda: newer_run(served, "nightly", before))
        assert run["parameters"]["settings"] == {"source": SOURCE, "n": 7, "model": "dot", "home": str(home.root)}
        assert wait_for_end(served, run["id"])["name"] == "Completed", served.log.read_text()
        page.goto(f"{address(served)}/runs/flow-run/{run['id']}")
        page.get_by_text(f"{SOURCE}, all ratings").first.wait_for()
        page.get_by_text("Artifacts").first.click()
        page.get_by_text("verdict").first.wait_for()
    assert ask(home, "select max(rank) from recommendations") == [(7,)]
    assert ask(home, "select model, verdict from runs") == [("dot", "published")]


def test_what_the_ui_gets_of_a_night(served: Served, tmp_path: Path) -> None:
    """From `prefect deployment run`: the table, the verdict, a picture, bars; and the links that they hold."""
    home = Home(tmp_path / "home")
    settings = json.dumps(quick_parameters(home.root))
    command = [sys.executable, "-m", "prefect", "--no-prompt", "deployment", "run", "nightly/nightly"]
    before = newest_run(served, "nightly")
    environment = of_clients(served, tmp_path)
    subprocess.run([*command, "--param", f"settings={settings}"], env=environment, check=True, capture_output=True)
    run = wait_for("the run", lambda: newer_run(served, "nightly", before))
    assert wait_for_end(served, run["id"])["name"] == "Completed", served.log.read_text()
    assert ask(home, "select verdict from runs") == [("published",)]

    wanted = {"flow_runs": {"id": {"any_": [run["id"]]}}}
    artifacts = {one["key"]: one for one in served.api.post("/artifacts/filter", json=wanted).json()}
    assert {"metrics", "verdict", "nights", "ordinal-for-tonight"} <= artifacts.keys()
    models = [row["model"] for row in json.loads(artifacts["metrics"]["data"])]
    assert models[0] == "ordinal"
    assert {"bias", "popularity"} <= set(models)
    assert "# published" in artifacts["verdict"]["data"]
    assert (home.run(home_run(home)).data_docs / "index.html").as_uri() in artifacts["verdict"]["data"]
    assert artifacts["nights"]["data"].startswith("data:image/png;base64,")
    assert artifacts["ordinal-for-tonight"]["data"] == 100
    tags = served.api.get(f"/flow_runs/{run['id']}").json()["tags"]
    assert "nights" in tags


def test_each_ending_is_a_state_and_an_alert_of_its_own(served: Served, hook: Sink, tmp_path: Path) -> None:
    """Refused by the data, held back by the gate, failed: each tells once what it is, where, why, and what to type."""
    home = Home(tmp_path / "home")
    assert wait_for_end(served, press(served, "nightly", {"settings": quick_parameters(home.root)}))["name"] == (
        "Completed"
    )
    published = home_run(home)
    planted = plant(60, 40, 2000)
    broken = write_archive(
        tmp_path / "broken", "ml-1m", planted.ratings, planted.movies, planted.users,
        dict.fromkeys(range(1, 200), "1::1::9::978300760"),
    )  # fmt: skip
    strict = quick_parameters(home.root, gate={"max_mae_median": 0.01})
    endings: dict[str, tuple[str, dict[str, Any], str | None]] = {
        "Data refused": ("data refused", quick_parameters(home.root, str(broken)), "check_ratings"),
        "Held back": ("held back", strict, "check_gate"),
        "Failed": ("failed", quick_parameters(home.root, f"/no/such/{SECRET}.zip"), "fetch_archive"),
    }
    for name, (kind, settings, step) in endings.items():
        run = press(served, "nightly", {"settings": settings})
        assert wait_for_end(served, run)["name"] == name
        (alert,) = wait_for(f"the alert {kind}", lambda kind=kind: hook.of_kind(kind, home))  # type: ignore[misc]
        assert (alert["flow"], alert["step"]) == ("nightly", step)
        assert alert["run_url"] == f"{address(served)}/runs/flow-run/{run}"
        assert published in alert["served"]
        assert f"--home {home.root}" in alert["next_command"]
        assert alert["run_id"] in {path.name for path in home.runs.iterdir()}
    assert "stars is above the gate" in hook.of_kind("held back", home)[0]["reason"]
    assert SECRET not in json.dumps(hook.received)
    assert [len(hook.of_kind(kind, home)) for kind, _, _ in endings.values()] == [1, 1, 1]


def test_a_missing_night_is_told_once(served: Served, hook: Sink, tmp_path: Path) -> None:
    parameters = {"home": str(tmp_path), "max_age_hours": 26}
    states = [wait_for_end(served, press(served, "watch", parameters)) for _ in range(2)]
    assert [state["name"] for state in states] == ["Late", "Late"]
    assert states[0]["message"].startswith("nothing is published")
    (alert,) = hook.of_kind("late", Home(tmp_path))
    assert alert["served"].startswith("nothing")


def test_two_nights_at_once_by_any_way(served: Served, busy: tuple[Home, str], tmp_path: Path) -> None:
    """While the deployment's night runs: the deployment again, its schedule, a backfill, the command line."""
    home, night = busy
    settings = {"source": SOURCE, "home": str(home.root)}
    again = wait_for_end(served, press(served, "nightly", {"settings": settings}))
    assert (again["type"], "concurrency limit" in again["message"]) == ("CANCELLED", True)

    other = press(served, "backfill", {"first": "2000-06-01", "last": "2000-06-02", "settings": settings})
    state = wait_for_end(served, other)
    assert (state["type"], state["name"]) == ("CANCELLED", "Busy")
    assert f"is running on {home.root}, and there is one at a time" in state["message"]
    assert f"(run {home_run_of(home)}, in step " in state["message"]

    command = [RECSYS, "nightly", "--source", SOURCE, "--home", str(home.root)]
    done = subprocess.run(command, env=of_clients(served, tmp_path), capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "and there is one at a time" in done.stderr

    scheduled = wait_for_end(served, scheduled_run(served, settings)["id"])
    assert scheduled["type"] == "CANCELLED"
    assert served.api.get(f"/flow_runs/{night}").json()["state_type"] == "RUNNING"
    assert len(list(home.runs.iterdir())) == 1


def test_a_killed_run_and_its_worker_leave_room_and_word(served: Served, busy: tuple[Home, str], hook: Sink) -> None:
    """`kill -9` of both: the run is closed, people are told once, and the next night runs."""
    home, night = busy
    pid = int(served.api.get(f"/flow_runs/{night}").json()["infrastructure_pid"])
    os.kill(pid, signal.SIGKILL)
    kill_child(served, "worker start")
    began = time.monotonic()
    state = wait_for_end(served, night)
    assert state["type"] == "CRASHED"
    assert time.monotonic() - began < 60
    alert = wait_for("the alert", lambda: hook.of_kind("crashed", home))
    assert len(alert) == 1
    assert alert[0]["run_id"] == home_run_of(home)
    assert alert[0]["step"] in {"check_ratings", "split", "fit_vocabulary", "choose_network", "weigh_parts", "train"}
    after = press(served, "nightly", {"settings": quick_parameters(home.root)})
    assert wait_for_end(served, after)["name"] == "Completed"
    assert len(hook.of_kind("crashed", home)) == 1


def test_the_other_way_round(served: Served, tmp_path: Path) -> None:
    """A night of the command line runs; the deployment's is cancelled, in words."""
    home = Home(tmp_path / "home")
    quiet = subprocess.DEVNULL
    environment = of_clients(served, tmp_path)
    command = [RECSYS, "nightly", "--source", LONG, "--model", "ordinal", "--home", str(home.root)]
    with subprocess.Popen(command, env=environment, stdout=quiet, stderr=quiet) as other:
        try:
            wait_for("the night", lambda: any(home.root.glob("runs/*/underway.json")))
            other.send_signal(signal.SIGSTOP)
            state = wait_for_end(served, press(served, "nightly", {"settings": quick_parameters(home.root)}))
        finally:
            other.kill()
    assert (state["type"], state["name"]) == ("CANCELLED", "Busy")
    assert f"a night of process {other.pid} on " in state["message"]


def test_a_schedule_makes_nights(served: Served, tmp_path: Path) -> None:
    """A cron of every minute really starts runs, and they complete."""
    home = Home(tmp_path / "home")
    run = scheduled_run(served, quick_parameters(home.root))
    assert run["auto_scheduled"] is True
    assert wait_for_end(served, run["id"])["name"] == "Completed"
    assert ask(home, "select verdict from runs") == [("published",)]


def test_a_week_is_made_up_for_by_one_run(served: Served, tmp_path: Path) -> None:
    """Asked for in the UI, where there is a browser. And a second one finds everything there."""
    home = Home(tmp_path / "home")
    settings = quick_parameters(home.root, audit={"max_rows_share": None}, rank={"retrievers": ["popularity"]})
    last = datetime(2000, 12, 20, tzinfo=UTC)
    parameters = {
        "first": (last - timedelta(days=6)).isoformat(),
        "last": last.isoformat(),
        "settings": settings,
    }
    run = press_in_browser(served, "backfill", parameters) if BROWSER else press(served, "backfill", parameters)
    assert wait_for_end(served, run, 240)["name"] == "Completed", served.log.read_text()
    nights = "select count(distinct as_of), count(*) from runs where verdict = 'published'"
    assert ask(home, nights) == [(7, 7)]
    again = press(served, "backfill", parameters)
    assert wait_for_end(served, again)["name"] == "Completed"
    assert ask(home, "select count(*) from runs") == [(7,)]
    wanted = {"flow_runs": {"id": {"any_": [again]}}}
    (table,) = (one for one in served.api.post("/artifacts/filter", json=wanted).json() if one["key"] == "nights")
    assert [row["verdict"] for row in json.loads(table["data"])] == ["there already"] * 7


def of_clients(served: Served, folder: Path) -> dict[str, str]:
    """What a command finds in its environment; without a server it would start one of its own."""
    return os.environ | {"PREFECT_API_URL": f"{address(served)}/api", "PREFECT_HOME": str(folder / "prefect")}


def address(served: Served) -> str:
    return f"http://127.0.0.1:{served.port}"


def deployment(served: Served, name: str) -> Any:
    return served.api.get(f"/deployments/name/{name}/{name}").raise_for_status().json()


def post(served: Served, name: str, parameters: dict[str, Any]) -> Any:
    """As the form does."""
    body = {"parameters": parameters}
    return served.api.post(f"/deployments/{deployment(served, name)['id']}/create_flow_run", json=body)


def press(served: Served, name: str, parameters: dict[str, Any]) -> str:
    """Starts a run; a database that others write to is asked again, as Prefect's own client does."""

    def ask_for_it() -> str | None:
        answer = post(served, name, parameters)
        return None if answer.status_code == 503 else str(answer.raise_for_status().json()["id"])

    return wait_for("a server that is not busy", ask_for_it) or ""


def press_in_browser(served: Served, name: str, parameters: dict[str, Any]) -> str:
    before = newest_run(served, name)
    with browsing() as page:
        open_form(page, address(served), deployment(served, name)["id"])
        fill_as_json(page, json.dumps(parameters))
        submit(page)
        run = wait_for("the run", lambda: newer_run(served, name, before))
    assert run["parameters"] == parameters
    return str(run["id"])


def wait_for_end(served: Served, run_id: str, seconds: float = 120) -> Any:
    """The state in which a flow run has ended."""

    def find() -> Any:
        state = served.api.get(f"/flow_runs/{run_id}").raise_for_status().json()["state"]
        return state if state["type"] in {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"} else None

    return wait_for("the end of the run", find, seconds)


def newest_run(served: Served, name: str) -> str | None:
    """The id of the run that somebody asked for last."""
    run = newer_run(served, name, None)
    return run["id"] if run else None


def newer_run(served: Served, name: str, before: str | None) -> Any:
    """The run that somebody asked for last, unless it is that one."""
    wanted = {
        "deployments": {"name": {"any_": [name]}},
        "sort": "EXPECTED_START_TIME_DESC",
        "limit": 200,
    }
    runs = served.api.post("/flow_runs/filter", json=wanted).raise_for_status().json()
    asked = sorted((run for run in runs if not run["auto_scheduled"]), key=lambda run: run["created"])
    return asked[-1] if asked and asked[-1]["id"] != before else None


def scheduled_run(served: Served, settings: dict[str, Any]) -> Any:
    """The first run of a schedule of every minute, which is taken away again."""
    url = f"/deployments/{deployment(served, 'nightly')['id']}/schedules"
    every_minute = {"cron": "* * * * *", "timezone": "UTC"}
    schedule = {"schedule": every_minute, "active": True, "parameters": {"settings": settings}}

    def make() -> Any:
        answer = served.api.post(url, json=[schedule])
        return None if answer.status_code == 503 else answer.raise_for_status().json()

    (made,) = wait_for("a server that is not busy", make)
    wanted = {"deployments": {"name": {"any_": ["nightly"]}}, "sort": "EXPECTED_START_TIME_ASC", "limit": 200}

    def begun() -> Any:
        runs = served.api.post("/flow_runs/filter", json=wanted).raise_for_status().json()
        ours = [run for run in runs if run["auto_scheduled"] and run["parameters"] == {"settings": settings}]
        return next((run for run in ours if run["state_type"] != "SCHEDULED"), None)

    try:
        return wait_for("a scheduled run", begun, 150)
    finally:
        wait_for("a server that is not busy", lambda: served.api.delete(f"{url}/{made['id']}").is_success)


def home_run(home: Home) -> str:
    """The run whose lists are served."""
    return str(ask(home, "select any_value(run_id) from recommendations")[0][0])


def home_run_of(home: Home) -> str:
    """The first run of a home."""
    return sorted(path.name for path in home.runs.iterdir())[0]
