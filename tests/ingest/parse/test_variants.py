"""Files that differ from the published form, but can only mean one thing, are read as what they mean."""

from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.ingest.parse.test_formats import MOVIES, RATINGS, USERS, read, write_latest
from tests.support.archives import render, write_files


@pytest.mark.parametrize(("layout", "file"), [("ml-1m", "movies.dat"), ("ml-100k", "u.item")])
def test_an_edition_that_was_converted_to_utf8_has_the_same_titles(layout: str, file: str, tmp_path: Path) -> None:
    files = render(layout, RATINGS, MOVIES, USERS)
    published = read(write_files(tmp_path / "published", files, layout))
    converted = {**files, file: files[file].decode("latin-1").encode()}
    assert converted[file] != files[file]
    found = read(write_files(tmp_path / "converted", converted, layout))
    assert found["movies"].equals(published["movies"])
    assert found["movies"]["title"].sort().to_list() == sorted(MOVIES["title"])


@pytest.mark.parametrize("listed", ["Drama, Musical", "Drama; Musical", " Drama | Musical ", "Musical|Drama|"])
def test_genres_may_have_other_separators_and_blanks(listed: str, tmp_path: Path) -> None:
    source = write_latest(tmp_path / "latest", movies=f'10,A (1995),"{listed}"\n')
    assert read(source)["movies"]["genres"].to_list() == [["Drama", "Musical"]]


@pytest.mark.parametrize(
    "header",
    [
        "userId,movieId,rating,timestamp",
        "timestamp,rating,userId,movieId",
        ",userId,movieId,rating,timestamp",
        "rating,timestamp,movieId,userId,device",
    ],
)
def test_columns_of_an_edition_are_found_by_name(header: str, tmp_path: Path) -> None:
    values = {"userId": "1", "movieId": "10", "rating": "4.0", "timestamp": "978300760", "": "0", "device": "tv"}
    source = write_latest(tmp_path / "latest")
    line = ",".join(values[name] for name in header.split(","))
    (source / "ratings.csv").write_text(f"{header}\n{line}\n")
    assert read(source)["ratings"].select("user_id", "movie_id", "rating").rows() == [(1, 10, 4.0)]


def test_nan_in_parquet_is_a_missing_value(tmp_path: Path) -> None:
    movies = pa.table({"movie_id": [10, 20], "title": ["A", "B"], "year": [1995.0, float("nan")], "genres": [[], []]})
    tables = read(
        write_parquet(tmp_path, movies=movies.set_column(3, "genres", pa.array([[], []], pa.list_(pa.string()))))
    )
    assert tables["movies"].select("movie_id", "year").rows() == [(10, 1995), (20, None)]
    assert tables["rejects"].is_empty()


def test_decimals_without_a_fraction_are_ids(tmp_path: Path) -> None:
    ratings = RATINGS.to_arrow()
    for name in ("user_id", "movie_id"):
        ids = pa.array([Decimal(value) for value in RATINGS[name]], pa.decimal128(10, 0))
        ratings = ratings.set_column(ratings.schema.get_field_index(name), name, ids)
    tables = read(write_parquet(tmp_path, ratings=ratings))
    columns = ["user_id", "movie_id", "rating"]
    assert tables["ratings"].select(columns).equals(RATINGS.select(columns))


def write_parquet(folder: Path, **changed: pa.Table) -> Path:
    tables: dict[str, pa.Table] = {"ratings": RATINGS.to_arrow(), "movies": MOVIES.to_arrow(), **changed}
    for name, table in tables.items():
        pq.write_table(table, folder / f"{name}.parquet")
    return folder
