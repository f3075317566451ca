"""Checks a zip's directory before an entry is read, and reads entries as streams. Nothing is unpacked to disk.

The operator chose the archive, so these checks are meant for a wrong, damaged or oversized file rather than for an
attack. A name is never used as a path, and zipfile itself finds overlapping entries and wrong checksums.
"""

import io
import re
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from recsys.errors import SourceError
from recsys.ingest.archives.signatures import shown

CHUNK_BYTES = 2**20  # unpacked at once

# The errors that zipfile raises for a damaged file: RuntimeError for an encrypted one, NotImplementedError for an
# unknown compression method, OSError for an offset before the start.
DAMAGE = (
    *(zipfile.BadZipFile, zlib.error, struct.error, EOFError, OSError),
    *(ValueError, OverflowError, NotImplementedError, RuntimeError),
)

NEXT = "Next: get the archive again from its publisher"
ENCRYPTED = 0x1 | 0x40 | 0x2000  # flags: encrypted, strongly encrypted, directory masked
DRIVE = re.compile(r"[A-Za-z]:")
KINDS = {
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


@dataclass(frozen=True)
class Limits:
    """The limits for an archive. Published archives are far below them."""

    entries: int = 10_000  # editions have up to 25, the wheel with ML-100K a few hundred
    file_bytes: int = 4 * 2**30  # ratings.csv of ML-32M, the largest file of any edition, has 0.9 GB
    total_bytes: int = 8 * 2**30  # ML-25M, the largest edition, has 1.2 GB
    ratio: int = 100  # MovieLens is packed 3 to 6 times smaller; only a decompression bomb unpacks a thousandfold
    ratio_from_bytes: int = 2**24  # below this unpacked size, a high ratio is harmless


LIMITS = Limits()


def inspect(archive: zipfile.ZipFile, path: Path, limits: Limits) -> None:
    """Raises: SourceError naming the first entry of the archive at `path` that breaks a limit or a rule."""
    entries = archive.infolist()
    if len(entries) > limits.entries:  # a backup of something else
        raise SourceError(
            f"{path} is not safe to read: it has {len(entries):,} entries, the limit is {limits.entries:,}. {NEXT}"
        )
    for info in entries:
        for fault in find_faults(info, limits):
            raise SourceError(f"{path} is not safe to read: its entry {quoted(info.orig_filename)} {fault}. {NEXT}")
    unpacked, packed = sum(info.file_size for info in entries), path.stat().st_size
    if unpacked > limits.total_bytes or is_bomb(packed, unpacked, limits):  # a bomb in many entries
        raise SourceError(
            f"{path} is not safe to read: its {len(entries):,} entries unpack from {packed:,} to {unpacked:,} bytes in "
            f"all, the limits are {limits.ratio} times as many and {limits.total_bytes:,}. {NEXT}"
        )


def quoted(name: str) -> str:
    """A name for a terminal: quoted, escaped and at most a line long."""
    return shown(ascii(name), 80)


def find_faults(info: zipfile.ZipInfo, limits: Limits) -> Iterator[str]:
    """Yields the problems of an entry, as text that follows its name."""
    name, packed, unpacked = info.orig_filename, info.compress_size, info.file_size
    if not info.filename:  # damaged: zipfile itself fails on it
        yield "has no name"
    if name.startswith("/") or DRIVE.match(name):  # a backup of a whole disk, or made to overwrite files elsewhere
        yield "is an absolute path; names in an archive are relative to it"
    if "\\" in name:  # packed by a broken tool on Windows: the folder would look like a part of the name
        yield "has a backslash in its name, which is a path on some systems"
    if ".." in name.split("/"):  # made to overwrite files outside the folder that it is unpacked to
        yield "leads out of the archive by '..'"
    kind = stat.S_IFMT(info.external_attr >> 16)  # Unix mode; 0 if packed on another system
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):  # packed with the link instead of the file
        yield f"is {KINDS.get(kind, f'of the unknown kind {kind:o}')}; only files and folders are read"
    if info.flag_bits & ENCRYPTED:  # zipfile's own message names a missing password only when the entry is read
        yield "is encrypted; unpack it with its password first"
    if unpacked > limits.file_bytes:  # would fill the memory or the disk later
        yield f"unpacks to {unpacked:,} bytes, the limit is {limits.file_bytes:,}: no file of MovieLens is that large"
    if is_bomb(packed, unpacked, limits):
        yield (
            f"unpacks from {packed:,} to {unpacked:,} bytes, {unpacked // max(packed, 1):,} times as many, the limit "
            f"is {limits.ratio} times: it is a decompression bomb"
        )


def is_bomb(packed: int, unpacked: int, limits: Limits) -> bool:
    return unpacked >= limits.ratio_from_bytes and unpacked > limits.ratio * packed


class Member(io.RawIOBase):
    """An entry's bytes as a stream. Damage raises SourceError."""

    def __init__(self, archive: zipfile.ZipFile, info: zipfile.ZipInfo, path: Path) -> None:
        self._name = f"{quoted(info.orig_filename)} in {path}"
        self._checked = False
        try:
            self._stream = cast(zipfile.ZipExtFile, archive.open(info))
        except DAMAGE as error:
            raise self._damaged(error) from error

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._stream.tell()

    def readinto(self, buffer: Any, /) -> int:
        view = memoryview(buffer).cast("B")
        data = self._read(min(len(view), CHUNK_BYTES))
        view[: len(data)] = data
        return len(data)

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Checks the checksum before the first seek: Parquet readers seek, and zipfile checks it only at the end."""
        if not self._checked:
            here = self.tell()
            while self._read(CHUNK_BYTES):
                pass
            self._stream.seek(here)
        return self._stream.seek(offset, whence)

    def _read(self, size: int) -> bytes:
        try:
            data = self._stream.read(size)
        except DAMAGE as error:
            raise self._damaged(error) from error
        self._checked |= not data
        return data

    def _damaged(self, error: Exception) -> SourceError:
        return SourceError(f"{self._name} cannot be read: {str(error) or 'it ends too early'}. {NEXT}")
