"""Paths are never patterns: DuckDB and polars would otherwise read another folder's files, or none."""

import re
import shutil
from pathlib import Path

import duckdb
import polars as pl
import pytest
from pydantic import ValidationError

from recsys.files import exact, read_table
from recsys.home import Home
from recsys.nightly import run_night
from recsys.settings import Settings
from tests.support.nights import write_source
from tests.support.quick_nights import ask, quick_parameters
from tests.test_conventions import MODULES, name_of, read

PATTERNS = ("data [1]", "data *", "data ?", "[a-z]", "**", "{a,b}")
READS_PATTERNS = re.compile(
    r"(pl\.(read|scan)_(parquet|csv)\((?!.*glob=False)|read_parquet\(str\(|[\"']path[\"']: str\((?!file|home))"
)


@pytest.mark.parametrize("name", PATTERNS)
def test_one_file_is_read(name: str, tmp_path: Path) -> None:
    for folder in ("data 1", "data x", "a", "b", "c"):  # what the patterns match
        write(tmp_path / folder, 2)
    path = write(tmp_path / name, 1)
    assert read_table(path)["x"].to_list() == [1]
    with duckdb.connect() as connection:
        assert connection.read_parquet(exact(path)).fetchall() == [(1,)]
        assert connection.execute("from read_parquet($path)", {"path": exact(path)}).fetchall() == [(1,)]


def write(folder: Path, x: int) -> Path:
    folder.mkdir()
    path = folder / "table.parquet"
    pl.DataFrame({"x": [x]}, schema={"x": pl.Int32}).write_parquet(path)
    return path


@pytest.mark.slow
def test_a_night_in_a_home_that_is_named_like_a_pattern(tmp_path: Path) -> None:
    source = write_source(tmp_path / "drops [a-z] *")
    home = Home(tmp_path / "home [1] *")
    decoy = tmp_path / "home 1 x"
    settings = Settings.model_validate(quick_parameters(home.root, source))
    run_night(settings)
    shutil.copytree(home.root, decoy)
    (source / "ratings-2.csv").write_text("user_id,movie_id,rating,rated_at\n3,1,5,2000-12-31T23:59:58\n")
    run_night(settings)
    assert ask(home, "select verdict from runs order by run_id") == [("published",), ("published",)]


def test_no_module_reads_a_path_as_a_pattern() -> None:
    found = [name_of(path) for path in MODULES if READS_PATTERNS.search(read(path)) and path.name != "files.py"]
    # the first reads bytes in memory, the second only describes a file
    assert found == ["recsys/split/provided.py", "recsys/warehouse/export.py"]


def test_readers_of_patterns_are_found() -> None:
    for line in ("pl.read_parquet(path)", "pl.scan_csv(path)", "read_parquet(str(path))", '{"path": str(path)}'):
        assert READS_PATTERNS.search(line)
    for line in ("pl.read_parquet(path, glob=False)", '{"path": exact(path)}', "read_table(path)"):
        assert not READS_PATTERNS.search(line)


def test_a_home_that_duckdb_cannot_write_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="has a question mark, and DuckDB cannot write a file at such a path"):
        Settings(home=tmp_path / "why?")
