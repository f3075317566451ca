"""Which files of a directory are drops: by their names alone. What they say together is for `recsys.ingest.drops`."""

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
    """One file, and the table it has rows of."""

    path: Path
    table: str
    sha256: str


def list_drops(folder: Path) -> list[Drop]:
    """The drops of a directory, by name; hidden files and folders are none.

    Raises: SourceError if one cannot be read.
    """
    paths = [path for path in sorted(folder.iterdir()) if path.is_file() and not path.name.startswith(".")]
    found = [(path, match) for path in paths if (match := FILE_NAME.fullmatch(path.name))]
    try:
        return [Drop(path, match[1].lower(), hash_file(path)) for path, match in found]
    except OSError as error:
        raise SourceError(
            f"{error.filename} cannot be read: {error.strerror}. Next: let it be read, or take it away"
        ) from error


def hash_drops(drops: list[Drop]) -> str:
    """SHA-256 of what lies there: names and bytes."""
    return hashlib.sha256("".join(f"{drop.path.name} {drop.sha256}\n" for drop in drops).encode()).hexdigest()
