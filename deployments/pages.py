"""Serves the pages of runs to browsers, because Prefect's UI cannot show files: checks, figures and durations.

    python -m deployments.pages --home /srv/nights --port 4201

`make serve` runs it beside the Prefect server, on the next port and with the same password. A port of its own keeps the
pages apart from Prefect's API, which can run any command. Only the files in `recsys.runs.pages` can be read, so the
tables, the rows of a source and the secrets are out of reach whatever a request asks for.
"""

import base64
import os
import re
import secrets
from html import escape
from pathlib import Path
from urllib.parse import urlsplit

import click
import uvicorn
from starlette.applications import Starlette
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from deployments.environment import ServeEnvironment
from recsys.home import Home, Run, is_run_name
from recsys.runs.pages import MEDIA_TYPES, TITLES, find_page, list_pages

HOST = re.compile(r"(\[[0-9A-Fa-f:]+\]|[^:@/\[\]]+)(?::[0-9]+)?")  # the header: a name or address, and a port
MAX_RUNS = 100  # in the list of runs
MAX_CONNECTIONS = 50
LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
HEADERS = {
    # The pages quote sources: they get no scripts, no forms and no requests, and no other site may embed them.
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; sandbox",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


def make_app(home: Home, auth: tuple[str, str] | None, hosts: frozenset[str] = LOOPBACK) -> ASGIApp:
    """The application. `auth`: user and password; without them, only requests to one of `hosts` are answered."""

    def find_run(request: Request) -> Run:
        run_id = request.path_params["run_id"]
        if not (run_id.isascii() and is_run_name(run_id) and (home.runs / run_id).is_dir()):
            raise HTTPException(404)
        return home.run(run_id)

    def show_runs(request: Request) -> Response:
        runs = [run.run_id for run in reversed(home.list_runs())][:MAX_RUNS]
        return _list_links("Runs", {f"{run_id}/": run_id for run_id in runs})

    def show_run(request: Request) -> Response:
        run = find_run(request)
        return _list_links(f"Run {run.run_id}", {name: TITLES[name] for name, _ in list_pages(run)})

    def show_page(request: Request) -> Response:
        path = find_page(find_run(request), request.path_params["name"])
        if path is None:
            raise HTTPException(404)
        return Response(path.read_bytes(), media_type=MEDIA_TYPES[path.suffix])

    routes = [Route("/", show_runs), Route("/{run_id}/", show_run), Route("/{run_id}/{name}", show_page)]
    app = Starlette(routes=routes)
    app.router.redirect_slashes = False
    return Guard(app, auth, hosts)


class Guard:
    """Answers only requests with the password, or, without a password, to this machine by one of its own names.

    The name matters because a page of another site can make its own name point to this machine.
    """

    def __init__(self, app: ASGIApp, auth: tuple[str, str] | None, hosts: frozenset[str]) -> None:
        self.app = app
        self.expected = base64.b64encode(":".join(auth).encode()) if auth else None
        self.hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        refusal = self.find_refusal(Headers(scope=scope))
        await (refusal or self.app)(scope, receive, send_with_headers)

    def find_refusal(self, headers: Headers) -> Response | None:
        """The answer to a request that is refused, or None."""
        if self.expected is not None:
            scheme, _, given = headers.get("authorization", "").partition(" ")
            if scheme.lower() == "basic" and secrets.compare_digest(given.strip().encode(), self.expected):
                return None
            return PlainTextResponse("password required", 401, {"WWW-Authenticate": 'Basic realm="recsys"'})
        host = HOST.fullmatch(headers.get("host", ""))
        is_ours = host is not None and host[1].strip("[]").lower() in self.hosts
        return None if is_ours else PlainTextResponse("this name is not served here", 421)


def _list_links(title: str, links: dict[str, str]) -> HTMLResponse:
    items = "".join(f'<li><a href="{escape(target)}">{escape(text)}</a></li>' for target, text in links.items())
    return HTMLResponse(
        f'<!DOCTYPE html><html lang="en"><meta charset="utf-8"><title>{escape(title)}</title>'
        f"<h1>{escape(title)}</h1><ul>{items or '<li>none</li>'}</ul>"
    )


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--port", type=click.IntRange(1, 65535), required=True, help="Port to listen on.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--home", type=click.Path(path_type=Path), required=True, help="Folder of the tables and runs.")
def main(port: int, host: str, home: Path) -> None:
    """Serve the pages of runs until a signal."""
    environment = ServeEnvironment(host, port, home.absolute(), dict(os.environ))
    environment.check_access()
    named = urlsplit(environment.pages_url).hostname
    app = make_app(Home(environment.home), environment.auth, LOOPBACK | ({named} if named else set()))
    uvicorn.run(
        app, host=host, port=port, log_level="warning", access_log=False, server_header=False, proxy_headers=False,
        limit_concurrency=MAX_CONNECTIONS,
    )  # fmt: skip


if __name__ == "__main__":
    main()
