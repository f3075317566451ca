"""Opening what a source came in (a zip, a wheel, a directory) and reading known files from it, nothing else.

Nothing is unpacked: a file is found by its bare name and read as a stream, so a path inside an archive is never a
path on this machine.
"""

import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import BinaryIO, cast

from recsys.errors import SourceError

# The largest file of the largest edition has 0.9 GB; what claims more is a decompression bomb, or not MovieLens.
MAX_FILE_BYTES = 4 * 2**30


@dataclass(frozen=True)
class Entry:
    """One file of a source: the name of the folder it lies in, its size unpacked, and how to read it."""

    folder: str
    size_bytes: int
    reader: Callable[[], BinaryIO]


@dataclass(frozen=True)
class Files:
    """The files of one opened source, by bare name."""

    path: Path
    entries: Mapping[str, Entry]
    closing: ExitStack  # of the files that were opened

    def __contains__(self, name: str) -> bool:
        return name in self.entries

    def open(self, name: str) -> BinaryIO:
        """The file's bytes as a stream, closed with the source.

        Raises: SourceError when it is missing or unpacks to more than MAX_FILE_BYTES.
        """
        if name not in self:
            raise SourceError(f"{self.path} has no {name}. Next: pass the archive whole, as it was published")
        entry = self.entries[name]
        if entry.size_bytes > MAX_FILE_BYTES:
            raise SourceError(
                f"{name} in {self.path} unpacks to {entry.size_bytes:,} bytes, the limit is {MAX_FILE_BYTES:,}: "
                "no edition of MovieLens is that large. Next: get the archive again from its publisher"
            )
        return self.closing.enter_context(entry.reader())


@contextmanager
def opened(path: Path) -> Iterator[Files]:
    """The files of the zip, wheel or directory at `path`.

    Raises: SourceError when it is none of these, or when it turns out damaged while it is read.
    """
    if path.is_dir():
        with ExitStack() as closing:
            yield Files(path, directory_entries(path), closing)
        return
    try:
        with zipfile.ZipFile(path) as archive, ExitStack() as closing:
            yield Files(path, zip_entries(archive), closing)
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise SourceError(
            f"{path} is not a zip that can be read ({error}). Next: get it again, or pass a zip or a directory in "
            "GroupLens's layout"
        ) from error


def directory_entries(path: Path) -> dict[str, Entry]:
    folder = path.resolve().name
    files = [file for file in sorted(path.iterdir()) if file.is_file()]
    return {file.name: Entry(folder, file.stat().st_size, partial(open_file, file)) for file in files}


def zip_entries(archive: zipfile.ZipFile) -> dict[str, Entry]:
    """Where a name occurs twice, the file nearest to the root counts."""
    entries = {}
    for info in sorted(archive.infolist(), key=lambda info: (-info.filename.count("/"), info.filename)):
        path = PurePosixPath(info.filename)
        if not info.is_dir() and not is_encrypted(info):
            entries[path.name] = Entry(path.parent.name, info.file_size, partial(open_member, archive, info))
    return entries


def is_encrypted(info: zipfile.ZipInfo) -> bool:
    return bool(info.flag_bits & 0x1)


def open_file(path: Path) -> BinaryIO:
    return path.open("rb")


def open_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> BinaryIO:
    try:
        return cast(BinaryIO, archive.open(info))
    except NotImplementedError as error:  # a compression that Python does not know
        raise zipfile.BadZipFile(f"{info.filename}: {error}") from error
