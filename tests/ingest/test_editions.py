"""Every edition, packed as by GroupLens. Planted rows are read back unchanged, real ones match the published counts."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import polars as pl
import pyarrow as pa
import pytest

from recsys.datasets import DATASETS
from recsys.ingest.archives.archives import opened
from recsys.ingest.fetch.fetch import local_archive
from recsys.ingest.parse.formats import read_tables
from recsys.ingest.parse.layouts import LAYOUTS, recognise
from recsys.schema import TABLES
from tests.conftest import RealArchive
from tests.support.archives import Tables, write_edition

RELATIONS = (*TABLES, "rejects")
WHERE = ("source_file", "source_line")


def moments(*seconds: int) -> list[datetime]:
    return [datetime.fromtimestamp(second, UTC) for second in seconds]


# Values that every edition can hold: whole stars, and titles and genres that all of them have.
PLANTED = Tables(
    ratings=pl.DataFrame(
        {
            "user_id": [1, 2, 2, 3],
            "movie_id": [10, 10, 20, 40],
            "rating": [4.0, 5.0, 1.0, 3.0],
            "rated_at": moments(978300760, 978300761, 978300762, 0),
        },
        schema_overrides={"user_id": pl.Int32, "movie_id": pl.Int32, "rating": pl.Float32},
    ),
    movies=pl.DataFrame(
        {
            "movie_id": [10, 20, 30, 40, 50],
            "title": [
                "Misérables, Les",
                'City "of" Lost Children, The (Cité des enfants perdus, La)',
                "1984",
                "Matrix, The",
                "Land Before Time III (V)",
            ],
            "year": [1995, 1995, None, 1999, 1995],
            "genres": [["Drama", "Musical"], ["Sci-Fi"], ["War"], ["Action", "Sci-Fi"], ["Animation"]],
        }
    ),
    users=pl.DataFrame(
        {
            "user_id": [1, 2, 3],
            "gender": ["F", "M", "M"],
            "age": [1, 56, 25],
            "occupation": ["writer", "artist", "other"],
            "zip_code": ["02115", "V3N4P", "48067-1234"],
        }
    ),
    tags=pl.DataFrame(
        {
            "user_id": [1, 2, 7],  # some users have tags only
            "movie_id": [10, 20, 40],
            "tag": ["quirky, odd", '"artsy"', "Kådisbellan: a tag"],
            "tagged_at": moments(978300770, 978300771, 978300772),
        }
    ),
    links=pl.DataFrame(
        {
            "movie_id": [10, 20, 30],
            "imdb_id": ["0113828", "0112682", "0087803"],
            "tmdb_id": [4415, 902, None],
        }
    ),
)


@dataclass(frozen=True)
class Read:
    """Every table, sorted by line, with its Arrow types and the notices."""

    tables: dict[str, pl.DataFrame]
    types: dict[str, pa.Schema]
    notices: list[str]


def read(path: Path) -> Read:
    with duckdb.connect() as connection:
        with opened(path) as files:
            layout = recognise(files)
        notices = read_tables(path, layout, connection)
        tables = {table: connection.sql(f"from {table} order by source_line").to_arrow_table() for table in RELATIONS}
    frames = {table: pl.DataFrame(rows) for table, rows in tables.items()}
    return Read(frames, {table: rows.schema for table, rows in tables.items()}, notices)


@pytest.mark.parametrize("name", DATASETS)
def test_an_edition_is_converted_to_the_canonical_tables(name: str, tmp_path: Path) -> None:
    found = read(write_edition(tmp_path, name, PLANTED))
    layout = LAYOUTS[DATASETS[name].layout]
    assert found.tables["ratings"].drop(WHERE).rows() == PLANTED.ratings.rows()
    assert found.tables["movies"].drop(WHERE).rows() == PLANTED.movies.rows()
    assert found.tables["rejects"].is_empty()
    given = {table for table in ("users", "tags", "links") if getattr(layout, table)}
    for table in given:
        assert found.tables[table].drop(WHERE).rows() == getattr(PLANTED, table).rows()
    for table in {"users", "tags", "links"} - given:
        assert found.tables[table].is_empty()
    for table, schema in TABLES.items():
        types = {column: found.types[table].field(column).type for column in schema.names}
        assert types == {field.name: field.type for field in schema}
    assert found.notices == []


@pytest.mark.parametrize("name", DATASETS)
def test_a_renamed_edition_is_recognised(name: str, tmp_path: Path) -> None:
    path = write_edition(tmp_path, name, PLANTED)
    renamed = path.rename(tmp_path / "copy.zip")
    assert local_archive(str(renamed), renamed, "local file").dataset == name


@pytest.mark.parametrize("name", [name for name, dataset in DATASETS.items() if len(dataset.rating_scale) == 10])
def test_half_stars_and_movies_without_genres_are_read(name: str, tmp_path: Path) -> None:
    halved = PLANTED.ratings.with_columns(pl.col("rating") - 0.5)
    movies = PLANTED.movies.with_columns(genres=pl.lit([], pl.List(pl.String)))
    halves = Tables(halved, movies, PLANTED.users, PLANTED.tags, PLANTED.links)
    tables = read(write_edition(tmp_path, name, halves)).tables
    assert tables["ratings"]["rating"].to_list() == [3.5, 4.5, 0.5, 2.5]
    assert tables["movies"]["genres"].to_list() == [[]] * 5


# ---- the real archives


@pytest.mark.parametrize(
    ("dataset", "stars", "first", "last", "rated"),
    [
        ("ml-100k", [6_110, 11_370, 27_145, 34_174, 21_201], 874724710, 893286638, 1_682),
        ("ml-1m", [56_174, 107_557, 261_197, 348_971, 226_310], 956703932, 1046454590, 3_706),
        (
            "ml-latest-small",
            [1_370, 2_811, 1_791, 7_551, 5_550, 20_047, 13_136, 26_818, 8_551, 13_211],
            828124615,
            1537799250,
            9_724,
        ),
    ],
)
def test_published_figures(
    dataset: str, stars: list[int], first: int, last: int, rated: int, real_archive: Callable[[str], RealArchive]
) -> None:
    archive = real_archive(dataset)
    found = read(archive.path)
    tables = found.tables
    assert tables["rejects"].is_empty()
    assert found.notices == []
    assert tables["movies"]["movie_id"].is_unique().all()
    assert tables["users"]["user_id"].is_unique().all()
    if archive.is_real:
        edition, ratings = DATASETS[dataset], tables["ratings"]
        counts = {"ratings": edition.ratings, "movies": edition.movies, "tags": edition.tags}
        assert {table: tables[table].height for table in counts} == counts
        assert ratings["user_id"].n_unique() == edition.users
        assert tables["users"].height == (edition.users if LAYOUTS[edition.layout].users else 0)
        assert ratings.group_by("rating").len().sort("rating")["len"].to_list() == stars
        assert ratings["rated_at"].dt.epoch("s").min() == first
        assert ratings["rated_at"].dt.epoch("s").max() == last
        assert ratings["movie_id"].n_unique() == rated
        assert set(tables["movies"]["genres"].explode().drop_nulls()) <= set(edition.genres)


def test_published_mean_of_ml_1m(real_archive: Callable[[str], RealArchive]) -> None:
    archive = real_archive("ml-1m")
    mean = read(archive.path).tables["ratings"]["rating"].cast(pl.Float64).mean()
    assert isinstance(mean, float)
    assert round(mean, 6) == 3.581564 or not archive.is_real


def test_published_titles_of_ml_100k(real_archive: Callable[[str], RealArchive]) -> None:
    archive = real_archive("ml-100k")
    movies = read(archive.path).tables["movies"]
    if archive.is_real:
        named = {movie_id: rest for movie_id, *rest in movies.drop(WHERE).iter_rows()}
        assert named[1] == ["Toy Story", 1995, ["Animation", "Children's", "Comedy"]]
        assert named[267] == ["unknown", None, ["unknown"]]
        assert named[543] == ["Misérables, Les", 1995, ["Drama", "Musical"]]
        assert movies["year"].null_count() == 1


def test_published_tags_and_links_of_ml_latest_small(real_archive: Callable[[str], RealArchive]) -> None:
    archive = real_archive("ml-latest-small")
    tables = read(archive.path).tables
    if archive.is_real:
        tags, links = tables["tags"], tables["links"]
        assert tags.filter(tag='"artsy"').select("user_id", "movie_id").rows() == [(567, 4552)]
        assert tags["tagged_at"].dt.epoch("s").min() == 1137179352
        assert links.height == 9_742
        assert links.filter(movie_id=1).drop(WHERE).rows() == [(1, "0114709", 862)]
        assert links["tmdb_id"].null_count() == 8
        assert tables["movies"].filter(pl.col("genres").list.len() == 0).height == 34
