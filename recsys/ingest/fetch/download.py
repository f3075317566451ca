"""Downloads a file to a temporary name, checks it, and renames it. A failed download starts from the beginning."""

import logging
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import httpx
from filelock import FileLock, Timeout

from recsys import __version__
from recsys.errors import SourceError, SourceOutage
from recsys.files import sync
from recsys.ingest.fetch.retry import Interrupted, RetryPolicy, parse_retry_after
from recsys.progress import transfer

log = logging.getLogger(__name__)

# Returns the problem of a file, as text that follows "the file"; None if it is the right file.
FindFault = Callable[[Path], str | None]

POLICY = RetryPolicy()
USER_AGENT = f"recsys/{__version__} (nightly MovieLens recommender; fetches an archive once and keeps it)"
RETRIED = {408, 429, *range(500, 600)}  # status codes of temporary errors


def download(url: str, path: Path, find_fault: FindFault, policy: RetryPolicy = POLICY) -> None:
    """Fetches `url` to `path`. `path` is replaced only by a complete file in which `find_fault` finds no problem.

    If two processes need the same file, the second waits and uses the file that the first has fetched. Proxies are
    taken from the environment.

    Raises: SourceOutage if the server fails or is too slow, so that a later call may succeed; SourceError if the file
    does not exist, is the wrong one or cannot be written.
    """
    with locked(path, policy.lock_seconds):
        if path.exists() and find_fault(path) is None:
            return
        log.info("fetching %s", url)
        part = path.with_name(f".{path.name}.part")  # remains after a kill; the next download overwrites it
        with open_client(policy) as client, reporting_write_errors(path):
            try:
                fetch(client, url, part, policy)
                if fault := find_fault(part):
                    raise SourceError(f"{url} returned {part.stat().st_size:,} bytes, but the file {fault}")
                sync(part)
                part.replace(path)
                sync(path.parent)
            finally:
                part.unlink(missing_ok=True)


@contextmanager
def locked(path: Path, wait_seconds: float = POLICY.lock_seconds) -> Iterator[None]:
    """Locks `path` against other processes. Raises: SourceOutage if another one holds the lock for too long."""
    lock = FileLock(path.with_name(f".{path.name}.lock"))
    with reporting_write_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            log.info("another process is fetching %s; waiting for it", path.name)
            acquire(lock, path, wait_seconds)
    try:
        yield
    finally:
        lock.release()


def acquire(lock: FileLock, path: Path, wait_seconds: float) -> None:
    try:
        lock.acquire(timeout=wait_seconds)
    except Timeout as error:
        raise SourceOutage(
            f"another process has been fetching {path} for more than {wait_seconds:.0f} s. Next: wait for it, or stop "
            "it"
        ) from error


@contextmanager
def reporting_write_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise SourceError(
            f"{path} cannot be written ({error.strerror or error}). Next: make room for it, or choose another --home"
        ) from error


def open_client(policy: RetryPolicy) -> httpx.Client:
    """Raises: SourceError if the environment's proxy or certificate settings are invalid."""
    timeout = httpx.Timeout(policy.stall_seconds, connect=policy.connect_seconds)
    headers = {"User-Agent": USER_AGENT, "Accept-Encoding": "identity"}  # an archive is compressed already
    try:
        return httpx.Client(headers=headers, timeout=timeout, follow_redirects=True, max_redirects=policy.max_redirects)
    except (ValueError, ImportError, OSError, httpx.InvalidURL) as error:
        raise SourceError(
            f"the proxy or certificate settings of the environment are invalid ({error}). Next: check HTTP_PROXY, "
            "HTTPS_PROXY, ALL_PROXY, NO_PROXY, SSL_CERT_FILE and SSL_CERT_DIR"
        ) from error


def fetch(client: httpx.Client, url: str, part: Path, policy: RetryPolicy) -> None:
    """Writes `url` to `part`, with retries.

    Raises: SourceOutage if all of them fail; SourceError if a retry is pointless.
    """
    deadline = time.monotonic() + policy.total_seconds
    answered, attempt = False, 1
    while True:
        try:
            return fetch_once(client, url, part, policy, deadline)
        except Interrupted as error:
            answered |= error.answered
            tries = policy.tries if answered else policy.connect_tries
            if attempt >= tries:
                raise SourceOutage(f"{url} {error}, in {tries} tries") from error
            attempt += 1
            pause = policy.pause_before(attempt) if error.retry_after is None else error.retry_after
            if pause > policy.max_pause_seconds:
                limit = f"the limit is {policy.max_pause_seconds:.0f} s"
                raise SourceOutage(f"{url} {error} and asks to wait {pause:.0f} s, {limit}") from error
            log.warning("%s %s; try %d of %d in %.1f s", url, error, attempt, tries, pause)
            time.sleep(pause)


def fetch_once(client: httpx.Client, url: str, part: Path, policy: RetryPolicy, deadline: float) -> None:
    """Sends one request. Raises: Interrupted if a retry may succeed; SourceError or SourceOutage if it cannot."""
    answered = False
    try:
        with client.stream("GET", url) as response:
            answered = True
            check_status(response, url)
            receive(response, url, part, policy, deadline)
    except (httpx.TooManyRedirects, httpx.UnsupportedProtocol, httpx.LocalProtocolError, httpx.InvalidURL) as error:
        raise SourceError(f"{url} cannot be fetched ({error})") from error
    except httpx.TransportError as error:
        what = "broke off" if answered else f"cannot be reached{by_proxy(url)}"
        raise Interrupted(f"{what} ({str(error) or type(error).__name__})", answered=answered) from error


def by_proxy(url: str) -> str:
    """Names the proxy, without user and password: it may be unreachable, and httpx's error does not name it."""
    parts, proxies = urlsplit(url), urllib.request.getproxies()
    proxy = urlsplit(proxies.get(parts.scheme) or proxies.get("all") or "")
    if not proxy.hostname or urllib.request.proxy_bypass(parts.netloc):
        return ""
    return f" through {proxy.hostname}, the proxy of the environment"


def check_status(response: httpx.Response, url: str) -> None:
    """Raises: Interrupted for a temporary error; SourceError for any other response without the file."""
    status = response.status_code
    if status in RETRIED:
        raise Interrupted(f"answered {status}", retry_after=parse_retry_after(response.headers.get("Retry-After", "")))
    if status != 200:
        raise SourceError(f"{url} answered {status}")


def receive(response: httpx.Response, url: str, part: Path, policy: RetryPolicy, deadline: float) -> None:
    """Writes the body to `part`. httpx checks that it has the announced length.

    Raises: SourceError if it is too large; SourceOutage if it is not complete at the deadline.
    """
    announced = response.headers.get("Content-Length", "")
    total = int(announced) if announced.isdecimal() else None
    if total is not None and total > policy.max_bytes:
        raise SourceError(f"{url} announces {total:,} bytes, the limit is {policy.max_bytes:,}")
    with part.open("wb") as file, transfer(part.name.strip(".").removesuffix(".part"), total, log) as show:
        for chunk in response.iter_raw():
            if file.tell() + len(chunk) > policy.max_bytes:
                raise SourceError(f"{url} sends more than {policy.max_bytes:,} bytes, which is the limit")
            if time.monotonic() > deadline:
                raise SourceOutage(f"{url} sent {file.tell():,} bytes in {policy.total_seconds:.0f} s, the time limit")
            file.write(chunk)
            show(len(chunk))
