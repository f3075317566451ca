import time
from pathlib import Path

import duckdb
import polars as pl
import pytest

from recsys.errors import UsageError
from recsys.rank.sandbox import is_select, run_select

NEVER = (
    "with recursive t as (select 1 as movie_id union all select movie_id % 3 from t) select * from t where movie_id > 9"
)
GREEDY = "select list(range) as movie_id from range(10000000000)"


@pytest.fixture
def tables(tmp_path: Path) -> dict[str, Path]:
    """Tables at a path with quotes, blanks and glob characters."""
    folder = tmp_path / "it's * a [folder]"
    folder.mkdir()
    path = folder / "movies.parquet"
    pl.DataFrame({"movie_id": [1, 2], "genres": [["Drama"], ["Horror", "War"]]}).write_parquet(path)
    return {"movies": path}


def rows_of(text: str, tables: dict[str, Path], *, max_seconds: float = 60, max_rows: int = 100) -> list[tuple[int]]:
    return run_select("rules.blocked[0]", text, tables, max_seconds=max_seconds, max_rows=max_rows).rows()


@pytest.mark.parametrize(
    "text",
    [
        "select movie_id from movies where list_contains(genres, 'War')",
        "from movies select movie_id where movie_id > 1",
        "with late as (from movies) select max(movie_id) as movie_id from late",
        "  SELECT max(movie_id)\n  from movies;  ",
        "select max(movie_id) from movies -- the newest; of all",
        "select(2)",
    ],
)
def test_a_select_reads_the_tables(text: str, tables: dict[str, Path]) -> None:
    assert is_select(text)
    assert rows_of(text, tables) == [(2,)]


@pytest.mark.parametrize("text", ["select.csv", "with/blocked.parquet", "from", "blocked.csv", "copy x to 'y'", ""])
def test_other_text_is_a_path(text: str) -> None:
    assert not is_select(text)


def test_a_select_cannot_read_other_files(tables: dict[str, Path], tmp_path: Path) -> None:
    secret = tmp_path / "secret.csv"
    secret.write_text("movie_id\n1\n")
    pl.DataFrame({"movie_id": [1]}).write_parquet(tmp_path / "secret.parquet")
    for source in (
        "read_csv('/etc/passwd')",
        f"'{secret}'",
        f"read_text('{secret}')",
        f"read_parquet('{tmp_path}/secret.parquet')",
        f"glob('{tmp_path}/*')",
        "read_csv('https://example.org/movies.csv')",
        "sqlite_scan('a', 'b')",
        "duckdb_secrets()",
    ):
        with pytest.raises(UsageError, match=r"rules.blocked\[0\] failed: .* can only select from movies: "):
            rows_of(f"select * from {source}", tables)


def test_a_select_cannot_read_python_variables(tables: dict[str, Path]) -> None:
    frame = pl.DataFrame({"movie_id": [1]})
    with pytest.raises(UsageError, match="Table with name frame does not exist"):
        rows_of("select * from frame", tables)
    assert len(frame)


@pytest.mark.parametrize(
    ("text", "kinds"),
    [
        ("select 1; select 2", "select and select"),
        ("select 1; copy movies to '{folder}/out.csv'", "select and copy"),
        ("copy movies to '{folder}/out.csv'", "copy"),
        ("attach '{folder}/out.db'", "attach"),
        ("set enable_external_access = true", "set"),
        ("install httpfs", "load"),
        ("create table t as select 1", "create"),
        ("with x as (select 1) insert into movies select * from x", "insert"),
        ("from movies; drop view movies", "select and drop"),
        ("explain analyze select 1", "explain"),
        ("", "nothing"),
        ("-- select 1", "nothing"),
    ],
)
def test_anything_but_a_single_select_is_refused(
    text: str, kinds: str, tables: dict[str, Path], tmp_path: Path
) -> None:
    before = sorted(tmp_path.iterdir())
    with pytest.raises(UsageError, match=rf"rules.blocked\[0\] is not a single select but {kinds}:"):
        rows_of(text.format(folder=tmp_path), tables)
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("selec 1", "syntax error"),
        ("select nothing from movies", "nothing"),
        ("select * from reviews", "Table with name reviews does not exist"),
        ("select $x as movie_id", "parameters: x"),
        ("select movie_id from query('copy movies to ''x.csv''')", "single SELECT"),
        ("select cast('x' as integer) as movie_id", "Could not convert"),
        ("select error('stop') as movie_id", "stop"),
    ],
)
def test_the_error_of_a_failing_select_is_reported(text: str, message: str, tables: dict[str, Path]) -> None:
    with pytest.raises(UsageError, match=message):
        rows_of(text, tables)


@pytest.mark.parametrize(
    "text",
    [
        NEVER,
        GREEDY,
        "select a.range as movie_id from range(1000000) a, range(1000000) b where a.range + b.range < 0",
    ],
)
def test_an_endless_select_times_out(text: str, tables: dict[str, Path]) -> None:
    began = time.monotonic()
    with pytest.raises(UsageError, match=r"timed out after 0.5 seconds|Out of Memory"):
        rows_of(text, tables, max_seconds=0.5)
    assert time.monotonic() - began < 30


def test_the_time_limit_is_named(tables: dict[str, Path]) -> None:
    with pytest.raises(UsageError, match=r"timed out after 0.25 seconds: with recursive .* raise rules.max_seconds"):
        rows_of(NEVER, tables, max_seconds=0.25)


def test_a_select_of_too_many_rows_is_refused(tables: dict[str, Path]) -> None:
    with pytest.raises(UsageError, match=r"has more than 100 rows: .* raise rules.max_rows"):
        rows_of("select range as movie_id from range(1000000000)", tables)
    assert len(rows_of("select range as movie_id from range(100)", tables)) == 100


def test_an_endless_select_ends_at_the_row_limit(tables: dict[str, Path]) -> None:
    with pytest.raises(UsageError, match=r"more than 100 rows|timed out"):
        rows_of(
            "with recursive t as (select 1 as movie_id union all select movie_id + 1 from t) select * from t",
            *(tables,),
            max_seconds=5,
        )


def test_timestamps_are_in_utc(tables: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    try:
        assert rows_of("select hour(timestamptz '2000-01-01 12:00:00+00') as movie_id", tables) == [(12,)]
    finally:
        monkeypatch.undo()
        time.tzset()


def test_the_settings_apply_to_one_connection_only(tables: dict[str, Path]) -> None:
    rows_of("from movies select movie_id", tables)
    with duckdb.connect() as connection:
        assert connection.execute("select count(*) from read_parquet(?)", [str(tables["movies"])]).fetchall() == [(2,)]
