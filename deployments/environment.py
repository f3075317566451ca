"""The address and state folder of `recsys serve`, and the environment variables of its processes."""

import ipaddress
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import click

from flows.cli.serve import AUTH

PAGES_URL = "RECSYS_PAGES_URL"
DATABASE = ("PREFECT_SERVER_DATABASE_CONNECTION_URL", "PREFECT_API_DATABASE_CONNECTION_URL")  # Prefect accepts both
SERVER_ONLY = (AUTH, *DATABASE, "PREFECT_SERVER_DATABASE_PASSWORD", "PREFECT_API_DATABASE_PASSWORD")
OTHER_SERVER = ("PREFECT_API_KEY", "PREFECT_API_AUTH_STRING")  # credentials for another of the user's Prefect servers


@dataclass(frozen=True)
class ServeEnvironment:
    """The address and the state folder of one `recsys serve`, and the environment that it inherited."""

    host: str
    port: int
    home: Path  # folder of the tables and runs
    inherited: Mapping[str, str]  # the environment of `recsys serve` itself

    @property
    def state(self) -> Path:
        return self.home / ".prefect"

    @property
    def url(self) -> str:
        """The address for processes on this machine."""
        return f"http://{_format_host('127.0.0.1' if self._is_wildcard else self.host)}:{self.port}"

    @property
    def ui_url(self) -> str:
        """The address for browsers; PREFECT_UI_URL overrides it, for example behind a proxy."""
        host = socket.gethostname() if self._is_wildcard else self.host
        return self.inherited.get("PREFECT_UI_URL") or f"http://{_format_host(host)}:{self.port}"

    @property
    def pages_port(self) -> int:
        """The port of the pages of runs."""
        return self.port + 1 if self.port else 0  # 0: any free port

    @property
    def pages_url(self) -> str:
        """The address of the pages of runs for browsers; RECSYS_PAGES_URL overrides it, for example behind a proxy."""
        host = socket.gethostname() if self._is_wildcard else self.host
        return self.inherited.get(PAGES_URL) or f"http://{_format_host(host)}:{self.pages_port}"

    @property
    def auth(self) -> tuple[str, str] | None:
        """User and password of basic authentication; None without authentication."""
        user, _, password = self.inherited.get(AUTH, "").partition(":")
        return (user, password) if user or password else None

    def check(self) -> None:
        """Validates the password, and that both ports are free.

        Raises: ClickException for an address beyond loopback without a password, an incomplete password, or a port
        that is in use.
        """
        self.check_access()
        for port in (self.port, self.pages_port):
            self._check_free(port)

    def check_access(self) -> None:
        """Raises: ClickException for an address beyond loopback without a password, or an incomplete password."""
        if self.auth and not all(self.auth):
            raise click.ClickException(f"{AUTH} is not of the form user:password")
        if not self._is_loopback and not self.auth:
            raise click.ClickException(
                f"--host {self.host} makes this Prefect server reachable from other machines, and anyone who reaches "
                f"it can run any command as you. Set {AUTH} to user:password, or omit --host to stay on this machine"
            )

    def _check_free(self, port: int) -> None:
        try:
            family, kind, _, _, address = socket.getaddrinfo(self.host, port, type=socket.SOCK_STREAM)[0]
            with socket.socket(family, kind) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the server does
                probe.bind(address)
        except OSError as error:
            raise click.ClickException(
                f"port {port} of {self.host} cannot be used: {error.strerror}. `recsys serve` needs {self.port} for "
                f"Prefect and {self.pages_port} for the pages of runs. Another `recsys serve` may be running: stop it, "
                f"or choose another port: recsys serve --port {self.port + 2}"
            ) from None

    def for_clients(self) -> dict[str, str]:
        """The environment of the worker and its nights.

        It ignores the user's own Prefect profile. The API password is the only one of the server's secrets in it.
        """
        kept = {name: value for name, value in self.inherited.items() if name not in (*SERVER_ONLY, *OTHER_SERVER)}
        return (
            kept
            | {
                "PREFECT_HOME": str(self.state),
                "PREFECT_API_URL": f"{self.url}/api",
                "PREFECT_UI_URL": self.ui_url,
                PAGES_URL: self.pages_url,
                "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
                "DO_NOT_TRACK": "1",
                "PREFECT_LOGGING_EXTRA_LOGGERS": "recsys",  # show the log of a night in the UI
                "RECSYS_HOME": str(self.home),
                "OMP_WAIT_POLICY": "PASSIVE",  # spinning threads starve each other on a busy machine
            }
            | ({"PREFECT_API_AUTH_STRING": self.inherited[AUTH]} if self.auth else {})
        )

    def for_server(self) -> dict[str, str]:
        """The environment of the server: that of its clients, and its own secrets and defaults."""
        secrets = {name: self.inherited[name] for name in SERVER_ONLY if self.inherited.get(name)}
        defaults = {
            "PREFECT_UI_API_URL": "/api",  # relative: correct for any host name and port
            "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": self.ui_url,  # reject requests from pages of other sites
            # Leases kept in memory are lost when the server dies, and the running night then crashes at the next
            # renewal, 225 s later.
            "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
            "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
        }
        return defaults | self.for_clients() | secrets

    def for_pages(self) -> dict[str, str]:
        """The environment of the process that serves the pages of runs: that of the clients, and the password."""
        return self.for_clients() | ({AUTH: self.inherited[AUTH]} if self.auth else {})

    @property
    def _is_wildcard(self) -> bool:
        return self.host in {"0.0.0.0", "::"}

    @property
    def _is_loopback(self) -> bool:
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"


def _format_host(host: str) -> str:
    return f"[{host}]" if ":" in host else host
