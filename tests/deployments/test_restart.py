"""`recsys serve` after a `kill -9` during a night, with a password, and how it stops.

These tests kill the server that the other tests of this folder use.
"""

import os
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import duckdb
import httpx
import pytest

from recsys.home import Home
from tests.support.serving import (
    Served,
    create_run,
    descendants,
    find_deployment,
    listens_on,
    processes,
    serving,
    start_long_night,
    state_of,
    wait_for,
    wait_until_up,
)
from tests.support.sinks import Sink

AUTH = "operator:secret-4f9a"
PASSWORD = AUTH.partition(":")[2]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


@pytest.fixture(scope="module")
def interrupted_home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    return Home(tmp_path_factory.mktemp("interrupted"))


@pytest.fixture(scope="module")
def interrupted_night(served: Served, interrupted_home: Home) -> str:
    """The id of the flow run of a night of `served`. Both are killed with `kill -9`.

    The server and the worker must end with `recsys serve`. The night is killed here, as a power cut would do.
    """
    night = start_long_night(served, interrupted_home.root, stop=True)
    started = descendants(served.process.pid)
    (pid,) = (pid for pid, command in started.items() if "prefect.engine" in command)
    served.process.kill()
    served.process.wait()
    os.kill(pid, signal.SIGKILL)
    wait_for("the end of server, worker and night", lambda: not started.items() & processes().items(), 10)
    return night


@pytest.fixture(scope="module")
def restarted(interrupted_night: str, serve_folder: Path, serve_environment: dict[str, str]) -> Iterator[Served]:
    """`recsys serve` on the same SQLite database, given by a URL that tests can search for."""
    database = f"sqlite+aiosqlite:///{serve_folder / 'home' / '.prefect' / 'prefect.db'}"
    secrets = {"PREFECT_SERVER_API_AUTH_STRING": AUTH, "PREFECT_API_DATABASE_CONNECTION_URL": database}
    with serving(serve_folder, **serve_environment, **secrets) as served:
        wait_until_up(served)
        yield served


def test_killed_serve_does_not_block_the_next_night(
    restarted: Served, interrupted_night: str, interrupted_home: Home, hook: Sink
) -> None:
    """Prefect alone would treat the night as running for minutes, and cancel the next one."""
    state = state_of(restarted, interrupted_night)
    assert state["type"] == "CRASHED"
    assert state["message"].startswith("`recsys serve` was killed, or its machine went down, while this night ran; its")
    assert len(hook.of_kind("crashed", interrupted_home)) == 1
    limit = find_deployment(restarted)["global_concurrency_limit"]
    assert (limit["limit"], limit["active_slots"]) == (1, 0)


def test_api_requires_the_password(restarted: Served) -> None:
    address = f"{restarted.address}/api/flow_runs/count"
    assert restarted.api.post("/flow_runs/count", json={}).status_code == 200
    assert httpx.post(address, json={}, trust_env=False).status_code == 401
    assert httpx.post(address, json={}, trust_env=False, auth=("operator", "guess")).status_code == 401


def test_page_loads_and_asks_for_the_password(restarted: Served) -> None:
    with httpx.Client(base_url=restarted.address, follow_redirects=True, trust_env=False) as browser:
        page = browser.get("/", headers={"Accept": "text/html"})
        assert page.is_success
        assert "<title>Prefect Server</title>" in page.text
        for asset in re.findall(r'(?:src|href)="([^"]+\.(?:js|css))"', page.text):
            assert browser.get(asset).is_success
        settings = browser.get("/ui-settings").json()
    assert (settings["auth"], settings["api_url"]) == ("BASIC", "/api")


def test_pages_of_other_sites_are_not_allowed(restarted: Served) -> None:
    def allowed_origin(origin: str) -> str | None:
        headers = {"Origin": origin, "Access-Control-Request-Method": "POST"}
        answer = restarted.api.options("/flow_runs/count", headers=headers)
        return dict(answer.headers).get("access-control-allow-origin")

    assert allowed_origin("http://elsewhere.example") is None
    assert allowed_origin(restarted.address) == restarted.address


def test_no_secret_is_in_a_command_line_or_log(restarted: Served, serve_folder: Path) -> None:
    texts = [*descendants(restarted.process.pid).values(), restarted.log.read_text()]
    texts += [path.read_text() for path in serve_folder.rglob("*.log")]
    assert "UI " in restarted.log.read_text()
    assert any("server start" in text for text in texts)
    assert not [text for text in texts if PASSWORD in text]


def test_only_the_server_has_the_database_url(restarted: Served) -> None:
    commands = descendants(restarted.process.pid).items()
    environments = {
        name: Path(f"/proc/{pid}/environ").read_text()
        for name in ("server", "worker")
        for pid, line in commands
        if f"{name} start" in line
    }
    assert "sqlite+aiosqlite" in environments["server"]
    assert "sqlite+aiosqlite" not in environments["worker"]
    assert f"PREFECT_UI_URL={restarted.address}\0" in environments["worker"]  # for links in alerts


def test_nothing_listens_beyond_this_machine(restarted: Served) -> None:
    pids = {restarted.process.pid, *descendants(restarted.process.pid)}
    assert set().union(*(listens_on(pid) for pid in pids)) == {"0100007F"}  # 127.0.0.1


def test_stop_cancels_running_nights(restarted: Served, hook: Sink, tmp_path: Path) -> None:
    """One night belongs to the worker, the worker of the other one was killed. No alert is sent."""
    start_long_night(restarted, tmp_path)
    started = descendants(restarted.process.pid)
    assert any("prefect.engine" in command for command in started.values()), started
    orphan_id = create_run(restarted, "RUNNING", None)
    orphan = subprocess.Popen(["sleep", "600"], env={"PREFECT__FLOW_RUN_ID": orphan_id}, start_new_session=True)

    restarted.process.send_signal(signal.SIGTERM)
    assert restarted.process.wait(60) == 0
    assert orphan.wait(0) == -signal.SIGTERM
    assert started.items() & processes().items() == set()
    assert restarted.log.read_text().endswith("stopped\n")
    assert not [alert for alert in hook.received if alert["home"] == str(tmp_path)]
    with duckdb.connect(Home(tmp_path).warehouse, read_only=True) as connection:
        assert connection.sql("select verdict from runs").fetchall() == [("failed",)]
