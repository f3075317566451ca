"""Which snapshots are kept on disk: the newest, without users who asked to be forgotten."""

import shutil
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from recsys.files import read_sealed, write_sealed
from recsys.forgotten import forget
from recsys.home import Home, Run
from recsys.ingest.fetch.fetch import fetch_archive
from recsys.ingest.retention import list_local, retain_snapshots
from recsys.ingest.snapshot import Snapshot
from recsys.ingest.synthetic.synthetic import plant
from recsys.ingest.write import write_snapshot
from recsys.settings import SnapshotConfig
from tests.support.archives import write_archive
from tests.support.snapshots import make_run
from tests.support.warehouses import make_frames, make_outcome, publish, write_night

WEEK = 7


@dataclass(frozen=True)
class Week:
    """One snapshot a day, each with one rating less than the previous one. The newest is last."""

    home: Home
    snapshot_ids: list[str]
    newest_source: Path


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Week:
    folder, planted = tmp_path_factory.mktemp("week"), plant(20, 15, 100)
    home, snapshots = Home(folder / "home"), []
    for day in range(WEEK):
        source = write_archive(
            folder / f"day-{day}.zip", "ml-1m", planted.ratings.head(100 - day), planted.movies, planted.users
        )
        snapshots.append(write_snapshot(fetch_archive(str(source), home), home))
        age(snapshots[-1], days=WEEK - day)
    return Week(home, [snapshot.snapshot_id for snapshot in snapshots], source)


@pytest.fixture
def week(written: Week, home: Home) -> list[Snapshot]:
    """A copy of the week in the home of a test."""
    shutil.copytree(written.home.root, home.root)
    return [Snapshot(home.snapshots / "ml-1m" / snapshot_id) for snapshot_id in written.snapshot_ids]


def age(snapshot: Snapshot, days: float) -> None:
    path = snapshot.folder / "manifest.json"
    made_at = datetime.now(UTC) - timedelta(days=days)
    write_sealed(path, read_sealed(path) | {"made_at": made_at.isoformat()})
    snapshot.__dict__.pop("manifest", None)


def present(snapshots: list[Snapshot]) -> list[Snapshot]:
    return [snapshot for snapshot in snapshots if snapshot.folder.exists()]


def tonight(home: Home) -> Run:
    run = make_run(home)
    run.folder.mkdir(parents=True, exist_ok=True)
    return run


def test_the_newest_are_kept(week: list[Snapshot], home: Home) -> None:
    freed = retain_snapshots(week[-1], tonight(home), SnapshotConfig(keep=3))
    assert present(week) == week[-3:]
    assert freed > 0


def test_tonights_snapshot_is_kept_even_if_it_is_old(week: list[Snapshot], home: Home) -> None:
    """An unchanged source gives an existing, old snapshot."""
    retain_snapshots(week[0], tonight(home), SnapshotConfig(keep=2))
    assert present(week) == [week[0], week[-1]]
    retain_snapshots(week[0], tonight(home), SnapshotConfig(keep=1))
    assert present(week) == [week[0]]


def test_snapshots_of_other_datasets_are_not_counted(week: list[Snapshot], home: Home) -> None:
    other = write_snapshot(fetch_archive("synthetic:20x15x100", home), home)
    retain_snapshots(other, tonight(home), SnapshotConfig(keep=1))
    assert present(week) == week


def test_snapshots_and_runs_with_a_forgotten_user_are_deleted(week: list[Snapshot], written: Week, home: Home) -> None:
    for name in ("20200101T000000Z", "29980101T000000Z"):  # the clock was ahead when the second one was made
        older = home.run(name)
        older.folder.mkdir(parents=True)
        (older.folder / "split.parquet").write_text("user 3")
    forget([3], home)
    clean = write_snapshot(fetch_archive(str(written.newest_source), home), home)
    run = Run("29991231T000000Z", datetime(2999, 12, 31, tzinfo=UTC), home)
    run.folder.mkdir()
    retain_snapshots(clean, run, SnapshotConfig(keep=WEEK))
    assert present([*week, clean]) == [clean]
    assert [path.name for path in home.runs.iterdir()] == [run.run_id]


def test_the_served_run_is_kept_until_another_one_is_published(home: Home, caplog: pytest.LogCaptureFixture) -> None:
    """The night after a request to forget publishes nothing if the data are unchanged, as for an id without ratings."""
    frames = make_frames()
    served, earlier = (make_outcome(f"2026112{day}T030000Z") for day in (1, 0))
    for outcome in (served, earlier):
        home.run(outcome.run_id).folder.mkdir(parents=True, exist_ok=True)
    publish(served, write_night(home.run(served.run_id).folder, frames), home)
    forget([3], home)
    snapshot = write_snapshot(fetch_archive("synthetic:20x15x100", home), home)
    retain_snapshots(snapshot, tonight(home), SnapshotConfig())
    assert [run.run_id for run in home.list_runs()] == [served.run_id, tonight(home).run_id]
    assert f"run {served.run_id} was made before the last request to forget and is still served" in caplog.text
    publish(make_outcome(tonight(home).run_id), write_night(tonight(home).folder, frames), home)
    retain_snapshots(snapshot, tonight(home), SnapshotConfig())
    assert [run.run_id for run in home.list_runs()] == [tonight(home).run_id]


def test_a_run_started_in_the_second_of_the_request_is_deleted(home: Home) -> None:
    present = write_snapshot(fetch_archive("synthetic:20x15x100", home), home)
    moment = forget([3], home).newest
    assert moment
    for name in (f"{moment:%Y%m%dT%H%M%SZ}", f"{moment:%Y%m%dT%H%M%SZ}-check"):
        (home.runs / name).mkdir(parents=True)
    retain_snapshots(present, tonight(home), SnapshotConfig())
    assert [path.name for path in home.runs.iterdir()] == [tonight(home).run_id]


def test_parsed_drops_and_leftovers_of_killed_runs_are_deleted(tmp_path: Path, home: Home) -> None:
    planted = plant(20, 15, 100)
    drops = write_archive(tmp_path / "drops", "canonical", planted.ratings, planted.movies, planted.users)
    write_snapshot(fetch_archive(str(drops), home), home)
    aside = home.snapshots / "canonical" / ".aside-killed"
    aside.mkdir()
    forget([3], home)
    present = write_snapshot(fetch_archive("synthetic:20x15x100", home), home)
    retain_snapshots(present, tonight(home), SnapshotConfig())
    assert list(home.parsed.iterdir()) == []
    assert not aside.exists()


@pytest.mark.parametrize("content", ["{", "{}", '{"made_at": "yesterday"}'])
def test_a_damaged_snapshot_is_logged_and_kept(
    content: str, week: list[Snapshot], home: Home, caplog: pytest.LogCaptureFixture
) -> None:
    """It must not fail the night, because its tables are already published."""
    damaged = week[0].folder / "manifest.json"
    damaged.write_text(content)
    (home.root / "runs").mkdir()
    (home.runs / ".DS_Store").write_text("not a run")
    retain_snapshots(week[-1], tonight(home), SnapshotConfig(keep=3))
    assert present(week) == [week[0], *week[-3:]]
    assert f"{week[0].folder} is damaged and is kept" in caplog.text
    assert list_local(home).height == 3
    forget([3], home)
    retain_snapshots(week[-1], tonight(home), SnapshotConfig(keep=3))
    assert (home.runs / ".DS_Store").exists()


def test_the_list_has_size_and_age(week: list[Snapshot], home: Home) -> None:
    write_snapshot(fetch_archive("synthetic:20x15x100", home), home)
    listed = list_local(home)
    assert listed["dataset"].to_list() == ["ml-1m"] * WEEK + ["synthetic-20x15x100"]
    assert listed["snapshot"].to_list()[:WEEK] == [snapshot.snapshot_id for snapshot in reversed(week)]
    assert listed["age_days"].to_list()[:WEEK] == [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]
    assert listed["ratings"].to_list()[0] == 94
    newest = week[-1].folder
    assert listed["bytes"][0] == sum(path.stat().st_size for path in newest.iterdir())
    assert listed["source"][0] == "day-6.zip"


def test_without_snapshots_the_list_is_empty(home: Home) -> None:
    assert list_local(home).is_empty()
