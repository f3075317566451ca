"""Removes known secrets from texts that leave the machine: the secrets of the settings and of the environment.

A secret is recognised by its value, in every encoding that an error message may quote. Other secrets are not detected.
"""

import base64
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from urllib.parse import quote, quote_plus, unquote, urlsplit

MASK = "***"
MIN_LENGTH = 6  # characters; shorter values are not masked, because they may be part of ordinary words

SECRET_WORDS = (
    *("PASSWORD", "PASSWD", "PASSPHRASE", "TOKEN", "SECRET", "CREDENTIAL", "API_KEY"),
    *("WEBHOOK", "AUTH_STRING", "CONNECTION_URL"),
)
SECRET_ENDINGS = ("_PWD", "_KEY")


def scrub(text: str, secrets: Iterable[str] = ()) -> str:
    """`text` with every known secret replaced by a mask: `secrets`, and those of this process's environment."""
    known = {spelling for secret in {*secrets, *find_secrets(os.environ)} for spelling in _spell(secret)}
    for value in sorted(known, key=len, reverse=True):  # the longest first: one may be a part of another
        text = text.replace(value, MASK)
    return text


def find_secrets(variables: Mapping[str, str]) -> Iterator[str]:
    """The values of variables with names that mark them as secret, and the passwords in URLs in any variable."""
    for name, value in variables.items():
        label = name.upper()
        if any(word in label for word in SECRET_WORDS) or label.endswith(SECRET_ENDINGS):
            yield value
            yield value.partition(":")[2] if label.endswith("AUTH_STRING") else ""  # user:password
        for word in value.split():
            yield from _find_password(word)


def _find_password(address: str) -> Iterator[str]:
    try:
        password = urlsplit(address).password or ""
    except ValueError:
        return
    yield from (password, unquote(password))


def _spell(secret: str) -> Iterator[str]:
    """The secret itself, and its encodings in a URL, in JSON, in a repr and in Base64."""
    if len(secret) < MIN_LENGTH:
        return
    yield from (secret, quote(secret, safe=""), quote_plus(secret), json.dumps(secret)[1:-1], repr(secret)[1:-1])
    yield base64.b64encode(secret.encode(errors="surrogateescape")).decode()
