"""Files that lie beside the tables of a source: those that look like a table stop the night, others are named."""

import gzip
import logging
from pathlib import Path

import pytest

from recsys.errors import DataRefused
from recsys.home import Home
from recsys.ingest.fetch.fetch import fetch_archive
from recsys.ingest.parse.drop_files import list_drops
from recsys.ingest.parse.unread import looks_like_table
from recsys.ingest.write import write_snapshot
from tests.support.archives import write_files
from tests.support.spoiling import drops, edition, packed, write_drops


@pytest.mark.parametrize(
    "name",
    [
        "rating-2001-11-22.csv",
        "daily_ratings.csv",
        "ratings-2001-11-23.csv.gz",
        "ratngs.csv",
        "Users (copy).tsv",
        "movies.parquet.zst",
        "2026-ratings.jsonl",
        "link.csv",
        "retraction.csv",
    ],
)
def test_a_near_miss_stops_the_night(name: str, tmp_path: Path, home: Home) -> None:
    folder = write_drops(tmp_path / "drops")
    (folder / name).write_bytes(b"user_id,movie_id,rating,rated_at\n")
    with pytest.raises(DataRefused, match=r"which would not be read beside links\.csv, movies\.csv") as refusal:
        fetch_archive(str(folder), home)
    assert name in str(refusal.value)


@pytest.mark.parametrize(
    "name",
    [
        "notes.txt",
        "poster.csv",
        "ratings.pdf",
        "README.md",
        "events.csv",
        "genome-scores.bin",
        "dating.csv",
        "lines.csv",
    ],
)
def test_other_files_are_named(name: str, tmp_path: Path, home: Home, caplog: pytest.LogCaptureFixture) -> None:
    assert not looks_like_table(name)
    folder = write_drops(tmp_path / "drops")
    before = fetch_archive(str(folder), home)
    (folder / name).write_text("other things")
    with caplog.at_level(logging.INFO, logger="recsys"):
        assert fetch_archive(str(folder), home).sha256 == before.sha256
    assert ("not used" in caplog.text) == (name != "README.md")
    assert (name in caplog.text) == (name != "README.md")


@pytest.mark.parametrize(
    ("name", "shown"), [("2001-11/ratings.csv", "2001-11/ratings.csv"), ("ratings/2001.csv", "ratings/2001.csv")]
)
def test_tables_in_a_folder_stop_the_night(name: str, shown: str, tmp_path: Path, home: Home) -> None:
    folder = write_drops(tmp_path / "drops")
    (folder / name).parent.mkdir()
    (folder / name).write_bytes(drops()["ratings.csv"])
    with pytest.raises(DataRefused, match=f"has {shown}, which would not be read"):
        fetch_archive(str(folder), home)


@pytest.mark.parametrize("name", ["ratings20011121.csv", "Ratings-2.CSV", "ratings.2.csv", "ratings c.csv"])
def test_a_name_that_begins_with_a_table_is_read(name: str, tmp_path: Path, home: Home) -> None:
    folder = write_drops(tmp_path / "drops")
    (folder / name).write_bytes(drops()["ratings.csv"])
    assert name in {drop.name for drop in list_drops(folder) if drop.table == "ratings"}
    fetch_archive(str(folder), home)


def test_an_increment_beside_an_edition_stops_the_night(tmp_path: Path, home: Home) -> None:
    files = {**edition(), "ratings-2001-11-21.csv": edition()["ratings.csv"]}
    for name in ("ml-latest-small", "ml-latest-small.zip"):
        source = write_files(tmp_path / name, files, "ml-latest-small")
        with pytest.raises(DataRefused, match=r"has ratings-2001-11-21\.csv, which .* one file per table: "):
            fetch_archive(str(source), home)


def test_the_parts_of_a_table_that_spark_wrote_are_read(tmp_path: Path, home: Home) -> None:
    """Spark writes a folder, named like a file, with the parts of the table and with files of its own."""
    folder = write_drops(tmp_path / "drops")
    expected = count_ratings(folder, home)
    (folder / "ratings.csv").unlink()
    parts = folder / "ratings.parquet"
    parts.mkdir()
    (parts / "part-00000-4f1c.snappy.parquet").write_bytes(packed()["ratings.parquet"])
    for name in ("_SUCCESS", ".part-00000-4f1c.snappy.parquet.crc", "_metadata.parquet"):
        (parts / name).write_bytes(b"")
    assert [drop.name for drop in list_drops(folder) if drop.table == "ratings"] == [
        "ratings.parquet/part-00000-4f1c.snappy.parquet"
    ]
    assert count_ratings(folder, home) == expected > 0


def count_ratings(folder: Path, home: Home) -> int:
    n_ratings: int = write_snapshot(fetch_archive(str(folder), home), home).manifest["rows"]["ratings"]
    return n_ratings


def test_what_is_not_part_of_the_source_does_not_stop_the_night(tmp_path: Path, home: Home) -> None:
    """A home with outputs inside the source, hidden folders, and the files that macOS adds to zips."""
    folder = write_drops(tmp_path / "drops")
    for name in ("data/runs/20261121T030000Z/split/ratings.parquet", ".git/ratings.csv"):
        (folder / name).parent.mkdir(parents=True)
        (folder / name).write_bytes(b"")
    assert fetch_archive(str(folder), home).notice is None
    zipped = write_files(tmp_path / "ml-25m.zip", {**edition(), "._ratings.csv": b"x"}, "ml-25m")
    assert fetch_archive(str(zipped), home).notice is None


def test_a_compressed_drop_is_named(tmp_path: Path, home: Home) -> None:
    folder = write_drops(tmp_path / "drops")
    (folder / "ratings-2.csv.gz").write_bytes(gzip.compress(drops()["ratings.csv"]))
    with pytest.raises(DataRefused, match=r"ratings-2\.csv\.gz"):
        fetch_archive(str(folder), home)


def test_tables_of_an_edition_that_are_not_used_are_named(
    tmp_path: Path, home: Home, caplog: pytest.LogCaptureFixture
) -> None:
    source = write_files(tmp_path / "ml-25m.zip", {**edition(), "genome-tags.csv": b"tagId,tag\n"}, "ml-25m")
    with caplog.at_level(logging.INFO, logger="recsys"):
        fetch_archive(str(source), home)
    assert "not used: genome-tags.csv" in caplog.text
