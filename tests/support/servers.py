"""A real web server on loopback that serves one file and misbehaves on request, and a real proxy in front of it."""

import http.client
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

Answer = Callable[["Handler"], None]


@dataclass
class Site:
    """The file that the server has, how it answers, and the requests it got."""

    content: bytes
    answers: list[Answer] = field(default_factory=list)  # one per request, in order; then `usual`
    usual: Answer = lambda handler: honest(handler)  # noqa: PLW0108  # defined below
    address: str = ""
    requests: list[Message] = field(default_factory=list)  # the headers of each
    released: threading.Event = field(default_factory=threading.Event)  # ends every wait
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def url(self) -> str:
        return f"{self.address}/file.zip"

    def next_answer(self, headers: Message) -> Answer:
        with self.lock:
            self.requests.append(headers)
            return self.answers.pop(0) if self.answers else self.usual


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    site: Site

    def do_GET(self) -> None:
        answer = self.site.next_answer(self.headers)
        self.close_connection = True
        with suppress(BrokenPipeError, ConnectionResetError):  # the client has closed the connection
            answer(self)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the base class's name for it
        pass

    def head(self, status: int, headers: dict[str, object]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Connection": "close"}.items():
            self.send_header(name, str(value))
        self.end_headers()

    def send(self, content: bytes, announced: int | None = None) -> None:
        """Status 200 and `content`, with a Content-Length of its length or of `announced`."""
        self.head(200, {"Content-Length": len(content) if announced is None else announced})
        self.wfile.write(content)
        self.wfile.flush()


def honest(handler: Handler) -> None:
    handler.send(handler.site.content)


def cut(after: int) -> Answer:
    """Announces the whole file and closes the connection after `after` bytes."""
    return lambda handler: handler.send(handler.site.content[:after], len(handler.site.content))


def stall(after: int) -> Answer:
    """Sends `after` bytes, then nothing until the site is released, without closing the connection."""

    def answer(handler: Handler) -> None:
        cut(after)(handler)
        handler.site.released.wait(60)

    return answer


def hold_back(handler: Handler) -> None:
    """Answers correctly once the site is released."""
    handler.site.released.wait(60)
    honest(handler)


def silence(handler: Handler) -> None:
    handler.site.released.wait(60)


def drip(handler: Handler) -> None:
    """Sends a byte every 50 ms: the connection never stalls, and the file never becomes complete."""
    handler.head(200, {"Content-Length": len(handler.site.content)})
    for byte in handler.site.content:
        handler.wfile.write(bytes([byte]))
        if handler.site.released.wait(0.05):
            return


def status(code: int, **headers: object) -> Answer:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda handler: handler.head(code, {"Content-Length": 0, **named})


def redirect(to: str) -> Answer:
    return status(302, Location=to)


def other_length(announced: int) -> Answer:
    """Announces `announced` bytes and sends those of the file."""
    return lambda handler: handler.send(handler.site.content, announced)


def without_length(handler: Handler) -> None:
    """Sends the file without its length: the end of the connection is the end of the file."""
    handler.head(200, {})
    handler.wfile.write(handler.site.content)


def other_bytes(content: bytes) -> Answer:
    return lambda handler: handler.send(content)


@contextmanager
def serving(site: Site) -> Iterator[Site]:
    """Serves the site within the block."""
    handler = type("SiteHandler", (Handler,), {"site": site})
    with running(handler) as address:
        site.address = address
        try:
            yield site
        finally:
            site.released.set()


@contextmanager
def proxying() -> Iterator[tuple[str, list[str]]]:
    """A proxy that resolves `*.example` to loopback. Yields its address and the URLs that it was asked for."""
    asked: list[str] = []

    class Proxy(Handler):
        def do_GET(self) -> None:
            asked.append(self.path)
            parts = urlsplit(self.path)
            origin = http.client.HTTPConnection("127.0.0.1", parts.port or 80, timeout=10)
            origin.request("GET", parts.path, headers=dict(self.headers.items()))
            with origin.getresponse() as answer:
                self.head(answer.status, dict(answer.getheaders()))
                self.wfile.write(answer.read())
            origin.close()
            self.close_connection = True

    with running(Proxy) as address:
        yield address, asked


@contextmanager
def running(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    """Runs a server on a free port of loopback. Yields its address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
