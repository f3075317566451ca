"""Receivers of alerts for tests: a real web server and a real mail server on loopback that record what they get."""

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
    """The requests of a web server, and the answers to the next ones."""

    address: str = ""
    port: int = 0
    received: list[dict[str, Any]] = field(default_factory=list)  # bodies of the requests answered with 200
    statuses: list[int] = field(default_factory=list)  # for the next requests, in order; 200 when there are no more
    headers: list[Message] = field(default_factory=list)  # of each request
    answer_body: bytes = b""  # the body of every answer
    drips: bool = False  # sends headers without end
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
            self.send_header("Content-Length", str(len(sink.answer_body)))
            self.send_header("Location", "http://127.0.0.1:9/")
            self.end_headers()
            self.wfile.write(sink.answer_body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the base class's name for it
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        sink.port = server.server_address[1]
        sink.address = f"http://127.0.0.1:{sink.port}/hook/s3cr3t-path"
        yield from _running(server, sink)


@dataclass
class Mailbox:
    """The recipients and messages of a mail server, and its answers to the next commands."""

    port: int = 0
    recipients: list[str] = field(default_factory=list)  # the accepted ones
    messages: list[EmailMessage] = field(default_factory=list)
    logins: list[str] = field(default_factory=list)  # the arguments of AUTH
    secured: bool = False  # whether the last connection was encrypted
    refuses: bool = False  # refuses every recipient
    answers: dict[str, list[str]] = field(default_factory=dict)  # by command, in order; then the usual ones
    offers: tuple[str, ...] = ("AUTH PLAIN",)

    @property
    def texts(self) -> list[str]:
        """The decoded headers and body of each message."""
        return [f"{dict(message.items())}\n{message.get_content()}" for message in self.messages]


@contextmanager
def mailbox(*, certificate: Path | None = None, at_once: bool = False) -> Iterator[Mailbox]:
    """A mail server with the part of SMTP that plain-text mail needs.

    With a certificate, it offers STARTTLS, or uses TLS from the start if `at_once`.

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
            with suppress(ssl.SSLError):  # the client rejects the certificate
                if at_once:
                    self.secure()
                self.talk()
            self.connection.close()

        def talk(self) -> None:
            self.say("220 sink")
            while line := self.rfile.readline():
                command = line.decode().strip()
                verb = command.partition(" ")[0].upper()
                answers = box.answers.get(verb)
                self.reply(verb, command, answers.pop(0) if answers else None)
                if verb == "QUIT":
                    return

        def reply(self, verb: str, command: str, answer: str | None) -> None:
            if verb == "EHLO":
                offers = ["sink", *box.offers]
                self.say(*(f"250{'-' if offer != offers[-1] else ' '}{offer}" for offer in offers))
            elif verb == "STARTTLS":
                self.say("220 continue")
                self.secure()
            elif verb == "AUTH":
                box.logins.append(command)
                self.say(answer or "235 welcome")
            elif verb == "RCPT":
                answer = answer or ("550 unknown" if box.refuses else "250 ok")
                box.recipients += [command.partition("<")[2].partition(">")[0]] if answer.startswith("2") else []
                self.say(answer)
            elif verb == "DATA":
                self.say("354 continue")
                message = message_from_bytes(self.read_message(), policy=default)
                answer = answer or "250 stored"
                box.messages += [message] if answer.startswith("2") else []
                self.say(answer)
            else:
                self.say(answer or ("221 bye" if verb == "QUIT" else "250 ok"))

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
    """Writes a self-signed certificate for localhost and its key to one file."""
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
    encoding = (serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, *encoding) + certificate.public_bytes(serialization.Encoding.PEM)
    )
    return path


def _serve_with(certificate: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


def _running(server: socketserver.BaseServer, record: Any) -> Iterator[Any]:
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield record
    finally:
        if isinstance(record, Sink):
            record.released.set()
        server.shutdown()
        thread.join()
