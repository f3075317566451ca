"""Secrets struck out of texts that leave the machine.

Whatever is in doubt goes: an alert that lacks a word can still be read. Every repetition below has a bound, so that a
text of any size takes a time in proportion to it.
"""

import base64
import json
import os
import re
from collections.abc import Iterable, Iterator
from urllib.parse import quote, quote_plus, unquote

STRUCK = "***"
SHORTEST = 6  # characters of a value that is looked for everywhere: shorter ones are words, too

SECRET_NAME = re.compile(
    r"PASSWORD|PASSWD|PASSPHRASE|_PWD$|TOKEN|SECRET|(?:^|_)KEY$|API_KEY|AUTH_STRING|CREDENTIAL|WEBHOOK|CONNECTION_URL"
)
PASSWORD_IN_ADDRESS = re.compile(r"://[^\s/:@]{0,200}:([^\s]{1,1000})@")

WORD = r"password|passwd|passphrase|secret|token|(?:api|access|private)[_-]?key|auth[_-]?string"
VALUE = r"""(?:\\?"[^"]*"|\\?'[^']*'|[^\s,;&]+)"""  # in quotes, also as JSON within a text writes them, or up to a gap

# user:password@, also where the password has a slash or an @ that nobody has escaped
IN_ADDRESS = re.compile(r"(?<=://)(?:[^\s/:@]{0,200}:[^\s]{0,1000}|[^\s/]{1,1000})@")
IN_QUERY = re.compile(
    r"(?i)([?&;][^=&\s]{0,60}(?:token|secret|password|passwd|signature|credential|auth|key|sig)[^=&\s]{0,60}=)[^&\s\"'<>]+"
)
IN_HEADER = re.compile(
    r"(?i)(authorization[\"'\\]{0,2}\s{0,3}[:=]\s{0,3}[\"'\\]{0,2}|\bbearer\s{1,3}|\bauth\s(?:plain|login)\s|"
    r"\bbasic\s{1,3}(?=[A-Za-z0-9+/]{8,}=*))"
    r"(?:(?:basic|bearer|digest|token|apikey)\s{1,3})?[^\s,;\"']+(?:\s[A-Za-z0-9+/._~-]{8,}=*)?"
)
ASSIGNED = re.compile(rf"(?i)((?:{WORD})[\w-]{{0,30}}[\"'\\]{{0,2}}\s{{0,3}}[=:]\s{{0,3}}){VALUE}")


def scrub(text: str, secrets: Iterable[str] = ()) -> str:
    """`text` without credentials in addresses, queries, headers and assignments; without `secrets`, and without the
    value of any variable of this process's environment whose name says that it is a secret, or the password in it.
    """
    known = {spelling for secret in {*secrets, *_of_environment()} for spelling in _spell(secret)}
    if known:  # the longest first: one may be a part of another
        longest_first = sorted(known, key=lambda value: (-len(value), value))
        text = re.sub("|".join(map(re.escape, longest_first)), STRUCK, text)
    text = IN_ADDRESS.sub(f"{STRUCK}@", text)
    for pattern in (IN_QUERY, IN_HEADER, ASSIGNED):
        text = pattern.sub(rf"\g<1>{STRUCK}", text)
    return text


def _of_environment() -> Iterator[str]:
    for name, value in os.environ.items():
        if SECRET_NAME.search(name.upper()):
            yield value
            yield value.partition(":")[2] if name.upper().endswith("AUTH_STRING") else ""  # user:password
        for password in PASSWORD_IN_ADDRESS.findall(value):  # whatever it is called: a proxy's, a database's
            yield password
            yield unquote(password)


def _spell(secret: str) -> Iterator[str]:
    """The ways in which a message may write it: as it is, in an address, in JSON or a repr, in an SMTP answer."""
    if len(secret) < SHORTEST:
        return
    yield from (secret, quote(secret, safe=""), quote_plus(secret), json.dumps(secret)[1:-1], repr(secret)[1:-1])
    yield base64.b64encode(secret.encode(errors="surrogateescape")).decode()
