"""Alerts on their way: a webhook, e-mail, a file. A sink that is broken keeps no other from getting them.

One that took an alert and could not say so may get it again; `Idempotency-Key` and `Message-ID` are then the same.
"""

import hashlib
import json
import logging
import os
import smtplib
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from contextvars import copy_context
from email.message import EmailMessage
from email.utils import localtime
from functools import cached_property, partial

import httpx

from recsys.alerts.alert import Alert, strike_out
from recsys.alerts.scrub import scrub
from recsys.alerts.settings import AlertSettings
from recsys.files import sync
from recsys.printable import printable

Try = Callable[[], None]

LONGEST_SUBJECT = 150
LONGEST_ANSWER = 200  # bytes of what a webhook says of a refusal

logger = logging.getLogger(__name__)


class Outage(Exception):
    """A sink that could not be reached just now, or says so: worth another try."""


def send(alert: Alert, settings: AlertSettings) -> dict[str, str | None]:
    """Tells every sink that is set, and returns what went wrong with each by its name; None where nothing did.

    All at the same time, and none for longer than `settings.patience_seconds`, whatever it does. Never raises: whoever
    sends an alert has troubles enough.
    """
    alert = strike_out(alert, settings.secrets())
    sinks = dict(list_sinks(alert, settings))
    given_up = f"it came to no end in {settings.patience_seconds:.0f} s"
    problems: dict[str, str | None] = dict.fromkeys(sinks, given_up)

    def tell(name: str) -> None:
        problems[name] = _insist(name, sinks[name], settings)

    _do_at_once([partial(tell, name) for name in sinks], settings.patience_seconds)
    told = {name: problems[name] for name in sinks}
    for name, problem in told.items():
        if problem:
            logger.error("alert: %s was not told: %s; it was: %s", name, problem, alert.title)
        else:
            logger.info("alert: %s was told: %s", name, alert.title)
    return told


def list_sinks(alert: Alert, settings: AlertSettings) -> Iterator[tuple[str, Try]]:
    """Those that are set, each with what tells it once."""
    if settings.webhook_url:
        yield "webhook", partial(post, alert, settings)
    if settings.email_to:
        yield "e-mail", Mail(alert, settings).send
    if settings.file:
        yield "file", partial(append, alert, settings)


def post(alert: Alert, settings: AlertSettings) -> None:
    """POSTs the alert as JSON; a redirect is not followed, so that nobody else gets it."""
    assert settings.webhook_url
    try:
        with (
            _unlogged("httpx"),
            httpx.stream(
                "POST",
                settings.webhook_url.get_secret_value(),
                json=alert.as_json(),
                headers={"Idempotency-Key": _sign(alert), "Accept-Encoding": "identity"},
                timeout=settings.timeout_seconds,
                follow_redirects=False,
            ) as answer,
        ):
            status = answer.status_code
            said = "" if answer.is_success else _read_start(answer)
    except httpx.TransportError as error:
        raise Outage(f"{type(error).__name__}: {error}") from None
    if status >= 500 or status in (408, 429):
        raise Outage(f"it answered {status}{said}")
    if status >= 300:
        raise OSError(f"it answered {status}{said}, which no further try will change")


def _read_start(answer: httpx.Response) -> str:
    """What it says of itself, such as invalid_token: the first piece that comes, or nothing."""
    with suppress(httpx.TransportError):
        for piece in answer.iter_raw():
            return f" '{piece[:LONGEST_ANSWER].decode(errors='replace')}'"
    return ""


@contextmanager
def _unlogged(name: str) -> Iterator[None]:
    """The address of each request is logged by httpx, and a webhook's is a secret. What other threads log stays."""
    here = threading.get_ident()

    def is_of_others(record: logging.LogRecord) -> bool:
        return record.thread != here

    logging.getLogger(name).addFilter(is_of_others)
    try:
        yield
    finally:
        logging.getLogger(name).removeFilter(is_of_others)


class Mail:
    """One message of plain text, and who has not got it yet."""

    def __init__(self, alert: Alert, settings: AlertSettings) -> None:
        self.alert, self.settings = alert, settings
        self.waiting = list(settings.email_to)
        self.refused: dict[str, str] = {}  # for good, with the server's words

    @cached_property
    def message(self) -> EmailMessage:
        message = EmailMessage()
        message["Subject"] = f"[recsys] {' '.join(self.alert.title.split())}"[:LONGEST_SUBJECT]
        message["From"] = self.settings.email_from
        message["To"] = ", ".join(self.settings.email_to)
        message["Date"] = localtime()
        message["Message-ID"] = f"<{_sign(self.alert)}@{self.settings.email_from.rpartition('@')[2]}>"
        message["Auto-Submitted"] = "auto-generated"
        message.set_content(self.alert.text(), cte="quoted-printable")
        return message

    def send(self) -> None:
        """To all who are waiting. Those whom the server takes no mail for just now go on waiting.

        Raises: Outage when another try may bring it to more of them; OSError when none will.
        """
        try:
            refusals = self._hand_over()
        except smtplib.SMTPResponseException as error:
            told = f"it answered {_quote(error.smtp_code, error.smtp_error)}"
            raise (Outage(told) if error.smtp_code < 500 else OSError(told)) from None
        except (smtplib.SMTPNotSupportedError, ssl.SSLCertVerificationError):
            raise
        except OSError as error:  # of which what smtplib raises is one, too
            raise Outage(f"{type(error).__name__}: {error}") from None
        said = {address: _quote(*refusals[address]) for address in refusals}
        self.waiting = [address for address, (code, _) in refusals.items() if code < 500]
        self.refused |= {address: words for address, words in said.items() if address not in self.waiting}
        told = f"it takes no mail for {', '.join(f'{name} ({words})' for name, words in (self.refused | said).items())}"
        if self.waiting:
            raise Outage(told)
        if self.refused:
            raise OSError(told)

    def _hand_over(self) -> dict[str, tuple[int, bytes]]:
        """Returns whom the server takes no mail for. What it says after it has taken the message is no matter."""
        with closing(self._connect()) as server:
            if self.settings.smtp_security == "starttls":
                server.starttls(context=ssl.create_default_context())
            if self.settings.smtp_user and self.settings.smtp_password:
                server.login(self.settings.smtp_user, self.settings.smtp_password.get_secret_value())
            try:
                refusals = server.send_message(self.message, to_addrs=self.waiting)
            except smtplib.SMTPRecipientsRefused as error:  # all of them
                refusals = error.recipients
            with suppress(OSError):
                server.quit()
            return refusals

    def _connect(self) -> smtplib.SMTP:
        address, timeout = (self.settings.smtp_host, self.settings.smtp_port), self.settings.timeout_seconds
        if self.settings.smtp_security == "tls":
            return smtplib.SMTP_SSL(*address, timeout=timeout, context=ssl.create_default_context())
        return smtplib.SMTP(*address, timeout=timeout)


def append(alert: Alert, settings: AlertSettings) -> None:
    """Adds a line of JSON in one write, so that lines of two processes never mix."""
    assert settings.file
    settings.file.parent.mkdir(parents=True, exist_ok=True)
    line = (json.dumps(alert.as_json(), ensure_ascii=False) + "\n").encode()
    is_new = not settings.file.exists()
    descriptor = os.open(settings.file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o640)
    try:
        written = os.write(descriptor, line)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    if written < len(line):
        raise OSError(f"{settings.file} took only {written} of {len(line)} bytes; make room for it")
    if is_new:
        sync(settings.file.parent)


def _insist(name: str, tell: Try, settings: AlertSettings) -> str | None:
    """Tries until it is through, or no try is left; returns what was wrong the last time."""
    problem = None
    for attempt in range(settings.attempts):
        if attempt:
            time.sleep(settings.find_wait(attempt))
        try:
            tell()
        except Outage as outage:
            problem = printable(scrub(str(outage), settings.secrets()))
            logger.warning("alert: %s, try %d of %d: %s", name, attempt + 1, settings.attempts, problem)
        except Exception as error:
            return printable(scrub(f"{type(error).__name__}: {error}", settings.secrets()))
        else:
            return None
    return problem


def _do_at_once(works: list[Callable[[], None]], seconds: float) -> None:
    """Each in a thread of its own that no end of the process waits for; returns when all are done, or time is up."""
    end = time.monotonic() + seconds
    threads = []
    for work in works:
        thread = threading.Thread(target=copy_context().run, args=(work,), daemon=True)
        try:
            thread.start()
            threads.append(thread)
        except RuntimeError:  # no more threads: the process is about to end
            work()
    for thread in threads:
        thread.join(max(end - time.monotonic(), 0))


def _sign(alert: Alert) -> str:
    """The same for each try of one alert."""
    return hashlib.sha256(json.dumps(alert.as_json(), sort_keys=True).encode()).hexdigest()[:32]


def _quote(code: int, words: bytes | str) -> str:
    return f"{code} {words.decode(errors='replace') if isinstance(words, bytes) else words}"
