"""`recsys check`: output, exit codes and files. Tests that depend on the process run it in a separate one."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from flows.cli.documents import DOCUMENTS
from flows.cli.main import main
from recsys.checks.report import check_source, describe_check, render_check
from recsys.checks.rules import ROW_RULES, SHIFT_RULES, table_rules
from recsys.errors import SourceError
from recsys.home import Home
from recsys.ingest.synthetic.synthetic import plant
from recsys.settings import CheckConfig, Settings
from tests.support.archives import write_archive
from tests.support.snapshots import check_ratings, make_run, make_tables, write_tables
from tests.support.validators import count_offences
from tests.support.warehouses import make_frames, make_outcome, publish, write_night

RECSYS = Path(sys.executable).with_name("recsys")


@dataclass(frozen=True)
class Output:
    exit_code: int
    stdout: str
    stderr: str


def run_check(home: Home, source: Path, *options: str, **environment: str) -> Output:
    rest = {name: value for name, value in os.environ.items() if not name.startswith("RECSYS_")}
    command = [str(RECSYS), "check", "--source", str(source), "--home", str(home.root), *options]
    done = subprocess.run(command, env=rest | environment, capture_output=True, text=True, check=False)
    return Output(done.returncode, done.stdout, done.stderr)


def type_check(home: Home, source: Path, *options: str, **environment: str) -> Output:
    """Runs `recsys check` in this process, which has everything imported."""
    done = CliRunner().invoke(
        main, ["check", "--source", str(source), "--home", str(home.root), *options], env=environment
    )
    return Output(done.exit_code, done.stdout, done.stderr)


def write_source(path: Path, broken_lines: Mapping[int, str] | None = None) -> Path:
    planted = plant(100, 80, 2000)
    return write_archive(path, "ml-1m", planted.ratings, planted.movies, planted.users, broken_lines)


@dataclass(frozen=True)
class Passed:
    """The output and the files of one check of a good source on a new home."""

    output: Output
    source: Path
    home: Home
    left: set[Path]


@pytest.fixture(scope="module")
def passed(tmp_path_factory: pytest.TempPathFactory) -> Passed:
    """Shared, because Great Expectations takes a second."""
    folder = tmp_path_factory.mktemp("passed")
    source, home = write_source(folder / "good", {1: "1::1::9::978300760"}), Home(folder / "home")
    output = type_check(home, source)
    return Passed(output, source, home, {home.warehouse, *home.runs.iterdir()} & {*home.root.rglob("*")})


def verdict_of(page: str, table: str, rule: str) -> list[str]:
    """The last words of a rule's row: value, limits, verdict."""
    (row,) = (line for line in page.splitlines() if line.split()[:2] == [table, rule])
    return row.split()[-4:]


def test_a_good_source_passes(passed: Passed) -> None:
    output = passed.output
    assert output.exit_code == 0, output.stderr
    rules = (*ROW_RULES, *SHIFT_RULES)
    assert all(f" {rule.name} " in output.stdout and rule.demands in output.stdout for rule in rules)
    assert all(f" {rule.name} " in output.stdout for rule in table_rules(CheckConfig()))
    assert verdict_of(output.stdout, "ratings", "rating_on_scale") == ["1", "0.050%", "0.500%", "quarantined"]
    assert verdict_of(output.stdout, "ratings", "rating_unique") == ["0", "0.000%", "1.000%", "pass"]
    assert verdict_of(output.stdout, "ratings", "rating_psi") == ["0.1", "0.25", "not", "compared"]
    (folder,) = passed.left  # and no warehouse
    assert folder.name.endswith("-check")
    assert f"1 refused lines in {folder / 'validation' / 'quarantine.parquet'}" in output.stdout
    assert f"All rules in {folder / 'validation' / 'data_docs' / 'index.html'}" in output.stdout
    assert {"config.json", "night.log", "steps.json", "validation"} <= {path.name for path in folder.iterdir()}


def test_a_bad_source_is_refused_and_its_result_is_shown(tmp_path: Path, home: Home) -> None:
    source = write_source(tmp_path / "bad", dict.fromkeys(range(1, 41), "1::1::9::978300760"))
    output = type_check(home, source)
    assert output.exit_code == 3
    assert verdict_of(output.stdout, "ratings", "rating_on_scale") == ["40", "1.961%", "0.500%", "stop"]
    rules = [line for line in output.stdout.splitlines() if line.startswith(("ratings ", "movies ", "users "))]
    assert rules[0].split()[1] == "rating_on_scale", "failures come first"
    assert "ratings.dat line 1: {" in output.stderr
    assert "Traceback" not in output.stderr
    again = type_check(home, source, "--json")
    assert again.exit_code == 3
    found = json.loads(again.stdout)
    assert {*found} == {"schema", "command", "error", *(key.partition("[]")[0] for key in DOCUMENTS["check"])}
    assert {f"rules[].{key}" for rule in found["rules"] for key in rule} <= {*DOCUMENTS["check"]}
    assert (found["error"]["kind"], found["error"]["exit_code"]) == ("DataRefused", 3)
    assert (found["passed"], found["counts"]) == (False, {"quarantine": 40})
    assert found["reused_from"] in {path.name for path in home.runs.iterdir()}
    assert Path(found["quarantine"]).exists()
    assert Path(found["data_docs"]).exists()


def test_a_check_does_not_change_the_warehouse(tmp_path: Path, home: Home) -> None:
    publish(make_outcome("20261120T030000Z"), write_night(home.root / "night", make_frames()), home)
    before = home.warehouse.read_bytes(), home.warehouse.stat().st_mtime_ns
    check_source(Settings(source=str(write_source(tmp_path / "good")), home=home.root), count_offences)
    assert (home.warehouse.read_bytes(), home.warehouse.stat().st_mtime_ns) == before


def test_as_of_and_settings_apply(tmp_path: Path, home: Home) -> None:
    publish(make_outcome("20261120T030000Z"), write_night(home.root / "night", make_frames()), home)
    before = home.warehouse.read_bytes(), home.warehouse.stat().st_mtime_ns
    source = write_source(tmp_path / "good")
    output = type_check(home, source, "--as-of", "1990-01-01", "--json", RECSYS_CHECK__MIN_RATINGS="7")
    assert output.exit_code == 3
    assert "there are at least 7 ratings" in output.stderr
    assert json.loads(output.stdout)["as_of"] == "1990-01-01T00:00:00+00:00"
    assert (home.warehouse.read_bytes(), home.warehouse.stat().st_mtime_ns) == before


def test_an_unreadable_source_shows_no_table(home: Home, tmp_path: Path) -> None:
    path = tmp_path / "torn.zip"
    path.write_bytes(b"not a zip")
    output = run_check(home, path)
    assert output.exit_code == 1
    assert "Traceback" not in output.stderr
    assert output.stdout == ""
    with pytest.raises(SourceError) as error:
        check_source(Settings(source=str(path), home=home.root), count_offences)
    assert error.value.run is not None
    assert describe_check(error.value.run) is None
    assert render_check(error.value.run, 100, colours=False) is None


def test_a_process_shows_its_steps_and_imports_no_great_expectations_for_an_unchanged_source(passed: Passed) -> None:
    """The import takes three seconds. Torch and Prefect are not imported either."""
    program = (
        f"import sys; from flows.cli.main import main; main(['check', '--source', {str(passed.source)!r}, '--home', "
        f"{str(passed.home.root)!r}], standalone_mode=False); print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "nothing has changed since" in done.stdout
    assert not {"great_expectations", "torch", "prefect", "pandas"} & set(done.stdout.splitlines()[-1].split())
    assert [line.split()[1] for line in done.stderr.splitlines() if line.endswith(" ...")] == [
        *("fetch_archive", "write_snapshot", "check_ratings")
    ]


def test_colours_are_optional(tmp_path: Path, home: Home) -> None:
    run = make_run(home)
    check_ratings(write_tables(tmp_path / "s", make_tables()), run, CheckConfig(), None)
    pages: list[Any] = [render_check(run, 160, colours=colours) for colours in (False, True)]
    assert ["\x1b[" in page for page in pages] == [False, True]
