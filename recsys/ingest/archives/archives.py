"""Opens a zip, a wheel or a directory and reads files from it by name.

Nothing is unpacked. A file is found by its name without folders and read as a stream, so a path inside an archive is
never used as a path on this machine. `zips` has the checks of a zip.
"""

import io
import stat
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import BinaryIO, NoReturn

from recsys.errors import SourceError
from recsys.ingest.archives import zips
from recsys.ingest.archives.signatures import file_looks_like
from recsys.ingest.archives.zips import Limits


@dataclass(frozen=True)
class Entry:
    """One file of a source: the name of its folder, its unpacked size, and how to read it."""

    folder: str
    size_bytes: int
    reader: Callable[[], BinaryIO]


@dataclass(frozen=True)
class Files:
    """The files of an open source, by their names without folders."""

    path: Path
    entries: Mapping[str, Entry]
    closing: ExitStack  # closes the files that were opened

    def __contains__(self, name: str) -> bool:
        return name in self.entries

    def open(self, name: str) -> BinaryIO:
        """Opens a file as a stream that is closed with the source. A zip's checksum is checked at the end of the file.

        Raises: SourceError if the file is missing or ambiguous, and while the stream is read if it is damaged.
        """
        if name not in self:
            raise SourceError(f"{self.path} has no {name}. Next: pass the complete archive, as it was published")
        return self.closing.enter_context(self.entries[name].reader())


@contextmanager
def opened(path: Path, limits: Limits = zips.LIMITS) -> Iterator[Files]:
    """Opens the zip, wheel or directory at `path` and yields its files.

    Raises: SourceError if it is none of these, is damaged, or breaks one of `limits`.
    """
    with ExitStack() as closing:
        if path.is_dir():
            yield Files(path, directory_entries(path), closing)
        else:
            archive = open_zip(path, limits, closing)
            yield Files(path, zip_entries(archive, path), closing)


def check_regular(path: Path) -> None:
    """Raises: SourceError if `path` cannot be opened, or is a pipe or a device, which may block or never end."""
    try:
        mode = path.stat().st_mode
    except OSError as error:
        raise SourceError(f"{path} cannot be opened ({error.strerror}). Next: check the path") from error
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        kind = zips.KINDS.get(stat.S_IFMT(mode), "not a file")
        raise SourceError(f"{path} is {kind}; only files and folders are read. Next: pass a file, or remove it")


def directory_entries(path: Path) -> dict[str, Entry]:
    """Lists the files directly in `path`. Raises: SourceError for a link to another folder, a pipe or a device."""
    folder = path.resolve()
    try:
        files = sorted(path.iterdir())
    except OSError as error:
        raise SourceError(f"{path} cannot be opened ({error.strerror}). Next: check its permissions") from error
    for file in files:
        check_inside(file, folder)
    existing = [file for file in files if file.exists()]  # an editor's lock is a dangling link
    for file in existing:
        check_regular(file)
    return {file.name: directory_entry(file, folder) for file in existing if file.is_file()}


def check_inside(file: Path, folder: Path) -> None:
    if not file.is_symlink():
        return
    try:
        target = file.resolve()
    except (OSError, RuntimeError) as error:  # a loop of links, which newer Pythons leave to check_regular
        raise SourceError(f"{file} is a link that leads nowhere. Next: remove it") from error
    if not target.is_relative_to(folder):
        raise SourceError(
            f"{file} is a link to {target}, outside the folder; such files are not read. Next: pass the folder that "
            "has the files, or replace the link with a copy"
        )


def directory_entry(file: Path, folder: Path) -> Entry:
    return Entry(folder.name, file.stat().st_size, lambda: io.BufferedReader(open_file(file)))


def open_file(path: Path) -> io.FileIO:
    try:
        return path.open("rb", buffering=0)
    except OSError as error:
        raise SourceError(f"{path} cannot be opened ({error.strerror}). Next: check its permissions") from error


def open_zip(path: Path, limits: Limits, closing: ExitStack) -> zipfile.ZipFile:
    """Raises: SourceError if the file is not a zip, is damaged, or breaks one of `limits`."""
    check_regular(path)
    file = closing.enter_context(io.BufferedReader(open_file(path)))
    try:
        archive = closing.enter_context(zipfile.ZipFile(file))
    except zips.DAMAGE as error:
        raise SourceError(
            f"{path} is not a readable zip: it looks like {file_looks_like(path)} ({error}). Next: get it again, or "
            "pass a zip or a directory in GroupLens's layout"
        ) from error
    zips.inspect(archive, path, limits)
    return archive


def zip_entries(archive: zipfile.ZipFile, path: Path) -> dict[str, Entry]:
    """If a name occurs in several folders, the file nearest to the root is used. A tie is ambiguous."""
    entries: dict[str, Entry] = {}
    nearest: dict[str, zipfile.ZipInfo] = {}
    for info in sorted(archive.infolist(), key=lambda info: (info.filename.count("/"), info.filename)):
        if info.is_dir():
            continue
        name = PurePosixPath(info.filename).name
        first = nearest.setdefault(name, info)
        if first is info:
            entries[name] = zip_entry(archive, info, path)
        elif first.filename.count("/") == info.filename.count("/"):
            entries[name] = Entry("", info.file_size, partial(refuse_ambiguous, path, first, info))
    return entries


def zip_entry(archive: zipfile.ZipFile, info: zipfile.ZipInfo, path: Path) -> Entry:
    folder = PurePosixPath(info.filename).parent.name
    return Entry(folder, info.file_size, lambda: io.BufferedReader(zips.Member(archive, info, path)))


def refuse_ambiguous(path: Path, first: zipfile.ZipInfo, second: zipfile.ZipInfo) -> NoReturn:
    raise SourceError(
        f"{path} has both {zips.quoted(first.filename)} and {zips.quoted(second.filename)}. Next: pass an archive of "
        "one edition"
    )
