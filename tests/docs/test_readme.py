"""What the README promises and a machine can verify: its queries run, code map and table of commands are complete."""

import re
import shlex
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import duckdb
import pytest
from click.testing import CliRunner

from flows.cli.main import main
from recsys.home import Home
from recsys.runs.night import night
from recsys.warehouse.outcome import MetricRow
from tests.conftest import RealArchive
from tests.support.nights import prepare, publish_night, settings_of
from tests.support.warehouses import make_frames, make_outcome, publish, write_night
from tests.test_layout import ROOMS

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
QUERIES = re.findall(r"```sql\n(.*?)```", README, flags=re.DOTALL)
EVALUATION = (ROOT / "docs" / "evaluation.md").read_text(encoding="utf-8")
ASKED = README.split("## Ask for lists")[1].split("```")[1]
STAND_INS = {
    "Toy Story": "The Quiet Harbour",
    "Heat": "The Crimson Harbour",
    "Fargo": "The Last Harbour",
    "Braveheart": "The Hidden Harbour",
}


def test_there_are_three_queries() -> None:
    assert len(QUERIES) == 3


@pytest.mark.parametrize("query", QUERIES, ids=["list", "most", "better"])
def test_every_query_answers(query: str, home: Home) -> None:
    night = write_night(home.root / "night", make_frames(n_users=50, n_movies=20))
    metrics = tuple(MetricRow(model, "holdout", "all", "rmse_mean", 0.9) for model in ("ordinal", "bias"))
    publish(make_outcome("20261121T030000Z"), replace(night, metrics=metrics), home)
    with duckdb.connect(home.warehouse, read_only=True) as connection:
        rows = connection.execute(query).fetchall()
    assert rows


def test_the_query_for_slices_is_of_the_last_night_that_published(home: Home) -> None:
    """Nights before it, and held back ones after it, are in the same table."""
    (query,) = re.findall(r"```sql\n(.*?)```", EVALUATION, flags=re.DOTALL)
    night = write_night(home.root / "night", make_frames(n_users=50, n_movies=20))
    for run_id, mae, n in (("20261120T030000Z", 0.9, 500), ("20261121T030000Z", 0.7, 300)):
        slices = {"mae_median": mae, "n": n}
        metrics = tuple(MetricRow("ordinal", "holdout", "user_activity=1-20", key, slices[key]) for key in slices)
        publish(make_outcome(run_id), replace(night, metrics=metrics), home)
    with duckdb.connect(home.warehouse, read_only=True) as connection:
        assert connection.execute(query).fetchall() == [("user_activity=1-20", 0.7, 300)]


def test_the_code_map_names_every_room() -> None:
    named = re.findall(r"^recsys/(\w+)", README, flags=re.MULTILINE)
    assert named == [path for path in dict.fromkeys(room.split(".")[0] for room in ROOMS) if path != "flat"]


def test_the_table_of_commands_is_complete() -> None:
    assert set(re.findall(r"^\| `recsys ([\w-]+)", README, flags=re.MULTILINE)) == set(main.commands)


@pytest.mark.slow
def test_the_examples_of_lists_run(real_archive: Callable[[str], RealArchive], tmp_path: Path) -> None:
    """On ML-100K with a quicker network, so places and figures are others; stand-ins have titles of their own."""
    archive, home = real_archive("ml-100k"), Home(tmp_path / "home")
    with night(settings := settings_of(home, archive.path)) as run:
        publish_night(prepare(settings, run), settings)
    examples = ASKED.split("$ ")[1:]
    assert [example.split()[1] for example in examples] == ["recommend", "recommend", "similar", "explain"]
    for example in examples:
        command, *pasted = example.splitlines()
        for real, stand_in in () if archive.is_real else STAND_INS.items():
            command = command.replace(real, stand_in)
        shown = CliRunner().invoke(main, [*shlex.split(command)[1:], "--home", str(home.root)])
        assert shown.exit_code == 0, shown.stderr
        printed = [line.split() for line in shown.stdout.splitlines()]
        assert printed[0][0] == pasted[0].split()[0] or not archive.is_real
        for line in pasted:
            if line.startswith(("rank ", "title ", "part ", "movie_id ", "served_by: ")):
                assert line.split() in printed
