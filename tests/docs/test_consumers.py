"""docs/consumers.md: the listed tables are those of the warehouse, and every block of SQL and Python runs."""

import contextlib
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import pytest

from recsys.home import Home
from recsys.settings import HistoryConfig
from recsys.warehouse.build import LISTS, NAMES, RECORDS, SERVED
from tests.support.consumers import FULL, NIGHTS, PAGE, blocks
from tests.support.warehouses import make_frames, make_outcome, publish, write_night

LINES = [[cell.strip(" `") for cell in line.split("|")[1:-1]] for line in PAGE.splitlines() if line.startswith("| `")]


@dataclass(frozen=True)
class Answer:
    n_rows: int
    first: tuple[Any, ...]  # the first columns of the row, up to the first that depends on the time
    last: tuple[Any, ...] | None = None


WAR = ["Drama", "War"]
ANSWERS = {  # in the order of the page
    "comments": Answer(8, ("user_id", "INTEGER", "The user who receives the list; see users.")),
    "list": Answer(3, (1, "Movie 4", 1995, 4.0, ["Movie 3"]), (3, "Movie 6", 1995, 4.0, ["Movie 3"])),
    "who sees": Answer(6, (19, 1, 4.0), (37, 3, 4.0)),
    "users alike": Answer(15, (10, 1, "Movie 12"), (50, 3, "Movie 14")),
    "segment": Answer(3, (1, "Movie 3", 1995, WAR), (3, "Toy Story", 1995, WAR)),
    "changes": Answer(4, (42, "entered", "Movie 6", None, 3, 1), (42, "moved", "Movie 5", 1, 2, 1)),
    "really changed": Answer(1, ("left", 1, 1)),
    "lists changed": Answer(1, (2, 3)),
    "as of": Answer(150, (1, 1, "Movie 3"), (50, 3, "Movie 14")),
    "one user's": Answer(3, (NIGHTS[0],), None),
    "own database": Answer(2, ("a@example.org", "Movie 9"), ("b@example.org", "Movie 4")),
    "macro attached": Answer(150, (1, 1, 3, NIGHTS[1]), (50, 3, 14, NIGHTS[1])),
    "as of attached": Answer(150, (1, 1, 3, NIGHTS[1]), (50, 3, 14, NIGHTS[1])),
    "csv": Answer(6, ("a@example.org", 1, "Movie 9"), ("b@example.org", 3, "Movie 6")),
    "copy": Answer(1, (150,)),
    "similar": Answer(3, (1, "Movie 2", 1995, 1.0), (3, "Movie 4", 1995, 0.333)),
    "most": Answer(10, ("Movie 5", 1995, 9, 3), ("Movie 13", 1995, 8, 2)),
    "fresh": Answer(1, (NIGHTS[2], "planted")),
    "quality": Answer(3, (NIGHTS[0], "ordinal", 0.63, 0.43), (NIGHTS[2], "ordinal", 0.628, 0.428)),
    "why not": Answer(1, (NIGHTS[3], "data refused", "ratings: 1 of 51 rows")),
    "steps": Answer(3, ("check", 9.0, None), ("train", None, 2.5)),
    "no list": Answer(3, (FULL, "gender=F age=25", 1, "Movie 3"), (FULL, "gender=F age=25", 3, "Toy Story")),
    "best rated": Answer(10, ("Movie 2", 1995, 4, 5.0, 1.0, "tt0000002"), ("Movie 11", 1995, 4, 5.0, 1.0, "tt0000011")),
    "age bands": Answer(1, ("25", 51, 1.0, 5.0)),
    "figures": Answer(2, ("mae_median", 0.628, "stars", "down")),
    "a movie's ratings": Answer(3, (20, 5.0)),
    "quarantine": Answer(1, ("ratings", "u.data", 7, "unreadable", '{"line": "1\\t2"}')),
    "parquet": Answer(150, (1, 1, 3), (50, 3, 14)),
}


@pytest.fixture
def here(world: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(world)
    return world


@pytest.fixture
def warehouse(here: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect("data/warehouse.duckdb", read_only=True) as connection:
        yield connection


def ask(block: str) -> list[tuple[Any, ...]]:
    """The rows of a block. A block that attaches the warehouse runs in an in-memory database."""
    path = ":memory:" if "attach '" in block else "data/warehouse.duckdb"
    with duckdb.connect(path, read_only=path != ":memory:") as connection:
        return connection.execute(block).fetchall()


def test_every_query_has_an_expected_answer() -> None:
    assert len(blocks("sql")) == len(ANSWERS)
    assert {*re.findall(r"```(\w+)", PAGE)} == {"sql", "python", "sh"}


@pytest.mark.parametrize(("name", "block"), [*zip(ANSWERS, blocks("sql"), strict=False)], ids=[*ANSWERS])
def test_every_query_returns_the_expected_rows(here: Path, name: str, block: str) -> None:
    answer, rows = ANSWERS[name], ask(block)
    assert len(rows) == answer.n_rows
    assert rows[0][: len(answer.first)] == answer.first
    assert answer.last is None or rows[-1] == answer.last


def test_queries_write_the_documented_files(here: Path) -> None:
    (block,) = (block for block in blocks("sql") if block.startswith("copy"))
    ask(block)
    header, first, *_ = (here / "lists.csv").read_text(encoding="utf-8").splitlines()
    assert (header, first) == ("user_id,rank,title,year,genres", "1,1,Movie 3,1995,Drama|War")
    assert len(ask("from 'lists.parquet'")) == 150


@pytest.mark.parametrize("block", blocks("python"))
def test_every_program_prints_the_list_of_user_42(here: Path, block: str) -> None:
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(compile(block, "docs/consumers.md", "exec"), {})
    assert printed.getvalue() in ("['Movie 4', 'Movie 5', 'Movie 6']\n", "[4, 5, 6]\n")


def test_the_shell_command_runs(here: Path) -> None:
    (line,) = blocks("sh")
    (statement,) = re.findall(r'"(.+)"', line)
    assert ask(statement) == [(4, "Movie 4"), (5, "Movie 5"), (6, "Movie 6")]


def test_every_table_view_and_macro_is_listed_with_its_columns(warehouse: duckdb.DuckDBPyConnection) -> None:
    listed = {name: (kind, columns.split(", ")) for name, kind, _, columns in LINES}
    relations = warehouse.sql("select table_name from information_schema.tables").fetchall()
    macros = warehouse.sql("select function_name from duckdb_functions() where not internal").fetchall()
    assert set(listed) == {name for (name,) in (*relations, *macros)}
    for name, (kind, columns) in listed.items():
        assert warehouse.sql(f"from {relation_of(name)}").columns == columns
        assert (kind == "served", kind == "record", kind == "history", kind == "names") == (
            name in SERVED, name in RECORDS, name == LISTS, name == NAMES,
        )  # fmt: skip


def test_the_declared_keys_are_the_listed_ones(warehouse: duckdb.DuckDBPyConnection) -> None:
    declared = dict(
        warehouse.sql(
            "select table_name, constraint_column_names from duckdb_constraints() where constraint_type = 'PRIMARY KEY'"
        ).fetchall()
    )
    assert set(declared) == {*SERVED, *RECORDS, NAMES} - {"quarantine"}
    assert declared.items() <= {name: key.split(", ") for name, _, key, _ in LINES}.items()


@pytest.mark.parametrize(("name", "key"), [(name, key) for name, _, key, _ in LINES if key != "none"])
def test_keys_are_unique(warehouse: duckdb.DuckDBPyConnection, name: str, key: str) -> None:
    counted = warehouse.sql(f"select count(*), count(distinct ({key})) from {relation_of(name)}").fetchall()
    assert counted[0][0] == counted[0][1] > 0


def relation_of(name: str) -> str:
    return f"{name}('1998-04-22')" if name == "recommendations_as_of" else name


def test_the_number_of_runs_in_the_history_is_on_the_page() -> None:
    assert f"the latest {HistoryConfig().runs} runs stay" in PAGE


def test_the_macro_of_an_attached_warehouse_fails_as_described(here: Path) -> None:
    with duckdb.connect() as connection:
        connection.execute("attach 'data/warehouse.duckdb' as recs (read_only)")
        with pytest.raises(duckdb.CatalogException, match="recommendation_history does not exist"):
            connection.execute("from recs.recommendations_as_of('1998-04-21')")


@pytest.mark.parametrize("name", [name for name, kind, _, _ in LINES if kind != "macro"])
def test_views_of_an_attached_warehouse_read_its_own_tables(here: Path, name: str) -> None:
    """The reader has tables of the same names."""
    with duckdb.connect() as connection:
        for own in ("movies", "recommendations", "recommendation_history", "similar_movies", "default_recommendations"):
            connection.execute(f"create table {own} (x integer)")
        connection.execute("attach 'data/warehouse.duckdb' as recs (read_only)")
        assert connection.execute(f"from recs.{name}").fetchall()


def test_an_open_connection_keeps_its_file_until_it_is_closed(home: Home) -> None:
    night = write_night(home.root / "night", make_frames())
    publish(make_outcome("r1"), night, home)
    question = "select any_value(run_id) from recs.recommendations"
    with duckdb.connect() as attached, duckdb.connect(home.warehouse, read_only=True) as connected:
        attach = f"attach '{home.warehouse}' as recs (read_only)"
        attached.execute(attach)
        publish(make_outcome("r2"), night, home)
        assert attached.execute(question).fetchall() == [("r1",)]
        assert connected.execute("select any_value(run_id) from recommendations").fetchall() == [("r1",)]
        connected.close()
        attached.execute("detach recs")
        attached.execute(attach)
        assert attached.execute(question).fetchall() == [("r2",)]
