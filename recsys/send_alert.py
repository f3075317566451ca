"""Alerts on their way: a webhook, e-mail, a file. A sink that is broken keeps no other from getting them."""

import json
import logging
import os
import smtplib
import ssl
import time
from collections.abc import Callable, Iterator
from email.message import EmailMessage

import httpx

from recsys.alert_settings import AlertSettings
from recsys.alerts import Alert
from recsys.scrub import scrub

Deliver = Callable[[Alert, AlertSettings], None]

LONGEST_SUBJECT = 150

logger = logging.getLogger(__name__)


class Outage(Exception):
    """A sink that could not be reached just now, or says so: worth another try."""


def send(alert: Alert, settings: AlertSettings) -> dict[str, str | None]:
    """Tells every sink that is set, and returns what went wrong with each by its name; None where nothing did.

    Never raises: whoever sends an alert has troubles enough.
    """
    return {name: _deliver(name, deliver, alert, settings) for name, deliver in list_sinks(settings)}


def list_sinks(settings: AlertSettings) -> Iterator[tuple[str, Deliver]]:
    """Those that are set."""
    if settings.webhook_url:
        yield "webhook", post
    if settings.email_to:
        yield "e-mail", mail
    if settings.file:
        yield "file", append


def post(alert: Alert, settings: AlertSettings) -> None:
    """POSTs the alert as JSON; a redirect is not followed, so that nobody else gets it."""
    assert settings.webhook_url
    try:
        with httpx.stream(
            "POST",
            settings.webhook_url.get_secret_value(),
            json=alert.as_json(),
            timeout=settings.timeout_seconds,
            follow_redirects=False,
        ) as answer:
            status = answer.status_code
    except httpx.TransportError as error:
        raise Outage(f"{type(error).__name__}: {error}") from None
    if status >= 500 or status == 429:
        raise Outage(f"it answered {status}")
    if status >= 300:
        raise OSError(f"it answered {status}, which no further try will change")


def mail(alert: Alert, settings: AlertSettings) -> None:
    """Sends plain text to all addresses at once."""
    message = EmailMessage()
    message["Subject"] = f"[recsys] {' '.join(alert.title.split())}"[:LONGEST_SUBJECT]
    message["From"] = settings.email_from
    message["To"] = ", ".join(settings.email_to)
    message.set_content(alert.text())
    secure = settings.smtp_security
    try:
        with _connect(settings) as server:
            if secure == "starttls":
                server.starttls(context=ssl.create_default_context())
            if settings.smtp_user:
                password = settings.smtp_password.get_secret_value() if settings.smtp_password else ""
                server.login(settings.smtp_user, password)
            server.send_message(message)
    except smtplib.SMTPResponseException as error:
        told = f"it answered {error.smtp_code} {error.smtp_error!r}"
        raise (Outage(told) if 400 <= error.smtp_code < 500 else OSError(told)) from None
    except smtplib.SMTPRecipientsRefused as error:
        raise OSError(f"it takes no mail for {', '.join(error.recipients)}") from None
    except OSError as error:  # of which what smtplib raises is one, too
        raise Outage(f"{type(error).__name__}: {error}") from None


def _connect(settings: AlertSettings) -> smtplib.SMTP:
    address, timeout = (settings.smtp_host, settings.smtp_port), settings.timeout_seconds
    if settings.smtp_security == "tls":
        return smtplib.SMTP_SSL(*address, timeout=timeout, context=ssl.create_default_context())
    return smtplib.SMTP(*address, timeout=timeout)


def append(alert: Alert, settings: AlertSettings) -> None:
    """Adds a line of JSON in one write, so that lines of two processes never mix."""
    assert settings.file
    settings.file.parent.mkdir(parents=True, exist_ok=True)
    line = json.dumps(alert.as_json(), ensure_ascii=False) + "\n"
    descriptor = os.open(settings.file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o640)
    try:
        os.write(descriptor, line.encode())
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _deliver(name: str, deliver: Deliver, alert: Alert, settings: AlertSettings) -> str | None:
    """Tries until it is through, or no try is left; returns what was wrong the last time."""
    problem = None
    for attempt in range(settings.attempts):
        if attempt:
            time.sleep(settings.wait_seconds * 2 ** (attempt - 1))
        try:
            deliver(alert, settings)
        except Outage as outage:
            problem = _without_secrets(str(outage), settings)
            logger.warning("alert: %s, try %d of %d: %s", name, attempt + 1, settings.attempts, problem)
        except Exception as error:
            problem = _without_secrets(f"{type(error).__name__}: {error}", settings)
            break
        else:
            logger.info("alert: %s was told: %s", name, alert.title)
            return None
    logger.error("alert: %s was not told of it: %s", name, problem)
    return problem


def _without_secrets(text: str, settings: AlertSettings) -> str:
    for secret in (settings.webhook_url, settings.smtp_password):
        if secret:
            text = text.replace(secret.get_secret_value(), "***")
    return scrub(text)
