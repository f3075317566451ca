"""Downloads that go on where they were cut off, by the same process or by the next one.

A server is believed in nothing that can be checked: where it says the rest begins, how long the file is, and in the
end, by the caller's `find_fault`, whether it is the right one.
"""

import logging
import re
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
from recsys.ingest.fetch.partial_file import Partial
from recsys.ingest.fetch.patience import PATIENCE, Interruption, Patience, Tries, retry_after
from recsys.progress import transfer

log = logging.getLogger(__name__)

# What is wrong with a file, in words that follow "they are"; None when it is what was wanted.
FindFault = Callable[[Path], str | None]

USER_AGENT = f"recsys/{__version__} (nightly MovieLens recommender; fetches an archive once and keeps it)"
CONTENT_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+|\*)")
RETRIED = {408, 429, *range(500, 600)}  # answers that may be others in a moment


def download(url: str, path: Path, find_fault: FindFault, patience: Patience = PATIENCE) -> None:
    """Fetches `url` to `path`, which is replaced only by a whole file in which `find_fault` finds none.

    Of two processes that want the same file, the second waits and takes what the first has fetched. Proxies are those
    of the environment.

    Raises: SourceOutage when it cannot be had just now: what has come is kept for the next call; SourceError when it
    is not there, not the right one, or cannot be written.
    """
    with locked(path, patience.lock_seconds):
        if path.exists() and find_fault(path) is None:
            return
        log.info("fetching %s", url)
        partial = Partial(url, path)
        with open_client(patience) as client, telling_what_cannot_be_written(path):
            fetch_faultless(client, partial, find_fault, patience)
            partial.keep()


@contextmanager
def locked(path: Path, wait_seconds: float = PATIENCE.lock_seconds) -> Iterator[None]:
    """Holds `path` against other processes. Raises: SourceOutage when one of them does not let go in time."""
    lock = FileLock(path.with_name(f".{path.name}.lock"))
    with telling_what_cannot_be_written(path):
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
            f"another process has been fetching {path} for more than {wait_seconds:.0f} s. Next: wait for it, or end it"
        ) from error


@contextmanager
def telling_what_cannot_be_written(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise SourceError(
            f"{path} cannot be written ({error.strerror or error}). Next: make room for it, or choose another --home"
        ) from error


def open_client(patience: Patience) -> httpx.Client:
    """Raises: SourceError when what the environment says of proxies or certificates cannot be meant."""
    timeout = httpx.Timeout(patience.read_seconds, connect=patience.connect_seconds)
    headers = {"User-Agent": USER_AGENT, "Accept-Encoding": "identity"}  # a range is one of the archive's own bytes
    try:
        return httpx.Client(headers=headers, timeout=timeout, follow_redirects=True, max_redirects=patience.redirects)
    except (ValueError, ImportError, OSError, httpx.InvalidURL) as error:
        raise SourceError(
            f"the proxy or certificate settings of the environment cannot be used ({error}). Next: look at HTTP_PROXY, "
            "HTTPS_PROXY, ALL_PROXY, NO_PROXY, SSL_CERT_FILE and SSL_CERT_DIR"
        ) from error


def fetch_faultless(client: httpx.Client, partial: Partial, find_fault: FindFault, patience: Patience) -> None:
    """Bytes may go wrong on the way, and the file may change between two parts of it: so there is a second chance."""
    for is_last in (False, True):
        fetch_whole(client, partial, patience)
        fault = find_fault(partial.part)
        if fault is None:
            return
        told = f"{partial.url} gave {partial.size_bytes:,} bytes, but they are {fault}"
        partial.drop()
        if is_last:
            raise SourceError(f"{told}, twice in a row")
        log.warning("%s; fetching it once more, from the start", told)


def fetch_whole(client: httpx.Client, partial: Partial, patience: Patience) -> None:
    tries = Tries(patience, partial.resumable_bytes)
    while not partial.is_whole():
        try:
            return fetch_rest(client, partial, patience)
        except Interruption as interruption:
            tries.pause(partial.url, interruption, partial.resumable_bytes)
    return None


def fetch_rest(client: httpx.Client, partial: Partial, patience: Patience) -> None:
    """One request. Raises: Interruption when another may bring more; SourceError when none will."""
    was_answered = False
    try:
        with client.stream("GET", partial.url, headers=range_headers(partial)) as response:
            was_answered = True
            check_answer(response, partial, patience)
            receive(response, partial, patience)
    except (httpx.TooManyRedirects, httpx.UnsupportedProtocol, httpx.LocalProtocolError, httpx.InvalidURL) as error:
        raise SourceError(f"{partial.url} cannot be fetched ({error})") from error
    except httpx.TransportError as error:
        words = "broke off" if was_answered else f"cannot be reached{by_proxy(partial.url)}"
        raise Interruption(f"{words} ({str(error) or type(error).__name__})", was_answered=was_answered) from error


def range_headers(partial: Partial) -> dict[str, str]:
    """Asks for the rest if the file is still the same, for all of it if not."""
    validator = partial.validator
    return {"Range": f"bytes={partial.size_bytes}-", "If-Range": validator} if validator else {}


def by_proxy(url: str) -> str:
    """It may be a proxy that cannot be reached; httpx does not say so."""
    parts, proxies = urlsplit(url), urllib.request.getproxies()
    proxy = urlsplit(proxies.get(parts.scheme) or proxies.get("all") or "")
    if not proxy.hostname or urllib.request.proxy_bypass(parts.netloc):
        return ""
    return f" through {proxy.hostname}, the proxy of the environment"  # its name and password are nobody's business


def check_answer(response: httpx.Response, partial: Partial, patience: Patience) -> None:
    """Raises: Interruption when another try may bring what this one does not; SourceError when none will."""
    status = response.status_code
    if status == 206 and partial.validator:
        check_range(response, partial)
    elif status == 200:
        begin(response, partial, patience)
    elif status == 416:  # nothing is left, or the file has become shorter
        partial.drop()
        raise Interruption("answered 416: the part that is here is not of this file")
    elif status in RETRIED:
        asked_seconds = retry_after(response.headers.get("Retry-After", ""))
        raise Interruption(f"answered {status}", asked_seconds=asked_seconds)
    else:
        raise SourceError(f"{partial.url} answered {status}")


def check_range(response: httpx.Response, partial: Partial) -> None:
    """Raises: Interruption when what was sent is not the rest of what is here, which is dropped then."""
    told, here, total = response.headers.get("Content-Range", ""), partial.size_bytes, partial.total_bytes
    match = CONTENT_RANGE.fullmatch(told)
    fits = match is not None and int(match[1]) == here and (total is None or match[2] in (str(total), "*"))
    if not fits or find_validator(response) not in (None, partial.validator):
        partial.drop()
        raise Interruption(f"answered with '{told}', not with the rest of the same {total} bytes from {here} on")


def begin(response: httpx.Response, partial: Partial, patience: Patience) -> None:
    """Everything from the start: as asked for, or because the server knows no ranges or another file by now."""
    announced = response.headers.get("Content-Length", "")
    total = int(announced) if announced.isdecimal() else None
    if total is not None and total > patience.most_bytes:
        raise SourceError(f"{partial.url} announces {total:,} bytes, the limit is {patience.most_bytes:,}")
    partial.begin(find_validator(response), total)
    if total is not None and total > partial.free_bytes():
        raise SourceError(
            f"{partial.url} has {total:,} bytes, and {partial.path.parent} has room for {partial.free_bytes():,}"
        )


def find_validator(response: httpx.Response) -> str | None:
    """What proves later that the file is the same; a weak ETag would not prove it byte for byte."""
    tag, date = response.headers.get("ETag", ""), response.headers.get("Last-Modified")
    return str(tag) if tag.startswith('"') else date and str(date)


def receive(response: httpx.Response, partial: Partial, patience: Patience) -> None:
    """Appends what comes. Raises: Interruption when it ends too early or crawls; SourceError when it does not end."""
    total = partial.total_bytes
    most = patience.most_bytes if total is None else total
    with (
        partial.part.open("ab") as file,
        transfer(partial.path.name, partial.size_bytes, total, log) as show,
    ):
        for chunk in hurried(response.iter_raw(), patience):
            if file.tell() + len(chunk) > most:
                partial.drop()
                raise SourceError(f"{partial.url} sends more than the {most:,} bytes that it may have")
            file.write(chunk)
            file.flush()  # what has come is safe from a kill
            show(len(chunk))
        if total is not None and file.tell() < total:
            raise Interruption(f"ended at {file.tell():,} of {total:,} bytes")


def hurried(chunks: Iterator[bytes], patience: Patience) -> Iterator[bytes]:
    """The chunks while they are more than drops, which no timeout of a socket notices."""
    since, received = time.monotonic(), 0
    for chunk in chunks:
        yield chunk
        received += len(chunk)
        seconds = time.monotonic() - since
        if seconds >= patience.read_seconds:
            if received < patience.slowest_bytes:
                raise Interruption(f"sent only {received:,} bytes in {seconds:.0f} s")
            since, received = time.monotonic(), 0
