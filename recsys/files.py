"""Writes files atomically: a reader never sees a partial file, even after a power failure. Reads them by exact path."""

import hashlib
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from recsys.errors import HomeBusy

if TYPE_CHECKING:
    import polars as pl


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
