"""A night that is killed with -9, wherever it is: the next one goes on where it was, and makes the same tables."""

import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from recsys.home import Home
from tests.support.quick_nights import ask, preload, quick_parameters, run_night, tables_of

STEPS = (
    *("fetch_archive", "write_snapshot", "check_ratings", "split", "fit_vocabulary", "read_rules", "choose_network"),
    *("weigh_parts", "train", "evaluate", "compare_champion", "check_gate", "train_for_tonight", "score", "publish"),
    *("retain_snapshots", "retain_runs", "report"),
)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]  # twenty nights on a busy machine


@pytest.fixture(scope="module")
def api() -> Iterator[httpx.Client]:
    """A Prefect server for all nights, which keeps their records."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DO_NOT_TRACK", "1")
        patch.setenv("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
        patch.setenv("PREFECT_LOGGING_LEVEL", "CRITICAL")
        from prefect.settings import PREFECT_API_URL
        from prefect.testing.utilities import prefect_test_harness

        with prefect_test_harness(server_startup_timeout=60):
            address = PREFECT_API_URL.value() or ""
            patch.setenv("PREFECT_API_URL", address)
            preload()
            with httpx.Client(base_url=address, timeout=30, trust_env=False) as client:
                yield client


@pytest.fixture(scope="module")
def undisturbed(api: httpx.Client, tmp_path_factory: pytest.TempPathFactory) -> Home:
    home = Home(tmp_path_factory.mktemp("undisturbed"))
    assert run_night(quick_parameters(home.root)) == 0
    return home


@pytest.fixture(scope="module")
def killed(api: httpx.Client, undisturbed: Home, tmp_path_factory: pytest.TempPathFactory) -> Home:
    """One night that was killed as each of its steps began, one after the other, and started again each time."""
    home = Home(tmp_path_factory.mktemp("killed"))
    for step in STEPS:
        assert run_night(quick_parameters(home.root), kill_at=f"{step} ...") == -9, step
    assert run_night(quick_parameters(home.root)) == 0
    return home


def test_ends_with_the_tables_of_an_undisturbed_night(killed: Home, undisturbed: Home) -> None:
    assert tables_of(killed) == tables_of(undisturbed)
    assert ask(killed, "select verdict, published from runs") == [("published", True)]


def test_no_step_that_was_done_is_done_again(killed: Home) -> None:
    """The log of all tries together: each step but the killed one was taken over."""
    (folder,) = killed.runs.iterdir()
    lines = [line.partition("recsys.runs.night")[2].strip() for line in (folder / "night.log").read_text().splitlines()]
    ended = Counter(line.partition(":")[0] for line in lines if line.endswith(" s"))
    assert ended == Counter(STEPS)


def test_prefect_says_which_steps_were_taken_over(killed: Home, api: httpx.Client) -> None:
    """Of the last try, all of whose records have reached the server."""
    states = wait_for_states(api)
    assert states == dict.fromkeys(STEPS[:-1], "Cached") | {"report": "Completed"}


def test_killed_when_a_step_is_done_and_nobody_knows_yet(api: httpx.Client, undisturbed: Home, tmp_path: Path) -> None:
    """The worst moment: for publishing it means that the tables are those of a run that has not ended."""
    home = Home(tmp_path)
    for step in ("write_snapshot", "train", "publish", "report"):
        assert run_night(quick_parameters(home.root), kill_at=f"{step}: ") == -9, step
    assert run_night(quick_parameters(home.root)) == 0
    assert tables_of(home) == tables_of(undisturbed)
    assert ask(home, "select count(*), any_value(verdict) from runs") == [(1, "published")]
    assert len(list(home.runs.iterdir())) == 1


def test_a_night_after_it_is_one_of_its_own(killed: Home) -> None:
    assert run_night(quick_parameters(killed.root)) == 0
    assert [verdict for (verdict,) in ask(killed, "select verdict from runs order by run_id")] == [
        "published",
        "unchanged",
    ]


def test_a_step_that_takes_too_long_is_ended(api: httpx.Client) -> None:
    """Between two lines of Python, that is: one call of a library is waited for."""
    from flows.step import step

    began = time.monotonic()

    def dawdle() -> None:
        while time.monotonic() < began + 60:
            time.sleep(0.05)

    with pytest.raises(TimeoutError):
        step(dawdle, "dawdle", hours=0.5 / 3600)()
    assert time.monotonic() - began < 30


def wait_for_states(api: httpx.Client) -> dict[str, str]:
    """The states of the steps of the newest flow run; they come a little later than it ends."""
    newest = {"sort": "START_TIME_DESC", "limit": 1}
    deadline = time.monotonic() + 30
    while True:
        flow_run = api.post("/flow_runs/filter", json=newest).raise_for_status().json()[0]
        wanted: dict[str, Any] = {"flow_runs": {"id": {"any_": [flow_run["id"]]}}}
        tasks = api.post("/task_runs/filter", json=wanted).raise_for_status().json()
        states = {task["name"].rpartition("-")[0]: task["state_name"] for task in tasks}
        if len(states) == len(STEPS) and "Running" not in states.values():
            return states
        assert time.monotonic() < deadline, states
        time.sleep(0.5)
