"""Sends an alert to every configured sink: a webhook, e-mail, a file. A sink that fails does not affect the others.

A sink that received an alert but could not confirm it may receive it again, with the same `Idempotency-Key` or
`Message-ID`. apprise is not used because it sends a mail again to recipients who already have it, retries requests that
were refused permanently, logs a webhook's URL, and does not return the reason of a failure.
"""

import hashlib
import json
import logging
import os
import smtplib
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from contextvars import copy_context
from email.message import EmailMessage
from email.utils import localtime
from functools import partial

import httpx

from recsys.alerts.alert import Alert, clean
from recsys.alerts.scrub import scrub
from recsys.alerts.settings import AlertSettings
from recsys.files import sync
from recsys.printable import printable

MAX_SUBJECT = 150  # characters
MAX_QUOTE = 200  # bytes of a webhook's answer

Attempt = Callable[[], None]

logger = logging.getLogger(__name__)


class Unavailable(Exception):
    """A sink cannot be reached at the moment or answers that it is unavailable. Another attempt may succeed."""


def send(alert: Alert, settings: AlertSettings, secrets: Iterable[str] = ()) -> dict[str, str | None]:
    """Sends to all configured sinks at the same time. Returns the error of each sink by its name, None for a success.

    secrets: removed from every text, in addition to those of `settings` and of the environment. Never raises, and takes
    at most `settings.deadline_seconds`.
    """
    known = (*settings.secrets(), *secrets)
    alert = clean(alert, known)
    sinks = list(list_sinks(alert, settings))
    errors: list[str | None] = [f"no answer within {settings.deadline_seconds:.0f} s"] * len(sinks)

    def deliver(number: int) -> None:
        errors[number] = _attempt(*sinks[number], settings, known)

    _run_together([partial(deliver, number) for number in range(len(sinks))], settings.deadline_seconds)
    found: dict[str, dict[str, None]] = {name: {} for name, _ in sinks}  # the errors of a sink, in order, each once
    for (name, _), error in zip(sinks, errors, strict=True):
        found[name] |= {error: None} if error else {}
    result = {name: "; ".join(problems) or None for name, problems in found.items()}
    for name, problem in result.items():
        if problem:
            logger.error("alert not sent by %s: %s; the alert was: %s", name, problem, alert.title)
        else:
            logger.info("alert sent by %s: %s", name, alert.title)
    return result


def list_sinks(alert: Alert, settings: AlertSettings) -> Iterator[tuple[str, Attempt]]:
    """The configured sinks, each with a function that makes one attempt. E-mail is one sink per recipient."""
    if settings.webhook_url:
        yield "webhook", partial(post, alert, settings)
    if settings.email_to:
        message = write_mail(alert, settings)
        for recipient in settings.email_to:
            yield "e-mail", partial(mail, message, recipient, settings)
    if settings.file:
        yield "file", partial(append, alert, settings)


def post(alert: Alert, settings: AlertSettings) -> None:
    """POSTs the alert as JSON. Redirects are not followed, so that no other server receives it.

    Raises: Unavailable if the server cannot be reached or answers 408, 429 or 5xx; OSError for any other refusal.
    """
    assert settings.webhook_url
    request = partial(
        httpx.stream,
        "POST",
        settings.webhook_url.get_secret_value(),
        json=alert.as_json(),
        headers={"Idempotency-Key": _identify(alert), "Accept-Encoding": "identity"},
        timeout=settings.timeout_seconds,
    )
    try:
        with _without_log("httpx"), request() as answer:
            status = answer.status_code
            quoted = "" if answer.is_success else _quote_start(answer)
    except httpx.TransportError as error:
        raise Unavailable(f"{type(error).__name__}: {error}") from None
    if status >= 500 or status in (408, 429):
        raise Unavailable(f"status {status}{quoted}")
    if status >= 300:
        raise OSError(f"status {status}{quoted}, which is not retried")


def _quote_start(answer: httpx.Response) -> str:
    """The beginning of the body, such as invalid_token."""
    with suppress(httpx.TransportError):
        for piece in answer.iter_raw():
            return f" '{piece[:MAX_QUOTE].decode(errors='replace')}'"
    return ""


@contextmanager
def _without_log(name: str) -> Iterator[None]:
    """Drops the log records of this thread: httpx logs the URL of each request, and a webhook's URL is a secret."""
    here = threading.get_ident()

    def is_of_another_thread(record: logging.LogRecord) -> bool:
        return record.thread != here

    logging.getLogger(name).addFilter(is_of_another_thread)
    try:
        yield
    finally:
        logging.getLogger(name).removeFilter(is_of_another_thread)


def write_mail(alert: Alert, settings: AlertSettings) -> EmailMessage:
    """The plain-text message that every recipient receives."""
    message = EmailMessage()
    message["Subject"] = f"[recsys] {' '.join(alert.title.split())}"[:MAX_SUBJECT]
    message["From"] = settings.email_from
    message["To"] = ", ".join(settings.email_to)
    message["Date"] = localtime()
    message["Message-ID"] = f"<{_identify(alert)}@{settings.email_from.rpartition('@')[2]}>"
    message["Auto-Submitted"] = "auto-generated"
    message.set_content(alert.text(), cte="quoted-printable")
    return message


def mail(message: EmailMessage, recipient: str, settings: AlertSettings) -> None:
    """Sends the message to one recipient.

    Raises: Unavailable if the server cannot be reached or refuses temporarily (4xx); OSError for any other error.
    """
    try:
        with closing(_connect(settings)) as server:
            if settings.smtp_security == "starttls":
                server.starttls(context=ssl.create_default_context())
            if settings.smtp_user and settings.smtp_password:
                server.login(settings.smtp_user, settings.smtp_password.get_secret_value())
            server.send_message(message, to_addrs=[recipient])
            with suppress(OSError):  # the server has accepted the message
                server.quit()
    except smtplib.SMTPRecipientsRefused as error:
        code, answer = error.recipients[recipient]
        raise _refusal(code, answer, f"refused for {recipient}: ") from None
    except smtplib.SMTPResponseException as error:
        raise _refusal(error.smtp_code, error.smtp_error) from None
    except (smtplib.SMTPNotSupportedError, ssl.SSLCertVerificationError):
        raise
    except OSError as error:  # the base class of every exception of smtplib
        raise Unavailable(f"{type(error).__name__}: {error}") from None


def _connect(settings: AlertSettings) -> smtplib.SMTP:
    address, timeout = (settings.smtp_host, settings.smtp_port), settings.timeout_seconds
    if settings.smtp_security == "tls":
        return smtplib.SMTP_SSL(*address, timeout=timeout, context=ssl.create_default_context())
    return smtplib.SMTP(*address, timeout=timeout)


def _refusal(code: int, answer: bytes | str, prefix: str = "") -> Exception:
    words = answer.decode(errors="replace") if isinstance(answer, bytes) else answer
    return (Unavailable if code < 500 else OSError)(f"{prefix}{code} {words}")


def append(alert: Alert, settings: AlertSettings) -> None:
    """Appends a line of JSON and syncs it to disk. It is a single write, so that lines of two processes never mix."""
    assert settings.file
    settings.file.parent.mkdir(parents=True, exist_ok=True)
    line = (json.dumps(alert.as_json(), ensure_ascii=False) + "\n").encode()
    with settings.file.open("ab", buffering=0) as file:
        written = file.write(line)
        os.fsync(file.fileno())
    if written < len(line):
        raise OSError(f"{settings.file} accepted only {written} of {len(line)} bytes; free some disk space")
    sync(settings.file.parent)


def _attempt(name: str, attempt: Attempt, settings: AlertSettings, secrets: Iterable[str]) -> str | None:
    """Retries while the sink is unavailable and attempts are left. Returns the last error; None on success."""
    problem = None
    for number in range(settings.attempts):
        time.sleep(settings.wait_before(number) if number else 0)
        try:
            attempt()
        except Exception as error:
            is_temporary = isinstance(error, Unavailable)
            problem = printable(scrub(str(error) if is_temporary else f"{type(error).__name__}: {error}", secrets))
            if not is_temporary:
                return problem
            logger.warning("alert: %s, attempt %d of %d: %s", name, number + 1, settings.attempts, problem)
        else:
            return None
    return problem


def _run_together(works: list[Callable[[], None]], seconds: float) -> None:
    """Runs each function in a daemon thread, which does not keep the process alive. Returns after at most `seconds`."""
    end = time.monotonic() + seconds
    threads = []
    for work in works:
        thread = threading.Thread(target=copy_context().run, args=(work,), daemon=True)
        try:
            thread.start()
            threads.append(thread)
        except RuntimeError:  # the interpreter is shutting down and starts no more threads
            work()
    for thread in threads:
        thread.join(max(end - time.monotonic(), 0))


def _identify(alert: Alert) -> str:
    """A key that is the same for all attempts to send an alert."""
    return hashlib.sha256(json.dumps(alert.as_json(), sort_keys=True).encode()).hexdigest()[:32]
