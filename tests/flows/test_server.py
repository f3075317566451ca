"""Which Prefect server a command uses. Nights with and without one are tested in test_nightly and test_tasks."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from flows.server import choose_server, find_server, is_reachable


@pytest.fixture(autouse=True)
def unconfigured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PREFECT_API_URL", "PREFECT_PROFILES_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "prefect"))
    monkeypatch.chdir(tmp_path)


class Api(BaseHTTPRequestHandler):
    """Answers /api/health with the status in the first segment of the path, as in /200/api/health."""

    def do_GET(self) -> None:
        self.send_response(int(self.path.split("/")[1]) if self.path.endswith("/api/health") else 404)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), Api)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def test_without_a_configured_server_there_is_none(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", logger="recsys"):
        assert choose_server() is None
    assert caplog.messages == ["no Prefect server is configured; the night runs without one"]


def test_the_environment_names_a_server(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_API_URL", f"{address}/200/api")
    assert choose_server() == f"{address}/200/api"


def test_an_empty_address_means_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_API_URL", "")
    assert find_server() is None


def test_a_server_in_a_prefect_profile_is_found(tmp_path: Path) -> None:
    """In a separate process, because Prefect reads its profiles once, when it is imported."""
    import os
    import subprocess
    import sys

    profiles = tmp_path / "prefect" / "profiles.toml"
    profiles.parent.mkdir()
    profiles.write_text('active = "x"\n[profiles.x]\nPREFECT_API_URL = "http://127.0.0.1:9/api"\n')
    program = "from flows.server import find_server; print(find_server())"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    environment |= {"PREFECT_HOME": str(profiles.parent), "PYTHONPATH": str(Path(__file__).parents[2])}
    shown = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert shown.stdout == "http://127.0.0.1:9/api\n"


@pytest.mark.parametrize(("status", "expected"), [(200, True), (401, True), (404, False), (500, False)])
def test_only_a_prefect_api_counts_as_a_server(address: str, status: int, expected: bool) -> None:
    """A server that asks for a password counts. Another program that listens on the port does not."""
    assert is_reachable(f"{address}/{status}/api") is expected


@pytest.mark.parametrize("wrong", ["http://127.0.0.1:1/api", "127.0.0.1", "http://", "ftp://x/api", "http://[::1/api"])
def test_an_invalid_address_counts_as_no_answer(
    wrong: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("PREFECT_API_URL", wrong)
    assert choose_server() is None
    assert caplog.messages == [f"the Prefect server at {wrong} does not answer; the night runs without one"]
