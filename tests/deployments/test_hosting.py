"""Hosting for several people: addresses, passwords, the environment of each process, and the container image."""

import json
import re
import subprocess
import sys
from pathlib import Path

import prefect
import pytest
from click import ClickException

from deployments.environment import SERVER_ONLY, ServeEnvironment
from tests.support.serving import ROOT

AUTH = "operator:secret-4f9a"
URL = "postgresql+asyncpg://recsys:secret@127.0.0.1/prefect"


def test_other_machines_need_a_password(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "deployments.serve", "--host", "0.0.0.0", "--home", str(tmp_path / "home")]
    refused = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert refused.returncode == 1
    assert "--host 0.0.0.0 makes this Prefect server reachable from other machines" in refused.stderr
    assert "PREFECT_SERVER_API_AUTH_STRING" in refused.stderr
    assert not (tmp_path / "home").exists()
    with_password = ServeEnvironment("0.0.0.0", 0, tmp_path, {"PREFECT_SERVER_API_AUTH_STRING": AUTH})
    with_password.check()


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "localhost"])
def test_loopback_needs_no_password(host: str, tmp_path: Path) -> None:
    ServeEnvironment(host, 0, tmp_path, {}).check()


@pytest.mark.parametrize("auth", ["operator", "operator:", ":secret"])
def test_incomplete_password_is_refused(auth: str, tmp_path: Path) -> None:
    with pytest.raises(ClickException, match="not of the form user:password") as refusal:
        ServeEnvironment("127.0.0.1", 0, tmp_path, {"PREFECT_SERVER_API_AUTH_STRING": auth}).check()
    assert auth not in refusal.value.message


def test_addresses_of_ui_and_api(tmp_path: Path) -> None:
    anywhere = ServeEnvironment("0.0.0.0", 4200, tmp_path, {"PREFECT_UI_URL": "https://nights.example"})
    assert (anywhere.url, anywhere.ui_url) == ("http://127.0.0.1:4200", "https://nights.example")
    assert ServeEnvironment("0.0.0.0", 4200, tmp_path, {}).ui_url not in {
        "http://0.0.0.0:4200",
        "http://127.0.0.1:4200",
    }
    assert ServeEnvironment("::1", 4201, tmp_path, {}).url == "http://[::1]:4201"


def test_server_and_clients_get_only_their_variables(tmp_path: Path) -> None:
    inherited = {
        "PREFECT_SERVER_API_AUTH_STRING": AUTH,
        "PREFECT_API_DATABASE_CONNECTION_URL": URL,
        "PREFECT_API_KEY": "another server",
        "PREFECT_API_AUTH_STRING": "another server",
        "RECSYS_N": "20",
        "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": "https://nights.example",
    }
    environment = ServeEnvironment("127.0.0.1", 4200, tmp_path, inherited)
    clients, server = environment.for_clients(), environment.for_server()
    assert clients["PREFECT_API_AUTH_STRING"] == AUTH
    assert (clients["RECSYS_N"], clients["RECSYS_HOME"]) == ("20", str(tmp_path))
    assert not clients.keys() & {*SERVER_ONLY, "PREFECT_API_KEY"}
    assert server["PREFECT_API_DATABASE_CONNECTION_URL"] == URL
    assert server["PREFECT_SERVER_CORS_ALLOWED_ORIGINS"] == "https://nights.example"
    without = ServeEnvironment("127.0.0.1", 4200, tmp_path, {"PREFECT_API_AUTH_STRING": "another server"})
    assert "PREFECT_API_AUTH_STRING" not in without.for_clients()


def test_image_contains_the_files_it_needs() -> None:
    """Only reads the Dockerfile, because tests have no container engine."""
    lines = (ROOT / "deployments" / "Dockerfile").read_text().splitlines()
    copied = {name for line in lines if line.startswith("COPY") for name in line.split()[1:-1]}
    not_ignored = (ROOT / "deployments" / "Dockerfile.dockerignore").read_text().splitlines()
    assert {f"!{name}" for name in copied} == {line for line in not_ignored if line.startswith("!")}
    assert all((ROOT / name).exists() for name in copied)
    assert {"Makefile", "requirements.lock", "pyproject.toml", "deployments", "flows", "recsys", "sql"} <= copied
    assert [line for line in lines if line.startswith(("FROM", "USER", "WORKDIR"))] == [
        "FROM python:3.11-slim-bookworm",
        "WORKDIR /opt/recsys",
        "USER recsys",
    ]


def test_work_pools_have_the_variables_of_the_docs() -> None:
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
