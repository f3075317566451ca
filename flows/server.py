"""Finds the Prefect server that watches this process, if any. Prefect is imported only if it is configured."""

import logging
import os
from pathlib import Path

logger = logging.getLogger("recsys.server")

TIMEOUT_SECONDS = 3.0


def find_server() -> str | None:
    """Returns the address of the configured Prefect API, from the environment or a Prefect profile, or None."""
    if "PREFECT_API_URL" in os.environ:
        return os.environ["PREFECT_API_URL"] or None
    if not any(path.exists() for path in _configuration_files()):
        return None
    from prefect.settings import PREFECT_API_URL

    address: str | None = PREFECT_API_URL.value()
    return address


def is_reachable(address: str) -> bool:
    """Whether a Prefect API answers at `address` within a few seconds.

    A response that asks for a password counts as an answer.
    """
    import httpx

    try:
        answer = httpx.get(f"{address.rstrip('/')}/health", timeout=TIMEOUT_SECONDS)
    except (httpx.HTTPError, httpx.InvalidURL):
        return False
    return answer.status_code in (200, 401, 403)


def choose_server() -> str | None:
    """Returns the address of the Prefect server that watches this night, or None. The reason for None is logged."""
    address = find_server()
    if address is None:
        logger.info("no Prefect server is configured; the night runs without one")
    elif not is_reachable(address):
        logger.warning("the Prefect server at %s does not answer; the night runs without one", address)
        return None
    return address


def _configuration_files() -> list[Path]:
    """The files from which Prefect reads settings, in addition to the environment."""
    home = Path(os.environ.get("PREFECT_HOME") or Path.home() / ".prefect")
    return [Path(os.environ.get("PREFECT_PROFILES_PATH") or home / "profiles.toml"), Path("prefect.toml")]
