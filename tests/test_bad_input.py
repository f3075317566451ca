"""Every kind of bad input in docs/data.md has the documented result and leaves the published tables unchanged.

The page lists the result and the message of each kind; … in a message means any text. `bad_inputs` creates the kinds.
"""

import logging
import re
import shutil
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pytest
from click.testing import CliRunner

from flows.cli.main import main
from recsys.errors import DataRefused, GateHeld, PublishError, RecsysError, SourceError, UsageError
from recsys.home import Home, Run
from recsys.ingest.fetch.fetch import fetch_archive
from recsys.ingest.write import write_snapshot
from recsys.runs.night import checking, describe_run, night
from recsys.settings import CheckConfig, LimitConfig, Settings
from recsys.warehouse.build import SERVED
from recsys.warehouse.lookup import list_runs
from tests.support.bad_inputs import GROUPS, ROW_GROUPS, find_lines, with_rows
from tests.support.servers import Site, serving
from tests.support.snapshots import check_ratings
from tests.support.spoiling import Kind, write_drops
from tests.support.warehouses import make_frames, publish, write_night

PAGE = Path(__file__).parents[1] / "docs" / "data.md"  # the section "Bad input"
ROW = re.compile(r"^\| (?P<kind>.+?) \| (?P<gets>.+?) \| `` (?P<message>.*) `` \|$", re.MULTILINE)
REFUSED = {
    "refused, 3": (DataRefused,),
    "refused, 2": (UsageError,),
    "refused, 1": (SourceError, PublishError),
}
ALL = 10_000  # more than there are runs
PASSES = "passes"
BY = "quarantined by "

# Found before the run is opened, so these leave no row in `runs`.
BEFORE_A_RUN = {
    *("a home that is a file", "a file in place of the runs", "a damaged warehouse"),
    "a damaged list of the forgotten",
}

# What a night does with an error depends on the class of the error and on the step that raises it. These kinds and all
# kinds of damage to the home run as a night; the other kinds run as a check, which stops at the same error.
WHOLE_NIGHTS = {
    *("a misspelt dataset", "HTML page", "not found"),  # refused before anything is read
    *("a damaged page of Parquet", "a missing column"),  # refused while it is read
    *("many ratings off the scale", "an export cut short"),  # refused by the checks
    *("an added column", "a drop that arrives twice", "a null in Parquet"),  # not refused
}
LENIENT = CheckConfig(max_bad_share=0.1, limits=LimitConfig(**dict.fromkeys(LimitConfig.model_fields, 0.1)))


@dataclass(frozen=True)
class Expected:
    """The result and the message of a kind on the page."""

    gets: str
    message: str

    def is_in(self, text: str) -> bool:
        parts = map(re.escape, self.message.split("…"))
        return re.search(".*".join(parts), text, re.DOTALL) is not None


def read_page() -> dict[str, dict[str, Expected]]:
    """The expectations by section and kind."""
    page = PAGE.read_text(encoding="utf-8").partition("\n## Bad input\n")[2]
    sections = re.split(r"^### ", page, flags=re.MULTILINE)[1:]
    named = {section.partition("\n")[0]: ROW.finditer(section.replace("\\|", "|")) for section in sections}
    return {name: {row["kind"]: Expected(row["gets"], row["message"]) for row in rows} for name, rows in named.items()}


EXPECTED = {kind: expected for rows in read_page().values() for kind, expected in rows.items()}
KINDS = {kind: made for kinds in GROUPS.values() for kind, made in kinds.items()}
ROWS = {kind: group for group, (_, kinds) in ROW_GROUPS.items() for kind in kinds}


def test_the_page_and_the_tests_have_the_same_kinds() -> None:
    made = {group: list(kinds) for group, kinds in GROUPS.items()}
    made |= {group: list(kinds) for group, (_, kinds) in ROW_GROUPS.items()}
    expected = {group: list(kinds) for group, kinds in read_page().items() if kinds}
    assert expected == made
    assert len(EXPECTED) == sum(map(len, made.values())), "a kind is named twice"


# ---- the home of all nights


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """A home with one published night, whose lists are not those of a training."""
    folder = tmp_path_factory.mktemp("pristine")
    settings = Settings(source=str(write_drops(folder / "drops")), home=folder / "home")
    with night(settings) as run:
        check(settings, run)
        outcome = replace(describe_run(run, verdict="published", reason=None), model="ordinal")
        publish(outcome, write_night(folder / "night", make_frames()), run.home)
    return Home(settings.home)


@pytest.fixture(scope="module")
def home(pristine: Home, tmp_path_factory: pytest.TempPathFactory) -> Home:
    """A copy of the home, shared by all kinds that do not damage it."""
    return copy_home(pristine, tmp_path_factory.mktemp("shared") / "home")


@pytest.fixture(scope="module")
def served(home: Home) -> Any:
    """The published tables of that copy, which must never change."""
    return published(home)


def copy_home(home: Home, to: Path) -> Home:
    shutil.copytree(home.root, to)
    return Home(to)


# ---- nights and checks with bad input


@dataclass(frozen=True)
class Ending:
    """The error that ended a night or a check, and its run. The error is GateHeld if the data passed."""

    error: RecsysError
    run: Run | None

    @property
    def quarantine(self) -> list[dict[str, Any]]:
        """The quarantine of this run, by table and line: a night's in the warehouse, a check's in its folder."""
        assert self.run
        if self.run.run_id.endswith("-check"):
            return pl.read_parquet(self.run.quarantine).to_dicts()
        query = "from quarantine where run_id = $run_id order by source_table, source_file, source_line"
        with duckdb.connect(self.run.home.warehouse, read_only=True) as connection:
            rows = connection.execute(query, {"run_id": self.run.run_id}).fetchall()
            names = [column[0] for column in connection.execute("describe quarantine").fetchall()]
        return [dict(zip(names, row, strict=True)) for row in rows]


def check(settings: Settings, run: Run, grouplens: str = "http://127.0.0.1:9") -> Any:
    archive = fetch_archive(settings.source, run.home, grouplens)
    return check_ratings(write_snapshot(archive, run.home), run, settings.check, settings.as_of)


Opens = Callable[[Settings], AbstractContextManager[Run]]


def run_checks(settings: Settings, opens: Opens = night, grouplens: str = "http://127.0.0.1:9") -> Ending:
    """Runs a night up to its checks, or only a check."""
    with pytest.raises(RecsysError) as caught, opens(settings) as run:
        check(settings, run, grouplens)
        raise GateHeld("nothing was trained")
    return Ending(caught.value, caught.value.run)


def published(home: Home) -> Any:
    """All published tables; the bytes of the file if it is not a database."""
    if not home.warehouse.is_file():
        return home.root.read_bytes()
    try:
        with duckdb.connect(home.warehouse, read_only=True) as connection:
            return {table: connection.sql(f"from {table} order by all").fetchall() for table in SERVED}
    except duckdb.Error:
        return home.warehouse.read_bytes()


@pytest.mark.parametrize("kind", KINDS)
def test_bad_input(
    kind: str,
    pristine: Home,
    home: Home,
    served: Any,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made, expected = KINDS[kind], EXPECTED[kind]
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    settings = prepare(made, pristine, home, tmp_path)
    with caplog.at_level(logging.INFO, logger="recsys"), serving(Site(b"", usual=made.answer or refuse)) as site:
        if made.damage or kind in WHOLE_NIGHTS:
            before = published(Home(settings.home)) if made.damage else served
            ending = run_night(settings, site.address, before, opens_run=kind not in BEFORE_A_RUN)
        else:
            ending = run_check(settings, site.address)
    if expected.gets in REFUSED:
        check_refused(ending.error, expected)
    else:
        check_passed(ending, expected, caplog.text)


def run_night(settings: Settings, grouplens: str, before: Any, *, opens_run: bool) -> Ending:
    """Runs a night that must leave the published tables as they were, with one more row in `runs` if it opens a run."""
    here = Home(settings.home)
    n_runs = list_runs(here, ALL).height if opens_run else 0
    ending = run_checks(settings, night, grouplens)
    assert published(here) == before
    assert (ending.run is not None) == opens_run
    if ending.run:
        check_recorded(ending, n_runs)
    return ending


def run_check(settings: Settings, grouplens: str) -> Ending:
    """Runs a check, which must not write to the warehouse."""
    warehouse = Home(settings.home).warehouse
    before = warehouse.stat()
    ending = run_checks(settings, checking, grouplens)
    after = warehouse.stat()
    assert (after.st_ino, after.st_mtime_ns, after.st_size) == (before.st_ino, before.st_mtime_ns, before.st_size)
    return ending


def prepare(made: Kind, pristine: Home, home: Home, folder: Path) -> Settings:
    """Writes the source; damages a copy of the home if the kind says so."""
    (folder / "sources").mkdir()
    source = made.write(folder / "sources")
    here = copy_home(pristine, folder / "home") if made.damage else home
    if made.damage:
        made.damage(here)
    return Settings(
        source=str(source), home=here.root, resume_hours=0, **made.settings
    )  # kinds with equal inputs must not resume each other's run


def refuse(handler: Any) -> None:
    raise AssertionError("no kind in this group should send a request to a server")


def check_recorded(ending: Ending, n_runs: int) -> None:
    """Checks that `runs` has one more row, with the verdict and the reason."""
    assert ending.run
    runs = list_runs(ending.run.home, ALL)
    assert runs.height == n_runs + 1
    newest = runs.row(0, named=True)
    assert newest["run_id"] == ending.run.run_id
    assert (newest["verdict"], newest["reason"]) == (ending.error.verdict, str(ending.error))
    assert newest["published"] is False


def check_refused(error: RecsysError, expected: Expected) -> None:
    message = str(error)
    assert isinstance(error, REFUSED[expected.gets]), message
    assert error.exit_code == int(expected.gets[-1])
    assert expected.is_in(message), message
    assert "Next" in message
    assert message.isprintable(), "one paragraph, and nothing that steers a terminal"
    assert len(message) < 4000


def check_passed(ending: Ending, expected: Expected, log: str) -> None:
    assert isinstance(ending.error, GateHeld), str(ending.error)
    if expected.gets == PASSES:
        assert ending.quarantine == []
        assert expected.is_in(log), log
    else:
        assert [expected.gets] == [f"{BY}{row['rule']}" for row in ending.quarantine]
        assert expected.is_in(ending.quarantine[0]["row"])


# ---- rows


@pytest.fixture(scope="module")
def quarantined(
    home: Home, served: Any, tmp_path_factory: pytest.TempPathFactory
) -> Mapping[str, list[dict[str, Any]]]:
    """For each group, the quarantine of one night with all kinds of the group, under lenient limits."""
    found = {}
    for group, (files, kinds) in ROW_GROUPS.items():
        folder = tmp_path_factory.mktemp("rows")
        source = with_rows(files, "ml-latest-small" if "edition" in group else "drops", kinds)(folder)
        ending = run_checks(Settings(source=str(source), home=home.root, check=LENIENT))
        assert isinstance(ending.error, GateHeld), str(ending.error)
        found[group] = ending.quarantine
    assert published(home) == served
    return found


@pytest.mark.parametrize("kind", ROWS)
def test_a_bad_row_is_quarantined(kind: str, quarantined: Mapping[str, list[dict[str, Any]]]) -> None:
    files, kinds = ROW_GROUPS[ROWS[kind]]
    expected, lines, file = EXPECTED[kind], find_lines(files(), kinds)[kind], kinds[kind].file
    found = [row for row in quarantined[ROWS[kind]] if row["source_file"] == file and row["source_line"] in lines]
    assert {row["source_line"] for row in found} == lines
    assert {row["source_table"] for row in found} == {file.partition(".")[0]}
    assert {f"{BY}{row['rule']}" for row in found} == {expected.gets}
    assert expected.is_in("; ".join(row["row"] for row in found))


@pytest.mark.parametrize("group", ROW_GROUPS)
def test_nothing_else_is_quarantined(group: str, quarantined: Mapping[str, list[dict[str, Any]]]) -> None:
    files, kinds = ROW_GROUPS[group]
    bad = {(kinds[kind].file, line) for kind, lines in find_lines(files(), kinds).items() for line in lines}
    assert {(row["source_file"], row["source_line"]) for row in quarantined[group]} == bad
    assert len(quarantined[group]) == len(bad)


# ---- from the command line


@pytest.mark.parametrize("kind", ["a misspelt dataset", "HTML page"])
def test_the_command_line_says_the_same(kind: str, pristine: Home, home: Home, tmp_path: Path) -> None:
    """tests/checks/test_report.py has exit code 3, and exit code 1 of a separate process."""
    expected = EXPECTED[kind]
    settings = prepare(KINDS[kind], pristine, home, tmp_path)
    done = CliRunner().invoke(main, ["check", "--source", settings.source, "--home", str(settings.home)])
    assert done.exit_code == int(expected.gets[-1])
    *_, last = done.stderr.splitlines()
    assert last.startswith("recsys: ")
    assert expected.is_in(last)
    assert "Traceback" not in done.stderr
