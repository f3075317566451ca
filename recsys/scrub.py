"""Secrets struck out of texts that leave the machine."""

import os
import re

STRUCK = "***"
SHORTEST = 6  # characters of a value that is looked for everywhere: shorter ones are words, too

SECRET_NAME = re.compile(
    r"PASSWORD|PASSWD|TOKEN|SECRET|(?:^|_)KEY$|API_KEY|AUTH_STRING|CREDENTIAL|WEBHOOK|CONNECTION_URL"
)
IN_ADDRESS = re.compile(r"(?<=://)[^\s/@]+@")  # user:password@
IN_QUERY = re.compile(
    r"(?i)([?&;](?:[\w.-]*(?:token|secret|password|passwd|signature|credential|auth)[\w.-]*|key|api[_-]?key|sig)=)[^&\s\"'<>]+"
)
IN_HEADER = re.compile(
    r"(?i)\b((?:proxy-)?authorization\s*[:=]\s*|bearer\s+|basic\s+(?=[A-Za-z0-9+/]{8,}=*))[^\s,;\"']+(?:\s+[A-Za-z0-9+/._~-]{8,}=*)?"
)
ASSIGNED = re.compile(r"(?i)\b([\w-]*(?:password|passwd|secret|token|api[_-]?key)\s*[=:]\s*)[^\s,;&]+")


def scrub(text: str) -> str:
    """`text` without credentials in addresses, queries, headers and assignments, and without the value of any variable
    of this process's environment whose name says that it is a secret.
    """
    for value in _secrets():
        text = text.replace(value, STRUCK)
    text = IN_ADDRESS.sub(f"{STRUCK}@", text)
    for pattern in (IN_QUERY, IN_HEADER, ASSIGNED):
        text = pattern.sub(rf"\g<1>{STRUCK}", text)
    return text


def _secrets() -> list[str]:
    """The longest first: one may be a part of another."""
    found = {value for name, value in os.environ.items() if SECRET_NAME.search(name.upper()) and len(value) >= SHORTEST}
    return sorted(found, key=len, reverse=True)
