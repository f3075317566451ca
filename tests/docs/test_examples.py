"""Every program of docs/examples runs on a published home and shows the documented result."""

import contextlib
import io
import json
import re
import runpy
import sys
import threading
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import duckdb
import matplotlib as mpl
import pytest
from ruamel.yaml import YAML

from tests.support.browser import BROWSER, browsing

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
INDEX = (EXAMPLES / "index.md").read_text(encoding="utf-8")
MAX_LINES = 60


@pytest.fixture
def warehouse(world: Path) -> Path:
    return world / "data" / "warehouse.duckdb"


def test_the_index_lists_every_example_and_each_is_short() -> None:
    listed = {*re.findall(r"^\| \[([\w.]+)\]\(\1\)", INDEX, flags=re.MULTILINE)}
    assert listed == {path.name for path in EXAMPLES.iterdir() if path.is_file()} - {"index.md"}
    texts = {name: (EXAMPLES / name).read_text(encoding="utf-8") for name in listed}
    texts["night.ipynb"] = "\n".join("".join(cell["source"]) for cell in read_notebook()["cells"])
    assert {name for name, text in texts.items() if len(text.splitlines()) > MAX_LINES} == set()


def run_script(name: str, *arguments: str, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(sys, "argv", [name, *arguments])
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        runpy.run_path(str(EXAMPLES / name), run_name="__main__")
    return printed.getvalue()


def test_the_pandas_report_counts_users_by_genre(warehouse: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = run_script("pandas_report.py", str(warehouse), monkeypatch=monkeypatch).splitlines()
    assert lines[0].split() == ["users", "places", "mean_rank"]
    assert {line.split()[0]: line.split()[1:] for line in lines[2:]} == {
        "Drama": ["50", "150", "2.0"],
        "War": ["50", "150", "2.0"],
    }


def test_the_polars_report_counts_what_entered_and_left(warehouse: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    printed = run_script("polars_changes.py", str(warehouse), monkeypatch=monkeypatch)
    rows = [[cell.strip() for cell in line.split("│")[1].split("┆")] for line in printed.splitlines() if "┆" in line]
    assert ["Movie 6", "1", "0", "1"] in rows
    assert ["Movie 7", "0", "1", "-1"] in rows


def tiles() -> list[tuple[str, str]]:
    text = (EXAMPLES / "dashboard.sql").read_text(encoding="utf-8")
    return re.findall(r"^-- tile: ([^\n]+)\n(.+?);$", text, flags=re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize(("tile", "query"), tiles(), ids=[tile for tile, _ in tiles()])
def test_every_tile_of_the_dashboard_has_rows(warehouse: Path, tile: str, query: str) -> None:
    with duckdb.connect(warehouse, read_only=True) as connection:
        rows = connection.execute(query).fetchall()
    assert rows and None not in rows[0], tile


def test_the_whole_dashboard_runs_as_one_script(warehouse: Path) -> None:
    with duckdb.connect(warehouse, read_only=True) as connection:
        connection.execute((EXAMPLES / "dashboard.sql").read_text(encoding="utf-8"))
    assert len(tiles()) == 6


def test_the_dbt_source_names_real_tables_and_columns(warehouse: Path) -> None:
    described = YAML(typ="safe").load(EXAMPLES / "dbt_sources.yml")
    (source,) = described["sources"]
    with duckdb.connect() as connection:
        connection.execute(f"attach '{warehouse}' as {source['database']} (read_only)")
        for table in source["tables"]:
            columns = connection.sql(f"from {source['database']}.{source['schema']}.{table['name']}").columns
            assert {column["name"] for column in table["columns"]} <= {*columns}, table["name"]
        for table, column, values in accepted_values(source):
            query = f"select distinct {column} from {source['database']}.{source['schema']}.{table}"
            assert {value for (value,) in connection.sql(query).fetchall()} <= {*values}


def accepted_values(source: dict[str, Any]) -> Iterator[tuple[str, str, list[str]]]:
    for table in source["tables"]:
        for column in table["columns"]:
            for test in column.get("data_tests", []):
                if isinstance(test, dict):
                    yield table["name"], column["name"], test["accepted_values"]["arguments"]["values"]


def read_notebook() -> dict[str, Any]:
    notebook: dict[str, Any] = json.loads((EXAMPLES / "night.ipynb").read_text(encoding="utf-8"))
    return notebook


def test_the_notebook_is_valid() -> None:
    """nbformat 4.5 requires a unique id for every cell. Outputs are not in the repository."""
    notebook = read_notebook()
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    cells = notebook["cells"]
    assert len({cell["id"] for cell in cells}) == len(cells)
    assert {cell["cell_type"] for cell in cells} == {"markdown", "code"}
    assert all(
        cell["outputs"] == [] and cell["execution_count"] is None for cell in cells if cell["cell_type"] == "code"
    )


def test_the_notebook_runs_cell_by_cell(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(world)
    mpl.use("Agg")
    names: dict[str, Any] = {}
    for cell in read_notebook()["cells"]:
        if cell["cell_type"] == "code":
            exec(compile("".join(cell["source"]), f"night.ipynb, {cell['id']}", "exec"), names)
    assert names["run"].record["verdict"] == "published"
    assert names["shown"]["users"].sum() == 150
    assert names["errors"]["model"].to_list()
    names["plt"].close("all")


@pytest.fixture
def web_page(warehouse: Path) -> Iterator[int]:
    """The port at which the example serves."""
    server = runpy.run_path(str(EXAMPLES / "web_page.py"))["make_server"](str(warehouse), 0)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server.server_port
    server.shutdown()
    thread.join()
    server.server_close()


def get(port: int, path: str) -> tuple[int, str]:
    connection = HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("GET", path)
    answer = connection.getresponse()
    body = answer.read().decode()
    connection.close()
    return answer.status, body


def test_the_web_page_shows_the_list_of_a_user(web_page: int) -> None:
    status, body = get(web_page, "/?user_id=42")
    assert status == 200
    assert re.findall(r"<b>(.+?)</b>", body) == ["Movie 4", "Movie 5", "Movie 6"]
    assert "because of Movie 3" in body
    assert get(web_page, "/?user_id=999999")[1].endswith("<p>no list</p></ol>")


def test_a_browser_shows_the_web_page(web_page: int) -> None:
    """Without Chromium, the titles are read from the HTML."""
    if BROWSER is None:
        titles = re.findall(r"<li>.*?<b>(.*?)</b>", get(web_page, "/?user_id=42")[1], flags=re.DOTALL)
    else:
        with browsing() as page:
            page.goto(f"http://127.0.0.1:{web_page}/?user_id=42")
            titles = page.locator("li b").all_inner_texts()
    assert titles == ["Movie 4", "Movie 5", "Movie 6"]


def test_the_web_page_refuses_invalid_user_ids(web_page: int) -> None:
    for path in ("/", "/?user_id=", "/?user_id=1%27+or+1=1", "/?user_id=99999999999"):
        assert get(web_page, path)[0] == 400
