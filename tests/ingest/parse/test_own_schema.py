"""Files in our own schema, CSV and Parquet: accepted variations, and refusals by name."""

import json
import re
import subprocess
import sys
from datetime import UTC, date, datetime
from decimal import Decimal
from itertools import cycle
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recsys.errors import DataRefused, SourceError
from recsys.ingest.parse import unpacked
from recsys.ingest.parse.formats import DROPS, read_drop, read_tables
from recsys.schema import REJECTS, TABLES
from tests.support.archives import write_archive

WHERE = ("source_file", "source_line")
MOMENT = datetime(2000, 12, 31, 22, 12, 40, tzinfo=UTC)

RATINGS = pl.DataFrame(
    {"user_id": [1, 2], "movie_id": [10, 20], "rating": [4.0, 3.5], "rated_at": [MOMENT, MOMENT]},
    schema_overrides={"user_id": pl.Int32, "movie_id": pl.Int32, "rating": pl.Float32},
)
MOVIES = pl.DataFrame(
    {"movie_id": [10, 20], "title": ["Ran", 'A "B", C'], "year": [1985, None], "genres": [["Drama", "War"], []]}
)
USERS = pl.DataFrame(
    {
        "user_id": [1, 2],
        "gender": ["F", None],
        "age": [30, None],
        "occupation": ["writer", None],
        "zip_code": ["0", None],
    }
)
TAGS = pl.DataFrame({"user_id": [1, 1], "movie_id": [10, 20], "tag": ["a, b", '"c"'], "tagged_at": [MOMENT, MOMENT]})
LINKS = pl.DataFrame({"movie_id": [10, 20], "imdb_id": ["0114709", None], "tmdb_id": [862, None]})

LAYOUTS = ("canonical", "canonical-parquet")


GIVEN = {"ratings": RATINGS, "movies": MOVIES, "users": USERS, "tags": TAGS, "links": LINKS}


def write_own(path: Path, layout: str = "canonical", **changed: pl.DataFrame) -> Path:
    tables = GIVEN | changed
    first = (tables["ratings"], tables["movies"], tables["users"])
    return write_archive(path, layout, *first, tags=tables["tags"], links=tables["links"])


def read(path: Path) -> dict[str, pl.DataFrame]:
    with duckdb.connect() as connection:
        read_tables(path, "canonical", connection)
        return {name: connection.sql(f"from {name} order by source_line").pl() for name in (*TABLES, "rejects")}


def drop(path: Path, table: str) -> tuple[pl.DataFrame, dict[int, str], list[str]]:
    """The rows of a drop in line order, the reasons of rejected lines, and the notices."""
    with duckdb.connect() as connection:
        notices = read_drop(path, table, connection)
        rows = connection.sql("from rows order by source_line").pl()
        rejects = connection.sql("from rejects").pl()
    assert set(rejects.columns) == set(REJECTS.names)
    assert set(rejects["source_table"]) <= {table}
    assert {*rows["source_file"], *rejects["source_file"]} <= {path.name}
    reasons = {line: json.loads(row)["why"] for line, row in rejects.select("source_line", "row").rows()}
    return rows, reasons, notices


def drop_text(path: Path, table: str, content: str) -> tuple[pl.DataFrame, dict[int, str], list[str]]:
    path.write_bytes(content.encode())
    return drop(path, table)


def drop_arrow(path: Path, table: str, columns: dict[str, Any]) -> tuple[pl.DataFrame, dict[int, str], list[str]]:
    pq.write_table(pa.table(columns), path)
    return drop(path, table)


# ---- a directory with one file for each table


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_table_is_read(layout: str, tmp_path: Path) -> None:
    tables = read(write_own(tmp_path / "a", layout))
    for name, table in GIVEN.items():
        assert tables[name].drop(WHERE).rows() == table.rows()
    assert tables["rejects"].is_empty()


REQUIRED = [(table, column) for table in TABLES if table != "users" for column in TABLES[table].names]


@pytest.mark.parametrize(
    ("layout", "table", "column"),
    [(layout, *required) for layout, required in zip(cycle(LAYOUTS), [*REQUIRED, ("users", "user_id")])],
)
def test_a_missing_column_is_refused_by_name(layout: str, table: str, column: str, tmp_path: Path) -> None:
    path = write_own(tmp_path / "a", layout, **{table: GIVEN[table].drop(column)})
    with pytest.raises(DataRefused, match=rf"{table}\.(csv|parquet) in .* has no column {column}; it has .*Next: "):
        read(path)


@pytest.mark.parametrize(("table", "needed"), [("movies", "movie_id, title, year, genres"), ("users", "user_id")])
def test_the_next_step_names_the_columns_that_are_needed(table: str, needed: str, tmp_path: Path) -> None:
    with pytest.raises(DataRefused, match=rf"Next: name its columns {needed}$"):
        drop_text(tmp_path / "x.csv", table, "title\nHeat\n")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_an_added_column_passes_with_a_notice(layout: str, tmp_path: Path) -> None:
    path = write_own(tmp_path / "a", layout, ratings=RATINGS.with_columns(device=pl.lit("tv")))
    with duckdb.connect() as connection:
        (notice,) = read_tables(path, "canonical", connection)
    assert re.fullmatch(r"ratings\.(csv|parquet) has a column device that is not used", notice)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_columns_may_come_in_any_order_and_those_of_users_may_be_absent(layout: str, tmp_path: Path) -> None:
    turned = RATINGS.select(reversed(RATINGS.columns))
    tables = read(write_own(tmp_path / "a", layout, ratings=turned, users=USERS.select("age", "user_id")))
    assert tables["ratings"].select(RATINGS.columns).rows() == RATINGS.rows()
    assert tables["users"].drop(WHERE).rows() == [(1, None, 30, None, None), (2, None, None, None, None)]


def test_absent_optional_tables_are_empty(tmp_path: Path) -> None:
    tables = read(write_archive(tmp_path / "a", "canonical", RATINGS, MOVIES, USERS))
    assert tables["tags"].is_empty()
    assert tables["links"].is_empty()


@pytest.mark.parametrize("end", ["\n", "\r\n", ""])
def test_byte_order_marks_and_line_ends_do_not_matter(end: str, tmp_path: Path) -> None:
    text = "\ufeffuser_id,movie_id,rating,rated_at\r\n1,10,4,978300760" + end
    rows, reasons, _ = drop_text(tmp_path / "r.csv", "ratings", text)
    assert rows.rows() == [(1, 10, 4.0, MOMENT, 2, "r.csv")]
    assert reasons == {}


def test_times_may_be_written_in_several_formats(tmp_path: Path) -> None:
    moments = ("978300760", "2000-12-31 22:12:40", "2001-01-01T00:12:40+02:00", "2000-12-31T22:12:40Z")
    lines = "".join(f"{user},10,4,{moment}\n" for user, moment in enumerate(moments, start=1))
    rows, _, _ = drop_text(tmp_path / "r.csv", "ratings", "user_id,movie_id,rating,rated_at\n" + lines)
    assert rows["rated_at"].to_list() == [MOMENT] * 4
    users = "".join(f"{user},{moment}\n" for user, moment in enumerate((*moments, "", "soon"), start=1))
    rows, reasons, _ = drop_text(tmp_path / "u.csv", "users", "user_id,updated_at\n" + users)
    assert rows["updated_at"].to_list() == [*[MOMENT] * 4, None]
    assert reasons == {7: "updated_at 'soon' is neither seconds since 1970 nor a date and time"}


# ---- one file at a time


@pytest.mark.parametrize("table", DROPS)
@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_a_drop_of_every_table_is_read(table: str, ending: str, tmp_path: Path) -> None:
    retractions = pl.DataFrame({"user_id": [1], "movie_id": [10], "retracted_at": [MOMENT]})
    frame = (GIVEN | {"retractions": retractions})[table]
    path = tmp_path / f"{table}-2026-11-21.{ending}"
    if ending == "csv":
        is_listed = "genres" in frame.columns
        (frame.with_columns(pl.col("genres").list.join("|")) if is_listed else frame).write_csv(path)
    else:
        frame.write_parquet(path)
    rows, reasons, notices = drop(path, table)
    assert rows.select(frame.columns).rows() == frame.rows()
    assert rows.columns == [*DROPS[table].names, "source_line", "source_file"]
    assert rows["source_line"].to_list() == [line + (ending == "csv") for line in range(1, frame.height + 1)]
    if table in ("movies", "users"):
        assert rows["updated_at"].to_list() == [None] * frame.height
    assert (reasons, notices) == ({}, [])


def test_a_connection_reads_one_drop_after_another(tmp_path: Path) -> None:
    RATINGS.write_csv(tmp_path / "it's.csv")
    MOVIES.write_parquet(tmp_path / "b.parquet")
    with duckdb.connect() as connection:
        for name, table, n_rows in (("it's.csv", "ratings", 2), ("b.parquet", "movies", 2), ("it's.csv", "ratings", 2)):
            read_drop(tmp_path / name, table, connection)
            found = connection.execute("select count(*), any_value(source_file) from rows").fetchall()
            assert found == [(n_rows, name)]
            assert connection.execute("select count(*) from rejects").fetchall() == [(0,)]


def test_a_missing_drop_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"r\.csv cannot be opened"):
        drop(tmp_path / "r.csv", "ratings")


def test_a_column_with_other_content_is_named_with_an_example(tmp_path: Path) -> None:
    text = "user_id,movie_id,rating,rated_at\n1,10,good,978300760\n2,10,bad,978300761\n"
    with pytest.raises(DataRefused, match=r"r\.csv in .* line 2: \{1,10,good,978300760: rating 'good' is not"):
        drop_text(tmp_path / "r.csv", "ratings", text)


def test_a_drop_with_only_a_header_has_no_rows(tmp_path: Path) -> None:
    rows, reasons, _ = drop_text(tmp_path / "r.csv", "ratings", "user_id,movie_id,rating,rated_at\n")
    assert (rows.height, reasons) == (0, {})


# ---- Parquet


PAIR = {"user_id": pa.array([1], pa.int64()), "movie_id": pa.array([10], pa.uint16())}
FOUR, NOW = pa.array([4.0]), pa.array([MOMENT])


@pytest.mark.parametrize(
    ("column", "values"),
    [
        ("user_id", pa.array([1], pa.uint64())),
        ("user_id", pa.array([1], pa.int8()).dictionary_encode()),
        ("rating", pa.array([4], pa.int8())),
        ("rating", pa.array([4.0], pa.float16())),
        ("rating", pa.array([Decimal("4.0")])),
        ("rated_at", pa.array([978300760])),
        ("rated_at", pa.array([MOMENT], pa.timestamp("s"))),
        ("rated_at", pa.array([MOMENT], pa.timestamp("ms", "Europe/Berlin"))),
        ("rated_at", pa.array([MOMENT], pa.timestamp("ns", "UTC"))),
    ],
)
def test_compatible_types_are_accepted(column: str, values: pa.Array, tmp_path: Path) -> None:
    rows, _, _ = drop_arrow(
        tmp_path / "r.parquet", "ratings", {**PAIR, "rating": FOUR, "rated_at": NOW, column: values}
    )
    assert rows.drop(WHERE).rows() == [(1, 10, 4.0, MOMENT)]


@pytest.mark.parametrize(
    ("table", "column", "values", "words"),
    [
        ("ratings", "user_id", pa.array([1.0]), "double; expected whole numbers"),
        ("ratings", "movie_id", pa.array(["10"]), "string; expected whole numbers"),
        ("ratings", "rating", pa.array(["4"]), "string; expected numbers"),
        ("ratings", "rating", pa.array([True]), "bool; expected numbers"),
        ("ratings", "rated_at", pa.array(["2000-12-31"]), "string; expected timestamps, or whole seconds since 1970"),
        ("ratings", "rated_at", pa.array([date(2000, 12, 31)]), r"date32\[day\]; expected timestamps"),
        ("ratings", "rated_at", pa.array([978300760.0]), "double; expected timestamps"),
        ("movies", "title", pa.array([10]), "int64; expected text"),
        ("movies", "title", pa.array([b"Ran"]), "binary; expected text"),
        ("movies", "genres", pa.array([[1]]), r"list<.*int64>; expected lists of text, or text separated by \|"),
        ("movies", "year", pa.array(["1985"]), "string; expected numbers"),
        ("links", "imdb_id", pa.array([114709]), "int64; expected text, to keep leading zeros"),
        ("tags", "tag", pa.array([["a"]]), r"list<.*string>; expected text"),
        ("users", "updated_at", pa.array(["now"]), "string; expected timestamps"),
    ],
)
def test_a_retyped_column_is_refused_by_name(
    table: str, column: str, values: pa.Array, words: str, tmp_path: Path
) -> None:
    good = {
        "ratings": {**PAIR, "rating": FOUR, "rated_at": NOW},
        "movies": {"movie_id": PAIR["movie_id"], "title": ["Ran"], "year": [1985], "genres": [["War"]]},
        "links": {"movie_id": PAIR["movie_id"], "imdb_id": ["01"], "tmdb_id": [1]},
        "tags": {**PAIR, "tag": ["a"], "tagged_at": NOW},
        "users": {"user_id": PAIR["user_id"]},
    }
    with pytest.raises(DataRefused, match=rf"x\.parquet in .* has column {column} of type {words}.*Next: "):
        drop_arrow(tmp_path / "x.parquet", table, {**good[table], column: values})


def test_a_null_in_a_required_column_rejects_its_row(tmp_path: Path) -> None:
    ratings = {
        "user_id": pa.array([1, None, 1, 1, 1]),
        "movie_id": pa.array([10, 10, None, 10, 10]),
        "rating": pa.array([4.0, 4.0, 4.0, None, float("nan")]),
        "rated_at": pa.array([MOMENT] * 5),
    }
    rows, reasons, _ = drop_arrow(tmp_path / "r.parquet", "ratings", ratings)
    assert rows["source_line"].to_list() == [1]
    assert [reasons[line].split(" is ")[0] for line in (2, 3, 4, 5)] == [
        "user_id ''",
        "movie_id ''",
        "rating ''",
        "rating ''",
    ]
    movies = {
        "movie_id": pa.array([10, 20, 30, 40]),
        "title": pa.array(["Ran", None, "Big", "Heat"]),
        "year": pa.array([None, 1.0, 2.0, 1995.0]),
        "genres": pa.array([[], [], None, ["War", None]], pa.list_(pa.string())),
    }
    rows, reasons, _ = drop_arrow(tmp_path / "m.parquet", "movies", movies)
    assert rows["source_line"].to_list() == [1]
    assert reasons == {2: "title is empty", 3: "genres is null", 4: "genres is null"}


def test_line_breaks_quotes_and_commas_in_parquet_stay_in_their_row(tmp_path: Path) -> None:
    titles = pa.array(["One\nTwo", 'Say "no", twice', "x\r\ny"]).dictionary_encode()
    genres = pa.array(["War|Drama", "", "(no genres listed)"])
    movies = {
        "movie_id": [1, 2, 3],
        "title": titles,
        "year": pa.array([1990, None, 1991], pa.int16()),
        "genres": genres,
    }
    rows, reasons, _ = drop_arrow(tmp_path / "m.parquet", "movies", movies)
    assert rows["title"].to_list() == ["One Two", 'Say "no", twice', "x y"]
    assert rows["genres"].to_list() == [["Drama", "War"], [], []]
    assert rows["source_line"].to_list() == [1, 2, 3]
    assert reasons == {}


def test_two_columns_of_one_name_are_refused(tmp_path: Path) -> None:
    table = pa.table([*PAIR.values(), FOUR, FOUR, NOW], names=[*PAIR, "rating", "rating", "rated_at"])
    pq.write_table(table, tmp_path / "r.parquet")
    with pytest.raises(DataRefused, match=r"r\.parquet in .* several columns named 'rating'"):
        drop(tmp_path / "r.parquet", "ratings")


def test_a_file_that_is_not_parquet_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"r\.parquet in .* is not Parquet .*Next: "):
        drop_text(tmp_path / "r.parquet", "ratings", "not Parquet")


def test_parquet_called_csv_is_refused(tmp_path: Path) -> None:
    RATINGS.write_parquet(tmp_path / "r.csv")
    with pytest.raises(DataRefused, match=r"r\.csv in .* is a Parquet file, despite its name"):
        drop(tmp_path / "r.csv", "ratings")


@pytest.mark.parametrize(("compression", "checksum"), [("snappy", False), ("zstd", True), ("none", True)])
def test_a_damaged_page_is_refused(compression: str, checksum: bool, tmp_path: Path) -> None:
    """The codec or a checksum detects the damage. Without both, damage cannot be detected."""
    n = 50_000
    columns = {"user_id": range(1, n + 1), "movie_id": [10] * n, "rating": [4.0] * n, "rated_at": [MOMENT] * n}
    path = tmp_path / "r.parquet"
    table = pa.table(columns)
    pq.write_table(table, path, use_dictionary=False, compression=compression, write_page_checksum=checksum)
    content = bytearray(path.read_bytes())
    content[2_000:3_000] = b"\xff" * 1_000
    path.write_bytes(content)
    with pytest.raises(SourceError, match=r"r\.parquet in .* is damaged and cannot be read to its end .*Next: "):
        drop(path, "ratings")


def test_numbers_have_the_same_limits_in_parquet_and_text(tmp_path: Path) -> None:
    ratings = {
        "user_id": pa.array([1, 2**31, -1]),
        "movie_id": pa.array([10] * 3),
        "rating": pa.array([4.0] * 3),
        "rated_at": pa.array([0, 0, 0]),
    }
    rows, reasons, _ = drop_arrow(tmp_path / "r.parquet", "ratings", ratings)
    assert rows["user_id"].to_list() == [1]
    assert list(reasons) == [2, 3]


def test_times_beyond_the_year_9999_reject_their_row(tmp_path: Path) -> None:
    for unit, far in (("ms", 2**60), ("us", 2**62)):
        moments = pa.array([978300760, far]).cast(pa.timestamp(unit))
        ratings = {"user_id": [1, 2], "movie_id": [10, 10], "rating": [4.0, 4.0], "rated_at": moments}
        rows, reasons, _ = drop_arrow(tmp_path / f"{unit}.parquet", "ratings", ratings)
        assert rows["user_id"].to_list() == [1]
        assert list(reasons) == [2]


# ---- decompression bombs

# Reads a drop of movies in a separate process. Prints the error, and the peak memory in MiB.
READ_ALONE = """
import sys
from pathlib import Path

import duckdb

from recsys.errors import RecsysError
from recsys.ingest.parse.formats import read_drop

try:
    with duckdb.connect() as connection:
        read_drop(Path(sys.argv[1]), "movies", connection)
except RecsysError as error:
    print(type(error).__name__, error)
status = Path("/proc/self/status").read_text()  # not getrusage, which includes the parent's peak
print(int(status.partition("VmHWM:")[2].split()[0]) // 1024)
"""
N_MANY = 2**17


def same(text: str, n: int = N_MANY) -> pa.Array:
    """The same text in every row, stored once."""
    return pa.DictionaryArray.from_arrays(pa.array(np.zeros(n, np.int32)), [text])


def movies_with(**columns: Any) -> pa.Table:
    n = len(next(iter(columns.values())))
    years = pa.array([1990] * n, pa.int16())
    columns = {"title": same("Ran", n), "year": years, "genres": same("War", n), **columns}
    return pa.table({"movie_id": range(1, n + 1), **columns})


def listed(n_names: int) -> pa.Array:
    """One list of `n_names` elements."""
    return pa.ListArray.from_arrays(pa.array([0, n_names], pa.int32()), same("War", n_names))


PLAIN = {"use_dictionary": False, "compression": "zstd"}
PREFIXED = PLAIN | {"column_encoding": {"title": "DELTA_BYTE_ARRAY"}}


@pytest.mark.parametrize(
    ("column", "values", "options", "words"),
    [
        ("title", same("x" * 10_000), {}, r"SourceError .* unpack to 1,31\d,\d{3},\d{3} or more, the limit"),
        ("title", same("x" * 10**6), {}, r"DataRefused .* has 1,000,000 bytes of text in its column title of row 1"),
        ("genres", same("x" * 10**6), {}, r"DataRefused .* in its column genres of row 1, the limit is 10,000"),
        ("title", same("x" * 20_000, 5_000), PLAIN, r"SourceError .* unpack to 100,\d{3},\d{3} or more"),
        ("title", same("x" * 200_000, 2_000), PREFIXED, r"DataRefused .* has 200,000 bytes .* title of row 1"),
        ("genres", listed(10**7), {}, r"SourceError .* 1 rows of its column genres\.\S+ list 10,000,000 values"),
    ],
    ids=["one-text", "one-long-text", "one-long-genre", "plain", "shared-prefixes", "a-long-list"],
)
def test_a_decompression_bomb_is_refused_before_it_takes_memory(
    column: str, values: pa.Array, options: dict[str, Any], words: str, tmp_path: Path
) -> None:
    path = tmp_path / "movies.parquet"
    pq.write_table(movies_with(**{column: values}), path, store_schema=False, **options)  # as text, not a dictionary
    del values
    assert path.stat().st_size < 2**21
    command = [sys.executable, "-c", READ_ALONE, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=True)
    message, peak_mib = done.stdout.splitlines()
    assert re.search(words, message)
    assert "Next: " in message
    assert int(peak_mib) < 500


def test_the_row_of_a_long_field_is_counted_over_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recsys.ingest.parse.parquet.BATCH_ROWS", 2)
    titles = ["Ran"] * 4 + ["x" * 10_001]
    pq.write_table(movies_with(title=titles), tmp_path / "m.parquet")
    with pytest.raises(DataRefused, match=r"has 10,001 bytes of text in its column title of row 5, the limit"):
        drop(tmp_path / "m.parquet", "movies")


@pytest.mark.parametrize("options", [{}, PREFIXED], ids=["dictionary", "shared-prefixes"])
def test_rows_do_not_depend_on_pieces(options: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpacked, "PIECE_BYTES", 10)
    titles = [f"A Film {number % 3}" for number in range(300)]
    genres = [[["War", "Drama"], [], ["War"]][number % 3] for number in range(300)]
    pq.write_table(movies_with(title=titles, genres=genres), tmp_path / "m.parquet", **options)
    rows, reasons, _ = drop(tmp_path / "m.parquet", "movies")
    assert rows["title"].to_list() == titles
    assert rows["genres"].to_list() == [sorted(names) for names in genres]
    assert rows["source_line"].to_list() == list(range(1, 301))
    assert reasons == {}


def test_pieces_are_small() -> None:
    batch = pa.record_batch({"title": same("x" * 10_000, 5_000)})
    cut = list(unpacked.cut(batch, np.cumsum(unpacked.text_bytes_of(batch["title"]))))
    assert sum(piece.num_rows for piece in cut) == 5_000
    assert len(cut) == 6
    assert max(piece.num_rows for piece in cut) * 10_000 <= unpacked.PIECE_BYTES + 10_000


def test_the_size_of_text_is_measured_in_every_type() -> None:
    texts = ["Å", None, "abc"]
    kinds = (pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string()))
    for kind in kinds:
        assert unpacked.text_bytes_of(pa.array(texts, kind)).tolist() == [2, 0, 3]
    lists = pa.array([["a", "bc"], None, [], ["d", None]], pa.list_(pa.string()))
    assert unpacked.text_bytes_of(lists).tolist() == [3, 0, 0, 1]
    assert unpacked.text_bytes_of(lists[3:]).tolist() == [1]
    assert unpacked.text_bytes_of(pa.array([1, 2])).tolist() == [0, 0]


MEMORY_IS_SHORT = r"^x\.parquet in .* needs more memory than is available \([^\n]*\)\. Next: "


def test_too_little_memory_is_reported(tmp_path: Path) -> None:
    n = 300_000
    columns = {"user_id": range(1, n + 1), "movie_id": [10] * n, "rating": [4.0] * n, "rated_at": [MOMENT] * n}
    path = tmp_path / "x.parquet"
    pq.write_table(pa.table(columns), path)
    little: dict[str, Any] = {"memory_limit": "3MB", "temp_directory": ""}
    with duckdb.connect(config=little) as connection, pytest.raises(SourceError, match=MEMORY_IS_SHORT):
        read_drop(path, "ratings", connection)
