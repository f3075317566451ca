"""Space for a night: a small reserve for the record of a night that finds the disk full, and the message about it."""

import errno
import logging
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from recsys.errors import DiskFull
from recsys.files import replacing
from recsys.home import Home
from recsys.warehouse.publish import SPARE_BYTES

RESERVE_BYTES = 2**20  # a run that fails at once writes less than a tenth of it
FULL = re.compile(r"no space left|disk quota exceeded|MB free, and", re.IGNORECASE)  # of the system, or of our own
FULL_CODES = (errno.ENOSPC, errno.EDQUOT)

logger = logging.getLogger(__name__)


def reserve(home: Home) -> None:
    """Writes a file that only takes space, if there is none. If the disk is full, nothing is written."""
    if home.reserve.exists():
        return
    try:
        with replacing(home.reserve) as aside:
            aside.write_bytes(b"\1" * RESERVE_BYTES)  # not zeros, which some file systems do not store
    except OSError as error:
        logger.warning("no space is reserved on %s: %s", home.root, error)


def release_reserve(home: Home) -> None:
    """Frees the reserve, so that the record of this run can be written."""
    home.reserve.unlink(missing_ok=True)


def check_space(home: Home) -> None:
    """Checks the space for the next warehouse before any work is done. Raises: DiskFull if it may not fit."""
    needed, free = _needed(home), _free(home)
    if free < needed:
        raise DiskFull(describe_full(home, f"a night needs {needed / 1e6:,.0f} MB"))


def is_full(error: BaseException) -> bool:
    """Whether an error was caused by a full disk. Libraries raise errors of their own from that of the system."""
    return any(
        (isinstance(one, OSError) and one.errno in FULL_CODES) or FULL.search(str(one)) is not None
        for one in _list_causes(error)
    )


def explain(error: BaseException, home: Home) -> BaseException:
    """Returns a DiskFull in place of an error that a full disk caused, else the error itself."""
    if isinstance(error, DiskFull) or not isinstance(error, Exception) or not is_full(error):
        return error
    return DiskFull(describe_full(home, " ".join(str(error).split())))


def describe_full(home: Home, problem: str) -> str:
    """The message about a full disk: the space, and what may be deleted."""
    sizes = {path: _size(path) for path in (home.runs, home.snapshots, home.archives, home.checkpoints, home.parsed)}
    largest = sorted(sizes, key=lambda path: -sizes[path])[:3]
    listed = ", ".join(f"{path.name}/ {sizes[path] / 1e6:,.1f} MB" for path in largest if sizes[path])
    return (
        f"the disk of {home.root} has {_free(home) / 1e6:,.1f} MB free, which is too little: "
        f"{problem}. The served tables stay as they are. Next: free {_needed(home) / 1e6:,.0f} MB on this disk, then "
        f"run the same command again, which resumes. Of the home, old folders in {listed or 'runs/'} may be deleted, "
        f"or fewer kept (RECSYS_HISTORY__MODELS, RECSYS_SNAPSHOTS__KEEP); never {home.warehouse.name}, which is intact "
        "and has the history"
    )


def _needed(home: Home) -> int:
    present = home.warehouse.stat().st_size if home.warehouse.exists() else 0
    return present + SPARE_BYTES


def _free(home: Home) -> int:
    """Bytes on the disk on which the home is, or will be."""
    return shutil.disk_usage(next(path for path in (home.root, *home.root.parents) if path.exists())).free


def _list_causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _size(folder: Path) -> int:
    """Bytes of all files; 0 for one that disappears meanwhile."""
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.lstat().st_size
        except OSError:
            continue
    return total
