"""Comparison of a snapshot with the one that was published last: figures, warnings, refusals and metrics."""

import logging
import shutil
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import pytest

from recsys.checks.check import Checked
from recsys.checks.previous import find_previous
from recsys.checks.result import Result, read_result
from recsys.errors import DataRefused
from recsys.files import write_json
from recsys.forgotten import forget
from recsys.home import Home, Run
from recsys.ingest.snapshot import Snapshot
from recsys.runs.metrics import read_metrics
from recsys.runs.night import night
from recsys.settings import CheckConfig, Settings, ShiftConfig
from recsys.warehouse.publish import record
from tests.support.snapshots import START, Tables, check_ratings, make_run, make_tables, write_tables
from tests.support.warehouses import make_frames, make_outcome, publish, write_night

LAST_NIGHT = "20261120T030000Z"
CONFIG = CheckConfig(min_ratings=2)


def write(home: Home, name: str, tables: Tables) -> Snapshot:
    return write_tables(home.snapshots / "planted" / name, tables)


def publish_snapshot(home: Home, snapshot: str, run_id: str = LAST_NIGHT) -> None:
    outcome = replace(make_outcome(run_id), snapshot=snapshot)
    publish(outcome, write_night(home.root / "night", make_frames()), home)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """A home to copy, in which `before` was published last night."""
    home = Home(tmp_path_factory.mktemp("template") / "home")
    write(home, "before", make_tables())
    publish_snapshot(home, "before")
    return home


@pytest.fixture
def before(template: Home, home: Home) -> Snapshot:
    """The snapshot published last night: 600 ratings of 30 users."""
    shutil.copytree(template.root, home.root)
    return Snapshot(home.snapshots / "planted" / "before")


def check(home: Home, tables: Tables, config: CheckConfig = CONFIG) -> tuple[Checked, Result]:
    run = make_run(home)
    checked = check_ratings(write(home, "tonight", tables), run, config, None)
    return checked, read_result(run.findings)


def verdicts(result: Result) -> dict[str, str]:
    return {finding.rule: finding.verdict for finding in result.rules}


def shrink(tables: Tables, share: float) -> Tables:
    tables["ratings"] = tables["ratings"][: round(600 * share)]
    return tables


def test_a_change_of_the_rating_scale_is_described(before: Snapshot, home: Home) -> None:
    halves = write_tables(before.folder.with_name("tonight"), make_tables(), rating_scale=[0.5, 1, 1.5])
    note = find_previous(halves, home).note
    assert note.endswith("; the rating scale has changed from 1, 2, 3, 4, 5 to 0.5, 1, 1.5 stars")


def test_the_first_night_is_not_compared(home: Home) -> None:
    _, result = check(home, make_tables())
    assert result.compared == "not compared: no run of planted has been published yet"
    assert [rule for rule, verdict in verdicts(result).items() if verdict == "not compared"] == [
        *("rating_count_share", "rating_mean_shift", "rating_psi", "new_user_share")
    ]
    assert {row.metric for row in result.metrics} == {
        *("rating_count", "unknown_movie_share", "newest_rating_age_days"),
        *(f"quarantined_share_{table}" for table in ("ratings", "movies", "users", "tags", "links")),
    }


def test_a_snapshot_like_the_last_one_passes_and_is_measured(home: Home, before: Snapshot) -> None:
    _, result = check(home, make_tables(31))
    assert result.compared == f"compared with snapshot before, which run {LAST_NIGHT} published"
    assert {verdicts(result)[rule] for rule in ("rating_count_share", "rating_psi", "new_user_share")} == {"pass"}
    values = {row.metric: row.value for row in result.metrics}
    assert values["rating_count"] == 620
    assert values["rating_count_share"] == pytest.approx(620 / 600)
    assert values["new_user_share"] == pytest.approx(1 / 31)
    assert values["rating_mean_shift"] < 0.01
    started = datetime(2026, 11, 21, 3, tzinfo=UTC)
    assert values["newest_rating_age_days"] == pytest.approx((started - START).total_seconds() / 86400, abs=1)
    assert {(row.model, row.split, row.slice) for row in result.metrics} == {("snapshot", "source", "all")}


def test_forgotten_users_do_not_count_as_lost(home: Home, before: Snapshot) -> None:
    """Half of all users are forgotten. If they counted as lost, no night could publish again or delete their data."""
    forget(range(16, 31), home)
    _, result = check(home, make_tables(15))
    values = {row.metric: row.value for row in result.metrics}
    assert values["rating_count_share"] == 1
    assert verdicts(result)["rating_count_share"] == "pass"


def test_a_small_loss_is_a_warning(home: Home, before: Snapshot, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="recsys"):
        checked, result = check(home, shrink(make_tables(), 0.95))
    assert checked.counts["ratings"] == 570
    assert verdicts(result)["rating_count_share"] == "warn"
    assert "rating_count_share: ratings: warn, found 0.95, warn at 0.99, stop at 0.9" in caplog.messages


def test_a_large_loss_stops_the_night(home: Home, before: Snapshot) -> None:
    with pytest.raises(DataRefused) as refusal:
        check(home, shrink(make_tables(), 0.8))
    message = str(refusal.value)
    assert f"compared with snapshot before, which run {LAST_NIGHT} published" in message
    assert "rating_count_share is 0.8, the limit is 0.9" in message
    assert "allow them with RECSYS_CHECK__SHIFT__RATING_COUNT_SHARE_STOP=0.8" in message
    allowed = CheckConfig(min_ratings=2, shift=ShiftConfig(rating_count_share_stop=0.8))
    tonight = Snapshot(home.snapshots / "planted" / "tonight")
    assert check_ratings(tonight, make_run(home), allowed, None).counts["ratings"] == 480


def test_a_different_distribution_of_stars_stops_the_night(home: Home, before: Snapshot) -> None:
    tables = make_tables()
    for row in tables["ratings"]:
        row["rating"] = min(row["rating"] + 1, 5.0)
    with pytest.raises(DataRefused, match=r"rating_mean_shift is 0\.8, .*; rating_psi is "):
        check(home, tables)


def test_many_new_users_stop_the_night(home: Home, before: Snapshot) -> None:
    tables = make_tables()
    for row in (*tables["ratings"], *tables["users"]):
        row["user_id"] += 20
    with pytest.raises(DataRefused, match=r"new_user_share is 0\.6667, the limit is 0\.5"):
        check(home, tables)


def test_ratings_of_unknown_movies_have_their_own_metric(home: Home, before: Snapshot) -> None:
    tables = make_tables()
    for row in tables["ratings"][:3]:
        row["movie_id"] = 99
    _, result = check(home, tables)
    assert verdicts(result)["unknown_movie_share"] == "warn"
    assert next(row.value for row in result.metrics if row.metric == "unknown_movie_share") == 0.005


def test_the_age_of_the_newest_rating_has_an_optional_limit(home: Home) -> None:
    with pytest.raises(DataRefused) as refusal:
        check(home, make_tables(), CheckConfig(min_ratings=2, shift=ShiftConfig(newest_rating_age_days_stop=7)))
    assert "newest_rating_age_days is 9821, the limit is 7 (the newest rating is recent, in days). " in str(
        refusal.value
    )


def test_as_of_does_not_change_the_comparison(home: Home, before: Snapshot) -> None:
    """The comparison is of the whole snapshot, so an early `as_of` does not look like lost ratings."""
    run = make_run(home)
    tonight = write(home, "tonight", make_tables(31))
    check_ratings(tonight, run, CONFIG, START.replace(hour=2))
    assert {row.metric: row.value for row in read_metrics(run)}["rating_count"] == 620


def test_the_comparison_is_with_the_newest_published_run_of_the_dataset(home: Home, before: Snapshot) -> None:
    publish_snapshot(home, "newer", "20261120T040000Z")
    publish(
        replace(make_outcome("20261120T050000Z"), snapshot="other", dataset="ml-1m"),
        write_night(home.root / "other", make_frames()),
        home,
    )
    record(replace(make_outcome("20261120T060000Z", "failed"), snapshot="failed"), home)
    newer = write(home, "newer", make_tables())
    found = find_previous(write(home, "tonight", make_tables()), home)
    assert (found.snapshot, found.is_same) == (newer, False)


def test_the_published_snapshot_is_not_compared(home: Home, before: Snapshot) -> None:
    found = find_previous(before, home)
    assert (found.snapshot, found.is_same) == (None, True)
    assert found.note == f"unchanged since run {LAST_NIGHT}, which published snapshot before"


def test_a_damaged_previous_snapshot_is_reported(home: Home, before: Snapshot) -> None:
    tonight = write(home, "tonight", make_tables())
    before.ratings.unlink()
    assert "lacks ratings.parquet" in find_previous(tonight, home).note
    (before.folder / "movies.parquet").rename(before.ratings)
    assert "has other columns" in find_previous(tonight, home).note


def test_an_unreadable_warehouse_is_reported(home: Home) -> None:
    home.root.mkdir(parents=True)
    home.warehouse.write_bytes(b"not a database")
    found = find_previous(write(home, "tonight", make_tables()), home)
    assert found.snapshot is None
    assert "cannot be opened" in found.note


def test_metrics_of_refused_nights_are_in_the_warehouse(home: Home, before: Snapshot) -> None:
    tonight = write(home, "tonight", shrink(make_tables(), 0.5))
    with pytest.raises(DataRefused), night(Settings(home=home.root)) as run:
        check_ratings(tonight, run, CONFIG, None)
    asked = "select metric, value from metrics where run_id = $1 and model = 'snapshot' and split = 'source'"
    with duckdb.connect(home.warehouse, read_only=True) as connection:
        values = dict(connection.execute(asked, [run.run_id]).fetchall())
    assert (values["rating_count"], values["rating_count_share"]) == (300, 0.5)
    assert values["quarantined_share_ratings"] == 0


def test_metrics_of_the_snapshot_and_of_networks_are_combined(home: Home) -> None:
    run: Run = make_run(home)
    check_ratings(write(home, "tonight", make_tables()), run, CONFIG, None)
    alone = read_metrics(run)
    measured = {"model": "bias", "split": "holdout", "slice": "all", "metric": "rmse_mean", "value": 0.95}
    write_json(run.metrics / "evaluate.json", [measured])
    assert [row.model for row in read_metrics(run)] == [*("snapshot" for _ in alone), "bias"]


def test_the_previous_snapshot_is_looked_up_beside_the_new_one(tmp_path: Path, home: Home, before: Snapshot) -> None:
    """The published snapshot is expected in the same folder."""
    found = find_previous(write_tables(tmp_path / "elsewhere" / "tonight", make_tables()), home)
    assert found.snapshot is None
