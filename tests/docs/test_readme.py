"""README.md and docs/evaluation.md: queries run, the code map, the index and the table of commands are complete."""

import re
from dataclasses import replace
from pathlib import Path

import duckdb

from flows.cli.main import main
from recsys.home import Home
from recsys.warehouse.outcome import MetricRow
from tests.support.warehouses import make_frames, make_outcome, publish, write_night
from tests.test_layout import ROOMS

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
EVALUATION = (ROOT / "docs" / "evaluation.md").read_text(encoding="utf-8")
MAX_LINES = 190


def blocks(page: str) -> list[str]:
    return re.findall(r"```sql\n(.*?)```", page, flags=re.DOTALL)


def test_the_readme_is_short() -> None:
    assert len(README.splitlines()) <= MAX_LINES


def test_the_query_of_the_readme_runs(world: Path) -> None:
    (query,) = blocks(README)
    with duckdb.connect(world / "data" / "warehouse.duckdb", read_only=True) as connection:
        assert len(connection.execute(query).fetchall()) == 3


def test_the_queries_of_the_evaluation_page_run(home: Home) -> None:
    """Slices are of the last night that published. The comparison with biases has every night."""
    sliced, compared, _ = blocks(EVALUATION)
    night = write_night(home.root / "night", make_frames(n_users=50, n_movies=20))
    for run_id, mae, n in (("20261120T030000Z", 0.9, 500), ("20261121T030000Z", 0.7, 300)):
        slices = {"mae_median": mae, "n": n}
        metrics = [MetricRow("ordinal", "holdout", "user_activity=1-20", key, slices[key]) for key in slices]
        metrics += [MetricRow(model, "holdout", "all", "rmse_mean", mae) for model in ("ordinal", "bias", "other")]
        publish(make_outcome(run_id), replace(night, metrics=tuple(metrics)), home)
    with duckdb.connect(home.warehouse, read_only=True) as connection:
        assert connection.execute(sliced).fetchall() == [("user_activity=1-20", 0.7, 300)]
        assert sorted(row[1:] for row in connection.execute(compared).fetchall()) == [
            ("20261120T030000Z", "bias", 0.9),
            ("20261120T030000Z", "ordinal", 0.9),
            ("20261121T030000Z", "bias", 0.7),
            ("20261121T030000Z", "ordinal", 0.7),
        ]


def test_the_code_map_names_every_room() -> None:
    named = re.findall(r"^recsys/(\w+)", README, flags=re.MULTILINE)
    assert named == [path for path in dict.fromkeys(room.split(".")[0] for room in ROOMS) if path != "flat"]


def test_the_table_of_commands_is_complete() -> None:
    assert set(re.findall(r"^\| `recsys ([\w-]+)", README, flags=re.MULTILINE)) == set(main.commands)


def test_the_index_names_every_page() -> None:
    """Pages of the reference are linked from their sections."""
    pages = {f"docs/{path.relative_to(ROOT / 'docs')}" for path in (ROOT / "docs").glob("*.md")} - {"docs/index.md"}
    linked = {*re.findall(r"\]\((docs/[\w/-]+\.md)\)", README)}
    assert pages <= linked
    assert all((ROOT / path).exists() for path in linked)


def test_experiments_are_listed_by_decision() -> None:
    """tests/docs/test_site.py checks that the links lead to existing sections."""
    page = (ROOT / "docs" / "experiments.md").read_text(encoding="utf-8")
    index, *sections = re.split(r"^## (?!Index)", page, flags=re.MULTILINE)
    titles = [section.splitlines()[0].rpartition(" (")[0] for section in sections]
    assert titles and [title for title in titles if f"[{title}](#" not in index] == []


def test_pages_that_the_code_names_exist() -> None:
    named: dict[str, str] = {}
    for layer in ("deployments", "flows", "recsys", "sql", "tests"):
        for path in (ROOT / layer).rglob("*"):
            if path.is_file() and path.suffix != ".pyc":
                text = path.read_text(encoding="utf-8", errors="replace")
                named |= dict.fromkeys(re.findall(r"\bdocs/[\w/-]+\.md\b", text), str(path.relative_to(ROOT)))
    assert len(named) > 3
    assert {page: path for page, path in named.items() if not (ROOT / page).exists()} == {}
