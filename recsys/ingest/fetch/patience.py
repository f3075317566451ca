"""How long a download waits and how often it tries."""

import email.utils
import logging
import random
import time
from dataclasses import dataclass
from datetime import UTC, datetime

from recsys.errors import SourceOutage
from recsys.progress import megabytes

log = logging.getLogger(__name__)

WORTH_BYTES = 2**20  # a try that brought as much was worth it: the next ones count anew


@dataclass(frozen=True)
class Patience:
    """Times, tries and sizes of one download. A night's flow starts it three times when it ends in an outage."""

    connect_seconds: float = 5.0  # a machine without a way out should learn so quickly
    read_seconds: float = 30.0  # without a byte: this connection is dead, another may live
    slowest_bytes: int = 2**14  # in `read_seconds`; with fewer, a server keeps us waiting drop by drop
    tries_to_reach: int = 2  # while nobody has answered yet: with no way out now, there is none in a second either
    tries: int = 5  # in a row that were not worth it
    pause_seconds: float = 1.0  # before the second try; doubles with each
    longest_pause_seconds: float = 60.0  # also of those that a server asks for
    redirects: int = 5
    most_bytes: int = 2**33  # the largest edition has 0.3 GB packed
    lock_seconds: float = 3600.0  # for another process to fetch the same file


PATIENCE = Patience()


class Interruption(Exception):
    """A try that failed in a way that another may not, in words that follow the address.

    `was_answered` by anybody; `asked_seconds` is what the server wants to be left alone for.
    """

    def __init__(self, words: str, *, was_answered: bool = True, asked_seconds: float | None = None) -> None:
        super().__init__(words)
        self.was_answered = was_answered
        self.asked_seconds = asked_seconds


@dataclass
class Tries:
    """What has been tried for one file."""

    patience: Patience
    furthest_bytes: int
    failed: int = 0
    was_answered: bool = False

    @property
    def most(self) -> int:
        return self.patience.tries if self.was_answered else self.patience.tries_to_reach

    def pause(self, url: str, interruption: Interruption, here_bytes: int) -> None:
        """Waits before the next try, which goes on after `here_bytes`. Raises: SourceOutage when there is none."""
        self.was_answered |= interruption.was_answered
        if here_bytes >= self.furthest_bytes + WORTH_BYTES:  # not so for a server that starts over each time
            self.failed, self.furthest_bytes = 0, here_bytes
        self.failed += 1
        if self.failed >= self.most:
            kept = f"; {megabytes(here_bytes)} are kept, and the next call goes on from there" if here_bytes else ""
            raise SourceOutage(f"{url} {interruption}, in {self.most} tries{kept}") from interruption
        seconds = self.find_pause(url, interruption)
        log.warning("%s %s; try %d of %d in %.1f s", url, interruption, self.failed + 1, self.most, seconds)
        time.sleep(seconds)

    def find_pause(self, url: str, interruption: Interruption) -> float:
        """Seconds: as asked, else twice as many as before, less a share by chance.

        The chance has no seed: machines that were cut off together should not come back together.
        """
        asked, longest = interruption.asked_seconds, self.patience.longest_pause_seconds
        if asked is None:
            return min(self.patience.pause_seconds * 2.0 ** (self.failed - 1), longest) * random.uniform(0.5, 1)
        if asked > longest:
            raise SourceOutage(f"{url} {interruption} and asks to wait {asked:.0f} s, the limit is {longest:.0f} s")
        return asked


def retry_after(told: str) -> float | None:
    """The seconds that a header Retry-After asks for, as such or as a date; None when it says neither."""
    if told.isdecimal():
        return float(told)
    try:
        moment = email.utils.parsedate_to_datetime(told)
    except ValueError:
        return None
    return max((moment.replace(tzinfo=moment.tzinfo or UTC) - datetime.now(UTC)).total_seconds(), 0.0)
