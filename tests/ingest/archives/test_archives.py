"""Archives and folders that are refused (tests/support/hostile.py), and unusual ones that are accepted."""

import io
import os
import socket
import struct
import zipfile
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.datasets import DATASETS
from recsys.errors import SourceError
from recsys.ingest.archives.archives import check_regular, opened
from recsys.ingest.archives.zips import Limits, quoted
from tests.conftest import RealArchive
from tests.support.archives import write_stand_in
from tests.support.hostile import (
    FOLDERS,
    FOUND_WHEN_READ,
    IN_ZIP64,
    ZIPS,
    Item,
    Kinds,
    edition,
    with_pipe,
    write,
    write_folder,
    zip_bytes,
)

RIGHT_64 = struct.pack("<2HQ", 1, 8, 3)  # a zip64 field with the size of 3 bytes


def every(kinds: Kinds) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("kind", kinds)


def tree(folder: Path) -> set[Path]:
    return {path.relative_to(folder) for path in folder.rglob("*")}


# ---- zips


@every(ZIPS)
def test_an_unsafe_or_damaged_zip_is_refused_and_writes_nothing(kind: str, tmp_path: Path) -> None:
    write_it, words = ZIPS[kind]
    path = write_it(tmp_path / "ml-1m.zip")
    before = tree(tmp_path)
    with pytest.raises(SourceError, match=words) as refusal, opened(path) as files:
        assert kind in FOUND_WHEN_READ, "it should have been refused when it was opened"
        files.open("ratings.dat").read()
    message = str(refusal.value)
    assert "ml-1m.zip" in message
    assert "Next: " in message
    assert message.isprintable()  # so a terminal is safe
    assert tree(tmp_path) == before
    assert not Path("/tmp/escaped").exists()


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_a_zip_with_any_bytes_changed_reads_the_same_or_is_refused(data: st.DataObject) -> None:
    """Most changes are in the directory, which zipfile trusts."""
    whole = fuzzed_zip()
    directory = whole.index(b"PK\x01\x02")
    changed = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.one_of(st.integers(directory, len(whole) - 1), st.integers(0, len(whole) - 1)))
        changed[place] = data.draw(st.one_of(st.sampled_from([0, 1, 255]), st.integers(0, 255)))
    cut = data.draw(st.one_of(st.just(len(whole)), st.integers(0, len(whole))))
    with TemporaryDirectory() as folder:
        path = write(Path(folder) / "ml-1m.zip", bytes(changed[:cut]))
        with suppress(SourceError), opened(path) as files:
            for item in edition():
                name = Path(item.name.decode()).name
                assert name not in files or files.open(name).read() == item.content


@cache
def fuzzed_zip() -> bytes:
    return zip_bytes([*edition(), Item(b"ml-1m/big", b"abc", extra=RIGHT_64, claimed_bytes=IN_ZIP64)])


def test_an_entry_before_the_start_of_a_zip_is_refused(tmp_path: Path) -> None:
    """The end of the zip says that its directory begins 10 bytes later, so the first entry would be at byte -10."""
    whole = bytearray(zip_bytes(edition()))
    whole[-6:-2] = struct.pack("<L", struct.unpack("<L", whole[-6:-2])[0] + 10)
    with pytest.raises(SourceError), opened(write(tmp_path / "ml-1m.zip", bytes(whole))) as files:
        files.open("ratings.dat").read()


def test_a_valid_edition_is_read(tmp_path: Path) -> None:
    ratings = edition()[0]
    with opened(write(tmp_path / "ml-1m.zip", zip_bytes(edition()))) as files:
        assert set(files.entries) == {"ratings.dat", "movies.dat", "users.dat"}
        assert files.open("ratings.dat").read() == ratings.content


def test_files_that_operating_systems_add_are_ignored(tmp_path: Path) -> None:
    path = write_stand_in(tmp_path / "ml-1m.zip", "ml-1m")
    with zipfile.ZipFile(path, "a") as archive:
        archive.mkdir("__MACOSX")
        for stray in ("__MACOSX/ml-1m/._ratings.dat", "ml-1m/.DS_Store", "ml-1m/README", "Thumbs.db", "empty.txt"):
            archive.writestr(stray, b"\x00\x05\x16\x07" if stray != "empty.txt" else b"")
    with opened(path) as files:
        assert files.open("ratings.dat").readline().count(b"::") == 3


@pytest.mark.parametrize("dataset", DATASETS)
def test_every_file_of_a_published_archive_is_read(dataset: str, real_archive: Callable[[str], RealArchive]) -> None:
    with opened(real_archive(dataset).path) as files:
        sizes = {name: len(files.open(name).read()) for name in files.entries}
        assert sizes == {name: entry.size_bytes for name, entry in files.entries.items()}


def test_the_file_nearest_to_the_root_is_used(tmp_path: Path) -> None:
    items = [Item(b"ml-100k/backup/u.data", b"wrong"), Item(b"ml-100k/u.data", b"right")]
    with opened(write(tmp_path / "twice.zip", zip_bytes(items))) as files:
        assert files.open("u.data").read() == b"right"
        assert files.entries["u.data"].folder == "ml-100k"


def test_two_files_equally_near_to_the_root_are_ambiguous(tmp_path: Path) -> None:
    items = [Item(b"old/u.data", b"1"), Item(b"new/u.data", b"2"), Item(b"new/u.item", b"3")]
    with opened(write(tmp_path / "two.zip", zip_bytes(items))) as files:
        assert files.open("u.item").read() == b"3"
        with pytest.raises(SourceError, match=r"has both 'new/u\.data' and 'old/u\.data'"):
            files.open("u.data")


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        (Limits(entries=2), "has 3 entries, the limit is 2"),
        (Limits(file_bytes=1_000), r"'ml-1m/ratings\.dat' unpacks to [\d,]+ bytes, the limit is 1,000"),
        (Limits(total_bytes=13_000), r"3 entries unpack from [\d,]+ to [\d,]+ bytes in all"),
        (Limits(ratio=1, ratio_from_bytes=5_000), r"times as many, the limit is 1 times"),
    ],
)
def test_every_limit_is_enforced(limits: Limits, words: str, tmp_path: Path) -> None:
    path = write(tmp_path / "ml-1m.zip", zip_bytes(edition()))
    with pytest.raises(SourceError, match=words), opened(path, limits):
        pass


def test_a_small_file_may_have_any_ratio(tmp_path: Path) -> None:
    path = write(tmp_path / "ml-1m.zip", zip_bytes([*edition(), Item(b"zeros", bytes(2**20))]))
    with opened(path) as files:
        assert len(files.open("zeros").read()) == 2**20


def test_a_name_is_shown_short_and_escaped() -> None:
    assert quoted("ml-1m/\x1b[31m") == r"'ml-1m/\x1b[31m'"
    assert len(quoted("a" * 60_000)) == 80


def test_the_checksum_of_parquet_in_a_zip_is_checked_before_random_access(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    table = pl.DataFrame({"user_id": range(1_000)})
    table.write_parquet(buffer)
    honest = Item(b"ratings.parquet", buffer.getvalue())
    with opened(write(tmp_path / "honest.zip", zip_bytes([honest]))) as files:
        stream = files.open("ratings.parquet")
        assert stream.seek(-4, io.SEEK_END) == len(honest.content) - 4
        assert stream.read() == b"PAR1"
        assert pq.read_table(files.open("ratings.parquet")).equals(
            table.to_arrow().cast(pa.schema({"user_id": pa.int64()}))
        )
    damaged = Item(honest.name, honest.content, crc=1)
    with opened(write(tmp_path / "damaged.zip", zip_bytes([damaged]))) as files:
        stream = files.open("ratings.parquet")
        with pytest.raises(SourceError, match="Bad CRC-32"):
            pq.read_table(stream)


# ---- folders


@every(FOLDERS)
@pytest.mark.timeout(20)  # opening a pipe blocks
def test_an_unsafe_folder_is_refused(kind: str, tmp_path: Path) -> None:
    write_it, words = FOLDERS[kind]
    path = write_it(tmp_path / "ml-1m")
    with pytest.raises(SourceError, match=words) as refusal, opened(path):
        pass
    assert "Next: " in str(refusal.value)


def test_links_within_a_folder_are_read_and_dangling_ones_ignored(tmp_path: Path) -> None:
    path = write_folder(tmp_path / "ml-1m")
    (path / "2003-02-28.dat").symlink_to("ratings.dat")
    (path / ".#ratings.dat").symlink_to("user@host.1234")  # a lock file of Emacs
    (path / "folder").mkdir()
    with opened(path) as files:
        assert set(files.entries) == {"ratings.dat", "movies.dat", "users.dat", "2003-02-28.dat"}
        assert files.open("2003-02-28.dat").read() == edition()[0].content


def test_the_folder_itself_may_be_a_link(tmp_path: Path) -> None:
    (tmp_path / "latest").symlink_to(write_folder(tmp_path / "ml-1m"))
    with opened(tmp_path / "latest") as files:
        assert files.entries["ratings.dat"].folder == "ml-1m"


@pytest.mark.timeout(20)
def test_pipes_devices_and_sockets_are_refused(tmp_path: Path) -> None:
    with_pipe(tmp_path / "folder")
    os.mkfifo(tmp_path / "ml-1m.zip")
    with pytest.raises(SourceError, match=r"ml-1m\.zip is a named pipe"), opened(tmp_path / "ml-1m.zip"):
        pass
    with pytest.raises(SourceError, match="is a device"):
        check_regular(Path("/dev/zero"))
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket"))
        with pytest.raises(SourceError, match="is a socket"):
            check_regular(tmp_path / "socket")


def test_a_missing_archive_is_reported(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"cannot be opened \(No such file"), opened(tmp_path / "gone.zip"):
        pass


def test_a_missing_file_of_an_archive_is_named(tmp_path: Path) -> None:
    with opened(tmp_path) as files, pytest.raises(SourceError, match=r"has no u\.genre"):
        files.open("u.genre")
