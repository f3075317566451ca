"""The commands backfill, nightly and rollback in one sequence on synthetic data."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest
from click.testing import CliRunner, Result

from flows.cli.main import main
from recsys.home import Home
from recsys.ingest.synthetic.synthetic import plant
from tests.support.archives import write_archive
from tests.support.planted import quick_config

PLANTED = plant(100, 60, 3000)
NIGHTS = [PLANTED.ratings["rated_at"].sort()[place] for place in (2100, 2999)]

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def environment() -> Iterator[pytest.MonkeyPatch]:
    """Settings for which a night takes seconds, and no Prefect server."""
    with pytest.MonkeyPatch.context() as patch:
        config = {"model": "nmf", "config": quick_config("nmf", epochs=1).model_dump(mode="json")}
        patch.setenv("RECSYS_MODEL", "auto")
        patch.setenv("RECSYS_CONFIG", json.dumps(config))
        patch.setenv("RECSYS_GATE__MUST_BEAT_BIAS", "false")
        patch.setenv("RECSYS_GATE__MAX_NDCG_BELOW_PARTS", "1")
        patch.setenv("RECSYS_GATE__MAX_MAE_MEDIAN", "5")
        patch.setenv("RECSYS_RANK__RETRIEVERS", '["popularity"]')
        patch.setenv("PREFECT_API_URL", "")
        yield patch


@pytest.fixture(scope="module")
def home(environment: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Home:
    folder = tmp_path_factory.mktemp("operations")
    source = write_archive(folder / "source", "canonical", PLANTED.ratings, PLANTED.movies, PLANTED.users)
    environment.setenv("RECSYS_SOURCE", str(source))
    environment.setenv("RECSYS_HOME", str(folder / "home"))
    return Home(folder / "home")


def run(*arguments: str, exit_code: int = 0) -> Result:
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == exit_code, result.output
    return result


def backfill() -> list[Any]:
    """Runs two nights for times that are far apart."""
    first, last = (f"{moment:%Y-%m-%dT%H:%M:%S}" for moment in NIGHTS)
    step = f"{int((NIGHTS[1] - NIGHTS[0]).total_seconds() // 60)}m"
    done = run("backfill", "--from", first, "--to", last, "--step", step, "--json")
    filled: list[Any] = json.loads(done.stdout)["rows"]
    return filled


def published_run(home: Home) -> str:
    with duckdb.connect(home.warehouse, read_only=True) as connection:
        ((run_id,),) = connection.sql("select distinct run_id from recommendations").fetchall()
    return str(run_id)


def test_backfill_rollback_and_release(home: Home) -> None:
    """One sequence, because each night takes seconds."""
    filled = backfill()
    assert [night["verdict"] for night in filled] == ["published", "published"], "each is the newest when it runs"
    first, second = (night["run_id"] for night in filled)
    assert published_run(home) == second

    again = backfill()
    assert [(night["verdict"], night["run_id"]) for night in again] == [
        ("there already", first),
        ("there already", second),
    ]

    # a night for an earlier time than the published one is only added to the history
    earlier = json.loads(run("nightly", "--as-of", "2000-06-01T00:00:00", "--json").stdout)
    assert (earlier["verdict"], earlier["published"]) == ("backfilled", False)
    assert published_run(home) == second

    # the same night as the published one
    same = json.loads(run("nightly", "--as-of", filled[1]["as_of"], "--json").stdout)
    assert (same["verdict"], same["published"]) == ("unchanged", False)
    assert same["reason"] == f"the lists are the same as those of run {second}, which is served"
    assert published_run(home) == second

    assert f"run {first} is published in place of {second}" in run("rollback", first).stdout
    assert published_run(home) == first
    held = run("nightly", exit_code=4)
    assert "rolled back" in held.stderr
    assert "recsys rollback --release" in held.stderr
    assert published_run(home) == first

    listed = json.loads(run("rollback", "--list", "--json").stdout)["rows"]
    assert [(row["run_id"], row["is_served"], row["is_kept"]) for row in listed] == [
        (second, False, True),
        (first, True, True),
    ]
    assert "the next night that passes the gate replaces it" in run("rollback", "--release").stdout
    tonight = json.loads(run("nightly", "--json").stdout)
    assert tonight["verdict"] == "published"
    assert published_run(home) == tonight["run_id"]


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["rollback", "20200101T000000Z", "--release"], "not both"),
        (
            ["backfill", "--from", "2000-01-01", "--to", "2000-01-02", "--step", "0d"],
            "'0d' is not a time between",
        ),
        (["backfill", "--from", "2000-01-01", "--to", "2000-01-02", "--step", "day"], "write it as 1d, 12h or 30m"),
        (["backfill", "--from", "2000-01-02", "--to", "2000-01-01"], "is before --from"),
        (["backfill", "--to", "2000-01-02"], "--from"),
    ],
)
def test_invalid_arguments_are_refused(arguments: list[str], complaint: str, tmp_path: Path) -> None:
    assert complaint in run(*arguments, "--home", str(tmp_path), exit_code=2).stderr
    assert not [*tmp_path.iterdir()]


def test_rollback_needs_a_warehouse(tmp_path: Path) -> None:
    assert "does not exist yet" in run("rollback", "--home", str(tmp_path), exit_code=1).stderr
