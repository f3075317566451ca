"""What a host of several people needs: a password, nothing that listens to strangers, a database that is kept."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import prefect
import pytest
from click import ClickException

from deployments.surroundings import SERVERS_OWN, Surroundings
from tests.support.postgres import PASSWORD, postgres
from tests.support.serving import (
    ROOT,
    Served,
    descendants,
    find_deployment,
    kill_child,
    listens_on,
    serving,
    wait_for,
    wait_until_healthy,
    wait_until_up,
)

AUTH = "operator:secret-4f9a"
URL = "postgresql+asyncpg://recsys:secret@127.0.0.1/prefect"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("hosted")


@pytest.fixture(scope="module")
def served(folder: Path) -> Iterator[Served]:
    """With a password, on PostgreSQL."""
    with (
        postgres() as url,
        serving(folder, PREFECT_SERVER_API_AUTH_STRING=AUTH, PREFECT_API_DATABASE_CONNECTION_URL=url) as served,
    ):
        wait_until_up(served)
        yield served


@pytest.mark.slow
def test_api_wants_the_password(served: Served) -> None:
    asked = "/flow_runs/count"
    address = f"{served.api.base_url}{asked.removeprefix('/')}"
    assert served.api.post(asked, json={}).status_code == 200
    assert httpx.post(address, json={}, trust_env=False).status_code == 401
    assert httpx.post(address, json={}, trust_env=False, auth=("operator", "guess")).status_code == 401


@pytest.mark.slow
def test_page_loads_and_asks_for_it(served: Served) -> None:
    with httpx.Client(base_url=f"http://127.0.0.1:{served.port}", follow_redirects=True, trust_env=False) as browser:
        page = browser.get("/", headers={"Accept": "text/html"})
        assert page.is_success
        assert "<title>Prefect Server</title>" in page.text
        for asset in re.findall(r'(?:src|href)="([^"]+\.(?:js|css))"', page.text):
            assert browser.get(asset).is_success
        told = browser.get("/ui-settings").json()
    assert (told["auth"], told["api_url"]) == ("BASIC", "/api")


@pytest.mark.slow
def test_pages_of_other_sites_may_not_ask(served: Served) -> None:
    def ask(origin: str) -> str:
        headers = {"Origin": origin, "Access-Control-Request-Method": "POST"}
        return str(served.api.options("/flow_runs/count", headers=headers).headers.get("Access-Control-Allow-Origin"))

    assert ask("http://elsewhere.example") == "None"
    assert ask(f"http://127.0.0.1:{served.port}") == f"http://127.0.0.1:{served.port}"


@pytest.mark.slow
def test_no_secret_is_shown(served: Served, folder: Path) -> None:
    """Not in what `ps` shows to everybody, nor in logs."""
    shown = [*descendants(served.process.pid).values(), served.log.read_text()]
    shown += [path.read_text() for path in folder.rglob("*.log")]
    assert "UI " in served.log.read_text()
    assert any("server start" in text for text in shown)
    assert not [text for text in shown if AUTH.partition(":")[2] in text or PASSWORD in text]


@pytest.mark.slow
def test_only_the_server_knows_the_database(served: Served) -> None:
    commands = descendants(served.process.pid).items()
    environments = {
        name: Path(f"/proc/{pid}/environ").read_text()
        for name in ("server", "worker")
        for pid, line in commands
        if f"{name} start" in line
    }
    assert PASSWORD in environments["server"]
    assert PASSWORD not in environments["worker"]
    assert f"PREFECT_UI_URL=http://127.0.0.1:{served.port}\0" in environments["worker"]  # what alerts link to


@pytest.mark.slow
def test_nothing_listens_beyond_this_machine(served: Served) -> None:
    pids = {served.process.pid, *descendants(served.process.pid)}
    assert set().union(*(listens_on(pid) for pid in pids)) == {"0100007F"}  # 127.0.0.1


@pytest.mark.slow
def test_history_is_in_postgres_and_outlives_the_server(served: Served, folder: Path) -> None:
    before = wait_for("a schedule", lambda: find_runs(served))
    deployment = find_deployment(served)["id"]
    kill_child(served, "server start")
    wait_until_healthy(served)
    assert before <= find_runs(served)
    assert find_deployment(served)["id"] == deployment
    assert not list(folder.rglob("*.db"))
    wait_for("words", lambda: "answers again" in served.log.read_text())


def find_runs(served: Served) -> set[str]:
    return {run["id"] for run in served.api.post("/flow_runs/filter", json={}).raise_for_status().json()}


def test_strangers_are_not_let_in_without_password(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "deployments.serve", "--host", "0.0.0.0", "--home", str(tmp_path / "home")]
    refused = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert refused.returncode == 1
    assert "--host 0.0.0.0 lets others reach this Prefect" in refused.stderr
    assert "PREFECT_SERVER_API_AUTH_STRING" in refused.stderr
    assert not (tmp_path / "home").exists()
    with_password = Surroundings("0.0.0.0", 0, tmp_path, {"PREFECT_SERVER_API_AUTH_STRING": AUTH})
    with_password.check()


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "localhost"])
def test_this_machine_needs_no_password(host: str, tmp_path: Path) -> None:
    Surroundings(host, 0, tmp_path, {}).check()


@pytest.mark.parametrize("auth", ["operator", "operator:", ":secret"])
def test_half_a_password_is_refused(auth: str, tmp_path: Path) -> None:
    with pytest.raises(ClickException, match="not of the form user:password") as refusal:
        Surroundings("127.0.0.1", 0, tmp_path, {"PREFECT_SERVER_API_AUTH_STRING": auth}).check()
    assert auth not in refusal.value.message


def test_addresses(tmp_path: Path) -> None:
    anywhere = Surroundings("0.0.0.0", 4200, tmp_path, {"PREFECT_UI_URL": "https://nights.example"})
    assert (anywhere.url, anywhere.ui_url) == ("http://127.0.0.1:4200", "https://nights.example")
    assert Surroundings("0.0.0.0", 4200, tmp_path, {}).ui_url not in {"http://0.0.0.0:4200", "http://127.0.0.1:4200"}
    assert Surroundings("::1", 4201, tmp_path, {}).url == "http://[::1]:4201"


def test_who_is_told_what(tmp_path: Path) -> None:
    given = {
        "PREFECT_SERVER_API_AUTH_STRING": AUTH,
        "PREFECT_API_DATABASE_CONNECTION_URL": URL,
        "PREFECT_API_KEY": "of another Prefect",
        "PREFECT_API_AUTH_STRING": "of another Prefect",
        "RECSYS_N": "20",
        "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": "https://nights.example",
    }
    around = Surroundings("127.0.0.1", 4200, tmp_path, given)
    clients, server = around.of_clients(), around.of_server()
    assert clients["PREFECT_API_AUTH_STRING"] == AUTH
    assert (clients["RECSYS_N"], clients["RECSYS_HOME"]) == ("20", str(tmp_path))
    assert not clients.keys() & {*SERVERS_OWN, "PREFECT_API_KEY"}
    assert server["PREFECT_API_DATABASE_CONNECTION_URL"] == URL
    assert server["PREFECT_SERVER_CORS_ALLOWED_ORIGINS"] == "https://nights.example"
    without = Surroundings("127.0.0.1", 4200, tmp_path, {"PREFECT_API_AUTH_STRING": "of another Prefect"})
    assert "PREFECT_API_AUTH_STRING" not in without.of_clients()


def test_image_gets_what_it_needs() -> None:
    """No engine runs here: only what the file says is read."""
    lines = (ROOT / "deployments" / "Dockerfile").read_text().splitlines()
    copied = {name for line in lines if line.startswith("COPY") for name in line.split()[1:-1]}
    let_through = (ROOT / "deployments" / "Dockerfile.dockerignore").read_text().splitlines()
    assert {f"!{name}" for name in copied} == {line for line in let_through if line.startswith("!")}
    assert all((ROOT / name).exists() for name in copied)
    assert {"Makefile", "requirements.lock", "pyproject.toml", "deployments", "flows", "recsys", "sql"} <= copied
    assert [line for line in lines if line.startswith(("FROM", "USER", "WORKDIR"))] == [
        "FROM python:3.11-slim-bookworm",
        "WORKDIR /opt/recsys",
        "USER recsys",
    ]


def test_pools_have_the_variables_that_the_page_names() -> None:
    page = (ROOT / "docs" / "operations.md").read_text()
    named = re.findall(r"^ {8}(\w+):", page.partition("job_variables:")[2].partition("\n\n")[0], re.MULTILINE)
    assert "volumes" in named
    kinds = Path(prefect.__file__).parent / "server" / "api" / "collections_data" / "views"
    pools = json.loads((kinds / "aggregate-worker-metadata.json").read_text())
    docker, kubernetes = (
        pools[f"prefect-{kind}"][kind]["default_base_job_configuration"]["variables"]["properties"]
        for kind in ("docker", "kubernetes")
    )
    assert docker.keys() >= set(named)
    assert "volumes" not in kubernetes
