"""A zip is hostile until inspected: its whole directory is looked through before a byte of an entry is read.

Nothing here unpacks. What a directory claims is checked here; whether an entry keeps to it, `Member` finds when it is
read.
"""

import copy
import io
import re
import stat
import struct
import unicodedata
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

from recsys.errors import SourceError

CHUNK_BYTES = 2**20  # unpacked at a time

# What Python's zipfile raises when a file is not what it should be; RuntimeError is its word for encrypted ones.
DAMAGE = (
    *(zipfile.BadZipFile, zlib.error, struct.error, EOFError),
    *(ValueError, OverflowError, NotImplementedError, RuntimeError),
)

AGAIN = "Next: get the archive again from its publisher"
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # all that zips of MovieLens use; LZMA may ask for any memory
CIPHERS = 0x1 | 0x40 | 0x2000  # flags: encrypted, strongly encrypted, the directory masked
UTF_8 = 0x800  # flag
LOCAL_HEADER_BYTES = 30  # before an entry's name; what stands between name and data may be empty
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
    """What honest archives stay far below."""

    entries: int = 10_000  # editions have up to 25, the wheel with ML-100K some hundreds
    directory_bytes: int = 2**24  # of those entries' names and sizes, which zipfile reads in one piece
    file_bytes: int = 4 * 2**30  # ratings.csv of ML-32M, the largest file of any edition, has 0.9 GB
    total_bytes: int = 8 * 2**30  # ML-25M, the largest edition, has 1.2 GB
    ratio: int = 100  # MovieLens packs 3 to 6 times smaller; only a bomb unpacks a thousandfold
    ratio_from_bytes: int = 2**24  # what unpacks to less harms nobody, however well it packs


LIMITS = Limits()


class Bounded(io.BufferedReader):
    """A file of which no read takes more than `most_bytes` at once: a zip's directory can claim any size."""

    def __init__(self, file: io.FileIO, most_bytes: int) -> None:
        super().__init__(file)
        self._most_bytes = most_bytes

    def read(self, size: int | None = -1, /) -> bytes:
        if size is None or size < 0:  # the last bytes, among which the directory's place stands
            return super().read(self._most_bytes)
        if size > self._most_bytes:
            raise zipfile.BadZipFile(f"its directory has {size:,} bytes, the limit is {self._most_bytes:,}")
        return super().read(size)


def inspect(archive: zipfile.ZipFile, path: Path, limits: Limits) -> None:
    """Raises: SourceError naming the first entry of `archive`, opened from `path`, that no honest archive has."""
    entries = archive.infolist()
    if len(entries) > limits.entries:
        raise SourceError(
            f"{path} is not safe to read: it has {len(entries):,} entries, the limit is {limits.entries:,}. {AGAIN}"
        )
    for info in entries:
        for fault in find_faults(info, limits):
            raise refusal(path, info, fault)
    check_names_differ(entries, path)
    check_total(entries, path, limits)
    check_places(entries, path, archive.start_dir)


def refusal(path: Path, info: zipfile.ZipInfo, fault: str) -> SourceError:
    return SourceError(f"{path} is not safe to read: its entry {shown(info.orig_filename)} {fault}. {AGAIN}")


def shown(name: str) -> str:
    """A name that may be anything, for a terminal: quoted, escaped, no longer than a line."""
    quoted = ascii(name)
    return quoted if len(quoted) <= 80 else f"{quoted[:77]}..."


def find_faults(info: zipfile.ZipInfo, limits: Limits) -> Iterator[str]:
    """What is wrong with an entry by itself, in words that follow its name."""
    yield from find_name_faults(info.orig_filename)  # not `filename`: that ends where the first NUL was
    kind = stat.S_IFMT(info.external_attr >> 16)  # as Unix has it; 0 from other systems
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        yield f"is {KINDS.get(kind, f'of the unknown kind {kind:o}')}; only files and folders are read"
    if info.flag_bits & CIPHERS:
        yield "is encrypted; nothing here asks for a password"
    if info.compress_type not in METHODS:
        yield f"is packed by method {info.compress_type}; 0 (store) and 8 (deflate) are read"
    yield from find_size_faults(info, limits)


def find_name_faults(name: str) -> Iterator[str]:
    """A name is never a path on this machine; one that tries to be shows what the archive is for."""
    if not name:
        yield "has no name"
    if any(unicodedata.category(character) == "Cc" for character in name):
        yield "has a control character in its name"
    if name.startswith("/") or DRIVE.match(name):
        yield "is an absolute path; names in an archive are relative to it"
    if "\\" in name:
        yield "has a backslash in its name, which is a path on some systems"
    if ".." in name.split("/"):
        yield "leads out of the archive by '..'"


def find_size_faults(info: zipfile.ZipInfo, limits: Limits) -> Iterator[str]:
    packed, unpacked = info.compress_size, info.file_size
    if info.compress_type == zipfile.ZIP_STORED and packed != unpacked:
        yield f"is stored as it is in {packed:,} bytes, but claims {unpacked:,}"
    if unpacked > limits.file_bytes:
        yield f"unpacks to {unpacked:,} bytes, the limit is {limits.file_bytes:,}: no file of MovieLens is that large"
    if is_bomb(packed, unpacked, limits):
        yield (
            f"unpacks from {packed:,} to {unpacked:,} bytes, {unpacked // max(packed, 1):,} times as many, the limit "
            f"is {limits.ratio} times: it is a decompression bomb"
        )


def is_bomb(packed: int, unpacked: int, limits: Limits) -> bool:
    return unpacked >= limits.ratio_from_bytes and unpacked > limits.ratio * packed


def check_names_differ(entries: list[zipfile.ZipInfo], path: Path) -> None:
    """Of two entries with one name, which one counts depends on who reads; capitals are no difference to some."""
    seen: dict[str, zipfile.ZipInfo] = {}
    for info in entries:
        name = unicodedata.normalize("NFC", info.orig_filename.rstrip("/")).casefold()
        first = seen.setdefault(name, info)
        if first is not info:
            same = first.orig_filename == info.orig_filename
            fault = "is there twice" if same else f"differs from {shown(first.orig_filename)} by capitals only"
            raise refusal(path, info, fault)


def check_total(entries: list[zipfile.ZipInfo], path: Path, limits: Limits) -> None:
    unpacked, packed = sum(info.file_size for info in entries), path.stat().st_size
    if unpacked > limits.total_bytes or is_bomb(packed, unpacked, limits):
        raise SourceError(
            f"{path} is not safe to read: its {len(entries):,} entries unpack from {packed:,} to {unpacked:,} bytes in "
            f"all, the limits are {limits.ratio} times as many and {limits.total_bytes:,}. {AGAIN}"
        )


def check_places(entries: list[zipfile.ZipInfo], path: Path, end: int) -> None:
    """Each entry has bytes of its own before `end`, where the directory begins; overlapping ones make small bombs."""
    ordered = sorted(entries, key=lambda info: info.header_offset)
    for info in ordered:
        if info.header_offset < 0 or end_of(info) > end:
            fault = f"lies at bytes {info.header_offset:,} to {end_of(info):,}, but entries end at {end:,}"
            raise refusal(path, info, fault)
    for info, following in pairwise(ordered):
        if end_of(info) > following.header_offset:
            raise refusal(path, info, f"overlaps with {shown(following.orig_filename)}")


def end_of(info: zipfile.ZipInfo) -> int:
    """Where an entry's bytes end at the earliest."""
    name = info.orig_filename.encode("utf-8" if info.flag_bits & UTF_8 else "cp437")
    return info.header_offset + LOCAL_HEADER_BYTES + len(name) + info.compress_size


class Member(io.RawIOBase):
    """An entry's bytes as a stream: damage is told in words, and what it holds is counted against what it claims."""

    def __init__(self, archive: zipfile.ZipFile, info: zipfile.ZipInfo, path: Path) -> None:
        one_more = copy.copy(info)
        one_more.file_size += 1  # zipfile stops at the size it is told; so a byte more than claimed shows
        self._claimed_bytes = info.file_size
        self._name = f"{shown(info.orig_filename)} in {path}"
        self._checked = False
        try:
            self._stream = cast(zipfile.ZipExtFile, archive.open(one_more))
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
        """Who jumps about, as readers of Parquet do, never comes to the checksum at the end; so it is checked first."""
        if not self._checked:
            self._check()
        if whence == io.SEEK_END:
            return self._stream.seek(self._claimed_bytes + offset)
        return self._stream.seek(offset, whence)

    def _check(self) -> None:
        here = self.tell()
        while self._read(CHUNK_BYTES):
            pass
        self._stream.seek(here)

    def _read(self, size: int) -> bytes:
        try:
            data = self._stream.read(size)
        except DAMAGE as error:
            raise self._damaged(self._miscounted(ended=False) or error) from error
        if miscounted := self._miscounted(ended=not data):
            raise self._damaged(miscounted)
        self._checked |= not data
        return data

    def _miscounted(self, *, ended: bool) -> str | None:
        claimed, held = self._claimed_bytes, self.tell()
        if held > claimed:
            return f"it claims {claimed:,} bytes and holds more"
        return f"it claims {claimed:,} bytes and holds {held:,}" if ended and held < claimed else None

    def _damaged(self, error: Exception | str) -> SourceError:
        return SourceError(f"{self._name} cannot be read: {str(error) or 'it ends too early'}. {AGAIN}")
