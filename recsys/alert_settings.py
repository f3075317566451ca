"""Where alerts go. No part of `Settings`: a night does not depend on it, and it holds secrets that no file may get."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

Addresses = Annotated[tuple[str, ...], NoDecode]


class AlertSettings(BaseSettings):
    """Each sink that is set gets every alert, once. Read from the environment alone: RECSYS_ALERT_WEBHOOK_URL, …"""

    model_config = SettingsConfigDict(env_prefix="RECSYS_ALERT_", frozen=True, hide_input_in_errors=True)

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

    @field_validator("email_to", mode="before")
    @classmethod
    def _part(cls, value: object) -> object:
        return tuple(filter(None, (one.strip() for one in value.split(",")))) if isinstance(value, str) else value

    @field_validator("email_to")
    @classmethod
    def _check_addresses(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if wrong := [one for one in value if "@" not in one or any(c.isspace() for c in one)]:
            raise ValueError(f"{', '.join(wrong)}: no e-mail address")
        return value

    @field_validator("webhook_url")
    @classmethod
    def _check_address(cls, value: SecretStr | None) -> SecretStr | None:
        if value and not value.get_secret_value().startswith(("http://", "https://")):
            raise ValueError("it has to begin with https:// or http://")
        return value

    @model_validator(mode="after")
    def _check_password(self) -> "AlertSettings":
        if self.smtp_password and self.smtp_security == "none" and self.smtp_host not in ("localhost", "127.0.0.1"):
            raise ValueError("a password is sent in the clear: set smtp_security to starttls or tls")
        return self
