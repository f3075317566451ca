"""The SHA-256 of the files of a run, by which a later night or command notices that one has changed on disk."""

import logging
from pathlib import Path
from typing import Any

from recsys import files
from recsys.files import hash_file, read_sealed, write_sealed
from recsys.home import Run

SEALED = {".json", ".parquet", ".safetensors"}  # suffixes of the files that are read again

logger = logging.getLogger(__name__)


def seal(run: Run) -> None:
    """Records the SHA-256 of each file that was written since the last call, while it is still in the page cache.

    Files that change at any time are sealed on their own: `ended`, `underway` and `steps`.
    """
    known, found = _read(run), {}
    apart = {run.digests, run.ended, run.underway, run.steps}
    for path in sorted(run.folder.rglob("*")):
        if path.suffix not in SEALED or path in apart:
            continue
        state = path.stat()
        written = {"bytes": state.st_size, "mtime_ns": state.st_mtime_ns}
        name = str(path.relative_to(run.folder))
        before = known.get(name, {})
        is_new = any(before.get(fact) != value for fact, value in written.items())
        found[name] = written | {"sha256": hash_file(path)} if is_new else before
    try:
        if found != known:
            write_sealed(run.digests, found)
    except OSError as error:  # for example, the disk is full; what failed because of it has its own error
        logger.warning("%s cannot be written: %s", run.digests, error)


def find_damage(run: Run, *parts: Path) -> str | None:
    """Describes the first file among `parts` that is missing or changed; None if there is none.

    parts: files of the run, and folders for all files in them. Files of a run of an older version have no SHA-256.
    """
    if not run.digests.exists():
        return None
    try:
        digests = read_sealed(run.digests)
        listed = {name: one["sha256"] for name, one in digests.items() if _is_below(run.folder / name, parts)}
    except (OSError, ValueError, LookupError, TypeError) as error:
        return f"run {run.run_id} is damaged: {run.digests.name} cannot be read ({error})"
    damage = files.find_damage(run.folder, listed)
    return damage and f"run {run.run_id} is damaged: {damage}"


def _is_below(path: Path, parts: tuple[Path, ...]) -> bool:
    return any(path.is_relative_to(part) for part in parts)


def _read(run: Run) -> dict[str, Any]:
    """The recorded digests; empty if they cannot be read, so that the files of this run are hashed again."""
    try:
        return read_sealed(run.digests) if run.digests.exists() else {}
    except (OSError, ValueError) as error:
        logger.warning("%s is damaged: %s. The files of this run are hashed again", run.digests, error)
        return {}
