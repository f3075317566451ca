"""Where alerts arrive in tests: a real web server and a real mail server on loopback, which keep what they are sent."""

import json
import socketserver
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email import message_from_bytes
from email.message import EmailMessage, Message
from email.policy import default
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, cast

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from recsys.home import Home


@dataclass
class Sink:
    """What came, and how the next ones are answered."""

    address: str = ""
    port: int = 0
    received: list[dict[str, Any]] = field(default_factory=list)  # of those answered with 200
    statuses: list[int] = field(default_factory=list)  # one a request, in order; then 200
    headers: list[Message] = field(default_factory=list)  # of each request
    said: bytes = b""  # the body of every answer
    drips: bool = False  # answers one header after the other, and never comes to an end
    released: threading.Event = field(default_factory=threading.Event)

    def of_kind(self, kind: str, home: Home) -> list[dict[str, Any]]:
        return [alert for alert in self.received if (alert["kind"], alert["home"]) == (kind, str(home.root))]


@contextmanager
def webhook() -> Iterator[Sink]:
    sink = Sink()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            sink.headers.append(self.headers)
            if sink.drips:
                self.wfile.write(b"HTTP/1.1 200 OK\r\n")
                while not sink.released.wait(0.05):
                    self.wfile.write(b"X-Drop: 1\r\n")
                self.close_connection = True
                return
            status = sink.statuses.pop(0) if sink.statuses else 200
            if status == 200:
                sink.received.append(body)
            self.send_response(status)
            self.send_header("Content-Length", str(len(sink.said)))
            self.send_header("Location", "http://127.0.0.1:9/")
            self.end_headers()
            self.wfile.write(sink.said)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the base class's name for it
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        sink.port = server.server_address[1]
        sink.address = f"http://127.0.0.1:{sink.port}/hook/s3cr3t-path"
        yield from _running(server, sink)


@dataclass
class Mailbox:
    """Mail as it was sent: who it was for, and each message."""

    port: int = 0
    recipients: list[str] = field(default_factory=list)  # those it took
    messages: list[EmailMessage] = field(default_factory=list)
    logins: list[str] = field(default_factory=list)  # what came with AUTH
    secured: bool = False  # whether the last conversation was encrypted
    refuses: bool = False  # every recipient
    answers: dict[str, list[str]] = field(default_factory=dict)  # by the command, in order; then the usual
    offers: tuple[str, ...] = ("AUTH PLAIN",)

    @property
    def texts(self) -> list[str]:
        """Of each message, decoded: its headers and its body."""
        return [f"{dict(message.items())}\n{message.get_content()}" for message in self.messages]


@contextmanager
def mailbox(*, certificate: Path | None = None, at_once: bool = False) -> Iterator[Mailbox]:
    """As much of SMTP as a client needs that sends plain text; with a certificate, encrypted once the client asks, or
    `at_once`.

    Source: RFC 5321, section 3; RFC 3207, section 4; RFC 4954, section 4.
    """
    box = Mailbox()
    context = _serve_with(certificate) if certificate else None
    if context and not at_once:
        box.offers = (*box.offers, "STARTTLS")

    class Handler(socketserver.StreamRequestHandler):
        def secure(self) -> None:
            assert context
            self.connection = context.wrap_socket(self.connection, server_side=True)
            self.rfile, self.wfile = self.connection.makefile("rb"), self.connection.makefile("wb", buffering=0)
            box.secured = True

        def handle(self) -> None:
            box.secured = False
            with suppress(ssl.SSLError):  # of a client that does not believe the certificate
                if at_once:
                    self.secure()
                self.converse()
            self.connection.close()

        def converse(self) -> None:
            self.say("220 sink")
            while line := self.rfile.readline():
                command = line.decode().strip()
                verb = command.partition(" ")[0].upper()
                told = box.answers.get(verb)
                self.obey(verb, command, told.pop(0) if told else None)
                if verb == "QUIT":
                    return

        def obey(self, verb: str, command: str, told: str | None) -> None:
            if verb == "EHLO":
                offers = ["sink", *box.offers]
                self.say(*(f"250{'-' if offer != offers[-1] else ' '}{offer}" for offer in offers))
            elif verb == "STARTTLS":
                self.say("220 go on")
                self.secure()
            elif verb == "AUTH":
                box.logins.append(command)
                self.say(told or "235 welcome")
            elif verb == "RCPT":
                told = told or ("550 nobody here" if box.refuses else "250 ok")
                box.recipients += [command.partition("<")[2].partition(">")[0]] if told.startswith("2") else []
                self.say(told)
            elif verb == "DATA":
                self.say("354 go on")
                message = message_from_bytes(self.read_message(), policy=default)
                told = told or "250 kept"
                box.messages += [message] if told.startswith("2") else []
                self.say(told)
            else:
                self.say(told or ("221 bye" if verb == "QUIT" else "250 ok"))

        def read_message(self) -> bytes:
            lines = []
            while (line := self.rfile.readline()) != b".\r\n":
                lines.append(line.removeprefix(b"."))
            return b"".join(lines).replace(b"\r\n", b"\n")

        def say(self, *lines: str) -> None:
            self.wfile.write("".join(f"{line}\r\n" for line in lines).encode())

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        box.port = cast(tuple[str, int], server.server_address)[1]
        yield from _running(server, box)


def write_certificate(path: Path) -> Path:
    """A certificate for localhost that vouches for itself, and its key, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    today = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(today - timedelta(days=1))
        .not_valid_after(today + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    told = (serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, *told) + certificate.public_bytes(serialization.Encoding.PEM)
    )
    return path


def _serve_with(certificate: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


def _running(server: socketserver.BaseServer, kept: Any) -> Iterator[Any]:
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield kept
    finally:
        if isinstance(kept, Sink):
            kept.released.set()
        server.shutdown()
        thread.join()
