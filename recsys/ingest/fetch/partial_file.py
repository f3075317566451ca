"""A file that has not come whole: its bytes in `.<name>.part`, and in `.<name>.part.json` what they are a part of.

Both survive whatever ends the process. The next one may go on only where it can prove that the rest is of the same
file; that is what the note is for.
"""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

from recsys.files import read_json, sync, write_json


class Note(TypedDict):
    """What is known of the whole file."""

    url: str
    validator: str | None  # its ETag or date, which changes with the file
    total_bytes: int | None  # None: nobody said


@dataclass(frozen=True)
class Partial:
    """The part of `url` that has arrived on its way to `path`."""

    url: str
    path: Path

    @property
    def part(self) -> Path:
        return self.path.with_name(f".{self.path.name}.part")

    @property
    def note_path(self) -> Path:
        return self.path.with_name(f".{self.path.name}.part.json")

    @property
    def size_bytes(self) -> int:
        return self.part.stat().st_size if self.part.exists() else 0

    @property
    def note(self) -> Note | None:
        """None when there is none that can be read."""
        try:
            note = read_json(self.note_path)
            return Note(url=note["url"], validator=note["validator"], total_bytes=note["total_bytes"])
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return None

    @property
    def total_bytes(self) -> int | None:
        return self.note["total_bytes"] if self.note else None

    @property
    def resumable_bytes(self) -> int:
        """How much does not have to be fetched again."""
        return self.size_bytes if self.validator else 0

    @property
    def validator(self) -> str | None:
        """What proves that the rest is of the same file; None when nothing does, and all has to come anew."""
        note = self.note
        return note["validator"] if note and note["url"] == self.url and self.size_bytes else None

    def is_whole(self) -> bool:
        return self.validator is not None and self.size_bytes == self.total_bytes

    def begin(self, validator: str | None, total_bytes: int | None) -> None:
        """The bytes of another file go before the note says what the next ones are."""
        self.drop()
        write_json(self.note_path, Note(url=self.url, validator=validator, total_bytes=total_bytes))

    def drop(self) -> None:
        self.part.unlink(missing_ok=True)
        self.note_path.unlink(missing_ok=True)

    def keep(self) -> None:
        """Renames the part, which is whole, to what it should be called."""
        sync(self.part)
        self.part.replace(self.path)
        sync(self.path.parent)
        self.note_path.unlink(missing_ok=True)

    def free_bytes(self) -> int:
        return shutil.disk_usage(self.path.parent).free
