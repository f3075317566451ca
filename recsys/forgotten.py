"""The list of users who asked to be forgotten, and the SQL that removes their rows and redacts their ids in texts.

The list has to keep the ids, because otherwise the next delivery would bring the users back. The ids are kept nowhere
else.
"""

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property

from recsys.errors import SourceError, UsageError
from recsys.files import read_sealed, write_sealed
from recsys.home import Home

RAW = ("rejects", "quarantine")  # tables with rows of the source as text
WITHHELD = '{"line":"(withheld: it may be of a user who is forgotten)"}'
NOT_REACHED = (
    "Not reached: the source, downloaded archives, earlier exports, backups of the home, copies of tables or models "
    "outside the home, and what Prefect's database and alerts kept from earlier versions. Model files and folders of "
    "earlier runs keep the ratings of these users until the next night that publishes deletes them"
)
MAX_QUOTE_LENGTH = 300  # characters of a row that is quoted in a message


@dataclass(frozen=True)
class Forgotten:
    """The users whose rows must not be in any snapshot or published table; `asked_at` maps user_id to a time in UTC."""

    asked_at: dict[int, datetime]

    @property
    def user_ids(self) -> list[int]:
        return sorted(self.asked_at)

    @property
    def newest(self) -> datetime | None:
        return max(self.asked_at.values(), default=None)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the user ids. It does not depend on the times of the requests."""
        return hashlib.sha256(",".join(map(str, self.user_ids)).encode()).hexdigest()

    def condition(self, table: str, columns: list[str]) -> str:
        """Returns a SQL condition that excludes the rows of forgotten users."""
        if not self.user_ids:
            return "true"
        if "user_id" in columns:
            return f"user_id not in ({self._listed(', ')})"
        if table in RAW:
            return f"coalesce(try_cast(row ->> '$.user_id' as bigint) not in ({self._listed(', ')}), true)"
        return "true"

    def projection(self, table: str) -> str:
        """Returns the SQL select list for the rows that are kept.

        An unreadable line that contains a forgotten user's id may belong to that user. The line is still counted, but
        its text is withheld. A row quoted in the reason of a run is withheld, too.
        """
        if not self.user_ids:
            return "*"
        number = rf"0*(?:{self._listed('|')})"
        if table in RAW:
            has_id = f"regexp_matches(row ->> '$.line', '(?:^|[^0-9]){number}(?:[^0-9]|$)')"
            is_suspect = f"source_table not in ('movies', 'links') and coalesce({has_id}, false)"
            return f"* replace (case when {is_suspect} then '{WITHHELD}' else row end as row)"
        if table == "runs":
            quote = rf"\{{(?:[^{{}}]*[^{{}}0-9])?{number}(?:[^{{}}0-9][^{{}}]*)?\}}"
            return f"* replace (regexp_replace(reason, '{quote}', '{{withheld}}', 'g') as reason)"
        return "*"

    def _listed(self, separator: str) -> str:
        return separator.join(map(str, self.user_ids))  # integers, so there is nothing to escape


def quote(text: str) -> str:
    """Returns a row of a source as it is quoted in a message.

    The row is shortened and enclosed in braces, and its own braces become parentheses. `projection` can then find the
    quote if the user is forgotten later.
    """
    inner = text.translate(str.maketrans("{}", "()"))
    return f"{{{inner}}}" if len(inner) <= MAX_QUOTE_LENGTH else f"{{{inner[:MAX_QUOTE_LENGTH]}…}}"


def withhold(text: str) -> str:
    """Returns a message without the rows that it quotes, for places that `projection` does not reach."""
    return re.sub(r"\{[^{}]*\}", "{withheld}", text)


def read_forgotten(home: Home) -> Forgotten:
    """Reads the list of a home. Raises: SourceError if it cannot be read."""
    if not home.forgotten.exists():
        return Forgotten({})
    try:
        asked = read_sealed(home.forgotten)
        return Forgotten({int(user_id): datetime.fromisoformat(moment) for user_id, moment in asked.items()})
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise SourceError(
            f"{home.forgotten}, the list of users who asked to be forgotten, cannot be read: {error}. Nothing is read "
            "or published, because their data would come back. Next: repair it, or restore it from a backup"
        ) from error


def forget(user_ids: Iterable[int], home: Home) -> Forgotten:
    """Adds users to the list. A user who is already on the list keeps the time of the first request.

    Also removes the checkpoints of killed training runs. They were trained on the ratings of these users, and training
    without these ratings cannot resume from them.

    Raises: UsageError if a checkpoint cannot be removed; the users are added nevertheless.
    """
    now = datetime.now(UTC).replace(microsecond=0)
    forgotten = _write(dict.fromkeys(user_ids, now) | read_forgotten(home).asked_at, home)
    for path in home.checkpoints.glob("*"):
        try:
            path.unlink()
        except OSError as error:
            raise UsageError(
                f"{path} was trained on ratings of users who asked to be forgotten, and this file cannot be removed: "
                f"{error}. The users are on the list nevertheless. Next: remove it"
            ) from error
    return forgotten


def remember(user_ids: Iterable[int], home: Home) -> Forgotten:
    """Removes users from the list. The next night reads their rows again if the source still has them.

    Raises: UsageError for a user who is not on the list.
    """
    asked_at = read_forgotten(home).asked_at
    for user_id in user_ids:
        if user_id not in asked_at:
            raise UsageError(f"user {user_id} is not among the {len(asked_at)} forgotten users of {home.root}")
        del asked_at[user_id]
    return _write(asked_at, home)


def _write(asked_at: dict[int, datetime], home: Home) -> Forgotten:
    write_sealed(home.forgotten, {str(user_id): moment.isoformat() for user_id, moment in asked_at.items()})
    return Forgotten(asked_at)
