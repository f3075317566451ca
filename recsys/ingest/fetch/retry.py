"""The retry policy of a download: number of tries, pauses and limits."""

import email.utils
import random
from dataclasses import dataclass
from datetime import UTC, datetime


@dataclass(frozen=True)
class RetryPolicy:
    """Timeouts, tries and limits of one download. After an outage, the flow retries the whole step as well."""

    connect_seconds: float = 5.0  # short, so that a machine without internet access fails quickly
    stall_seconds: float = 30.0  # without a byte; after that, the connection counts as dead
    total_seconds: float = 3600.0  # all tries together; the largest edition has 0.3 GB, which needs 0.7 Mbit/s
    connect_tries: int = 2  # while no server has answered
    tries: int = 5
    pause_seconds: float = 1.0  # before the second try; doubles with each try
    max_pause_seconds: float = 60.0  # applies to Retry-After, too
    max_redirects: int = 5
    max_bytes: int = 2**33
    lock_seconds: float = 3600.0  # wait for another process that fetches the same file

    def pause_before(self, attempt: int) -> float:
        """Seconds. The jitter has no seed, so that machines that lost the connection together do not retry together."""
        return min(self.pause_seconds * 2.0 ** (attempt - 2), self.max_pause_seconds) * random.uniform(0.5, 1)


class Interrupted(Exception):
    """A try failed, and a retry may succeed. The message continues a sentence that begins with the URL."""

    def __init__(self, message: str, *, answered: bool = True, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.answered = answered  # by any server
        self.retry_after = retry_after  # seconds


def parse_retry_after(header: str) -> float | None:
    """The seconds that a Retry-After header asks for, given as a number or a date; None if it is neither."""
    if header.isdecimal():
        return float(header)
    try:
        moment = email.utils.parsedate_to_datetime(header)
    except ValueError:
        return None
    return max((moment.replace(tzinfo=moment.tzinfo or UTC) - datetime.now(UTC)).total_seconds(), 0.0)
