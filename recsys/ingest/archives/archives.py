"""Opening what a source came in (a zip, a wheel, a directory) and reading known files from it, nothing else.

Nothing is unpacked: a file is found by its bare name and read as a stream, so a path inside an archive is never a
path on this machine. What no honest archive holds is refused as it is opened, see `zips`.
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
        """The file's bytes as a stream, closed with the source. A zip's checksum is checked when its end is reached.

        Raises: SourceError when it is missing or there is more than one; the stream does when it turns out damaged.
        """
        if name not in self:
            raise SourceError(f"{self.path} has no {name}. Next: pass the archive whole, as it was published")
        return self.closing.enter_context(self.entries[name].reader())


@contextmanager
def opened(path: Path, limits: Limits = zips.LIMITS) -> Iterator[Files]:
    """The files of the zip, wheel or directory at `path`.

    Raises: SourceError when it is none of these, damaged, or holds what no honest archive does.
    """
    with ExitStack() as closing:
        if path.is_dir():
            yield Files(path, directory_entries(path), closing)
        else:
            archive = open_zip(path, limits, closing)
            yield Files(path, zip_entries(archive, path), closing)


def check_regular(path: Path) -> None:
    """Raises: SourceError when `path` cannot be opened, or would not end or answer when it is: a pipe, a device."""
    try:
        mode = path.stat().st_mode
    except OSError as error:
        raise SourceError(f"{path} cannot be opened ({error.strerror}). Next: check the path") from error
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        kind = zips.KINDS.get(stat.S_IFMT(mode), "no file")
        raise SourceError(f"{path} is {kind}; only files and folders are read. Next: pass a file, or remove it")


def directory_entries(path: Path) -> dict[str, Entry]:
    """The files right in `path`. Raises: SourceError when it holds a link that leads out of it, a pipe or a device."""
    folder = path.resolve()
    try:
        files = sorted(path.iterdir())
    except OSError as error:
        raise SourceError(f"{path} cannot be opened ({error.strerror}). Next: check who may read it") from error
    for file in files:
        check_inside(file, folder)
    there = [file for file in files if file.exists()]  # an editor's lock is a link to nothing
    for file in there:
        check_regular(file)
    return {file.name: directory_entry(file, folder) for file in there if file.is_file()}


def check_inside(file: Path, folder: Path) -> None:
    if not file.is_symlink():
        return
    try:
        target = file.resolve()
    except (OSError, RuntimeError) as error:  # links in a circle, which newer Pythons leave to check_regular
        raise SourceError(f"{file} is a link that leads nowhere. Next: remove it") from error
    if not target.is_relative_to(folder):
        raise SourceError(
            f"{file} is a link to {target}, outside the folder, of which nothing is read. Next: pass the folder that "
            "the files are in, or put a copy in place of the link"
        )


def directory_entry(file: Path, folder: Path) -> Entry:
    return Entry(folder.name, file.stat().st_size, lambda: io.BufferedReader(open_file(file)))


def open_file(path: Path) -> io.FileIO:
    try:
        return path.open("rb", buffering=0)
    except OSError as error:
        raise SourceError(f"{path} cannot be opened ({error.strerror}). Next: check who may read it") from error


def open_zip(path: Path, limits: Limits, closing: ExitStack) -> zipfile.ZipFile:
    """Raises: SourceError when it is no zip, or one that cannot be trusted."""
    check_regular(path)
    file = closing.enter_context(zips.Bounded(open_file(path), limits.directory_bytes))
    try:
        archive = closing.enter_context(zipfile.ZipFile(file))
    except (*zips.DAMAGE, OSError) as error:
        raise SourceError(
            f"{path} is not a zip that can be read: it looks like {file_looks_like(path)} ({error}). Next: get it "
            "again, or pass a zip or a directory in GroupLens's layout"
        ) from error
    zips.inspect(archive, path, limits)
    return archive


def zip_entries(archive: zipfile.ZipFile, path: Path) -> dict[str, Entry]:
    """Where a name occurs in several folders, the file nearest to the root counts; of two equally near, neither."""
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
            entries[name] = Entry("", info.file_size, partial(refuse_choice, path, first, info))
    return entries


def zip_entry(archive: zipfile.ZipFile, info: zipfile.ZipInfo, path: Path) -> Entry:
    folder = PurePosixPath(info.filename).parent.name
    return Entry(folder, info.file_size, lambda: io.BufferedReader(zips.Member(archive, info, path)))


def refuse_choice(path: Path, first: zipfile.ZipInfo, second: zipfile.ZipInfo) -> NoReturn:
    raise SourceError(
        f"{path} has both {zips.shown(first.filename)} and {zips.shown(second.filename)}, and no telling which counts. "
        "Next: pass an archive of one edition"
    )
