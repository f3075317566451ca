import json
import logging
import re
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recsys.checks.rules import ALL_RULES, ROW_RULES, SHIFT_RULES, table_rules
from recsys.errors import DataRefused
from recsys.home import Home, Run
from recsys.ingest.fetch.fetch import fetch_archive
from recsys.ingest.snapshot import Snapshot
from recsys.ingest.synthetic.synthetic import plant
from recsys.ingest.write import write_snapshot
from recsys.schema import REJECTS, TABLES
from recsys.settings import CheckConfig, LimitConfig, Settings
from tests.support.archives import write_archive
from tests.support.snapshots import START, Tables, check_ratings, make_run, make_tables, reject, write_tables

LENIENT = LimitConfig(**dict.fromkeys(LimitConfig.model_fields, 0.5))
CONFIG = CheckConfig(max_bad_share=0.5, limits=LENIENT, min_ratings=2)  # admits data with any single broken row
STRICT = CheckConfig(max_bad_share=0.01, limits=LENIENT, min_ratings=500)

ALL = {"ratings": 600, "movies": 20, "users": 30, "tags": 30, "links": 20}  # rows of `make_tables`
AFTER_THE_RUN = datetime(2026, 11, 21, 3, 0, 1, tzinfo=UTC)


@pytest.fixture
def run(home: Home) -> Run:
    return make_run(home)


def read_quarantine(run: Run) -> list[tuple[str, int, str]]:
    columns = pl.read_parquet(run.quarantine, columns=["source_table", "source_line", "rule"])
    return columns.rows()


def read_result(run: Run) -> dict[str, Any]:
    result: dict[str, Any] = json.loads(run.findings.read_text(encoding="utf-8"))
    return result


def broken_rules(run: Run) -> dict[str, int | None]:
    """Refused lines by rule, without the shift rules and the sums over all rules."""
    others = {ALL_RULES, *(rule.name for rule in SHIFT_RULES)}
    found = [rule for rule in read_result(run)["rules"] if rule["rule"] not in others]
    return {rule["rule"]: rule["offending"] for rule in found if rule["verdict"] != "pass"}


def read_page(run: Run) -> str:
    return (run.data_docs / "index.html").read_text(encoding="utf-8")


def test_good_data_are_used_directly_from_the_snapshot(tmp_path: Path, run: Run) -> None:
    snapshot = write_tables(tmp_path / "s", make_tables())
    checked = check_ratings(snapshot, run, STRICT, None)
    assert (checked.ratings, checked.movies, checked.users) == (snapshot.ratings, snapshot.movies, snapshot.users)
    assert (checked.tags, checked.links) == (snapshot.tags, snapshot.links)
    assert checked.counts == {**ALL, "quarantine": 0}
    assert checked.as_of == START + timedelta(minutes=599, seconds=1)
    assert checked.rating_scale == (1.0, 2.0, 3.0, 4.0, 5.0)
    assert read_quarantine(run) == []
    assert pq.read_schema(checked.quarantine).equals(REJECTS)


def test_every_rule_is_in_the_results_in_the_log_and_on_the_page(
    tmp_path: Path, run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG, logger="recsys"):
        check_ratings(write_tables(tmp_path / "s", make_tables()), run, STRICT, None)
    result = read_result(run)
    assert result["passed"] is True
    assert result["as_of"] == "2000-01-01T09:59:01+00:00"
    assert {rule["verdict"] for rule in result["rules"]} == {"pass", "not compared"}
    assert {rule["rule"] for rule in result["rules"]} == {
        *("unreadable", "movie_title", "movie_year", "movie_genres_known", "movie_id_unique"),
        *("user_age", "user_gender", "user_id_unique"),
        *("rating_on_scale", "rated_at_plausible", "rated_at_isolated", "rating_movie_known", "rating_unique"),
        *("tag_not_empty", "tagged_at_plausible", "tag_movie_known", "link_movie_known", "link_movie_unique"),
        *("all_row_rules", "enough_ratings", "enough_users", "enough_movies", "ratings_differ"),
        *("rating_count_share", "rating_mean_shift", "rating_psi", "unknown_movie_share", "new_user_share"),
        "newest_rating_age_days",
    }
    assert next(rule["observed"] for rule in result["rules"] if rule["rule"] == "enough_ratings") == 600
    assert "rating_on_scale: 0 lines of ratings refused, 0.000%" in caplog.messages
    assert "enough_ratings: ratings: pass, found 600" in caplog.messages
    assert "rules: 33 of 33 hold" in caplog.messages
    assert not [record for record in caplog.records if record.name.startswith(("great_expectations", "py.warnings"))]
    page = read_page(run)
    assert f"Checks of {run.run_id}" in page
    names = [rule.name for rule in ROW_RULES] + [rule.name for rule in table_rules(STRICT)]
    assert all(f"<td>{name}</td>" in page for name in names)
    assert "<td>snapshot_ratings</td><td>rating_on_scale</td><td>a rating is one of the stars" in page


def change(table: str, line: int = 5, **values: Any) -> Callable[[Tables], None]:
    """Changes a row of a table."""
    return lambda tables: tables[table][line - 1].update(values)


def repeat(table: str, line: int = 5, **values: Any) -> Callable[[Tables], None]:
    """Appends a changed copy of a row."""
    return lambda tables: tables[table].append(tables[table][line - 1] | values)


def add_movie(**values: Any) -> Callable[[Tables], None]:
    """Adds a movie without ratings, so that no other rule is broken."""
    good = {"title": "Metropolis", "year": 1927, "genres": []}
    return lambda tables: tables["movies"].append({"movie_id": len(tables["movies"]) + 1, **good, **values})


Broken = tuple[Callable[[Tables], None], int, str]  # a change that breaks a row, the refused line, the rule


BROKEN: dict[str, list[Broken]] = {
    "movies": [
        (add_movie(title=" "), 21, "movie_title"),
        (add_movie(year=2200), 22, "movie_year"),
        (add_movie(genres=["Drama", "Robots"]), 23, "movie_genres_known"),
        (repeat("movies", title="Movie 5 again"), 24, "movie_id_unique"),
    ],
    "users": [
        (change("users", 5, age=121), 5, "user_age"),
        (change("users", 6, gender="female"), 6, "user_gender"),
        (repeat("users", 7, age=31), 31, "user_id_unique"),
    ],
    "ratings": [
        (change("ratings", 5, rating=5.5), 5, "rating_on_scale"),
        (change("ratings", 6, rating=float("nan")), 6, "rating_on_scale"),
        (change("ratings", 7, rated_at=datetime(1994, 1, 1, tzinfo=UTC)), 7, "rated_at_plausible"),
        (change("ratings", 8, rated_at=AFTER_THE_RUN), 8, "rated_at_plausible"),
        (change("ratings", 600, rated_at=START + timedelta(days=400)), 600, "rated_at_isolated"),
        (change("ratings", 9, movie_id=99), 9, "rating_movie_known"),
        (repeat("ratings", 10, rated_at=START - timedelta(days=1)), 601, "rating_unique"),
        (repeat("ratings", 11, rated_at=START + timedelta(days=1)), 11, "rating_unique"),
    ],
    "tags": [
        (change("tags", 5, tag=" "), 5, "tag_not_empty"),
        (change("tags", 6, tagged_at=datetime(1994, 1, 1, tzinfo=UTC)), 6, "tagged_at_plausible"),
        (change("tags", 7, movie_id=99), 7, "tag_movie_known"),
    ],
    "links": [
        (change("links", 5, movie_id=99), 5, "link_movie_known"),
        (repeat("links", 6, tmdb_id=7), 21, "link_movie_unique"),
    ],
}


@pytest.mark.parametrize("broken_tables", [("movies", "users", "links"), ("ratings", "tags")], ids="-".join)
def test_a_broken_row_breaks_its_rule_and_no_other(tmp_path: Path, run: Run, broken_tables: tuple[str, ...]) -> None:
    """Each rule is broken on a separate line, so that one check covers all rules of several tables."""
    tables = make_tables()
    broken = [(table, *one) for table in sorted(broken_tables) for one in BROKEN[table]]
    for _, break_it, _, _ in broken:
        break_it(tables)
    snapshot = write_tables(tmp_path / "s", tables, genres=["Drama"])
    checked = check_ratings(snapshot, run, CONFIG, None)
    assert read_quarantine(run) == sorted((table, line, rule) for table, _, line, rule in broken)
    assert broken_rules(run) == Counter(rule for *_, rule in broken)
    bare_rows = {"user_age", "user_gender"}  # such a user loses the profile but stays in `users`
    n_lost = Counter(table for table, *_, rule in broken if rule not in bare_rows)
    for name, schema in TABLES.items():
        path = getattr(checked, name)
        assert len(pl.read_parquet(path)) == len(tables[name]) - n_lost[name]
        assert pq.read_schema(path).equals(schema)
        assert (path == snapshot.table(name)) == (name not in broken_tables)


def test_one_rating_long_after_the_others_does_not_set_the_end_of_the_data(tmp_path: Path, run: Run) -> None:
    tables = make_tables()
    change("ratings", 600, rated_at=START + timedelta(days=8000))(tables)
    checked = check_ratings(write_tables(tmp_path / "s", tables), run, CONFIG, None)
    assert checked.as_of == START + timedelta(minutes=598, seconds=1)
    (age,) = (row["value"] for row in read_result(run)["metrics"] if row["metric"] == "newest_rating_age_days")
    assert age == pytest.approx((run.started_at - START).days, abs=1)


def test_a_table_that_is_useless_for_training_is_refused(tmp_path: Path, run: Run) -> None:
    """tests/test_bad_input.py has data that break the other rules of tables."""
    tables = make_tables()
    for row in tables["ratings"]:
        row["rating"] = 3.0
    with pytest.raises(DataRefused, match="ratings break the rule ratings_differ"):
        check_ratings(write_tables(tmp_path / "s", tables), run, STRICT, None)
    assert list(broken_rules(run)) == ["ratings_differ"]
    assert read_result(run)["passed"] is False


def test_a_quarantined_row_has_the_first_rule_that_it_breaks(tmp_path: Path, run: Run) -> None:
    """An unusable repetition does not replace a usable rating."""
    tables = make_tables()
    repeat("ratings", line=6, rating=11.0, rated_at=START + timedelta(days=1))(tables)
    tables["ratings"][4].update(rating=9.0, movie_id=99, rated_at=datetime(1980, 1, 1, tzinfo=UTC))
    check_ratings(write_tables(tmp_path / "s", tables), run, CONFIG, None)
    assert read_quarantine(run) == [("ratings", 5, "rating_on_scale"), ("ratings", 601, "rating_on_scale")]


def test_ratings_of_a_refused_movie_are_refused(tmp_path: Path, run: Run) -> None:
    tables = make_tables()
    tables["movies"][4]["title"] = ""
    checked = check_ratings(write_tables(tmp_path / "s", tables), run, CONFIG, None)
    assert broken_rules(run) == {"movie_title": 1, "rating_movie_known": 30, "link_movie_known": 1}
    assert not pl.read_parquet(checked.ratings)["movie_id"].is_in([5]).any()


def test_a_refused_user_loses_the_profile_but_no_ratings(tmp_path: Path, run: Run) -> None:
    tables = make_tables()
    lost = tables["users"].pop(6)
    checked = check_ratings(write_tables(tmp_path / "s", tables, [reject("users", 7)]), run, CONFIG, None)
    assert checked.counts == {**ALL, "quarantine": 1}
    users = pl.read_parquet(checked.users)
    assert users["user_id"].to_list() == list(range(1, 31))
    assert users.row(6) == (lost["user_id"], None, None, None, None)
    assert users.row(7) == (8, "F", 30, "writer", "00000")


def test_shares_are_of_the_ratings_before_as_of(tmp_path: Path, run: Run) -> None:
    """Of 600 ratings, one per minute, 60 are before as_of; 6 of these are off the scale: 10%, but 1% of all."""
    tables = make_tables()
    for row in tables["ratings"][:6]:
        row["rating"] = 9.0
    config = CheckConfig(max_bad_share=0.05, limits=LENIENT, min_ratings=2)
    with pytest.raises(DataRefused, match=r"6 of 60 lines of ratings are refused, 10\.00%"):
        check_ratings(write_tables(tmp_path / "s", tables), run, config, START + timedelta(minutes=60))


def test_only_ratings_before_as_of_are_used(tmp_path: Path, run: Run) -> None:
    tables = make_tables()
    as_of = START + timedelta(minutes=100)
    repeat("ratings", rated_at=as_of)(tables)  # replaces line 5, but only from as_of on
    tables["ratings"][599]["rating"] = 9.0
    checked = check_ratings(write_tables(tmp_path / "s", tables), run, CONFIG, as_of.replace(tzinfo=None))
    ratings = pl.read_parquet(checked.ratings)
    assert ratings["rated_at"].max() == as_of - timedelta(minutes=1)
    assert ratings.equals(ratings.sort("user_id", "movie_id"))
    assert checked.counts == {**ALL, "ratings": 100, "tags": 9, "quarantine": 0}
    assert checked.as_of == as_of, "UTC by default"


def test_an_as_of_may_have_any_zone(tmp_path: Path, run: Run) -> None:
    as_of = datetime(2000, 1, 1, 5, tzinfo=timezone(timedelta(hours=2)))
    checked = check_ratings(write_tables(tmp_path / "s", make_tables()), run, CONFIG, as_of)
    assert checked.as_of == datetime(2000, 1, 1, 3, tzinfo=UTC)
    assert checked.counts["ratings"] == 180


def test_an_as_of_before_the_first_rating_is_refused(tmp_path: Path, run: Run) -> None:
    with pytest.raises(DataRefused, match=r"enough_ratings \(there are at least 2 ratings\): found 0"):
        check_ratings(write_tables(tmp_path / "s", make_tables()), run, CONFIG, START)


def test_unreadable_lines_count_as_refused(tmp_path: Path, run: Run) -> None:
    """Those of retractions count as a share of the lines of ratings and their own."""
    rejects = [reject(table, 601 + n) for table in ("ratings", "retractions") for n in range(7)]
    snapshot = write_tables(tmp_path / "s", make_tables(), rejects)
    assert check_ratings(snapshot, run, CONFIG, None).counts["quarantine"] == 14
    assert broken_rules(run) == {"unreadable": 7}
    with pytest.raises(DataRefused) as refusal:
        check_ratings(snapshot, run, STRICT, None)
    assert "7 of 614 lines of retractions are refused, 1.14%" in str(refusal.value)
    ratings = r'7 of 607 lines of ratings are refused, 1\.15%.* ratings.csv line 601: \{"line":"\?"\}'
    assert re.search(ratings, str(refusal.value))


def test_a_share_equal_to_the_limit_passes(tmp_path: Path, run: Run) -> None:
    tables = make_tables()
    for row in tables["ratings"][:6]:
        row["rating"] = 0.0
    snapshot = write_tables(tmp_path / "s", tables)
    assert check_ratings(snapshot, run, STRICT, None).counts["quarantine"] == 6  # 1% of 600


def test_columns_that_are_not_canonical_are_refused(tmp_path: Path, run: Run) -> None:
    snapshot = write_tables(tmp_path / "s", make_tables())
    ratings = pq.read_table(snapshot.ratings)
    pq.write_table(ratings.set_column(2, "rating", ratings["rating"].cast(pa.float64())), snapshot.ratings)
    with pytest.raises(DataRefused, match=r"ratings: rating double should be rating float not null"):
        check_ratings(snapshot, run, STRICT, None)
    assert [rule["table"] for rule in read_result(run)["rules"] if rule["verdict"] == "stop"] == ["ratings"]
    assert read_quarantine(run) == []


def test_a_check_can_be_repeated_in_its_run(tmp_path: Path, run: Run) -> None:
    tables = make_tables()
    tables["ratings"][4]["rating"] = 9.0
    snapshot = write_tables(tmp_path / "s", tables)
    first = check_ratings(snapshot, run, CONFIG, None)
    content = first.ratings.read_bytes(), first.quarantine.read_bytes()
    second = check_ratings(snapshot, run, CONFIG, None)
    assert second == first
    assert (second.ratings.read_bytes(), second.quarantine.read_bytes()) == content
    assert f"Checks of {run.run_id}" in read_page(run)


def test_ratings_that_were_replaced_later_count_at_an_earlier_as_of(tmp_path: Path, run: Run) -> None:
    """Line 5 had another rating until noon. One pair was retracted at noon, another one before 10:00."""
    noon, ten = START + timedelta(hours=12), START + timedelta(hours=10)
    tables = make_tables()
    current = tables["ratings"][4]
    before = current | {"rating": 1.0, "until": noon}
    current["rated_at"] = noon
    tables["ratings"][7]["movie_id"] = 21  # so that movie 1 of user 8 is free
    tables["movies"].append({"movie_id": 21, "title": "Heat", "year": 1995, "genres": []})
    retracted = before | {"user_id": 8, "movie_id": 1, "rated_at": START}
    over = before | {"user_id": 9, "movie_id": 21, "until": ten}
    snapshot = write_tables(tmp_path / "s", tables, superseded=[before, retracted, over])
    then = pl.read_parquet(check_ratings(snapshot, run, CONFIG, noon).ratings)
    assert len(then) == 601
    assert then.filter(pl.col("user_id") == 5, pl.col("movie_id") == 1)["rating"].to_list() == [1.0]
    assert then.filter(pl.col("user_id") == 8, pl.col("movie_id") == 1)["rating"].to_list() == [1.0]
    now = check_ratings(snapshot, run, CONFIG, None)
    assert now.ratings == snapshot.ratings
    assert now.as_of == noon + timedelta(seconds=1)


def test_the_default_as_of_given_explicitly_has_the_same_result(tmp_path: Path, run: Run) -> None:
    """This holds even if the last event is a retraction and another one is dated after the run."""
    retracted = START + timedelta(days=2)
    old = {"user_id": 1, "movie_id": 21, "rating": 3.0, "rated_at": START}
    announced = old | {"user_id": 2, "until": AFTER_THE_RUN}
    tables = make_tables()
    tables["movies"].append({"movie_id": 21, "title": "Heat", "year": 1995, "genres": []})
    superseded = [old | {"until": retracted}]
    snapshot = write_tables(tmp_path / "s", tables, superseded=superseded)
    first = check_ratings(snapshot, run, CONFIG, None)
    assert first.as_of == retracted + timedelta(seconds=1)
    again = check_ratings(snapshot, run, CONFIG, first.as_of)
    assert again == first
    later = write_tables(tmp_path / "t", tables, superseded=[*superseded, announced])
    assert check_ratings(later, run, CONFIG, None).as_of == first.as_of


def test_a_superseded_rating_is_checked_like_any_other(tmp_path: Path, run: Run) -> None:
    old = {"user_id": 1, "movie_id": 99, "rating": 3.0, "rated_at": START, "until": START + timedelta(days=2)}
    snapshot = write_tables(tmp_path / "s", make_tables(), superseded=[old])
    checked = check_ratings(snapshot, run, CONFIG, START + timedelta(days=1))
    assert checked.counts == {**ALL, "quarantine": 1}
    assert checked.ratings == snapshot.ratings
    quarantined = pl.read_parquet(run.quarantine).row(0, named=True)
    assert (quarantined["source_file"], quarantined["source_line"]) == ("old.csv", 1)
    assert quarantined["rule"] == "rating_movie_known"


def test_tags_after_the_last_rating_are_ignored(tmp_path: Path, run: Run) -> None:
    tables = make_tables()
    repeat("tags", tagged_at=START + timedelta(days=1), tag="")(tables)  # after the last rating
    snapshot = write_tables(tmp_path / "s", tables)
    checked = check_ratings(snapshot, run, CONFIG, None)
    assert checked.counts == {**ALL, "quarantine": 0}


def test_each_rule_has_its_own_limit(tmp_path: Path, run: Run) -> None:
    tables = make_tables()
    for row in tables["ratings"][:4]:
        row["rating"] = 9.0
    tables["ratings"][4]["movie_id"] = 99
    snapshot = write_tables(tmp_path / "s", tables)
    config = STRICT.model_copy(update={"limits": LENIENT.model_copy(update={"rating_on_scale": 0.005})})
    with pytest.raises(DataRefused) as refusal:
        check_ratings(snapshot, run, config, None)
    message = str(refusal.value)
    assert (
        "4 of 600 lines of ratings are refused, 0.67%, the limit is 0.50%, by the rule rating_on_scale (a rating is "
        "one of the stars that the edition gives), e.g. ratings.csv line 1: {"
    ) in message
    assert message.endswith("allow them with RECSYS_CHECK__LIMITS__RATING_ON_SCALE=0.0067")
    verdicts = {rule["rule"]: rule["verdict"] for rule in read_result(run)["rules"] if rule["table"] == "ratings"}
    assert (verdicts["rating_on_scale"], verdicts["rating_movie_known"]) == ("stop", "quarantined")


def test_the_settings_named_in_a_refusal_admit_the_data(
    tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    tables = make_tables()
    for row in tables["ratings"][:7]:
        row["rating"] = 9.0
    tables["ratings"][8]["movie_id"] = 99
    change("users", age=130)(tables)
    snapshot = write_tables(tmp_path / "s", tables)
    with pytest.raises(DataRefused) as refusal:
        check_ratings(snapshot, run, CheckConfig(), None)
    named = str(refusal.value).partition("allow them with ")[2].split()
    assert {setting.partition("=")[0].removeprefix("RECSYS_CHECK__") for setting in named} == {
        *("MAX_BAD_SHARE", "LIMITS__RATING_ON_SCALE", "LIMITS__USER_AGE")
    }
    for setting in named:
        monkeypatch.setenv(*setting.split("="))
    assert check_ratings(snapshot, run, Settings().check, None).counts["quarantine"] == 9


def test_no_setting_is_named_if_none_would_admit_the_data(tmp_path: Path, run: Run) -> None:
    tables = make_tables()
    for row in tables["ratings"]:
        row["rating"] = 9.0
    with pytest.raises(DataRefused, match=r"enough_ratings .*Next: correct the source$"):
        check_ratings(write_tables(tmp_path / "s", tables), run, STRICT, None)


def test_a_quote_is_short_and_has_no_inner_braces(tmp_path: Path, run: Run) -> None:
    """Braces mark quotes, so that the quote of a forgotten user can be removed from a reason."""
    rejects = [reject("ratings", 601 + n, f'{{"line":"42,{{}}{n}","why":"{"?" * 10_000}"}}') for n in range(7)]
    with pytest.raises(DataRefused) as refusal:
        check_ratings(write_tables(tmp_path / "s", make_tables(), rejects), run, STRICT, None)
    (quote,) = re.findall(r"\{.*\}", str(refusal.value))
    assert quote.startswith('{"line":"42,()0","why":"????')
    assert len(quote) < 310
    assert re.findall(r"[{}]", quote) == ["{", "}"]


def write_broken_source(folder: Path, share: float, home: Home) -> tuple[Snapshot, list[tuple[str, int, str]]]:
    """3,000 lines in ML-1M's layout, of which `share` are broken in three ways, and the expected quarantine."""
    planted = plant(100, 80, 3000)
    n_broken = round(3000 * share)
    broken: dict[int, tuple[str, str]] = {}
    for number in range(n_broken):
        line = 3 + number * (3000 // n_broken)
        user = 1000 + number  # rates nothing else
        broken[line] = [
            (f"{user}::1::9::978300000", "rating_on_scale"),
            (f"{user}::99999::4::978300000", "rating_movie_known"),
            (f"{user}::1", "unreadable"),
        ][number % 3]
    good = planted.ratings.head(3000 - n_broken)
    texts = {line: text for line, (text, _) in broken.items()}
    path = write_archive(folder / "source", "ml-1m", good, planted.movies, planted.users, texts)
    snapshot = write_snapshot(fetch_archive(str(path), home), home)
    return snapshot, [("ratings", line, rule) for line, (_, rule) in sorted(broken.items())]


def test_a_source_with_one_broken_row_in_a_thousand_passes(tmp_path: Path, home: Home, run: Run) -> None:
    snapshot, expected = write_broken_source(tmp_path, 0.001, home)
    checked = check_ratings(snapshot, run, CheckConfig(), None)
    assert len(expected) == 3
    assert read_quarantine(run) == expected
    assert checked.counts == {"ratings": 2997, "movies": 80, "users": 100, "tags": 0, "links": 0, "quarantine": 3}
    assert pl.read_parquet(run.quarantine)["source_file"].unique().to_list() == ["ratings.dat"]


def test_a_source_with_five_percent_broken_rows_is_refused(tmp_path: Path, home: Home, run: Run) -> None:
    snapshot, expected = write_broken_source(tmp_path, 0.05, home)
    with pytest.raises(DataRefused) as refusal:
        check_ratings(snapshot, run, CheckConfig(), None)
    message = str(refusal.value)
    assert "150 of 3,000 lines of ratings are refused, 5.00%, the limit is 1.00%; 50 of them break" in message
    assert (
        "the rule rating_movie_known (a rated movie is in the movies table and was admitted), e.g. ratings.dat line "
        in message
    )
    assert "last night's table is kept" in message
    assert str(run.quarantine) in message
    assert refusal.value.exit_code == 3
    assert read_quarantine(run) == expected
    assert read_result(run)["reasons"]
    assert f"Checks of {run.run_id}" in read_page(run)
