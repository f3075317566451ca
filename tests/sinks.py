"""Where alerts arrive in tests: a real web server and a real mail server on loopback, which keep what they are sent."""

import json
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, cast

from recsys.home import Home


@dataclass
class Sink:
    """What came, and how the next ones are answered."""

    address: str = ""
    port: int = 0
    received: list[dict[str, Any]] = field(default_factory=list)  # of those answered with 200
    statuses: list[int] = field(default_factory=list)  # one a request, in order; then 200

    def of_kind(self, kind: str, home: Home) -> list[dict[str, Any]]:
        return [alert for alert in self.received if (alert["kind"], alert["home"]) == (kind, str(home.root))]


@contextmanager
def webhook() -> Iterator[Sink]:
    sink = Sink()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            status = sink.statuses.pop(0) if sink.statuses else 200
            if status == 200:
                sink.received.append(body)
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.send_header("Location", "http://127.0.0.1:9/")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the base class's name for it
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        sink.port = server.server_address[1]
        sink.address = f"http://127.0.0.1:{sink.port}/hook/s3cr3t-path"
        yield from _running(server, sink)


@dataclass
class Mailbox:
    """Mail as it was sent: who it was for, and the lines of each message."""

    port: int = 0
    recipients: list[str] = field(default_factory=list)
    messages: list[str] = field(default_factory=list)
    refuses: bool = False  # every recipient


@contextmanager
def mailbox() -> Iterator[Mailbox]:
    """As much of SMTP as a client needs that sends plain text.

    Source: RFC 5321, section 3.
    """
    box = Mailbox()

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            self.say("220 sink")
            while line := self.rfile.readline():
                command = line.decode().strip()
                if command.upper() == "DATA":
                    self.say("354 go on")
                    box.messages.append(self.read_message())
                    self.say("250 kept")
                elif command.upper() == "QUIT":
                    self.say("221 bye")
                    return
                elif command.upper().startswith("RCPT"):
                    box.recipients.append(command.partition("<")[2].partition(">")[0])
                    self.say("550 nobody here" if box.refuses else "250 ok")
                else:
                    self.say("250 ok")

        def read_message(self) -> str:
            lines = []
            while (line := self.rfile.readline().decode().rstrip("\r\n")) != ".":
                lines.append(line.removeprefix("."))
            return "\n".join(lines)

        def say(self, line: str) -> None:
            self.wfile.write(f"{line}\r\n".encode())

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        box.port = cast(tuple[str, int], server.server_address)[1]
        yield from _running(server, box)


def _running(server: socketserver.BaseServer, kept: Any) -> Iterator[Any]:
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield kept
    finally:
        server.shutdown()
        thread.join()
