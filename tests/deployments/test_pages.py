"""The server of the pages of runs, as a browser and as an attacker would use it. Requests do not cross a network."""

import asyncio
import base64
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from starlette.types import ASGIApp

from deployments.environment import ServeEnvironment
from deployments.pages import make_app
from recsys.home import Home, Run
from recsys.runs.pages import PAGES, TITLES

LOCAL = "http://127.0.0.1:4201"
RUN_ID = "20261121T030000Z"


@pytest.fixture
def run(home: Home) -> Run:
    """A run with its pages, and with files that no browser may see."""
    run = home.run(RUN_ID)
    for name in ("checks.html", "gate.json", "evaluate.json", "steps.json"):
        path = PAGES[name](run)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"the page {name}", encoding="utf-8")
    for path in (run.quarantine, run.log, run.config, home.warehouse, home.root / ".prefect" / "secret"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("SECRET", encoding="utf-8")
    return run


@dataclass(frozen=True)
class Answer:
    status_code: int
    headers: dict[str, str]
    text: str


@dataclass(frozen=True)
class Client:
    """Sends paths exactly as given: HTTP clients remove dots."""

    app: ASGIApp

    def get(self, path: str, headers: dict[str, str] | None = None) -> Answer:
        return self.request("GET", path, headers)

    def request(self, method: str, path: str, headers: dict[str, str] | None = None) -> Answer:
        named = {"Host": "127.0.0.1:4201"} | (headers or {})
        scope = {
            "type": "http", "method": method, "path": unquote(path), "raw_path": path.encode(), "query_string": b"",
            "headers": [(name.lower().encode(), value.encode()) for name, value in named.items()],
        }  # fmt: skip
        sent: list[dict[str, Any]] = []

        async def receive() -> dict[str, Any]:
            return {"type": "http.request"}

        async def send(message: Any) -> None:
            sent.append(message)

        async def call() -> None:
            await self.app(scope, receive, send)

        asyncio.run(call())
        answered = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
        return Answer(sent[0]["status"], answered, b"".join(one.get("body", b"") for one in sent[1:]).decode())


@pytest.fixture
def client(run: Run) -> Client:
    return Client(make_app(run.home, None))


def test_every_page_has_a_title() -> None:
    assert TITLES.keys() == PAGES.keys()


def test_a_browser_finds_the_pages_of_a_run(client: Client) -> None:
    assert f'<a href="{RUN_ID}/">' in client.get("/").text
    assert '<a href="checks.html">checks of the data</a>' in client.get(f"/{RUN_ID}/").text
    page = client.get(f"/{RUN_ID}/checks.html")
    assert (page.text, page.headers["content-type"]) == ("the page checks.html", "text/html; charset=utf-8")
    assert client.get(f"/{RUN_ID}/evaluate.json").headers["content-type"] == "application/json"
    assert client.get(f"/{RUN_ID}/audit.html").status_code == 404  # this run has none


def test_pages_run_no_scripts_and_are_not_embedded(client: Client) -> None:
    headers = client.get(f"/{RUN_ID}/checks.html").headers
    assert "default-src 'none'" in headers["content-security-policy"]
    assert "frame-ancestors 'none'; sandbox" in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["cross-origin-resource-policy"] == "same-origin"


@pytest.mark.parametrize(
    "path",
    [
        f"/{RUN_ID}/night.log", f"/{RUN_ID}/config.json", f"/{RUN_ID}/validation/quarantine.parquet",
        f"/{RUN_ID}/quarantine.parquet", f"/{RUN_ID}/../../warehouse.duckdb", "/%2e%2e%2fwarehouse.duckdb",
        f"/{RUN_ID}/%2e%2e%2f%2e%2e%2fwarehouse.duckdb", f"/{RUN_ID}/..%5c..%5cwarehouse.duckdb",
        "/..%2f.prefect/secret", "/.prefect/secret", "/warehouse.duckdb",
        "//etc/passwd", "/%2e%2e/", f"/{RUN_ID}%00/checks.html", f"/{RUN_ID}/checks.html%00", "/2026112٣T030000Z/",
        f"/{RUN_ID}/checks.html/", f"/{RUN_ID}/%2Fetc%2Fpasswd",
    ],
)  # fmt: skip
def test_nothing_else_can_be_read(client: Client, path: str) -> None:
    answer = client.get(path)
    assert answer.status_code == 404
    assert "SECRET" not in answer.text


def test_a_link_out_of_the_run_is_not_followed(client: Client, run: Run) -> None:
    run.steps.unlink()
    run.steps.symlink_to(run.home.warehouse)
    assert client.get(f"/{RUN_ID}/steps.json").status_code == 404
    elsewhere = run.home.root / "elsewhere"
    run.validation.rename(elsewhere)
    run.validation.symlink_to(elsewhere)
    assert client.get(f"/{RUN_ID}/checks.html").status_code == 404


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
def test_pages_are_read_only(client: Client, method: str) -> None:
    assert client.request(method, f"/{RUN_ID}/checks.html").status_code == 405


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:4201", "127.0.0.1.evil.example", "", "[::1", "0.0.0.0", "a@localhost"]
)
def test_another_name_of_this_machine_is_refused(client: Client, host: str) -> None:
    """A page of another site can let its own name resolve to 127.0.0.1 (DNS rebinding)."""
    answer = client.get(f"/{RUN_ID}/checks.html", headers={"Host": host})
    assert (answer.status_code, answer.text) == (421, "this name is not served here")


@pytest.mark.parametrize("host", ["127.0.0.1:4201", "localhost:4201", "LOCALHOST", "[::1]:4201"])
def test_the_own_names_are_served(client: Client, host: str) -> None:
    assert client.get(f"/{RUN_ID}/checks.html", headers={"Host": host}).status_code == 200


def test_with_a_password_nothing_is_shown_without_it(run: Run) -> None:
    client = Client(make_app(run.home, ("operator", "pass:wörd")))
    wrong = ["", "Basic", "Basic !!!", "Bearer x", "Basic " + base64.b64encode(b"operator:pass").decode()]
    for authorization in wrong:
        for path in ("/", f"/{RUN_ID}/", f"/{RUN_ID}/checks.html", "/nothing"):
            answer = client.get(path, headers={"Authorization": authorization})
            assert (answer.status_code, answer.text) == (401, "password required")
    assert client.get(f"/{RUN_ID}/checks.html").headers["www-authenticate"].startswith("Basic ")
    right = base64.b64encode("operator:pass:wörd".encode()).decode()
    assert client.get(f"/{RUN_ID}/checks.html", headers={"Authorization": f"Basic {right}"}).status_code == 200


def test_make_serve_gives_its_address_and_password_to_the_pages(tmp_path: Path) -> None:
    inherited = {"PREFECT_SERVER_API_AUTH_STRING": "operator:secret"}
    environment = ServeEnvironment("127.0.0.1", 4200, tmp_path, inherited)
    assert environment.for_clients()["RECSYS_PAGES_URL"] == LOCAL
    assert environment.for_pages()["PREFECT_SERVER_API_AUTH_STRING"] == "operator:secret"
    behind_proxy = ServeEnvironment("127.0.0.1", 4200, tmp_path, {"RECSYS_PAGES_URL": "https://nights.example/runs"})
    assert behind_proxy.pages_url == "https://nights.example/runs"
