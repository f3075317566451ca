"""Where `make serve` listens and remembers, and what its processes find in their environment."""

import ipaddress
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import click

AUTH = "PREFECT_SERVER_API_AUTH_STRING"
DATABASE = ("PREFECT_SERVER_DATABASE_CONNECTION_URL", "PREFECT_API_DATABASE_CONNECTION_URL")  # Prefect takes either
SERVERS_OWN = (AUTH, *DATABASE, "PREFECT_SERVER_DATABASE_PASSWORD", "PREFECT_API_DATABASE_PASSWORD")
OF_ANOTHER = ("PREFECT_API_KEY", "PREFECT_API_AUTH_STRING")  # how the user calls a Prefect of theirs


@dataclass(frozen=True)
class Surroundings:
    """Of one `make serve`."""

    host: str
    port: int
    home: Path  # of tables and runs
    given: Mapping[str, str]  # the environment that we were started in

    @property
    def state(self) -> Path:
        return self.home / ".prefect"

    @property
    def url(self) -> str:
        """How processes on this machine reach the server."""
        return f"http://{_in_url('127.0.0.1' if self._is_anywhere else self.host)}:{self.port}"

    @property
    def ui_url(self) -> str:
        """How people do; PREFECT_UI_URL names it if they come through a proxy."""
        host = socket.gethostname() if self._is_anywhere else self.host
        return self.given.get("PREFECT_UI_URL") or f"http://{_in_url(host)}:{self.port}"

    @property
    def auth(self) -> tuple[str, str] | None:
        """User and password of basic authentication, if it is wanted."""
        user, _, password = self.given.get(AUTH, "").partition(":")
        return (user, password) if user or password else None

    def check(self) -> None:
        """Raises: ClickException if we would listen where others reach us, and let in everybody; or cannot listen."""
        if self.auth and not all(self.auth):
            raise click.ClickException(f"{AUTH} is not of the form user:password")
        if not self._is_loopback and not self.auth:
            raise click.ClickException(
                f"--host {self.host} lets others reach this Prefect, and whoever does can run any command as you. Set "
                f"{AUTH} to user:password, or leave --host out to stay on this machine"
            )
        try:
            family, kind, _, _, address = socket.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM)[0]
            with socket.socket(family, kind) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the server does
                probe.bind(address)
        except OSError as error:
            raise click.ClickException(
                f"port {self.port} of {self.host} cannot be used: {error.strerror}. Another `make serve` may be "
                f'running: stop it, or choose another port: make serve ARGS="--port {self.port + 1}"'
            ) from None

    def of_clients(self) -> dict[str, str]:
        """Of worker and nights: it touches nothing of the user's own Prefect, and of the server's secrets holds the
        one they call it with.
        """
        kept = {name: value for name, value in self.given.items() if name not in (*SERVERS_OWN, *OF_ANOTHER)}
        return (
            kept
            | {
                "PREFECT_HOME": str(self.state),
                "PREFECT_API_URL": f"{self.url}/api",
                "PREFECT_UI_URL": self.ui_url,
                "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
                "DO_NOT_TRACK": "1",
                "PREFECT_LOGGING_EXTRA_LOGGERS": "recsys",  # the UI shows what a night logs
                "RECSYS_HOME": str(self.home),
                "OMP_WAIT_POLICY": "PASSIVE",  # spinning threads starve each other on a busy machine
            }
            | ({"PREFECT_API_AUTH_STRING": self.given[AUTH]} if self.auth else {})
        )

    def of_server(self) -> dict[str, str]:
        secrets = {name: self.given[name] for name in SERVERS_OWN if self.given.get(name)}
        defaults = {
            "PREFECT_UI_API_URL": "/api",  # whatever name and port the page was reached by
            "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": self.ui_url,  # no other site's page may ask
            # A night whose lease is lost with the memory of a server crashes when it renews it, 225 s later.
            "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
            "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
        }
        return defaults | self.of_clients() | secrets

    @property
    def _is_anywhere(self) -> bool:
        return self.host in {"0.0.0.0", "::"}

    @property
    def _is_loopback(self) -> bool:
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"


def _in_url(host: str) -> str:
    return f"[{host}]" if ":" in host else host
