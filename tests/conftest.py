"""Fixtures shared by all tests."""

import atexit
import os
import sys

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # read when torch is imported; spinning threads starve each other

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from recsys.datasets import DATASETS
from recsys.home import Home
from tests.support.archives import write_stand_in


@atexit.register
def hush_exit() -> None:
    """Closes stderr to what the interpreter's end has to say: nanobind lists every DuckDB object that a thread of
    Prefect still holds, a page of alarm about nothing.
    """
    sys.stderr.flush()
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)


REAL_DATA = Path(os.environ.get("RECSYS_TEST_DATA", Path(__file__).parents[2] / "shared" / "data"))
STAND_INS = pytest.StashKey[dict[str, set[str]]]()


@dataclass(frozen=True)
class RealArchive:
    """An edition's zip; when it is not here, planted ratings in its layout, of which its figures do not hold."""

    path: Path
    is_real: bool


@pytest.fixture
def two_threads() -> Iterator[None]:
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home")


@pytest.fixture(scope="session")
def served_night(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """A home on which a night has been published from `nights.write_source`: for reading only."""
    from recsys.runs.night import night
    from tests.support.nights import prepare, publish_night, settings_of, write_source
    from tests.support.planted import quick_config

    folder = tmp_path_factory.mktemp("night")
    settings = settings_of(
        Home(folder / "home"),
        write_source(folder / "source"),
        model="auto",
        config={"model": "ordinal", "config": quick_config("ordinal").model_dump(mode="json")},
        rank={"popularity_penalty": 0.1, "n_similar": 5},
    )
    with night(settings) as run:
        publish_night(prepare(settings, run), settings)
    return run.home


@pytest.fixture(scope="session")
def stand_ins(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The path of a dataset's stand-in, written when it is first asked for."""
    folder = tmp_path_factory.mktemp("stand-ins")

    def stand_in(dataset: str) -> Path:
        path = folder / f"{dataset}.zip"
        return path if path.exists() else write_stand_in(path, DATASETS[dataset].layout)

    return stand_in


@pytest.fixture
def real_archive(request: pytest.FixtureRequest, stand_ins: Callable[[str], Path]) -> Callable[[str], RealArchive]:
    """`real_archive("ml-1m")` is the published archive where RECSYS_TEST_DATA has it, else a stand-in, counted."""

    def find(dataset: str) -> RealArchive:
        path = REAL_DATA / f"{dataset}.zip"
        if path.exists():
            return RealArchive(path, is_real=True)
        used = request.config.stash.setdefault(STAND_INS, {})
        used.setdefault(dataset, set()).add(request.node.nodeid)
        return RealArchive(stand_ins(dataset), is_real=False)

    return find


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """A green run on stand-ins must not pass for one on MovieLens."""
    used = config.stash.get(STAND_INS, {})
    if used:
        tests = set().union(*used.values())
        terminalreporter.section("stand-ins for real archives")
        terminalreporter.line(
            f"{len(tests)} tests used planted ratings in place of {', '.join(sorted(used))}, because {REAL_DATA} does "
            "not have these zips; set RECSYS_TEST_DATA to a folder that does to test on them"
        )


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first: each is one worker's, and the last one to begin decides when all have ended."""
    first = (
        *("test_flow.py", "test_contract.py", "test_deployments.py", "test_planted.py", "test_train.py"),
        *("test_bad_input.py", "test_check.py", "test_publish.py", "test_checkpoint.py", "test_report.py"),
        *("test_systemd.py", "test_hosting.py", "test_healing.py", "test_orchestration.py", "test_reuse.py"),
        *("test_bench_lists.py", "test_readme.py", "test_tune.py"),
    )
    items.sort(key=lambda item: first.index(item.path.name) if item.path.name in first else len(first))
