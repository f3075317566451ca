"""Settings of the recipients of alerts. They are not in `Settings`, because secrets must not be written to a file."""

import base64
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

Addresses = Annotated[tuple[str, ...], NoDecode]

ADDRESS = re.compile(r"[!-~]+@[A-Za-z0-9.-]+")  # ASCII without spaces, which every mail server accepts
NOT_IN_ADDRESS = re.compile(r"[,;<>()\"\\]")  # separators of several addresses, or of an address and a name
LOCAL = ("localhost", "127.0.0.1", "::1")
MIN_SECRET_PATH = 16  # characters; a shorter webhook path is not a secret. Those of chat services are twice as long


class AlertSettings(BaseSettings):
    """Every configured sink receives each alert once. Read only from the environment: RECSYS_ALERT_WEBHOOK_URL, …"""

    model_config = SettingsConfigDict(
        env_prefix="RECSYS_ALERT_", frozen=True, hide_input_in_errors=True, env_ignore_empty=True
    )

    webhook_url: SecretStr | None = Field(None, description="Receives a POST of JSON. The URL is a secret.")
    email_to: Addresses = Field((), description="Recipients, separated by commas.")
    email_from: str = Field("recsys@localhost", description="Sender.")
    smtp_host: str = Field("localhost", description="The mail server.")
    smtp_port: int = Field(25, ge=1, le=65535, description="Its port: 25, 587 with starttls, 465 with tls.")
    smtp_security: Literal["none", "starttls", "tls"] = Field("none", description="How the connection is encrypted.")
    smtp_user: str | None = Field(None, description="User name, if the mail server requires a login.")
    smtp_password: SecretStr | None = Field(None, description="Password of the user.")
    file: Path | None = Field(None, description="File to which a line of JSON is appended.")
    timeout_seconds: float = Field(10.0, gt=0, description="Timeout of each network operation.")
    attempts: int = Field(3, ge=1, le=10, description="Attempts for a sink that is temporarily unavailable.")
    wait_seconds: float = Field(2.0, ge=0, description="Wait before the second attempt; doubles each time.")

    @property
    def deadline_seconds(self) -> float:
        """The time after which a sink is abandoned, for example if its answer never ends."""
        waits = sum(self.wait_before(attempt) for attempt in range(1, self.attempts))
        return 2 * self.attempts * self.timeout_seconds + waits

    def wait_before(self, attempt: int) -> float:
        """Seconds to wait before an attempt, counted from 0."""
        return self.wait_seconds * 2.0 ** (attempt - 1)

    @field_validator("email_to", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return tuple(filter(None, (one.strip() for one in value.split(",")))) if isinstance(value, str) else value

    @field_validator("email_to", "email_from")
    @classmethod
    def _check_addresses(cls, value: tuple[str, ...] | str) -> tuple[str, ...] | str:
        addresses = (value,) if isinstance(value, str) else value
        if wrong := [one for one in addresses if not ADDRESS.fullmatch(one) or NOT_IN_ADDRESS.search(one)]:
            raise ValueError(f"{', '.join(map(repr, wrong))} is not an e-mail address; write it as ops@example.org")
        return value

    @field_validator("webhook_url")
    @classmethod
    def _check_address(cls, value: SecretStr | None) -> SecretStr | None:
        if value and not _is_web_address(value.get_secret_value()):
            raise ValueError(
                "must begin with https:// or http:// and name a host, for example https://chat.example/hook"
            )
        return value

    @model_validator(mode="after")
    def _check_password(self) -> "AlertSettings":
        if self.smtp_password and self.smtp_security == "none" and self.smtp_host not in LOCAL:
            raise ValueError("the password would be sent unencrypted: set smtp_security to starttls or tls")
        if self.smtp_user and not self.smtp_password:
            raise ValueError("smtp_user needs smtp_password")
        return self

    def secrets(self) -> Iterator[str]:
        """The texts that must never be sent: the password, and the webhook's URL or any part of it that may be a key.

        Includes the credentials in the form that SMTP and HTTP send, because servers quote them in answers.
        """
        if self.smtp_password:
            password = self.smtp_password.get_secret_value()
            yield from (password, _encode(f"\0{self.smtp_user}\0{password}"))
        if self.webhook_url:
            url = self.webhook_url.get_secret_value()
            parts = urlsplit(url)
            yield from (url, parts.password or "", parts.query)
            yield parts.path if len(parts.path) >= MIN_SECRET_PATH else ""
            yield _encode(f"{parts.username}:{parts.password}") if parts.password else ""


def _encode(credentials: str) -> str:
    return base64.b64encode(credentials.encode()).decode()


def _is_web_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # an invalid port
        return False
