"""A night is killed with SIGKILL in several steps. The next command resumes it and publishes the same tables."""

import pickle
from collections import Counter
from pathlib import Path

import pytest

from recsys.home import Home
from recsys.nightly import STEPS
from tests.support.quick_nights import ask, quick_parameters, run_night, tables_of

KEPT = [step.name for step in STEPS if step.is_kept]
# Steps with and without a kept result, around each file that a night writes. All 18 steps use the same mechanism.
KILLED_AT = ("check_ratings", "read_rules", "weigh_parts", "check_gate")
KILLED_AFTER = ("train", "publish")  # the step is done, but its result is not saved yet

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Home:
    home = Home(tmp_path_factory.mktemp("undisturbed"))
    assert run_night(quick_parameters(home.root)) == 0
    return home


@pytest.fixture(scope="module")
def killed(undisturbed: Home, tmp_path_factory: pytest.TempPathFactory) -> Home:
    """One night that was killed six times and started again each time."""
    home = Home(tmp_path_factory.mktemp("killed"))
    for line in (*(f"{step} ..." for step in KILLED_AT), *(f"{step}: " for step in KILLED_AFTER)):
        assert run_night(quick_parameters(home.root), kill_at=line) == -9, line
    assert_no_pickles(home)
    assert run_night(quick_parameters(home.root)) == 0
    return home


def test_a_killed_night_publishes_the_tables_of_an_undisturbed_one(killed: Home, undisturbed: Home) -> None:
    assert tables_of(killed) == tables_of(undisturbed)
    assert ask(killed, "select verdict, published from runs") == [("published", True)]
    assert len(list(killed.runs.iterdir())) == 1


def test_no_kept_step_is_executed_again(killed: Home) -> None:
    """night.log contains all attempts. The line of a step that was killed at its end is missing from it."""
    (folder,) = killed.runs.iterdir()
    lines = [line.partition("recsys.runs.step")[2].strip() for line in (folder / "night.log").read_text().splitlines()]
    ended = Counter(line.partition(":")[0] for line in lines if line.endswith(" s"))
    assert {name: ended[name] for name in KEPT} == Counter(KEPT)


def test_the_night_after_it_is_a_new_run(killed: Home) -> None:
    assert run_night(quick_parameters(killed.root)) == 0
    assert [verdict for (verdict,) in ask(killed, "select verdict from runs order by run_id")] == [
        "published",
        "unchanged",
    ]


def assert_no_pickles(home: Home) -> None:
    """Asserts that no file in the home is a pickle, whatever its name."""
    files = [path for path in home.root.rglob("*") if path.is_file()]
    assert len(files) > len(KEPT)
    assert [path for path in files if is_pickle(path)] == []


def is_pickle(path: Path) -> bool:
    """Whether the file is a pickle of protocol 2 or later, by its first and last opcode."""
    content = path.read_bytes()
    return content[:1] == pickle.PROTO and content[1:2] <= b"\x05" and content[-1:] == pickle.STOP


def test_is_pickle_finds_a_pickle(tmp_path: Path) -> None:
    (tmp_path / "result").write_bytes(pickle.dumps({"a": 1}))
    assert is_pickle(tmp_path / "result")
