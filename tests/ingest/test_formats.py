import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import polars as pl
import pytest
from archives import write_archive
from conftest import RealArchive

from recsys.errors import DataRefused, SourceError
from recsys.ingest.archives import opened
from recsys.ingest.datasets import DATASETS, LayoutName
from recsys.ingest.formats import read_tables
from recsys.ingest.layouts import recognise
from recsys.ingest.synthetic import plant

TABLES = ("ratings", "movies", "users", "rejects")
LAYOUTS = ("ml-100k", "ml-1m", "csv", "atomic", "canonical", "canonical-parquet")
HEADED = ("csv", "atomic", "canonical")

RATINGS = pl.DataFrame(
    {
        "user_id": [1, 2, 2],
        "movie_id": [10, 10, 20],
        "rating": [4.0, 5.0, 1.0],
        "rated_at": [datetime(2000, 12, 31, 22, 12, second, tzinfo=UTC) for second in (40, 41, 42)],
    },
    schema_overrides={"user_id": pl.Int32, "movie_id": pl.Int32, "rating": pl.Float32},
)
MOVIES = pl.DataFrame(
    {
        "movie_id": [10, 20],
        "title": ["Misérables, Les", "Slingshot, The (Kådisbellan )"],
        "year": [1995, 1993],
        "genres": [["Drama", "Musical"], ["Sci-Fi"]],
    }
)
USERS = pl.DataFrame(
    {
        "user_id": [1, 2],
        "gender": ["F", "M"],
        "age": [1, 56],
        "occupation": ["writer", "artist"],
        "zip_code": ["02115", "V3N4P"],
    }
)


def read(path: Path) -> dict[str, pl.DataFrame]:
    """The four tables of a source, in the order of its lines."""
    with duckdb.connect() as connection:
        with opened(path) as files:
            layout = recognise(files)
        read_tables(path, layout, connection)
        return {table: connection.sql(f"select * from {table} order by source_line").pl() for table in TABLES}


def rejected(tables: dict[str, pl.DataFrame]) -> dict[int, str]:
    """The text of each refused line by its number."""
    assert set(tables["rejects"]["rule"]) <= {"unreadable"}
    return {line: json.loads(row)["line"] for _, line, _, row in tables["rejects"].rows()}


def write_latest(path: Path, ratings: str = "1,10,4.0,978300760\n", movies: str = "10,A (1995),Drama\n") -> Path:
    """A directory in the layout of the newer editions from the text of its lines."""
    path.mkdir()
    (path / "ratings.csv").write_bytes(b"userId,movieId,rating,timestamp\n" + ratings.encode())
    (path / "movies.csv").write_bytes(b"movieId,title,genres\n" + movies.encode())
    return path


# ---- every layout gives the same tables


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", ["source.zip", "source"])
def test_every_layout_reads_the_same(layout: str, name: str, tmp_path: Path) -> None:
    tables = read(write_archive(tmp_path / name, layout, RATINGS, MOVIES, USERS))
    first = 2 if layout in HEADED else 1
    assert tables["ratings"]["source_line"].to_list() == [first, first + 1, first + 2]
    assert tables["ratings"].drop("source_line").rows() == RATINGS.rows()
    assert tables["movies"].drop("source_line").rows() == MOVIES.rows()
    if layout == "csv":  # no users are published: those of the ratings
        assert tables["users"].rows() == [(1, None, None, None, None, 2), (2, None, None, None, None, 3)]
    else:
        assert tables["users"].drop("source_line").rows() == USERS.rows()
    assert tables["rejects"].is_empty()


@pytest.mark.parametrize("layout", ["ml-100k", "ml-1m", "csv", "atomic", "canonical"])
def test_broken_lines_become_rejects_and_cost_no_other_line(layout: str, tmp_path: Path) -> None:
    planted = plant(50, 40, 1000)
    broken = {5: "", 6: "not a rating", 700: "1\t2::3|4,5"}
    path = write_archive(tmp_path / "a.zip", layout, planted.ratings, planted.movies, planted.users, broken)
    tables = read(path)
    assert rejected(tables) == broken
    assert set(tables["rejects"]["source_table"]) == {"ratings"}
    assert tables["ratings"].select("user_id", "movie_id").equals(planted.ratings.select("user_id", "movie_id"))
    first = 2 if layout in HEADED else 1
    good = [line for line in range(first, first + 1003) if line not in broken]
    assert tables["ratings"]["source_line"].to_list() == good


@pytest.mark.parametrize(
    "line",
    [
        "1,10,4.0",
        "1,10,4.0,978300760,7",
        "0,10,4.0,978300760",
        "-1,10,4.0,978300760",
        "1,0,4.0,978300760",
        "2147483648,10,4.0,978300760",
        "1.5,10,4.0,978300760",
        "1_0,10,4.0,978300760",
        "0x10,10,4.0,978300760",
        "٣,10,4.0,978300760",
        "1,ten,4.0,978300760",
        "1,10,nan,978300760",
        "1,10,inf,978300760",
        "1,10,,978300760",
        "1,10,1_0,978300760",
        f"1,10,{'9' * 50},978300760",
        "1,10,4.0,",
        "1,10,4.0,yesterday",
        "1,10,4.0,infinity",
        "1,10,4.0,999999999999",
        "1,10,4.0,99999999999999999999",
        "1,10,4.0,978300760\0",
        "1,10,4.0é,978300760",
        "",
        "   ",
    ],
)
def test_what_cannot_be_a_rating_is_kept_as_it_was(line: str, tmp_path: Path) -> None:
    tables = read(write_latest(tmp_path / "a", ratings=f"1,10,4.0,978300760\n{line}\n2,10,3.5,978300761\n"))
    assert tables["ratings"]["source_line"].to_list() == [2, 4]
    assert list(rejected(tables)) == [3]
    if line.isascii():
        assert rejected(tables)[3] == line.rstrip("\r\n")


def test_what_can_be_a_rating_is_left_to_the_rules(tmp_path: Path) -> None:
    """Off the scale, unknown movie, said twice: rows all the same."""
    ratings = "1,10,-1,978300760\n1,10,9.75,0\n1,77,4,978300760\n1,77,4,978300760\n"
    tables = read(write_latest(tmp_path / "a", ratings=ratings))
    assert tables["ratings"]["rating"].to_list() == [-1, 9.75, 4, 4]
    assert tables["rejects"].is_empty()


def test_an_empty_file_of_ratings_gives_no_rows(tmp_path: Path) -> None:
    tables = read(write_latest(tmp_path / "a", ratings=""))
    assert [len(tables[table]) for table in TABLES] == [0, 1, 0, 0]


def test_a_file_of_something_else_is_refused_with_an_example(tmp_path: Path) -> None:
    with pytest.raises(DataRefused, match=r"not one of the 2 lines of ratings\.csv .* the first is .lorem"):
        read(write_latest(tmp_path / "a", ratings="lorem\nipsum\n"))


# ---- movies


def test_movies_keep_quotes_commas_and_missing_values(tmp_path: Path) -> None:
    movies = '1,"American President, The (1995)",Romance|Comedy\r\n2,"A ""B"" C",(no genres listed)\r\n3,D (2001) ,\r\n'
    tables = read(write_latest(tmp_path / "a", movies=movies))
    assert tables["movies"].rows() == [
        (1, "American President, The", 1995, ["Comedy", "Romance"], 2),
        (2, 'A "B" C', None, [], 3),
        (3, "D", 2001, [], 4),
    ]


def test_movies_that_cannot_be_read_are_rejects(tmp_path: Path) -> None:
    path = write_latest(tmp_path / "a")
    broken = [b"", b"x,A (1995),Drama", b"2,A (1995)", b'3,"A,Drama', b"4,,Drama", b"5,caf\xe9 (1995),Drama", b"-6,A,B"]
    (path / "movies.csv").write_bytes(b"\n".join([b"movieId,title,genres", b"1,A (1995),Drama", *broken, b""]))
    tables = read(path)
    assert tables["movies"]["movie_id"].to_list() == [1]
    assert set(tables["rejects"]["source_table"]) == {"movies"}
    assert rejected(tables) == {n: line.decode("utf-8", "backslashreplace") for n, line in enumerate(broken, start=3)}


def test_an_occupation_outside_the_list_is_a_reject(tmp_path: Path) -> None:
    path = write_archive(tmp_path / "a", "ml-1m", RATINGS, MOVIES, USERS)
    (path / "users.dat").write_bytes(b"1::F::1::10::48067\n2::M::56::21::70072\n")
    tables = read(path)
    assert tables["users"].rows() == [(1, "F", 1, "K-12 student", "48067", 1)]
    assert rejected(tables) == {2: "2::M::56::21::70072"}


# ---- our own schema


@pytest.mark.parametrize(
    ("file", "header", "missing"),
    [
        ("ratings.csv", "user_id,movie_id,stars,rated_at", "rating"),
        ("ratings.csv", "user,film,rating,rated_at", "user_id, movie_id"),
        ("movies.csv", "movie_id,name,year,genres", "title"),
        ("users.csv", "id,gender", "user_id"),
    ],
)
def test_missing_columns_are_refused_by_name(file: str, header: str, missing: str, tmp_path: Path) -> None:
    path = write_archive(tmp_path / "a", "canonical", RATINGS, MOVIES, USERS)
    (path / file).write_text(f"{header}\n")
    with pytest.raises(DataRefused, match=rf"{file} in .* has no column {missing}; it has {header[:2]}"):
        read(path)


def test_missing_columns_of_parquet_are_refused_by_name(tmp_path: Path) -> None:
    path = write_archive(tmp_path / "a", "canonical-parquet", RATINGS.drop("rated_at"), MOVIES, USERS)
    with pytest.raises(DataRefused, match=r"ratings\.parquet in .* has no column rated_at"):
        read(path)


def test_a_file_that_is_no_parquet_is_refused(tmp_path: Path) -> None:
    path = write_archive(tmp_path / "a", "canonical-parquet", RATINGS, MOVIES, USERS)
    (path / "ratings.parquet").write_text("not Parquet")
    with pytest.raises(SourceError, match=r"ratings\.parquet in .* is not Parquet"):
        read(path)


def test_columns_may_come_in_any_order_with_others_between(tmp_path: Path) -> None:
    path = write_archive(tmp_path / "a", "canonical", RATINGS, MOVIES, USERS)
    (path / "ratings.csv").write_text(
        "\ufeffrated_at,note,movie_id,user_id,rating\n"
        "2000-12-31 22:12:40,,10,1,4\n978300760,x,10,2,5\n2001-01-01T00:12:40+02:00,,20,2,1\n"
    )
    (path / "users.csv").write_text("user_id\n1\n2\n")
    tables = read(path)
    moment = datetime(2000, 12, 31, 22, 12, 40, tzinfo=UTC)
    assert tables["ratings"].rows() == [(2, 1, 10, 4, moment), (3, 2, 10, 5, moment), (4, 2, 20, 1, moment)]
    assert tables["users"].rows() == [(1, None, None, None, None, 2), (2, None, None, None, None, 3)]


def test_wide_types_and_missing_values_of_parquet_are_cast_or_rejected(tmp_path: Path) -> None:
    """What pandas writes: 64 bits everywhere, years as floats."""
    ratings = RATINGS.cast({"user_id": pl.Int64, "rating": pl.Float64}).with_columns(
        rated_at=pl.col("rated_at").dt.replace_time_zone(None)
    )
    ratings = pl.concat([ratings, ratings.head(1).with_columns(rating=None)])
    movies = MOVIES.with_columns(year=pl.Series([1995.0, None]))
    tables = read(write_archive(tmp_path / "a", "canonical-parquet", ratings, movies, USERS))
    assert tables["ratings"].drop("source_line").rows() == RATINGS.rows()
    assert tables["movies"]["year"].to_list() == [1995, None]
    assert list(rejected(tables)) == [4]


# ---- the published editions


@pytest.mark.parametrize(
    ("dataset", "layout", "stars", "first", "last"),
    [
        ("ml-100k", "ml-100k", [6_110, 11_370, 27_145, 34_174, 21_201], 874724710, 893286638),
        ("ml-1m", "ml-1m", [56_174, 107_557, 261_197, 348_971, 226_310], 956703932, 1046454590),
        (
            "ml-latest-small",
            "csv",
            [1_370, 2_811, 1_791, 7_551, 5_550, 20_047, 13_136, 26_818, 8_551, 13_211],
            828124615,
            1537799250,
        ),
    ],
)
def test_published_figures(
    dataset: str,
    layout: LayoutName,
    stars: list[int],
    first: int,
    last: int,
    real_archive: Callable[[str], RealArchive],
) -> None:
    archive = real_archive(dataset)
    tables = read(archive.path)
    assert tables["rejects"].is_empty()
    assert tables["movies"]["movie_id"].is_unique().all()
    assert tables["users"]["user_id"].is_unique().all()
    if archive.is_real:
        edition, ratings = DATASETS[dataset], tables["ratings"]
        assert [len(tables[table]) for table in TABLES] == [edition.ratings, edition.movies, edition.users, 0]
        assert ratings.group_by("rating").len().sort("rating")["len"].to_list() == stars
        assert ratings["rated_at"].dt.epoch("s").min() == first
        assert ratings["rated_at"].dt.epoch("s").max() == last


def test_published_titles_of_ml_100k(real_archive: Callable[[str], RealArchive]) -> None:
    archive = real_archive("ml-100k")
    movies = read(archive.path)["movies"]
    if archive.is_real:
        named = {movie_id: rest for movie_id, *rest in movies.drop("source_line").iter_rows()}
        assert named[1] == ["Toy Story", 1995, ["Animation", "Children's", "Comedy"]]
        assert named[267] == ["unknown", None, ["unknown"]]
        assert named[543] == ["Misérables, Les", 1995, ["Drama", "Musical"]]
        assert movies["year"].null_count() == 1
