"""Sources that no honest publisher makes, really crafted: zips written byte by byte, folders with traps in them.

`ZIPS` and `FOLDERS` name every kind, with the function that writes it and the words that refuse it. Around each trap
lies an edition that would pass without it. Kinds in `FOUND_WHEN_READ` open, and are refused once ratings are read.
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
from pathlib import Path

from recsys.ingest.synthetic.synthetic import plant
from tests.support.archives import render

Write = Callable[[Path], Path]
Kinds = dict[str, tuple[Write, str]]

STORED, DEFLATED = 0, 8
FILE, LINK, PIPE, DEVICE = stat.S_IFREG | 0o644, stat.S_IFLNK | 0o777, stat.S_IFIFO | 0o644, stat.S_IFCHR | 0o644
ZEROS = bytes(2**24)
UNSAID = 0xFFFFFFFF  # what a 32-bit size says when the true one stands in the zip64 field


@dataclass(frozen=True)
class Item:
    """An entry of a zip: what it holds, and what the directory says of it where that is not the truth."""

    name: bytes
    content: bytes = b""
    method: int = DEFLATED
    flags: int = 0
    mode: int = FILE
    crc: int | None = None
    claimed_bytes: int | None = None
    offset: int | None = None
    extra: bytes = b""  # of the directory only

    def packed(self) -> bytes:
        if self.method != DEFLATED:
            return self.content
        deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
        return deflate.compress(self.content) + deflate.flush()

    def facts(self) -> bytes:
        """What both headers say: version, flags, method, date, checksum, sizes and the name's length."""
        crc = binascii.crc32(self.content) if self.crc is None else self.crc
        claimed = len(self.content) if self.claimed_bytes is None else self.claimed_bytes
        packed = len(self.packed())
        return struct.pack("<5H3LH", 20, self.flags, self.method, 0, 33, crc, packed, claimed, len(self.name))


def zip_bytes(items: Sequence[Item]) -> bytes:
    """The items in order, then the directory."""
    body, directory = io.BytesIO(), io.BytesIO()
    for item in items:
        offset = body.tell() if item.offset is None else item.offset
        facts = item.facts()
        body.write(b"PK\x03\x04" + facts + struct.pack("<H", 0) + item.name + item.packed())
        directory.write(b"PK\x01\x02" + struct.pack("<H", 3 << 8 | 20) + facts)
        directory.write(struct.pack("<4H2L", len(item.extra), 0, 0, 0, item.mode << 16, offset))
        directory.write(item.name + item.extra)
    return body.getvalue() + directory.getvalue() + end_record(len(items), len(directory.getvalue()), body.tell())


def end_record(entries: int, directory_bytes: int, directory_at: int) -> bytes:
    counts = min(entries, 0xFFFF)
    return b"PK\x05\x06" + struct.pack("<4H2LH", 0, 0, counts, counts, directory_bytes, directory_at, 0)


def edition() -> list[Item]:
    """ML-1M in its layout with planted ratings: what lies around the trap."""
    planted = plant(40, 30, 600)
    files = render("ml-1m", planted.ratings, planted.movies, planted.users)
    return [Item(b"ml-1m/" + name.encode(), content) for name, content in files.items()]


def with_item(name: bytes, content: bytes = b"x", **lies: object) -> Write:
    """An edition and one more entry."""
    return lambda path: write(path, zip_bytes([*edition(), replace(Item(name, content), **lies)]))  # type: ignore[arg-type]


def with_ratings(**lies: object) -> Write:
    """An edition whose ratings are not what the directory says."""

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
    """None of them large, all of them together a thousandfold."""
    return write(path, zip_bytes([*edition(), *(Item(b"%d.dat" % n, ZEROS[:-1]) for n in range(5))]))


def write_total_bomb(path: Path) -> Path:
    """Three entries of nearly 3 GiB each, stored, in a file that has a hole in place of them and takes no room."""
    size, items = 3 * 2**30 - 1000, [Item(b"%d.dat" % n, method=STORED) for n in range(3)]
    fact = struct.pack("<5H3LH", 20, 0, STORED, 0, 33, 0, size, size, 5)
    with path.open("wb") as file:
        offsets = []
        for item in items:
            offsets.append(file.tell())
            file.write(b"PK\x03\x04" + fact + struct.pack("<H", 0) + item.name)
            file.seek(size, os.SEEK_CUR)
        start = file.tell()
        for item, offset in zip(items, offsets, strict=True):
            extra = struct.pack("<2HQ", 1, 8, offset)
            lengths = struct.pack("<4H2L", len(extra), 0, 0, 0, FILE << 16, UNSAID)
            file.write(b"PK\x01\x02" + struct.pack("<H", 3 << 8 | 45) + fact + lengths + item.name + extra)
        write_zip64_end(file, start, len(items))
    return path


def write_zip64_end(file: io.BufferedWriter, start: int, entries: int) -> None:
    end = file.tell()
    file.write(b"PK\x06\x06" + struct.pack("<Q2H2L4Q", 44, 45, 45, 0, 0, entries, entries, end - start, start))
    file.write(b"PK\x06\x07" + struct.pack("<LQL", 0, end, 1))
    file.write(end_record(entries, UNSAID, UNSAID))


def write_endless_directory(path: Path) -> Path:
    """Its end says that the directory before it has 60 MB, and there they are."""
    body = zip_bytes(edition())
    return write(path, body[:-22] + bytes(60_000_000) + end_record(3, 60_000_000, len(body) - 22))


def write_overlapping(path: Path) -> Path:
    """A second name for the bytes of the ratings, as bombs have that unpack one kernel a thousand times."""
    ratings, *others = edition()
    return write(path, zip_bytes([ratings, *others, replace(ratings, name=b"ml-1m/other.dat", offset=0)]))


def write_quoted(path: Path) -> Path:
    """An entry whose bytes are another entry, header and all: each is unpacked for both."""
    inner = replace(edition()[0], method=STORED)
    whole = b"PK\x03\x04" + inner.facts() + struct.pack("<H", 0) + inner.name + inner.content
    outer = Item(b"ml-1m/outer", whole, STORED)
    items = [outer, replace(inner, offset=30 + len(outer.name)), *edition()[1:]]
    return write(path, zip_bytes(items))


def write_truncated(path: Path) -> Path:
    whole = zip_bytes(edition())
    return write(path, whole[: len(whole) // 2])


def write_damaged(path: Path) -> Path:
    """Bits fell over in the middle of the ratings."""
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


PREFIX_CRC = binascii.crc32(edition()[0].content[:100])
BROKEN_64 = struct.pack("<2HQ", 1, 8, 2**63 + 1)

ZIPS: Kinds = {
    "leads out by dots": (with_item(b"../../../escaped"), "'../../../escaped' leads out of the archive"),
    "leads out by dots within": (with_item(b"ml-1m/../../escaped"), "leads out of the archive by '..'"),
    "leads out by backslashes": (with_item(b"..\\..\\escaped"), "has a backslash in its name"),
    "absolute path": (with_item(b"/tmp/escaped"), "'/tmp/escaped' is an absolute path"),
    "drive letter": (with_item(b"C:/escaped"), "'C:/escaped' is an absolute path"),
    "name with a NUL": (with_item(b"ml-1m/README\x00.exe"), "has a control character in its name"),
    "name with an escape": (with_item(b"ml-1m/\x1b[2J"), r"'ml-1m/\\x1b\[2J' has a control character"),
    "no name": (with_item(b""), "its entry '' has no name"),
    "name that is no UTF-8": (with_item(b"ml-1m/\xff\xfe", flags=0x800), "is not a zip that can be read"),
    "symbolic link": (with_item(b"ml-1m/link", b"/etc/passwd", mode=LINK, method=STORED), "is a symbolic link"),
    "named pipe": (with_item(b"ml-1m/pipe", mode=PIPE), "is a named pipe"),
    "device": (with_item(b"ml-1m/zero", mode=DEVICE), "is a device"),
    "encrypted": (with_ratings(flags=1), "'ml-1m/ratings.dat' is encrypted"),
    "unknown compression": (with_ratings(method=99), "is packed by method 99"),
    "bomb by ratio": (with_item(b"ml-1m/bomb.dat", ZEROS * 2), r"unpacks from [\d,]+ to 33,554,432 bytes"),
    "bomb in many pieces": (write_many_bombs, r"entries unpack from [\d,]+ to 8\d,\d{3},\d{3} bytes"),
    "bomb by total": (write_total_bomb, "3 entries unpack from 9,663,673,808 to 9,663,673,416 bytes"),
    "too many entries": (write_many_entries, "it has 10,003 entries, the limit is 10,000"),
    "endless directory": (write_endless_directory, "its directory has 60,000,000 bytes"),
    "same name twice": (with_item(b"ml-1m/ratings.dat"), "'ml-1m/ratings.dat' is there twice"),
    "names differ by capitals": (
        with_item(b"ml-1m/Ratings.DAT"),
        "'ml-1m/Ratings.DAT' differs from 'ml-1m/ratings.dat' by capitals only",
    ),
    "overlapping entries": (write_overlapping, "overlaps with"),
    "entry within an entry": (write_quoted, "overlaps with"),
    "size that 64 bits lie about": (
        with_item(b"ml-1m/big", extra=BROKEN_64, claimed_bytes=UNSAID),
        "unpacks to 9,223,372,036,854,775,809 bytes, the limit is 4,294,967,296",
    ),
    "size left out": (with_item(b"ml-1m/big", extra=BROKEN_64[:8], claimed_bytes=UNSAID), "is not a zip that can be"),
    "place beyond the end": (with_item(b"ml-1m/far", offset=2**31), "lies at bytes 2,147,483,648 to"),
    "stored size that lies": (
        with_ratings(method=STORED, claimed_bytes=10),
        r"is stored as it is in [\d,]+ bytes, but claims 10",
    ),
    "claims more than it holds": (with_ratings(claimed_bytes=1_000_000), "it claims 1,000,000 bytes and holds"),
    "claims less than it holds": (with_ratings(claimed_bytes=100, crc=PREFIX_CRC), "claims 100 bytes and holds more"),
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
FOUND_WHEN_READ = {"claims more than it holds", "claims less than it holds", "wrong checksum", "damaged"}


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
    """An edition's folder with something else in place of its ratings."""
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
