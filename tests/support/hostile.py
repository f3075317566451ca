"""Zips and folders that are refused. The zips are written byte by byte, because zipfile would not write them.

`ZIPS` and `FOLDERS` map every kind to the function that writes it and to the error message. Except for its fault, each
is a valid edition. Kinds in `FOUND_WHEN_READ` can be opened and are refused when the ratings are read.
"""

import binascii
import gzip
import io
import os
import stat
import struct
import tarfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path

from recsys.ingest.synthetic.synthetic import plant
from tests.support.archives import render

Write = Callable[[Path], Path]
Kinds = dict[str, tuple[Write, str]]

STORED, DEFLATED = 0, 8
FILE, LINK, PIPE, DEVICE = stat.S_IFREG | 0o644, stat.S_IFLNK | 0o777, stat.S_IFIFO | 0o644, stat.S_IFCHR | 0o644
ZEROS = bytes(2**24)
IN_ZIP64 = 0xFFFFFFFF  # this 32-bit size means that the true size is in the zip64 field


@dataclass(frozen=True)
class Item:
    """An entry of a zip: its content, and the values in the directory where they differ from the true ones."""

    name: bytes
    content: bytes = b""
    method: int = DEFLATED
    flags: int = 0
    mode: int = FILE
    crc: int | None = None
    claimed_bytes: int | None = None
    extra: bytes = b""  # of the directory only

    @cached_property
    def packed(self) -> bytes:
        if self.method != DEFLATED:
            return self.content
        deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
        return deflate.compress(self.content) + deflate.flush()

    def facts(self) -> bytes:
        """The fields that both headers share: version, flags, method, date, checksum, sizes and length of the name."""
        crc = binascii.crc32(self.content) if self.crc is None else self.crc
        claimed = len(self.content) if self.claimed_bytes is None else self.claimed_bytes
        packed = len(self.packed)
        return struct.pack("<5H3LH", 20, self.flags, self.method, 0, 33, crc, packed, claimed, len(self.name))


def zip_bytes(items: Sequence[Item]) -> bytes:
    """The bytes of a zip: the items in order, then the directory."""
    body, directory = io.BytesIO(), io.BytesIO()
    for item in items:
        offset = body.tell()
        facts = item.facts()
        body.write(b"PK\x03\x04" + facts + struct.pack("<H", 0) + item.name + item.packed)
        directory.write(b"PK\x01\x02" + struct.pack("<H", 3 << 8 | 20) + facts)
        directory.write(struct.pack("<4H2L", len(item.extra), 0, 0, 0, item.mode << 16, offset))
        directory.write(item.name + item.extra)
    sizes = (len(items), len(items), len(directory.getvalue()), body.tell())
    return body.getvalue() + directory.getvalue() + b"PK\x05\x06" + struct.pack("<4H2LH", 0, 0, *sizes, 0)


@cache
def edition() -> tuple[Item, ...]:
    """ML-1M in its layout, with planted ratings."""
    planted = plant(40, 30, 600)
    files = render("ml-1m", planted.ratings, planted.movies, planted.users)
    return tuple(Item(b"ml-1m/" + name.encode(), content) for name, content in files.items())


def with_item(name: bytes, content: bytes = b"x", **lies: object) -> Write:
    """An edition and one more entry."""
    return lambda path: write(path, zip_bytes([*edition(), replace(Item(name, content), **lies)]))  # type: ignore[arg-type]


def with_ratings(**lies: object) -> Write:
    """An edition with wrong values for its ratings in the directory."""

    def write_it(path: Path) -> Path:
        ratings, *others = edition()
        return write(path, zip_bytes([replace(ratings, **lies), *others]))  # type: ignore[arg-type]

    return write_it


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def write_many_entries(path: Path) -> Path:
    return write(path, zip_bytes([*edition(), *(Item(b"%d" % n, method=STORED) for n in range(10_000))]))


def write_many_bombs(path: Path) -> Path:
    """Each entry is below the size limit; together they unpack to a thousand times their size."""
    return write(path, zip_bytes([*edition(), *(Item(b"%d.dat" % n, ZEROS[: 2**23]) for n in range(2))]))


def write_truncated(path: Path) -> Path:
    whole = zip_bytes(edition())
    return write(path, whole[: len(whole) // 2])


def write_damaged(path: Path) -> Path:
    """Some bits in the middle of the ratings are flipped."""
    whole = bytearray(zip_bytes(edition()))
    whole[1000:1010] = bytes(255 - byte for byte in whole[1000:1010])
    return write(path, bytes(whole))


def write_tar(path: Path) -> Path:
    with tarfile.open(path, "w") as archive:
        for item in edition():
            info = tarfile.TarInfo(item.name.decode())
            info.size = len(item.content)
            archive.addfile(info, io.BytesIO(item.content))
    return path


def just(content: bytes) -> Write:
    return lambda path: write(path, content)


BROKEN_64 = struct.pack("<2HQ", 1, 8, 2**63 + 1)

ZIPS: Kinds = {
    "leads out by dots": (with_item(b"../../../escaped"), "'../../../escaped' leads out of the archive"),
    "leads out by dots within": (with_item(b"ml-1m/../../escaped"), "leads out of the archive by '..'"),
    "leads out by backslashes": (with_item(b"..\\..\\escaped"), "has a backslash in its name"),
    "absolute path": (with_item(b"/tmp/escaped"), "'/tmp/escaped' is an absolute path"),
    "drive letter": (with_item(b"C:/escaped"), "'C:/escaped' is an absolute path"),
    "no name": (with_item(b""), "its entry '' has no name"),
    "name that is no UTF-8": (with_item(b"ml-1m/\xff\xfe", flags=0x800), "is not a readable zip"),
    "symbolic link": (with_item(b"ml-1m/link", b"/etc/passwd", mode=LINK, method=STORED), "is a symbolic link"),
    "named pipe": (with_item(b"ml-1m/pipe", mode=PIPE), "is a named pipe"),
    "device": (with_item(b"ml-1m/zero", mode=DEVICE), "is a device"),
    "encrypted": (with_ratings(flags=1), "'ml-1m/ratings.dat' is encrypted"),
    "unknown compression": (with_ratings(method=99), "cannot be read: That compression method is not supported"),
    "bomb by ratio": (with_item(b"ml-1m/bomb.dat", ZEROS), r"unpacks from [\d,]+ to 16,777,216 bytes"),
    "bomb in many pieces": (write_many_bombs, r"entries unpack from [\d,]+ to 16,7\d\d,\d{3} bytes"),
    "too many entries": (write_many_entries, "it has 10,003 entries, the limit is 10,000"),
    "size that 64 bits lie about": (
        with_item(b"ml-1m/big", extra=BROKEN_64, claimed_bytes=IN_ZIP64),
        "unpacks to 9,223,372,036,854,775,809 bytes, the limit is 4,294,967,296",
    ),
    "size left out": (with_item(b"ml-1m/big", extra=BROKEN_64[:8], claimed_bytes=IN_ZIP64), "is not a readable zip"),
    "wrong checksum": (with_ratings(crc=1), "cannot be read: Bad CRC-32"),
    "damaged": (write_damaged, "'ml-1m/ratings.dat' in .* cannot be read"),
    "truncated": (write_truncated, "looks like a zip, perhaps cut short"),
    "empty": (just(b""), "looks like an empty file"),
    "HTML page": (just(b"\n<!DOCTYPE html><html><body>Please log in</body></html>"), "looks like an HTML page"),
    "gzip": (just(gzip.compress(b"1::1::5::978300760\n")), "looks like a gzip file"),
    "tar": (write_tar, "looks like a tar archive"),
    "7-Zip": (just(b"7z\xbc\xaf\x27\x1c\x00\x04" + bytes(100)), "looks like a 7-Zip archive"),
    "a file of ratings": (just(b"1::1::5::978300760\n"), "looks like text"),
}
FOUND_WHEN_READ = {"unknown compression", "wrong checksum", "damaged"}


def write_folder(path: Path) -> Path:
    path.mkdir()
    for item in edition():
        (path / Path(item.name.decode()).name).write_bytes(item.content)
    return path


def with_link_to_file(path: Path) -> Path:
    outside = write(path.with_name("outside.dat"), b"1::1::5::978300760\n")
    return replaced(path, lambda ratings: ratings.symlink_to(outside))


def with_link_to_device(path: Path) -> Path:
    return replaced(path, lambda ratings: ratings.symlink_to("/dev/zero"))


def with_link_to_itself(path: Path) -> Path:
    return replaced(path, lambda ratings: ratings.symlink_to(ratings.name))


def with_pipe(path: Path) -> Path:
    return replaced(path, os.mkfifo)


def replaced(path: Path, put: Callable[[Path], None]) -> Path:
    """An edition's folder with its ratings replaced."""
    ratings = write_folder(path) / "ratings.dat"
    ratings.unlink()
    put(ratings)
    return path


FOLDERS: Kinds = {
    "link out of the folder": (with_link_to_file, r"ratings\.dat is a link to .*outside\.dat, outside the folder"),
    "link to a device": (with_link_to_device, r"ratings\.dat is a link to /dev/zero, outside the folder"),
    "link to itself": (with_link_to_itself, r"ratings\.dat is a link that leads nowhere"),
    "pipe": (with_pipe, r"ratings\.dat is a named pipe; only files and folders are read"),
}
