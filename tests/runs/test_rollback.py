"""Rolling back to an earlier run, and nights after a roll-back, on a warehouse of three runs."""

import shutil
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import pytest

from recsys.errors import HomeBusy, NotPublished, PublishError, UsageError
from recsys.home import Home
from recsys.runs.night import locked
from recsys.runs.rollback import list_targets, release
from recsys.warehouse.lookup import find_held, find_published, find_served
from recsys.warehouse.publish import record
from tests.support.warehouses import make_frames, make_outcome, publish, roll_back, write_night

RUNS = ("20261121T030000Z", "20261122T030000Z", "20261123T030000Z")


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """A home with three published runs, whose `rating_hat` is 1, 2 and 3."""
    folder = tmp_path_factory.mktemp("published")
    home = Home(folder / "home")
    for stars, run_id in enumerate(RUNS, start=1):
        tonight = write_night(folder / run_id, make_frames(rating_hat=stars))
        publish(make_outcome(run_id), replace(tonight, copies=home.run(run_id).served), home)
    return home


@pytest.fixture
def home(published: Home, home: Home) -> Home:
    """A copy of `published`."""
    shutil.copytree(published.root, home.root)
    return home


def stars_served(home: Home) -> list[tuple[float, str]]:
    with duckdb.connect(home.warehouse, read_only=True) as connection:
        return connection.sql("select distinct rating_hat, run_id from recommendations").fetchall()


def test_without_a_run_id_the_target_is_the_previous_run(home: Home) -> None:
    back = roll_back(home)
    assert (back.from_run, back.to_run, back.rows["recommendations"]) == (RUNS[2], RUNS[1], 8)
    assert stars_served(home) == [(2.0, RUNS[1])]
    assert roll_back(home).to_run == RUNS[0]
    assert stars_served(home) == [(1.0, RUNS[0])]


def test_a_run_in_the_future_does_not_override_a_roll_back(home: Home, tmp_path: Path) -> None:
    """The clock was ahead during one night. The night after it is newer, and the roll-back is newer than both."""
    for run_id, moment in (("20280101T030000Z", datetime(2028, 1, 1, tzinfo=UTC)), ("20261124T030000Z", None)):
        tonight = write_night(tmp_path / run_id, make_frames())
        outcome = replace(make_outcome(run_id), finished_at=moment or datetime(2026, 11, 24, tzinfo=UTC))
        publish(outcome, replace(tonight, copies=home.run(run_id).served), home)
    assert [roll_back(home).to_run for _ in range(2)] == ["20280101T030000Z", RUNS[2]]
    assert find_held(home) == f"by hand, from run 20280101T030000Z to run {RUNS[2]}"
    record(replace(make_outcome("20261125T030000Z", "held back", "x")), home)
    assert find_held(home)
    assert list_targets(home)["run_id"].to_list() == ["20261124T030000Z", "20280101T030000Z", *RUNS[::-1]]


def test_roll_back_to_a_later_run(home: Home) -> None:
    roll_back(home, RUNS[0])
    roll_back(home, RUNS[2])
    assert stars_served(home) == [(3.0, RUNS[2])]


def test_the_next_night_is_compared_with_the_served_run(home: Home) -> None:
    """Its model is the champion, and its snapshot is compared with tonight's."""
    roll_back(home, RUNS[0])
    served = find_served(home)
    assert served
    assert served["run_id"] == RUNS[0]
    assert find_published(home, "planted") == (RUNS[0], "0123456789ab")


def test_a_roll_back_is_a_row_in_runs(home: Home) -> None:
    back = roll_back(home, RUNS[0])
    with duckdb.connect(home.warehouse, read_only=True) as connection:
        rows = connection.sql(
            f"select verdict, reason, published, dataset, model from runs where run_id = '{back.run_id}'"
        )
        assert rows.fetchall() == [
            ("rolled back", f"by hand, from run {RUNS[2]} to run {RUNS[0]}", True, "planted", "ordinal")
        ]


def test_a_roll_back_holds_nights_back_until_it_is_released(home: Home) -> None:
    assert find_held(home) is None
    roll_back(home, RUNS[1])
    assert find_held(home) == f"by hand, from run {RUNS[2]} to run {RUNS[1]}"
    record(make_outcome("20261124T030000Z", "held back", "after a rollback"), home)
    assert find_held(home)
    assert release(home) == RUNS[1]
    assert find_held(home) is None
    with pytest.raises(UsageError, match="no rollback holds nights back"):
        release(home)


def test_publishing_after_a_roll_back_releases_it(home: Home, tmp_path: Path) -> None:
    roll_back(home, RUNS[1])
    later = replace(make_outcome("20991124T030000Z"), finished_at=make_outcome("r").finished_at.replace(year=2099))
    publish(later, write_night(tmp_path / "later", make_frames()), home)
    assert find_held(home) is None


@pytest.mark.parametrize(
    ("run_id", "message"),
    [
        ("20261119T030000Z", f"no run 20261119T030000Z has published on .* Next: choose one of {RUNS[1]}, {RUNS[0]}"),
        (RUNS[2], f"run {RUNS[2]} is already served. Next: choose one of {RUNS[1]}, {RUNS[0]}"),
    ],
)
def test_an_invalid_run_is_refused(home: Home, run_id: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        roll_back(home, run_id)


def test_a_run_without_tables_is_skipped_unless_requested(home: Home) -> None:
    (home.run(RUNS[1]).served / "movies.parquet").unlink()
    assert list_targets(home).select("run_id", "is_served", "is_kept").rows() == [
        (RUNS[2], True, True),
        (RUNS[1], False, False),
        (RUNS[0], False, True),
    ]
    with pytest.raises(PublishError, match=r"no longer holds .*movies.parquet"):
        roll_back(home, RUNS[1])
    assert roll_back(home).to_run == RUNS[0]
    with pytest.raises(UsageError, match=f"no run before {RUNS[0]}, which is served"):
        roll_back(home)


def test_an_empty_home_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotPublished, match="does not exist yet"):
        roll_back(Home(tmp_path / "empty"))


def test_a_roll_back_does_not_wait_for_a_night(home: Home) -> None:
    with locked(home, "a night"), pytest.raises(HomeBusy):
        roll_back(home)
