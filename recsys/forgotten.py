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
WITHHELD = '{"line":"(withheld: it may be of a user who is forgotten)"}'
LONGEST_QUOTE = 300  # characters of a row that a message repeats


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

    def condition(self, table: str, columns: list[str]) -> str:
        """The SQL condition that keeps a row: it is not of a forgotten user."""
        if not self.user_ids:
            return "true"
        if "user_id" in columns:
            return f"user_id not in ({self._listed(', ')})"
        if table in RAW:
            return f"coalesce(try_cast(row ->> '$.user_id' as bigint) not in ({self._listed(', ')}), true)"
        return "true"

    def projection(self, table: str) -> str:
        """The SQL columns of a kept row. A line that could not be read, and that has the number of a forgotten user in
        it, may be theirs: it goes on counting, but its text is withheld. So is that of a row quoted in a reason.
        """
        if not self.user_ids:
            return "*"
        number = rf"0*(?:{self._listed('|')})"
        if table in RAW:
            theirs = f"regexp_matches(row ->> '$.line', '(?:^|[^0-9]){number}(?:[^0-9]|$)')"
            may_be = f"source_table not in ('movies', 'links') and coalesce({theirs}, false)"
            return f"* replace (case when {may_be} then '{WITHHELD}' else row end as row)"
        if table == "runs":
            quote = rf"\{{(?:[^{{}}]*[^{{}}0-9])?{number}(?:[^{{}}0-9][^{{}}]*)?\}}"
            return f"* replace (regexp_replace(reason, '{quote}', '{{withheld}}', 'g') as reason)"
        return "*"

    def _listed(self, separator: str) -> str:
        return separator.join(map(str, self.user_ids))  # integers, so there is nothing to escape


def quote(text: str) -> str:
    """A row of a source as a message repeats it: shortened, and in braces of its own and no others, by which it is
    found again should its user be forgotten.
    """
    inner = text.translate(str.maketrans("{}", "()"))
    return f"{{{inner}}}" if len(inner) <= LONGEST_QUOTE else f"{{{inner[:LONGEST_QUOTE]}…}}"


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
    """Adds users to the list; one who is on it already keeps the moment of the first request.

    Trainings that were killed lose their checkpoints: those hold what was learned of these users, and no training that
    leaves them out could go on from there.

    Raises: UsageError if a checkpoint cannot be removed; the users are on the list then.
    """
    now = datetime.now(UTC).replace(microsecond=0)
    forgotten = _write(dict.fromkeys(user_ids, now) | read_forgotten(home).asked_at, home)
    for path in home.checkpoints.glob("*"):
        try:
            path.unlink()
        except OSError as error:
            raise UsageError(
                f"{path} holds what was learned of users who asked to be forgotten and cannot be removed: {error}. "
                "They are on the list all the same. Next: remove it"
            ) from error
    return forgotten


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
