import shutil
import zipfile
from pathlib import Path

import pytest
from archives import write_stand_in

from recsys.errors import SourceError
from recsys.ingest import archives
from recsys.ingest.archives import opened


def test_a_path_in_a_zip_is_never_a_path_here(tmp_path: Path) -> None:
    path = tmp_path / "evil.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("../../escaped/u.data", "1\t1\t5\t0\n")
        archive.writestr("u.item", "")
    with opened(path) as files:
        assert set(files.entries) == {"u.data", "u.item"}
        assert files.open("u.data").read() == b"1\t1\t5\t0\n"
    assert [file.name for file in tmp_path.iterdir()] == ["evil.zip"]


def test_the_file_nearest_to_the_root_counts(tmp_path: Path) -> None:
    path = tmp_path / "twice.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("ml-100k/u.data", "right")
        archive.writestr("ml-100k/backup/u.data", "wrong")
    with opened(path) as files:
        assert files.open("u.data").read() == b"right"


def test_a_bomb_is_not_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "bomb.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("ml-1m/ratings.dat", b"0" * 10_000)
    monkeypatch.setattr(archives, "MAX_FILE_BYTES", 9_999)  # four gigabytes of zeros would only cost time
    with pytest.raises(SourceError, match="unpacks to 10,000 bytes, the limit is 9,999"), opened(path) as files:
        files.open("ratings.dat")


def test_a_zip_damaged_in_the_middle_is_refused_when_read(tmp_path: Path) -> None:
    path = write_stand_in(tmp_path / "ml-1m.zip", "ml-1m")
    damaged = bytearray(path.read_bytes())
    damaged[5_000:5_100] = bytes(100)
    path.write_bytes(damaged)
    with pytest.raises(SourceError, match="is not a zip that can be read"), opened(path) as files:
        files.open("ratings.dat").read()


def test_a_truncated_zip_is_refused(tmp_path: Path) -> None:
    whole = write_stand_in(tmp_path / "whole.zip", "ml-1m")
    path = Path(shutil.copy(whole, tmp_path / "ml-1m.zip"))
    path.write_bytes(path.read_bytes()[:20_000])
    with pytest.raises(SourceError, match="is not a zip"), opened(path):
        pass


def test_a_compression_unknown_here_is_refused(tmp_path: Path) -> None:
    path = write_stand_in(tmp_path / "ml-1m.zip", "ml-1m")
    content = path.read_bytes()  # the method stands in the directory at the end: 8 deflated, 99 nothing known
    entry = content.index(b"PK\x01\x02")
    path.write_bytes(content[: entry + 10] + b"\x63\x00" + content[entry + 12 :])
    with pytest.raises(SourceError, match="is not a zip that can be read"), opened(path) as files:
        files.open("ratings.dat")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with opened(tmp_path) as files, pytest.raises(SourceError, match=r"has no u\.genre"):
        files.open("u.genre")
