"""One `recsys serve` for all tests of this folder that need a running one. They are in the xdist group "served"."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.serving import Served, disable_schedules, serving, wait_until_up
from tests.support.sinks import Sink, webhook

SECRET = "hunter2-of-the-source"


@pytest.fixture(scope="session")
def hook() -> Iterator[Sink]:
    """The web server that receives the alerts."""
    with webhook() as sink:
        yield sink


@pytest.fixture(scope="session")
def serve_environment(hook: Sink) -> dict[str, str]:
    """Alerts go to `hook`. The gates are open, because networks of a few seconds learn little.

    Nights take less time with one retriever.
    """
    return {
        "RECSYS_RANK__RETRIEVERS": '["popularity"]',
        "RECSYS_ALERT_WEBHOOK_URL": hook.address,
        "RECSYS_GATE__MAX_MAE_MEDIAN": "5",
        "RECSYS_GATE__MUST_BEAT_BIAS": "false",
        "RECSYS_GATE__MAX_NDCG_BELOW_PARTS": "1",
        "RECSYS_GATE__MIN_POPULARITY_COVERAGE_RATIO": "0",
        "RECSYS_AUDIT__MAX_TOP_MOVIE_SHARE": "1",
        "SOURCE_PASSWORD": SECRET,
    }


@pytest.fixture(scope="session")
def serve_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("served")


@pytest.fixture(scope="session")
def served(serve_folder: Path, serve_environment: dict[str, str]) -> Iterator[Served]:
    """`recsys serve` on SQLite, without a password. test_restart.py kills it and must therefore run last."""
    with serving(serve_folder, **serve_environment) as served:
        wait_until_up(served)
        disable_schedules(served, "watch")  # its runs, one every five minutes, would disturb the tests
        yield served
