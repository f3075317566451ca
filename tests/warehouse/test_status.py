import json
import shutil
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from click.testing import CliRunner, Result

from flows.cli.main import main
from recsys.errors import NotPublished
from recsys.home import Home
from recsys.warehouse.publish import record
from recsys.warehouse.status import MAX_REASON, render, status
from tests.support.warehouses import make_frames, make_outcome, publish, write_night

FIRST, SECOND, THIRD = (f"202611{day}T030000Z" for day in (20, 21, 22))
ENDED = datetime(2026, 11, 21, 3, 1, tzinfo=UTC)
SERVED = "planted of run 20261120T030000Z is served, ratings before 1998-04-23 00:00 UTC; "


def after(**age: float) -> datetime:
    """A moment after the first night."""
    return ENDED + timedelta(**age)


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Home:
    folder = tmp_path_factory.mktemp("reference")
    publish(make_outcome(FIRST), write_night(folder / "night", make_frames()), Home(folder / "home"))
    return Home(folder / "home")


@pytest.fixture
def served(reference: Home, home: Home) -> Home:
    """A home whose first run is served."""
    shutil.copytree(reference.root, home.root)
    return home


def ended(run_id: str, verdict: str, reason: str | None = None, hours: float = 24) -> Any:
    return replace(make_outcome(run_id, verdict, reason), finished_at=after(hours=hours))


@pytest.mark.parametrize(("hours", "ok"), [(25.9, True), (26, True), (26.1, False)])
def test_the_age_of_the_last_success_is_compared_with_the_limit(served: Home, hours: float, ok: bool) -> None:
    found = status(served, 26, after(hours=hours))
    assert found.ok == ok and found.age_hours == pytest.approx(hours)
    ending = "" if ok else f"; next: `recsys nightly --home {served.root}`"
    word = "fresh" if ok else "stale"
    assert render(found) == f"{word}: {SERVED}last good night {hours:.1f} h ago, limit 26 h{ending}"


@pytest.mark.parametrize(("hours", "ok"), [(-0.05, True), (-1, False), (-9600, False)])
def test_a_night_in_the_future_is_stale(served: Home, hours: float, ok: bool) -> None:
    """The clock was ahead when it ran, or is behind now."""
    found = status(served, 26, after(hours=hours))
    assert found.ok == ok
    expected = (
        "last good night 0.0 h ago" if ok else f"last good night {-hours:.1f} h in the future: check this machine"
    )
    assert expected in render(found)


def test_without_a_limit_every_age_is_ok(served: Home) -> None:
    found = status(served, None, after(days=900))
    assert found.ok
    assert render(found) == f"published: {SERVED}last good night 21600.0 h ago"


def test_an_unchanged_night_is_a_success(served: Home) -> None:
    record(ended(SECOND, "unchanged", "the same lists"), served)
    found = status(served, 26, after(hours=30))
    assert found.ok and found.age_hours == pytest.approx(6)
    assert render(found) == f"fresh: {SERVED}last good night 6.0 h ago, limit 26 h"


def test_a_failed_night_is_reported_with_its_reason(served: Home) -> None:
    record(ended(SECOND, "held back", "MAE is 0.9;\n\x1b[31mlimit 0.8"), served)
    found = status(served, 26, after(hours=25))
    assert found.ok
    line = render(found)
    assert line.startswith(
        f"fresh: {SERVED}last good night 25.0 h ago, limit 26 h; last night {SECOND}: held back: MAE"
    )
    assert line.endswith(
        f"limit 0.8; next: `recsys runs --limit 5 --home {served.root}`, fix the cause, "
        f"then `recsys nightly --home {served.root}`"
    )
    assert "\n" not in line and "\x1b" not in line
    assert not status(served, 26, after(hours=27)).ok


def test_a_long_reason_is_truncated(served: Home) -> None:
    record(ended(SECOND, "failed", "x" * 9999), served)
    assert "x" * MAX_REASON + "…; next" in render(status(served, 26, after(hours=25)))


def test_backfills_and_releases_are_not_nights(served: Home) -> None:
    record(ended(SECOND, "backfilled"), served)
    record(ended(THIRD, "released"), served)
    found = status(served, 20, after(hours=25))
    assert not found.ok
    assert found.last_night and found.last_night["run_id"] == FIRST


def test_a_rollback_that_blocks_publishing_is_reported(served: Home) -> None:
    reason = f"by hand, from run {SECOND} to run {FIRST}"
    record(ended(SECOND, "rolled back", reason, hours=1), served)
    found = status(served, 26, after(hours=2))
    assert found.ok and found.held == reason
    expected = (
        f"; publishing is blocked by a rollback: {reason}; next: `recsys rollback --release --home {served.root}` to "
    )
    assert expected in render(found)
    record(ended(THIRD, "released", hours=2), served)
    assert status(served).held is None


def test_status_if_nothing_is_published(home: Home) -> None:
    assert render(status(home)) == f"nothing is published; next: `recsys nightly --home {home.root}`"
    record(ended(FIRST, "data refused", "too few"), home)
    found = status(home, 26, after(hours=1))
    assert not found.ok and found.age_hours is None
    assert render(found).startswith(f"nothing is published; last night {FIRST}: data refused: too few; next: `recsys r")


def test_an_unreadable_warehouse_is_reported(home: Home) -> None:
    home.root.mkdir()
    home.warehouse.write_bytes(b"x" * 9999)
    with pytest.raises(NotPublished, match=r"cannot be opened: .* Next: "):
        status(home)


def run_status(home: Home, *words: str) -> Result:
    return CliRunner().invoke(main, ["status", *words, "--home", str(home.root)])


def test_exit_code_and_one_line_of_output(served: Home, home: Home) -> None:
    record(replace(ended(SECOND, "unchanged"), finished_at=datetime.now(UTC) - timedelta(hours=2)), served)
    for words, exit_code in (((), 0), (("--max-age", "3"), 0), (("--max-age", "1"), 1)):
        shown = run_status(home, *words)
        assert shown.exit_code == exit_code
        assert shown.stdout.count("\n") == 1
        assert shown.stderr == ""
        assert "unexpected" not in shown.output


def test_exit_code_is_1_if_nothing_is_published(home: Home) -> None:
    for words in ((), ("--max-age", "3")):
        shown = run_status(home, *words)
        assert (shown.exit_code, shown.stderr) == (1, "")
        assert shown.stdout.startswith("nothing is published; next: ")


@pytest.mark.parametrize("hours", ["0", "-1", "x"])
def test_a_limit_must_be_a_positive_number(home: Home, hours: str) -> None:
    assert run_status(home, "--max-age", hours).exit_code == 2


def test_json_output(served: Home) -> None:
    record(ended(SECOND, "failed", "no disk"), served)
    shown = run_status(served, "--max-age", "1e-9", "--json")
    assert shown.exit_code == 1
    found = json.loads(shown.stdout)
    records = {"served", "last_success", "last_night"}
    assert set(found) == {"ok", "max_age_hours", "age_hours", "data", "held", "next"} | records
    assert (found["ok"], found["served"]["run_id"], found["last_success"]["run_id"]) == (False, FIRST, FIRST)
    assert (found["last_night"]["verdict"], found["last_night"]["reason"]) == ("failed", "no disk")
