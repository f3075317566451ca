import zipfile
from pathlib import Path

import polars as pl
import pytest

from recsys.errors import DataRefused, UsageError
from recsys.ingest.fetch.fetch import Archive
from recsys.split.provided import Provided
from tests.support.planted import LEVELS, ratings

RATED = ratings()
PAIRS = ["user_id", "movie_id"]


def archive(path: Path | None) -> Archive:
    return Archive("here", "ml-100k", "0" * 64, "local file", path, "ml-100k")


def lines(frame: pl.DataFrame) -> str:
    rows = frame.select("user_id", "movie_id", pl.col("rating").cast(pl.Int64), pl.col("rated_at").dt.epoch("s"))
    return "".join("\t".join(map(str, row)) + "\n" for row in rows.iter_rows())


def write_zip(folder: Path, base: pl.DataFrame, test: pl.DataFrame) -> Path:
    path = folder / "ml-100k.zip"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("ml-100k/u1.base", lines(base))
        file.writestr("ml-100k/u1.test", lines(test))
    return path


def test_a_published_split_is_read_from_a_zip_or_a_folder(tmp_path: Path) -> None:
    path = write_zip(tmp_path, RATED.tail(900).reverse(), RATED.head(300))
    with zipfile.ZipFile(path) as file:
        file.extractall(tmp_path)
    for place in (path, tmp_path / "ml-100k"):
        train, holdout = Provided("u1", 0.1).read(RATED, LEVELS, archive(place))
        assert train.equals(RATED.tail(900).sort(PAIRS))
        assert holdout.equals(RATED.head(300).sort(PAIRS))


def test_refused_ratings_are_in_neither_part(tmp_path: Path) -> None:
    path = write_zip(tmp_path, RATED.tail(900), RATED.head(300))
    admitted = RATED.filter(pl.col("user_id") != 7)
    train, holdout = Provided("u1", 0.1).read(admitted, LEVELS, archive(path))
    assert pl.concat([train, holdout]).sort(PAIRS).equals(admitted.sort(PAIRS))


@pytest.mark.parametrize("place", ["wheel", None])
def test_an_archive_without_the_published_parts_is_refused(place: str | None, tmp_path: Path) -> None:
    if place:
        with zipfile.ZipFile(tmp_path / place, "w") as file:
            file.writestr("ml-100k/u.data", lines(RATED))
    path = tmp_path / place if place else None
    with pytest.raises(UsageError, match=r"split u2 .* has no u2\.base and u2\.test.*GroupLens's ml-100k\.zip"):
        Provided("u2", 0.1).read(RATED, LEVELS, archive(path))


def test_invalid_published_parts_are_refused(tmp_path: Path) -> None:
    for name in ("u1.base", "u1.test"):
        (tmp_path / name).write_text("user,movie\n1,2\n")
    with pytest.raises(DataRefused, match=r"u1\.base that is not user, movie, rating and seconds"):
        Provided("u1", 0.1).read(RATED, LEVELS, archive(tmp_path))
    for name in ("u1.base", "u1.test"):
        (tmp_path / name).write_text("99999\t99999\t3\t0\n")
    with pytest.raises(DataRefused, match=r"u1 of .* has none of the ratings that the checks admitted"):
        Provided("u1", 0.1).read(RATED, LEVELS, archive(tmp_path))


def test_two_files_keep_the_columns_that_both_have(tmp_path: Path) -> None:
    paths = tmp_path / "train.parquet", tmp_path / "holdout.parquet"
    RATED.tail(900).reverse().write_parquet(paths[0])
    RATED.head(300).drop("rated_at").write_parquet(paths[1])
    provided = Provided("files", 0.1, *paths)
    train, holdout = provided.read(RATED, LEVELS, archive(None))
    shared = ["user_id", "movie_id", "rating"]
    assert train.equals(RATED.tail(900).sort(PAIRS).select(shared))
    assert holdout.equals(RATED.head(300).sort(PAIRS).select(shared))
    before = provided.digests()
    assert len(before) == 2
    RATED.head(299).write_parquet(paths[1])
    assert [old == new for old, new in zip(before, provided.digests(), strict=True)] == [True, False]
