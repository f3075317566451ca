"""Finds the drops in a directory by file name. Merging them is in `recsys.ingest.drops`."""

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from recsys.errors import SourceError
from recsys.files import hash_file
from recsys.ingest.parse.layouts import DROPS

FILE_NAME = re.compile(rf"({'|'.join(DROPS)})([-_. ].*)?\.(csv|parquet)", re.IGNORECASE)


@dataclass(frozen=True)
class Drop:
    """One file, and the table whose rows it has."""

    path: Path
    table: str
    sha256: str


def list_drops(folder: Path) -> list[Drop]:
    """The drops of a directory, sorted by name; hidden files and folders are ignored.

    Raises: SourceError if a file cannot be read.
    """
    paths = [path for path in sorted(folder.iterdir()) if path.is_file() and not path.name.startswith(".")]
    found = [(path, match) for path in paths if (match := FILE_NAME.fullmatch(path.name))]
    try:
        return [Drop(path, match[1].lower(), hash_file(path)) for path, match in found]
    except OSError as error:
        raise SourceError(
            f"{error.filename} cannot be read: {error.strerror}. Next: make it readable, or remove it"
        ) from error


def hash_drops(drops: list[Drop]) -> str:
    """SHA-256 of the names and contents of all drops."""
    return hashlib.sha256("".join(f"{drop.path.name} {drop.sha256}\n" for drop in drops).encode()).hexdigest()
