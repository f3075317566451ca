"""DuckDB 1.4, without any other package, reads the published file."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from recsys.warehouse.build import LISTS, TABLES
from tests.support.consumers import blocks

VERSION = "1.4.5"  # the newest of 1.4
SHA256 = (  # CPython 3.11 and 3.12 on Linux x86-64, Linux arm64, macOS arm64 and macOS x86-64
    "45b6ac74a17a80d19e9da4b224115aac1ed691dcb56e271a88ee665c9e05c57a",
    "aa294d028c149ca21110e366eaffcb4fc9ab11d7d203d50f7bc49a07ab34b960",
    "326429624e488faecafcee8c1d02668bf424b144f1ac6ef8706028c439c3f5ab",
    "0c72b1dcf27a71ef5f3dc14b92b9ed9274c5584bb0e88590b78907cbb8e254f3",
    "58df29096a43c1ad29f0a323babe0de1c2e15b0921f7642a35b0e9b2e05a766a",
    "07328a3e3a52221bd13c7dfc2f072be4fae84d42a5ef272d6fd497cda43e375f",
    "14ee4000e879ce1f9a1a6dc08936cca5bfe0990b81e1b5a0466a746070bf1033",
    "c08999ed92ac66caecfc3945dd7184fdc145570e56ec5af6ec4dd84f1e1bab8c",
)
PIP_LIMITS = ("--retries", "1", "--timeout", "15")  # seconds

READER = """
import duckdb, json, sys
asked = json.load(sys.stdin)
answers = {"version": duckdb.__version__, "rows": {}, "ran": 0}
with duckdb.connect("data/warehouse.duckdb", read_only=True) as warehouse:
    for name in asked["relations"]:  # hashing reads every value and needs no other package
        rows = warehouse.execute(f"select count(*), sum(hash(rows)) from {name} as rows").fetchall()
        answers["rows"][name] = rows[0][0]
    answers["comments"] = warehouse.execute(
        "select count(*), count(comment) from (select comment from duckdb_columns() where not internal "
        "union all select comment from duckdb_tables() where not internal "
        "union all select comment from duckdb_views() where not internal "
        "union all select comment from duckdb_functions() where not internal)"
    ).fetchall()
for block in asked["blocks"]:
    path = ":memory:" if "attach '" in block else "data/warehouse.duckdb"
    with duckdb.connect(path, read_only=path != ":memory:") as connection:
        connection.execute(block)
        answers["ran"] += 1
json.dump(answers, sys.stdout)
"""


@pytest.fixture(scope="session")
def duckdb_1_4(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with only this package."""
    folder = tmp_path_factory.mktemp("duckdb-1.4")
    requirements = folder / "requirements.txt"
    hashes = " ".join(f"--hash=sha256:{digest}" for digest in SHA256)
    requirements.write_text(f"duckdb=={VERSION} {hashes}\n", encoding="utf-8")
    pip = (sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input", *PIP_LIMITS)
    exact = ("--no-deps", "--no-compile", "--only-binary=:all:", "--require-hashes", "-r", str(requirements))
    install = (*pip, *exact, "--target", str(folder / "packages"))
    done = subprocess.run(install, capture_output=True, text=True, check=False)
    if done.returncode:
        last_line = (done.stderr.strip().splitlines() or ["no message"])[-1]
        pytest.fail(
            f"pip cannot install duckdb=={VERSION}, so it is unknown whether DuckDB 1.4 reads the published file "
            f"({last_line}). Next: run the tests where pip reaches a package index"
        )
    return folder / "packages"


@pytest.mark.slow
def test_duckdb_1_4_reads_every_table_view_macro_and_comment(duckdb_1_4: Path, world: Path) -> None:
    lists = ("recommendations", "default_recommendations", "similar_movies", LISTS, "recommendation_changes")
    views = (*(f"{name}_named" for name in lists), "recommendation_changes")
    macro = "recommendations_as_of('1998-04-22')"
    answers = ask(duckdb_1_4, world, {"relations": [*TABLES, *views, macro], "blocks": blocks("sql")})
    assert answers["version"] == VERSION
    assert answers["rows"] == {
        "recommendations": 150, "default_recommendations": 6, "similar_movies": 60, "movies": 20, "users": 51,
        "links": 20, "movie_stats": 20, "user_stats": 51, "runs": 4, "run_steps": 7, "metrics": 21, "quarantine": 4,
        "recommendation_history": 450, "metric_names": 7, "recommendations_named": 150,
        "default_recommendations_named": 6, "similar_movies_named": 60, "recommendation_history_named": 450,
        "recommendation_changes": 9, "recommendation_changes_named": 9, macro: 150,
    }  # fmt: skip
    ((n_objects, n_comments),) = answers["comments"]
    assert n_objects == n_comments > 100
    assert answers["ran"] == len(blocks("sql"))


def ask(packages: Path, folder: Path, asked: dict[str, Any]) -> Any:
    """Runs READER in a process without other packages: -S hides those of this environment."""
    done = subprocess.run(
        [sys.executable, "-S", "-c", READER],
        input=json.dumps(asked),
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
        env={"PYTHONPATH": str(packages)},
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
