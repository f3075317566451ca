"""A real web server on loopback that shows one file and misbehaves as told, and a real proxy before it."""

import http.client
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

Answer = Callable[["Handler"], None]

DATE = "Fri, 10 Jul 1998 00:00:00 GMT"


@dataclass
class Site:
    """What the server shows, how it answers, and what it was asked."""

    content: bytes
    answers: list[Answer] = field(default_factory=list)  # one a request, in order; then `usual`
    usual: Answer = lambda handler: honest(handler)  # noqa: PLW0108  # which stands further down
    tag: str | None = '"first"'  # the file's ETag; None: the server gives none
    address: str = ""
    requests: list[Message] = field(default_factory=list)  # the headers of each
    sent_bytes: list[int] = field(default_factory=list)  # of the body, for each request
    released: threading.Event = field(default_factory=threading.Event)  # ends every wait
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def url(self) -> str:
        return f"{self.address}/file.zip"

    @property
    def ranges(self) -> list[str | None]:
        return [headers["Range"] for headers in self.requests]

    def next_answer(self, headers: Message) -> tuple[int, Answer]:
        with self.lock:
            self.requests.append(headers)
            self.sent_bytes.append(0)
            return len(self.requests) - 1, self.answers.pop(0) if self.answers else self.usual


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    site: Site
    number: int

    def do_GET(self) -> None:
        self.number, answer = self.site.next_answer(self.headers)
        self.close_connection = True
        with suppress(BrokenPipeError, ConnectionResetError):  # whoever asked was killed, or has had enough
            answer(self)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the base class's name for it
        pass

    def head(self, status: int, headers: dict[str, object]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Connection": "close"}.items():
            self.send_header(name, str(value))
        self.end_headers()

    def body(self, content: bytes) -> None:
        for start in range(0, len(content), 2**14):
            piece = content[start : start + 2**14]
            self.wfile.write(piece)
            self.site.sent_bytes[self.number] += len(piece)
        self.wfile.flush()

    @property
    def validators(self) -> dict[str, object]:
        return {"ETag": self.site.tag, "Last-Modified": DATE} if self.site.tag else {}

    def wanted_from(self) -> int:
        """Where the rest begins that was asked for, if it is still of the same file; else 0."""
        asked, proof = self.headers["Range"], self.headers["If-Range"]
        is_same = proof is None or proof in (self.site.tag, DATE)
        return int(asked.removeprefix("bytes=").removesuffix("-")) if asked and is_same else 0

    def announce(self) -> bytes:
        """Sends the head of an honest answer; returns the body that should follow."""
        content, start = self.site.content, self.wanted_from()
        if start >= len(content) > 0:
            self.head(416, {"Content-Range": f"bytes */{len(content)}", "Content-Length": 0})
            return b""
        rest = content[start:]
        facts = {"Content-Length": len(rest), "Accept-Ranges": "bytes", **self.validators}
        if start:
            facts["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        self.head(206 if start else 200, facts)
        return rest


def honest(handler: Handler) -> None:
    handler.body(handler.announce())


def cut(after: int) -> Answer:
    """Announces everything and closes the connection after `after` bytes."""
    return lambda handler: handler.body(handler.announce()[:after])


def stall(after: int) -> Answer:
    """Sends `after` bytes and then nothing, without closing, until the site's event releases it."""

    def answer(handler: Handler) -> None:
        body = handler.announce()
        handler.body(body[:after])
        handler.site.released.wait(60)

    return answer


def hold_back(handler: Handler) -> None:
    """Answers honestly once it is released."""
    handler.site.released.wait(60)
    honest(handler)


def silence(handler: Handler) -> None:
    handler.site.released.wait(60)


def drip(handler: Handler) -> None:
    """A byte now and then: the connection is never idle for long, and never gets anywhere."""
    for byte in handler.announce():
        handler.body(bytes([byte]))
        if handler.site.released.wait(0.05):
            return


def status(code: int, **headers: object) -> Answer:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda handler: handler.head(code, {"Content-Length": 0, **named})


def redirect(to: str) -> Answer:
    return status(302, Location=to)


def no_ranges(handler: Handler) -> None:
    """All of it, whatever was asked for."""
    handler.head(200, {"Content-Length": len(handler.site.content), **handler.validators})
    handler.body(handler.site.content)


def other_length(announced: int) -> Answer:
    """Announces `announced` bytes and sends those of the file."""

    def answer(handler: Handler) -> None:
        handler.head(200, {"Content-Length": announced, **handler.validators})
        handler.body(handler.site.content)

    return answer


def without_length(content: bytes) -> Answer:
    """Sends `content` without saying how much it is: the end of the connection is the end of it."""

    def answer(handler: Handler) -> None:
        handler.head(200, handler.validators)
        handler.body(content)

    return answer


def other_bytes(content: bytes) -> Answer:
    def answer(handler: Handler) -> None:
        handler.head(200, {"Content-Length": len(content), **handler.validators})
        handler.body(content)

    return answer


def other_range(told: str, content: bytes, **headers: object) -> Answer:
    """Answers 206 with a range of its own choice, and no length of the body."""

    def answer(handler: Handler) -> None:
        handler.head(206, {"Content-Range": told, **handler.validators, **headers})
        handler.body(content)

    return answer


@contextmanager
def serving(site: Site) -> Iterator[Site]:
    """The site, at its address while the context lasts."""
    handler = type("SiteHandler", (Handler,), {"site": site})
    with running(handler) as address:
        site.address = address
        try:
            yield site
        finally:
            site.released.set()


@contextmanager
def proxying() -> Iterator[tuple[str, list[str]]]:
    """A proxy that knows the hosts `*.example` to be on loopback: its address, and the addresses it was asked for."""
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
