"""Where alerts go. No part of `Settings`: a night does not depend on it, and it holds secrets that no file may get."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

Addresses = Annotated[tuple[str, ...], NoDecode]

ADDRESS = re.compile(r"[!-~]+@[A-Za-z0-9.-]+")  # ASCII without gaps: what any mail server takes
PARTS = re.compile(r"[,;<>()\"\\]")  # of a list of addresses, or of names beside them: one address has none
LOCAL = ("localhost", "127.0.0.1", "::1")
SHORTEST_PATH = 16  # characters of a webhook's path that make it a secret: chats have twice as many


class AlertSettings(BaseSettings):
    """Each sink that is set gets every alert, once. Read from the environment alone: RECSYS_ALERT_WEBHOOK_URL, …"""

    model_config = SettingsConfigDict(
        env_prefix="RECSYS_ALERT_", frozen=True, hide_input_in_errors=True, env_ignore_empty=True
    )

    webhook_url: SecretStr | None = Field(
        None, description="Gets a POST of JSON; its address is a secret, as of chats."
    )
    email_to: Addresses = Field((), description="Addresses, separated by commas.")
    email_from: str = Field("recsys@localhost", description="Who the mail says it is from.")
    smtp_host: str = Field("localhost", description="The mail server.")
    smtp_port: int = Field(25, ge=1, le=65535, description="Its port: 25, 587 with starttls, 465 with tls.")
    smtp_security: Literal["none", "starttls", "tls"] = Field("none", description="How the connection is encrypted.")
    smtp_user: str | None = Field(None, description="For a server that asks who sends.")
    smtp_password: SecretStr | None = Field(None, description="The user's password.")
    file: Path | None = Field(None, description="A file that gets a line of JSON.")
    timeout_seconds: float = Field(10.0, gt=0, description="How long a sink may take to answer.")
    attempts: int = Field(3, ge=1, le=10, description="How often a sink is tried that cannot be reached just now.")
    wait_seconds: float = Field(2.0, ge=0, description="Before the second try; twice as long before each one after.")

    @property
    def patience_seconds(self) -> float:
        """After which a sink is given up that never comes to an end, as one that answers drop by drop."""
        waits = sum(self.find_wait(attempt) for attempt in range(1, self.attempts))
        return 2 * self.attempts * self.timeout_seconds + waits

    def find_wait(self, attempt: int) -> float:
        """Seconds before try `attempt`, counted from 0."""
        return self.wait_seconds * 2.0 ** (attempt - 1)

    @field_validator("email_to", mode="before")
    @classmethod
    def _part(cls, value: object) -> object:
        return tuple(filter(None, (one.strip() for one in value.split(",")))) if isinstance(value, str) else value

    @field_validator("email_to", "email_from")
    @classmethod
    def _check_addresses(cls, value: tuple[str, ...] | str) -> tuple[str, ...] | str:
        addresses = (value,) if isinstance(value, str) else value
        if wrong := [one for one in addresses if not ADDRESS.fullmatch(one) or PARTS.search(one)]:
            raise ValueError(f"{', '.join(map(repr, wrong))}: no e-mail address; write it as ops@example.org")
        return value

    @field_validator("webhook_url")
    @classmethod
    def _check_address(cls, value: SecretStr | None) -> SecretStr | None:
        if value and not _is_web_address(value.get_secret_value()):
            raise ValueError("it has to begin with https:// or http:// and name a host, as https://chat.example/hook")
        return value

    @model_validator(mode="after")
    def _check_password(self) -> "AlertSettings":
        if self.smtp_password and self.smtp_security == "none" and self.smtp_host not in LOCAL:
            raise ValueError("a password is sent in the clear: set smtp_security to starttls or tls")
        if self.smtp_user and not self.smtp_password:
            raise ValueError("smtp_user needs smtp_password")
        return self

    def secrets(self) -> Iterator[str]:
        """What no text may hold. A webhook's address is a password, and so is a long path alone."""
        if self.smtp_password:
            yield self.smtp_password.get_secret_value()
        if self.webhook_url:
            url = self.webhook_url.get_secret_value()
            parts = urlsplit(url)
            yield url
            yield parts.password or ""
            yield parts.path if len(parts.path) >= SHORTEST_PATH else ""
            yield parts.query


def _is_web_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is none
        return False
