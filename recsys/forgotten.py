"""Users who asked to be forgotten: who they are, and what in a text could be about one of them.

The list itself must keep their ids, or the next delivery would bring them back; it is the only place that does.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property

from recsys.errors import SourceError, UsageError
from recsys.files import read_json, write_json
from recsys.home import Home

RAW = ("rejects", "quarantine")  # tables that hold rows of the source as text


@dataclass(frozen=True)
class Forgotten:
    """The users whose rows no snapshot and no published table may hold; `asked_at` in UTC, by user_id."""

    asked_at: dict[int, datetime]

    @property
    def user_ids(self) -> list[int]:
        return sorted(self.asked_at)

    @property
    def newest(self) -> datetime | None:
        return max(self.asked_at.values(), default=None)

    @cached_property
    def digest(self) -> str:
        """Equal for equal sets of users."""
        return hashlib.sha256(",".join(map(str, self.user_ids)).encode()).hexdigest()

    @property
    def mention(self) -> str:
        """A regular expression (RE2) for any of the ids as a number of its own: of a raw line no more can be told."""
        assert self.user_ids, "of nobody there is no mention"
        return rf"\b({self._listed('|')})\b"

    def condition(self, table: str, columns: list[str]) -> str:
        """The SQL condition that keeps a row: it is not of a forgotten user, nor an unread line that may be."""
        if not self.user_ids:
            return "true"
        if "user_id" in columns:
            return f"user_id not in ({self._listed(', ')})"
        if table in RAW:
            return f"source_table in ('movies', 'links') or not regexp_matches(row::varchar, '{self.mention}')"
        return "true"

    def _listed(self, separator: str) -> str:
        return separator.join(map(str, self.user_ids))  # integers, so there is nothing to escape


def read_forgotten(home: Home) -> Forgotten:
    """Raises: SourceError when the list cannot be read: then nobody can tell whom to leave out."""
    if not home.forgotten.exists():
        return Forgotten({})
    try:
        asked = read_json(home.forgotten)
        return Forgotten({int(user_id): datetime.fromisoformat(moment) for user_id, moment in asked.items()})
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise SourceError(
            f"{home.forgotten}, the list of users who asked to be forgotten, cannot be read: {error}. Nothing is done "
            "before it can, or they would come back. Next: put it right, or bring it back from a copy"
        ) from error


def forget(user_ids: Iterable[int], home: Home) -> Forgotten:
    """Adds users to the list; one who is on it already keeps the moment of the first request."""
    now = datetime.now(UTC).replace(microsecond=0)
    return _write(dict.fromkeys(user_ids, now) | read_forgotten(home).asked_at, home)


def remember(user_ids: Iterable[int], home: Home) -> Forgotten:
    """Takes users off the list: the next night reads whatever the source still says of them.

    Raises: UsageError for a user who is not on it.
    """
    asked_at = read_forgotten(home).asked_at
    for user_id in user_ids:
        if user_id not in asked_at:
            raise UsageError(f"user {user_id} is not among the {len(asked_at)} forgotten of {home.root}")
        del asked_at[user_id]
    return _write(asked_at, home)


def _write(asked_at: dict[int, datetime], home: Home) -> Forgotten:
    write_json(home.forgotten, {str(user_id): moment.isoformat() for user_id, moment in asked_at.items()})
    return Forgotten(asked_at)
