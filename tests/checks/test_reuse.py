"""A check reuses the result of an earlier check only if both have the same inputs."""

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import pytest

import sql
from recsys import expect
from recsys.checks import result as results
from recsys.checks.check import Checked
from recsys.checks.result import hash_check, read_result
from recsys.errors import DataRefused
from recsys.home import Home, Run
from recsys.ingest.snapshot import Snapshot
from recsys.settings import CheckConfig, LimitConfig, ShiftConfig
from tests.support.snapshots import START, Tables, check_ratings, make_run, make_tables, write_tables
from tests.support.warehouses import make_frames, make_outcome, publish, write_night

CONFIG = CheckConfig(
    max_bad_share=0.5, min_ratings=2, limits=LimitConfig(**dict.fromkeys(LimitConfig.model_fields, 0.5))
)

WITHOUT_CACHES = shutil.ignore_patterns("__pycache__")

FIRST = "20261121T030000Z"


@pytest.fixture
def first(home: Home) -> Run:
    return make_run(home, FIRST)


@pytest.fixture
def second(home: Home) -> Run:
    """A run one day later."""
    run = make_run(home, "20261122T030000Z")
    return replace(run, started_at=run.started_at + timedelta(days=1))


def write_snapshot(home: Home) -> Snapshot:
    """Writes a snapshot with one rating off the scale, so that its check writes a quarantine and a copy of the rest."""
    tables = make_tables()
    tables["ratings"][4]["rating"] = 9.0
    return write_tables(home.snapshots / "planted" / "tonight", tables)


@pytest.fixture
def snapshot(home: Home) -> Snapshot:
    return write_snapshot(home)


@dataclass(frozen=True)
class Judged:
    """A snapshot and the result of its check by the first run of the home."""

    snapshot: Snapshot
    found: dict[str, object]


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Judged:
    """A template to copy, because most tests begin with the same check."""
    home = Home(tmp_path_factory.mktemp("judged") / "home")
    snapshot, run = write_snapshot(home), make_run(home, FIRST)
    return Judged(snapshot, seen(check_ratings(snapshot, run, CONFIG, None), run))


@pytest.fixture
def judged(template: Judged, home: Home) -> Judged:
    folder = template.snapshot.folder
    root = folder.parents[2]
    shutil.copytree(root, home.root)
    return replace(template, snapshot=Snapshot(home.root / folder.relative_to(root)))


def reused_from(run: Run) -> str | None:
    return read_result(run.findings).reused_from


def below(path: Path, run: Run) -> Path:
    return path.relative_to(run.folder if path.is_relative_to(run.folder) else run.home.root)


def seen(checked: Checked, run: Run) -> dict[str, object]:
    """The fields of a Checked: relative paths, the bytes of the files, and the rest."""
    paths = {name: getattr(checked, name) for name in ("ratings", "movies", "users", "tags", "links", "quarantine")}
    seen_files = {name: (below(path, run), path.read_bytes()) for name, path in paths.items()}
    return seen_files | {"as_of": checked.as_of, "scale": checked.rating_scale, "counts": checked.counts}


def test_a_second_check_reuses_the_first(judged: Judged, first: Run, second: Run) -> None:
    assert seen(check_ratings(judged.snapshot, second, CONFIG, None), second) == judged.found
    assert reused_from(second) == first.run_id
    assert reused_from(first) is None
    assert (second.data_docs / "index.html").exists()


def test_a_reused_result_differs_only_in_the_age_of_the_newest_rating(judged: Judged, first: Run, second: Run) -> None:
    check_ratings(judged.snapshot, second, CONFIG, None)
    before, after = read_result(first.findings), read_result(second.findings)
    ages = [{row.metric: row.value for row in found.metrics}["newest_rating_age_days"] for found in (before, after)]
    assert ages[1] - ages[0] == pytest.approx(1)
    ages_found = [
        next(rule for rule in found.rules if rule.rule == "newest_rating_age_days") for found in (before, after)
    ]
    assert [rule.observed for rule in ages_found] == ages
    assert [rule for rule in before.rules if rule != ages_found[0]] == [
        rule for rule in after.rules if rule != ages_found[1]
    ]


def test_a_third_check_names_the_run_that_computed_the_result(judged: Judged, first: Run, second: Run) -> None:
    check_ratings(judged.snapshot, second, CONFIG, None)
    third = replace(second, run_id="20261123T030000Z")
    shutil.rmtree(first.folder)
    check_ratings(judged.snapshot, third, CONFIG, None)
    assert reused_from(third) == first.run_id


def test_a_refusal_is_reused(snapshot: Snapshot, first: Run, second: Run) -> None:
    messages = []
    for run in (first, second):
        with pytest.raises(DataRefused) as refusal:
            check_ratings(snapshot, run, CheckConfig(max_bad_share=0, min_ratings=2), None)
        messages.append(str(refusal.value).replace(run.run_id, "run"))
    assert messages[0] == messages[1]
    assert reused_from(second) == first.run_id


def test_writing_again_changes_no_other_run(judged: Judged, first: Run, second: Run) -> None:
    """Files are shared between runs; a resumed run replaces its own."""
    check_ratings(judged.snapshot, second, CONFIG, None)
    kept = {path: path.read_bytes() for path in sorted(first.folder.rglob("*")) if path.is_file()}
    check_ratings(judged.snapshot, second, CheckConfig(max_bad_share=0.4, min_ratings=2, limits=CONFIG.limits), None)
    assert reused_from(second) is None
    assert {path: path.read_bytes() for path in kept} == kept


def test_files_are_copied_where_hard_links_fail(
    judged: Judged, first: Run, second: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(source: object, target: object) -> None:
        raise PermissionError("no links here")

    monkeypatch.setattr(os, "link", refuse)
    check_ratings(judged.snapshot, second, CONFIG, None)
    assert reused_from(second) == first.run_id
    assert second.quarantine.read_bytes() == first.quarantine.read_bytes()


@pytest.mark.parametrize("name", ["max_bad_share", "min_ratings", "limits", "shift"])
def test_every_setting_is_in_the_key(snapshot: Snapshot, name: str) -> None:
    others = {
        "max_bad_share": 0.4,
        "min_ratings": 3,
        "limits": CONFIG.limits.model_copy(update={"user_age": 0.3}),
        "shift": ShiftConfig(rating_psi_warn=0.2),
    }
    assert set(others) == set(CheckConfig.model_fields)
    changed = CONFIG.model_copy(update={name: others[name]})
    assert hash_check(snapshot, changed, None) != hash_check(snapshot, CONFIG, None)


def test_as_of_and_content_are_in_the_key(home: Home, snapshot: Snapshot) -> None:
    keys = {hash_check(snapshot, CONFIG, as_of) for as_of in (None, START, START + timedelta(days=1))}
    manifest = snapshot.folder / "manifest.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"genres": ["Drama"]}))
    keys.add(hash_check(snapshot, CONFIG, None))
    renamed = snapshot.folder.rename(snapshot.folder.with_name("renamed"))
    keys.add(hash_check(Snapshot(renamed), CONFIG, None))
    assert len(keys) == 5


@pytest.mark.parametrize("name", ["rule_user_age.sql", "admitted_tags.sql", "rules.py", "page.py"])
def test_every_rule_is_in_the_key(
    tmp_path: Path, snapshot: Snapshot, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A line is added to a copy of the statements or of the code."""
    before = hash_check(snapshot, CONFIG, None)
    statements = shutil.copytree(sql.FOLDER, tmp_path / "sql")
    code = shutil.copytree(Path(results.__file__).parent, tmp_path / "checks", ignore=WITHOUT_CACHES)
    library = shutil.copytree(Path(expect.__file__).parent, tmp_path / "expect", ignore=WITHOUT_CACHES)
    monkeypatch.setattr(sql, "FOLDER", statements)
    monkeypatch.setattr(results, "__file__", str(code / "result.py"))
    monkeypatch.setattr(expect, "__file__", str(library / "__init__.py"))
    assert hash_check(snapshot, CONFIG, None) == before
    with next(folder / name for folder in (statements, code, library) if (folder / name).exists()).open("a") as file:
        file.write("\n")
    assert hash_check(snapshot, CONFIG, None) != before


def lose_quarantine(run: Run) -> None:
    run.quarantine.unlink()


def lose_docs(run: Run) -> None:
    shutil.rmtree(run.data_docs)


def lose_rows(run: Run) -> None:
    (run.checked / "ratings.parquet").unlink()


def cut_rows(run: Run) -> None:
    path = run.checked / "ratings.parquet"
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content[:-100])


def garble(run: Run) -> None:
    run.findings.write_text("{")


def predate(run: Run) -> None:
    """A result of an older version, which lacks two fields."""
    found = json.loads(run.findings.read_text())
    del found["key"], found["started_at"]
    run.findings.write_text(json.dumps(found))


@pytest.mark.parametrize("damage", [lose_quarantine, lose_docs, lose_rows, cut_rows, garble, predate])
def test_an_incomplete_result_is_not_reused(
    judged: Judged, first: Run, second: Run, damage: Callable[[Run], None]
) -> None:
    damage(first)
    assert seen(check_ratings(judged.snapshot, second, CONFIG, None), second) == judged.found
    assert reused_from(second) is None


def date_to(name: str, moment: timedelta) -> Tables:
    tables = make_tables()
    rows, column = tables[name], {"ratings": "rated_at", "tags": "tagged_at"}[name]
    started_at = make_run(Home(Path())).started_at
    for row in rows[:4]:  # else the time would be isolated
        row[column] = started_at - timedelta(hours=1)
    rows[4][column] = started_at + moment
    return tables


@pytest.mark.parametrize("name", ["ratings", "tags"])
@pytest.mark.parametrize("ahead", [timedelta(hours=1), timedelta(days=3)])
def test_a_time_in_the_future_prevents_reuse(home: Home, first: Run, second: Run, name: str, ahead: timedelta) -> None:
    """The first run refuses the rating; the second one may admit it."""
    snapshot = write_tables(home.snapshots / "planted" / "tonight", date_to(name, ahead))
    refused = check_ratings(snapshot, first, CONFIG, None).counts["quarantine"]
    assert refused == (name == "ratings")
    admitted = check_ratings(snapshot, second, CONFIG, None).counts["quarantine"] == 0
    assert admitted == (name == "tags" or ahead < timedelta(days=1))
    assert reused_from(second) is None


def test_a_clock_set_back_prevents_reuse(home: Home, first: Run, second: Run) -> None:
    """The first run has a later date, at which the rating was no longer in the future."""
    snapshot = write_tables(home.snapshots / "planted" / "tonight", date_to("ratings", timedelta(hours=1)))
    later = replace(first, started_at=second.started_at)
    earlier = replace(second, started_at=first.started_at)
    assert check_ratings(snapshot, later, CONFIG, None).counts["quarantine"] == 0
    assert check_ratings(snapshot, earlier, CONFIG, None).counts["quarantine"] == 1


def test_an_age_beyond_its_limit_prevents_reuse(judged: Judged, first: Run, second: Run) -> None:
    age = {row.metric: row.value for row in read_result(first.findings).metrics}["newest_rating_age_days"]
    limits = CONFIG.model_copy(update={"shift": ShiftConfig(newest_rating_age_days_stop=age + 0.5)})
    check_ratings(judged.snapshot, first, limits, None)
    with pytest.raises(DataRefused, match="newest_rating_age_days is"):
        check_ratings(judged.snapshot, second, limits, None)


def publish_snapshot(home: Home, run_id: str, snapshot: str) -> None:
    outcome = replace(make_outcome(run_id), snapshot=snapshot)
    publish(outcome, write_night(home.root / "night", make_frames()), home)


def test_another_previous_snapshot_prevents_reuse(home: Home, judged: Judged, first: Run, second: Run) -> None:
    write_tables(home.snapshots / "planted" / "before", make_tables())
    publish_snapshot(home, "20261120T030000Z", "before")
    check_ratings(judged.snapshot, second, CONFIG, None)
    assert reused_from(second) is None
    assert read_result(second.findings).previous == "before"


def test_the_published_snapshot_reuses_its_result(home: Home, snapshot: Snapshot, first: Run, second: Run) -> None:
    """The first check compared it with another snapshot. It is now the published one, so it is not compared."""
    write_tables(home.snapshots / "planted" / "before", make_tables())
    publish_snapshot(home, "20261120T030000Z", "before")
    check_ratings(snapshot, first, CONFIG, None)
    publish_snapshot(home, first.run_id, "tonight")
    check_ratings(snapshot, second, CONFIG, None)
    assert reused_from(second) == first.run_id
