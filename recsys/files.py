"""Writes files atomically: a reader never sees a partial file, even after a power failure. Reads them by exact path.

Disks change bits without an error, and most formats do not notice: a changed bit in Parquet or safetensors is usually
another number. So files that a later night or command reads again have a SHA-256 in a sealed file beside them.
"""

import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from recsys.errors import HomeBusy

if TYPE_CHECKING:
    import polars as pl

# Keys of a sealed file. There are two, so that damage to one does not make it look like a file of an older version.
SEALED, SEAL = "_sealed", "_sha256"


@contextmanager
def replacing(path: Path, *, synced: bool = True) -> Iterator[Path]:
    """Yields a temporary path beside `path`. On success, syncs it and renames it over `path`; on failure, removes it.

    Without `synced`, the replacement is still atomic for readers, but a power failure may leave a partial file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        yield aside
        if synced:
            sync(aside)
        aside.replace(path)
        if synced:
            sync(path.parent)
    finally:
        aside.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Flushes a file or a directory entry to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_json(path: Path, value: Any, *, sort_keys: bool = True) -> None:
    """Writes `value` as indented JSON, atomically; with `sort_keys`, keys are sorted as text, so that 10 precedes 3."""
    with replacing(path) as aside:
        text = json.dumps(value, indent=2, sort_keys=sort_keys, default=str)
        aside.write_text(text + "\n", encoding="utf-8")


def read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def write_sealed(path: Path, value: Mapping[str, Any]) -> None:
    """Writes an object as JSON, atomically, with a digest of its content."""
    with replacing(path) as aside:
        aside.write_text(seal_json(value) + "\n", encoding="utf-8")


def read_sealed(path: Path) -> dict[str, Any]:
    """Reads an object that `write_sealed` wrote, or one without a digest that an older version wrote.

    Raises: ValueError if it is damaged.
    """
    return open_sealed(path.read_text(encoding="utf-8"))


def seal_json(value: Mapping[str, Any]) -> str:
    """An object as JSON, with a digest of its content."""
    content = json.loads(json.dumps(value, default=str))
    return json.dumps(content | {SEALED: True, SEAL: _hash_json(content)}, indent=2, sort_keys=True)


def open_sealed(text: str) -> dict[str, Any]:
    """Parses what `seal_json` returned. Raises: ValueError if it is damaged."""
    content = json.loads(text)
    if not isinstance(content, dict):
        raise ValueError("it is not an object")
    is_sealed, digest = content.pop(SEALED, False), content.pop(SEAL, None)
    if (is_sealed or digest is not None) and digest != _hash_json(content):
        raise ValueError("it is not as it was written: its content has another SHA-256")
    return content


def _hash_json(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def read_table(path: Path, columns: list[str] | None = None) -> "pl.DataFrame":
    """Reads one Parquet file. The path is never a pattern, so it may have brackets or asterisks."""
    import polars as pl

    return pl.read_parquet(path, columns=columns, glob=False)


def exact(path: Path) -> str:
    """The path for DuckDB's readers, which would take brackets, asterisks and question marks as a pattern."""
    return re.sub(r"[\[*?]", r"[\g<0>]", str(path))


def hash_file(path: Path) -> str:
    """SHA-256 of a file's bytes, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def hash_files(paths: Iterable[Path]) -> dict[str, str]:
    """SHA-256 by file name."""
    return {path.name: hash_file(path) for path in paths}


def find_damage(folder: Path, digests: Mapping[str, str]) -> str | None:
    """Describes the first of these files that is missing or changed; None if there is none.

    digests: SHA-256 by path below `folder`.
    """
    for name, sha256 in sorted(digests.items()):
        try:
            if hash_file(folder / name) != sha256:
                return f"{name} is not as it was written: it has another SHA-256"
        except (OSError, ValueError) as error:  # ValueError: a damaged name with a NUL
            return f"{name} cannot be read ({error})"
    return None


@contextmanager
def alone(folder: Path, what: str) -> Iterator[None]:
    """Locks a folder, so that only one process at a time runs `what` in it.

    Raises: HomeBusy if another process holds the lock.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder.with_name(f".{folder.name}.lock"), timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise HomeBusy(f"the {what} in {folder} is already running. Next: wait until it ends, or stop it") from None
    try:
        yield
    finally:
        lock.release()
