import gzip
import json
import tracemalloc
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import polars as pl
import pytest

from recsys.errors import DataRefused
from recsys.ingest.archives.archives import opened
from recsys.ingest.parse import formats, lines
from recsys.ingest.parse.formats import read_tables
from recsys.ingest.parse.layouts import recognise
from recsys.ingest.synthetic.synthetic import plant
from recsys.schema import REJECTS, TABLES
from tests.support.archives import write_archive

RELATIONS = (*TABLES, "rejects")
WHERE = ("source_file", "source_line")
LAYOUTS = ("ml-100k", "ml-1m", "ml-10m", "csv", "atomic", "canonical", "canonical-parquet")
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
    """Every table of a source, and its rejects, in line order."""
    with duckdb.connect() as connection:
        with opened(path) as files:
            layout = recognise(files)
        read_tables(path, layout, connection)
        return {table: connection.sql(f"from {table} order by source_line").pl() for table in RELATIONS}


def rejected(tables: dict[str, pl.DataFrame]) -> dict[int, str]:
    """The text of each rejected line by its number."""
    return {line: json.loads(row)["line"] for line, row in refusals(tables)}


def reasons(tables: dict[str, pl.DataFrame]) -> dict[int, str]:
    """The reasons of rejected lines by line number."""
    return {line: json.loads(row)["why"] for line, row in refusals(tables)}


def refusals(tables: dict[str, pl.DataFrame]) -> list[tuple[int, str]]:
    assert set(tables["rejects"]["rule"]) <= {"unreadable"}
    return tables["rejects"].select("source_line", "row").rows()


def write_latest(path: Path, ratings: str = "1,10,4.0,978300760\n", movies: str = "10,A (1995),Drama\n") -> Path:
    """Writes a directory in the layout of the newer editions."""
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
    assert tables["ratings"].drop(WHERE).rows() == RATINGS.rows()
    assert tables["movies"].drop(WHERE).rows() == MOVIES.rows()
    assert tables["users"].drop(WHERE).rows() == ([] if layout in ("csv", "ml-10m") else USERS.rows())
    assert [tables[name].height for name in ("tags", "links", "rejects")] == [0, 0, 0]


def test_every_row_has_its_source_file_and_line(tmp_path: Path) -> None:
    path = write_latest(tmp_path / "a", ratings="1,10,4.0,978300760\nnot a rating\n")
    tables = read(path)
    assert tables["ratings"].select(WHERE).rows() == [("ratings.csv", 2)]
    assert tables["movies"].select(WHERE).rows() == [("movies.csv", 2)]
    assert tables["rejects"].select("source_table", *WHERE).rows() == [("ratings", "ratings.csv", 3)]
    assert set(tables["rejects"].columns) == set(REJECTS.names)


@pytest.mark.parametrize("layout", ["ml-100k", "ml-1m", "ml-10m", "csv", "atomic", "canonical"])
def test_broken_lines_become_rejects_and_affect_no_other_line(layout: str, tmp_path: Path) -> None:
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
    ("line", "why"),
    [
        ("1,10,4.0", "3 fields instead of 4"),
        ("1,10,4.0,978300760,7", "5 fields instead of 4"),
        ("0,10,4.0,978300760", "user_id '0' is not a whole number from 1 to 2147483647"),
        ("-1,10,4.0,978300760", "user_id '-1' is not"),
        ("1,0,4.0,978300760", "movie_id '0' is not"),
        ("2147483648,10,4.0,978300760", "user_id '2147483648' is not"),
        ("1.5,10,4.0,978300760", "user_id '1.5' is not"),
        ("1_0,10,4.0,978300760", "user_id '1_0' is not"),
        ("0x10,10,4.0,978300760", "user_id '0x10' is not"),
        ("٣,10,4.0,978300760", "user_id '٣' is not"),
        ("1,ten,4.0,978300760", "movie_id 'ten' is not"),
        ("1,10,nan,978300760", "rating 'nan' is not a number"),
        ("1,10,inf,978300760", "rating 'inf' is not a number"),
        ("1,10,,978300760", "rating '' is not a number"),
        ("1,10,1_0,978300760", "rating '1_0' is not"),
        (f"1,10,{'9' * 80},978300760", f"rating '{'9' * 50}' is not"),
        ("1,10,4.0,", "rated_at '' is neither seconds since 1970 nor a date and time"),
        ("1,10,4.0,yesterday", "rated_at 'yesterday' is neither"),
        ("1,10,4.0,infinity", "rated_at 'infinity' is neither"),
        ("1,10,4.0,999999999999", "rated_at '999999999999' is neither"),
        ("1,10,4.0,99999999999999999999", "rated_at '99999999999999999999' is neither"),
        ("1,10,4.0,978300760\0", "rated_at '978300760\0' is neither"),
        ("1,10,4.0é,978300760", "rating '4.0é' is not"),
        ("", "the line is empty"),
        ("   ", "the line is empty"),
        ("1;10;4.0;978300760", "1 field instead of 4"),
        ('1,10,4.0,"978300760', "a quote is not closed"),
        ('1,"10"0,4.0,978300760', "a quote is not closed"),
        ('"1,10",4.0,978300760', "3 fields instead of 4"),
    ],
)
def test_a_reject_has_the_line_and_the_reason(line: str, why: str, tmp_path: Path) -> None:
    tables = read(write_latest(tmp_path / "a", ratings=f"1,10,4.0,978300760\n{line}\n2,10,3.5,978300761\n"))
    assert tables["ratings"]["source_line"].to_list() == [2, 4]
    assert rejected(tables) == {3: line.rstrip("\r\n")}
    assert reasons(tables)[3].startswith(why)


def test_numbers_may_be_quoted(tmp_path: Path) -> None:
    ratings = '"1","10","4.0","978300760"\r\n2,"10",3.5,978300761\n'
    path = write_latest(tmp_path / "a", ratings=ratings)
    (path / "ratings.csv").write_bytes(b'"userId","movieId","rating","timestamp"\r\n' + ratings.encode())
    tables = read(path)
    assert tables["ratings"].select("user_id", "movie_id", "rating").rows() == [(1, 10, 4.0), (2, 10, 3.5)]
    assert tables["rejects"].is_empty()


def test_invalid_bytes_reject_only_their_line(tmp_path: Path) -> None:
    path = write_latest(tmp_path / "a")
    (path / "ratings.csv").write_bytes(b"userId,movieId,rating,timestamp\n1,10,4.0\xe9,978300760\n2,10,3.5,978300761\n")
    tables = read(path)
    assert tables["ratings"]["source_line"].to_list() == [3]
    assert rejected(tables) == {2: r"1,10,4.0\xe9,978300760"}
    assert reasons(tables) == {2: "byte 9 is not UTF-8"}


def test_readable_ratings_are_left_to_the_rules(tmp_path: Path) -> None:
    """Ratings that are off the scale, of unknown movies, or repeated are read as rows."""
    ratings = "1,10,-1,978300760\n1,10,9.75,0\n1,77,4,978300760\n1,77,4,978300760\n"
    tables = read(write_latest(tmp_path / "a", ratings=ratings))
    assert tables["ratings"]["rating"].to_list() == [-1, 9.75, 4, 4]
    assert tables["rejects"].is_empty()


def test_an_empty_file_of_ratings_gives_no_rows(tmp_path: Path) -> None:
    tables = read(write_latest(tmp_path / "a", ratings=""))
    assert [len(tables[table]) for table in RELATIONS] == [0, 1, 0, 0, 0, 0]


def test_a_file_of_something_else_is_refused_with_an_example(tmp_path: Path) -> None:
    path = write_latest(tmp_path / "a", ratings="lorem\nipsum\n")
    with pytest.raises(DataRefused, match=r"none of the 2 lines read from ratings\.csv .* line 2: \{lorem: 1 field"):
        read(path)


def test_an_unreadable_column_is_named_with_an_example(tmp_path: Path) -> None:
    ratings = "lorem\n1,10,good,978300760\n2,10,bad,978300761\n"
    with pytest.raises(DataRefused, match=r"from ratings\.csv .* line 3: \{1,10,good,978300760: rating 'good' is"):
        read(write_latest(tmp_path / "a", ratings=ratings))


def test_a_large_file_of_another_kind_is_refused_early(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formats, "GIVE_UP_AFTER", 99)
    monkeypatch.setattr(lines, "BLOCK_BYTES", 600)
    with pytest.raises(DataRefused, match=r"none of the 1\d\d lines read from ratings\.csv"):
        read(write_latest(tmp_path / "a", ratings="lorem\n" * 1000))


# ---- movies


def test_movies_keep_quotes_commas_and_missing_values(tmp_path: Path) -> None:
    movies = '1,"American President, The (1995)",Romance|Comedy\r\n2,"A ""B"" C",(no genres listed)\r\n3,D (2001) ,\r\n'
    tables = read(write_latest(tmp_path / "a", movies=movies))
    assert tables["movies"].drop(WHERE).rows() == [
        (1, "American President, The", 1995, ["Comedy", "Romance"]),
        (2, 'A "B" C', None, []),
        (3, "D", 2001, []),
    ]


def test_movies_that_cannot_be_read_are_rejects(tmp_path: Path) -> None:
    path = write_latest(tmp_path / "a")
    broken = {
        b"": "the line is empty",
        b"x,A (1995),Drama": "movie_id 'x' is not a whole number from 0 to 2147483647",
        b"2,A (1995)": "2 fields instead of 3",
        b'3,"A,Drama': "a quote is not closed (unexpected end of data)",
        b"4,,Drama": "title is empty",
        b"5,caf\xe9 (1995),Drama": "byte 6 is not UTF-8",
        b"0,A,B": "movie_id '0' is not a whole number from 1 to 2147483647",
    }
    (path / "movies.csv").write_bytes(b"\n".join([b"movieId,title,genres", b"1,A (1995),Drama", *broken, b""]))
    tables = read(path)
    assert tables["movies"]["movie_id"].to_list() == [1]
    assert set(tables["rejects"]["source_table"]) == {"movies"}
    assert rejected(tables) == {n: line.decode("utf-8", "backslashreplace") for n, line in enumerate(broken, start=3)}
    assert reasons(tables) == dict(enumerate(broken.values(), start=3))


def test_a_field_over_two_lines_rejects_only_these_lines(tmp_path: Path) -> None:
    movies = '1,"A\nB (1995)",Drama\n2,C (1996),Drama\n3,"D\n4,E (1997),Drama\n'
    tables = read(write_latest(tmp_path / "a", movies=movies))
    assert tables["movies"]["movie_id"].to_list() == [2, 4]
    assert list(rejected(tables)) == [2, 3, 5]


def test_an_invalid_flag_is_a_reject(tmp_path: Path) -> None:
    path = write_archive(tmp_path / "a", "ml-100k", RATINGS, MOVIES, USERS)
    movies = (path / "u.item").read_bytes().split(b"\n")
    (path / "u.item").write_bytes(b"\n".join([movies[0], movies[1][:-1] + b"2", b""]))
    tables = read(path)
    assert tables["movies"]["movie_id"].to_list() == [10]
    assert reasons(tables) == {2: "the flag of genre Western '2' is not 0 or 1"}


def test_an_occupation_outside_the_list_is_a_reject(tmp_path: Path) -> None:
    path = write_archive(tmp_path / "a", "ml-1m", RATINGS, MOVIES, USERS)
    (path / "users.dat").write_bytes(b"1::F::1::10::48067\n2::M::56::21::70072\n")
    tables = read(path)
    assert tables["users"].drop(WHERE).rows() == [(1, "F", 1, "K-12 student", "48067")]
    assert rejected(tables) == {2: "2::M::56::21::70072"}
    assert reasons(tables) == {2: "occupation '21' is not a whole number from 0 to 20"}


# ---- tags and links


def write_extra(path: Path, name: str, content: str) -> Path:
    (write_latest(path) / name).write_bytes(content.encode())
    return path


def test_tags_are_kept_as_typed(tmp_path: Path) -> None:
    tags = (
        'userId,movieId,tag,timestamp\r\n1,10,"quirky, odd",978300760\r\n1,10,"""artsy""",978300761\r\n'
        "1,10,  Kådisbellan ,978300762\r\n1,10,007,978300763\r\n"
    )
    tables = read(write_extra(tmp_path / "a", "tags.csv", tags))
    assert tables["tags"]["tag"].to_list() == ["quirky, odd", '"artsy"', "Kådisbellan", "007"]
    assert tables["tags"]["tagged_at"].dt.epoch("s").to_list() == [978300760, 978300761, 978300762, 978300763]
    assert tables["tags"].select(WHERE).rows() == [("tags.csv", line) for line in (2, 3, 4, 5)]


def test_tags_that_cannot_be_read_are_rejects(tmp_path: Path) -> None:
    broken = {
        "x,10,a,978300760": "user_id 'x' is not a whole number from 1 to 2147483647",
        "1,,a,978300760": "movie_id '' is not a whole number from 1 to 2147483647",
        "1,10,a,b,978300760": "5 fields instead of 4",
        '1,10,"a,978300760': "a quote is not closed (unexpected end of data)",
        "1,10,a,long ago": "tagged_at 'long ago' is neither seconds since 1970 nor a date and time",
    }
    lines = ["userId,movieId,tag,timestamp", "1,10,a,978300760", *broken, '1,10,"a, b",978300760', ""]
    tables = read(write_extra(tmp_path / "a", "tags.csv", "\n".join(lines)))
    assert tables["tags"]["tag"].to_list() == ["a", "a, b"]
    assert set(tables["rejects"]["source_table"]) == {"tags"}
    assert reasons(tables) == dict(enumerate(broken.values(), start=3))


def test_a_tag_may_contain_the_separator(tmp_path: Path) -> None:
    path = write_archive(tmp_path / "ml-10m", "ml-10m", RATINGS, MOVIES, USERS)
    (path / "tags.dat").write_bytes(b"1::10::a::b::978300760\n1::10::c:::978300761\n1::10:::d::978300762\n1::10::e\n")
    tables = read(path)
    assert tables["tags"]["tag"].to_list() == ["a::b", "c:", ":d"]
    assert reasons(tables) == {4: "3 fields instead of 4"}


def test_links_keep_leading_zeros_and_missing_ids(tmp_path: Path) -> None:
    links = "movieId,imdbId,tmdbId\r\n1,0114709,862\r\n2,0113497,\r\n3,,8844.0\r\n4,tt01,1\r\n5,01,x\r\n"
    tables = read(write_extra(tmp_path / "a", "links.csv", links))
    assert tables["links"].drop(WHERE).rows() == [(1, "0114709", 862), (2, "0113497", None), (3, None, 8844)]
    assert reasons(tables) == {
        5: "imdb_id 'tt01' is not written in digits",
        6: "tmdb_id 'x' is not a whole number from 0 to 2147483647",
    }


# ---- notices and refusals


def test_unused_columns_are_reported(tmp_path: Path) -> None:
    path = write_latest(tmp_path / "a")
    (path / "ratings.csv").write_text("userId,movieId,device,rating,timestamp,\n1,10,tv,4.0,978300760,\n")
    with duckdb.connect() as connection:
        assert read_tables(path, "csv", connection) == [
            "ratings.csv has columns device,  that are not used",
        ]
        assert connection.execute("select user_id, rating from ratings").fetchall() == [(1, 4.0)]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("userId,movieId,rating,timestamp\n1,10,4.0,978300760\n".encode("utf-16"), "text in UTF-16"),
        ("userId,movieId,rating,timestamp\n1,10,4.0,978300760\n".encode("utf-16-le"), "text in UTF-16, or not text"),
        (gzip.compress(b"userId,movieId,rating,timestamp\n", mtime=0), "a gzip file"),
        (b"PAR1\x15\x04", "a Parquet file"),
        (b"<!DOCTYPE html>\n<html><body>404</body></html>\n", "an HTML page"),
        (b"\n\n<html><body>404</body></html>\n", "an HTML page"),
    ],
)
def test_a_file_that_is_not_text_is_refused_by_kind(content: bytes, words: str, tmp_path: Path) -> None:
    path = write_latest(tmp_path / "a")
    (path / "ratings.csv").write_bytes(content)
    with pytest.raises(DataRefused, match=rf"ratings\.csv in .* is {words}.*Next: "):
        read(path)


@pytest.mark.parametrize(
    ("header", "words"),
    [
        ("userId,movieId,rating,rating,timestamp", "has several columns named 'rating' "),
        ("userId,movieId,rating", "has no column timestamp; it has userId, movieId, rating"),
        ('userId,"movieId,rating,timestamp', "has no column "),
        ("userId;movieId;rating;timestamp", "has no column "),
        ("", "has no column .* it has no lines"),
    ],
)
def test_an_invalid_header_is_refused_by_name(header: str, words: str, tmp_path: Path) -> None:
    path = write_latest(tmp_path / "a")
    (path / "ratings.csv").write_text(header)
    with pytest.raises(DataRefused, match=rf"ratings\.csv in .* {words}"):
        read(path)


def test_rejects_take_little_memory(tmp_path: Path) -> None:
    """Rejected lines do not become Python objects."""
    bad = "1,10,bad,978300760\n" * 200_000
    path = write_latest(tmp_path / "a", ratings="1,10,4.0,978300760\n" + bad)
    with duckdb.connect() as connection:
        read_tables(path, "csv", connection)  # a first time, for one-time allocations
        tracemalloc.start()
        read_tables(path, "csv", connection)
        _, peak_bytes = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert connection.execute("select count(*) from rejects").fetchall() == [(200_000,)]
    assert peak_bytes < 200_000 * 200
