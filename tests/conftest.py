"""Fixtures that all tests share, and the order in which groups of tests start."""

import atexit
import os
import sys

# Read when torch and polars are imported. Spinning threads starve each other, and so do several threads in each of
# several workers.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("POLARS_MAX_THREADS", "1")

from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings as hypothesis_settings
from xdist.scheduler import LoadScopeScheduling

from recsys.datasets import DATASETS
from recsys.home import Home
from tests.support.archives import write_stand_in
from tests.support.groups import group_of, is_slow, start_order


@atexit.register
def silence_exit() -> None:
    """Discards stderr while the interpreter shuts down.

    Threads of Prefect still hold DuckDB objects then, and nanobind prints a page of meaningless warnings about them.
    """
    sys.stderr.flush()
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)


hypothesis_settings.register_profile("recsys", deadline=None)  # a busy machine is not a failure
hypothesis_settings.load_profile("recsys")

REAL_DATA = Path(os.environ.get("RECSYS_TEST_DATA", Path(__file__).parents[2] / "shared" / "data"))
STAND_IN = "stand-in"  # a property of a test: the name of a dataset that it replaced by its stand-in


@dataclass(frozen=True)
class RealArchive:
    """The zip file of an edition, or planted ratings in the same layout where the real file is missing."""

    path: Path
    is_real: bool


@pytest.fixture
def two_threads() -> Iterator[None]:
    """Torch computes with two threads during the test."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """An empty home that the test owns."""
    return Home(tmp_path / "home")


@pytest.fixture(scope="session")
def served_night(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """A home with one published night from `nights.write_source`. Tests only read it."""
    from tests.support.nights import serve_night

    return serve_night(tmp_path_factory.mktemp("night"))


@pytest.fixture(scope="session")
def stand_ins(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """`stand_ins("ml-1m")` is the path of a dataset's stand-in, written on first use."""
    folder = tmp_path_factory.mktemp("stand-ins")

    def stand_in(dataset: str) -> Path:
        path = folder / f"{dataset}.zip"
        return path if path.exists() else write_stand_in(path, DATASETS[dataset].layout)

    return stand_in


@pytest.fixture
def real_archive(request: pytest.FixtureRequest, stand_ins: Callable[[str], Path]) -> Callable[[str], RealArchive]:
    """`real_archive("ml-1m")` is the published archive if REAL_DATA has it, otherwise a stand-in, which is counted."""

    def find(dataset: str) -> RealArchive:
        path = REAL_DATA / f"{dataset}.zip"
        if path.exists():
            return RealArchive(path, is_real=True)
        request.node.user_properties.append((STAND_IN, dataset))  # reaches the summary from other processes, too
        return RealArchive(stand_ins(dataset), is_real=False)

    return find


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--fast", action="store_true", help="leave out slow files and tests, for the inner loop")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Slow files are not even imported with --fast, unless they are named on the command line."""
    named = any(Path(argument.partition("::")[0]).resolve() == collection_path for argument in config.args)
    return True if config.getoption("--fast") and is_slow(collection_path) and not named else None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Starts slow files first."""
    items.sort(key=lambda item: start_order(item.path))
    if config.getoption("--fast"):
        slow = [item for item in items if item.get_closest_marker("slow")]
        config.hook.pytest_deselected(items=slow)
        items[:] = [item for item in items if item not in slow]


class Groups(LoadScopeScheduling):  # type: ignore[misc]  # xdist's schedulers carry no types
    """Hands out tests in the groups of `tests.support.groups`.

    Marks of pytest-xdist do not group tests under pytest 9.2, which ignores the suffix that it adds to node ids.
    """

    def _split_scope(self, nodeid: str) -> str:
        return group_of(nodeid)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Groups:
    return Groups(config, log)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    reports = [one for some in terminalreporter.stats.values() for one in some if isinstance(one, pytest.TestReport)]
    show_slowest_files(terminalreporter, reports)
    show_stand_ins(terminalreporter, reports)


def show_slowest_files(terminalreporter: pytest.TerminalReporter, reports: list[pytest.TestReport]) -> None:
    """Lists the seconds that workers spent on each file, from which the table in tests/support/groups.py is updated."""
    seconds: defaultdict[str, float] = defaultdict(float)
    for report in reports:
        seconds[report.location[0]] += report.duration
    if len(seconds) > 1:
        terminalreporter.section("slowest files")
        for total, name in sorted(((total, name) for name, total in seconds.items()), reverse=True)[:25]:
            terminalreporter.line(f"{total:7.1f}s {name}")


def show_stand_ins(terminalreporter: pytest.TerminalReporter, reports: list[pytest.TestReport]) -> None:
    """Reports which tests ran on stand-ins, so that a pass on stand-ins is not mistaken for a pass on MovieLens."""
    used = {(one.nodeid, name) for one in reports for key, name in one.user_properties if key == STAND_IN}
    if used:
        tests, names = {test for test, _ in used}, {str(name) for _, name in used}
        terminalreporter.section("stand-ins for real archives")
        terminalreporter.line(
            f"{len(tests)} tests used planted ratings in place of {', '.join(sorted(names))}, because {REAL_DATA} does "
            "not have these zip files; set RECSYS_TEST_DATA to a folder that has them to test on real data"
        )
