"""Finds the drops in a directory by file name. Merging them is in `recsys.ingest.drops`."""

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from recsys.errors import SourceError
from recsys.files import hash_file
from recsys.ingest.parse.layouts import DROPS

FILE_NAME = re.compile(rf"({'|'.join(DROPS)})([-_. \d].*)?\.(csv|parquet)", re.IGNORECASE)
RULE = "a drop is named like ratings.csv or ratings-2026-11-20.parquet, by the table it belongs to"
HIDDEN = (".", "_")  # how the names of files begin that Spark writes beside the parts of a table


@dataclass(frozen=True)
class Drop:
    """One file, its name relative to the directory, and the table whose rows it has."""

    path: Path
    name: str
    table: str
    sha256: str


def list_drops(folder: Path) -> list[Drop]:
    """The drops of a directory, sorted by name; hidden files and folders are ignored.

    A folder with the name of a drop, as Spark writes it, has one drop for each of its parts.

    Raises: SourceError if a file cannot be read.
    """
    try:
        return [
            Drop(path, path.relative_to(folder).as_posix(), table, hash_file(path))
            for path, table in _find_drops(folder)
        ]
    except OSError as error:
        raise SourceError(
            f"{error.filename} cannot be read: {error.strerror}. Next: make it readable, or remove it"
        ) from error


def _find_drops(folder: Path) -> Iterator[tuple[Path, str]]:
    """Yields the path and the table of each drop."""
    for path in sorted(folder.iterdir()):
        match = FILE_NAME.fullmatch(path.name)
        if match and path.is_file():
            yield path, match[1].lower()
        elif match and path.is_dir():
            ending = path.suffix.lower()
            parts = (part for part in sorted(path.iterdir()) if part.suffix.lower() == ending and part.is_file())
            yield from ((part, match[1].lower()) for part in parts if not part.name.startswith(HIDDEN))


def hash_drops(drops: list[Drop]) -> str:
    """SHA-256 of the names and contents of all drops."""
    return hashlib.sha256("".join(f"{drop.name} {drop.sha256}\n" for drop in drops).encode()).hexdigest()
