"""Merging drops: the result does not depend on their order, distribution or repetition."""

import logging
import random
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import sql
from recsys.datasets import HALF_STARS, WHOLE_STARS
from recsys.errors import DataRefused, SourceError
from recsys.forgotten import WITHHELD, forget
from recsys.home import Home, Run
from recsys.ingest.fetch.fetch import fetch_archive
from recsys.ingest.parse.drop_files import list_drops
from recsys.ingest.snapshot import Snapshot
from recsys.ingest.write import write_snapshot
from recsys.settings import CheckConfig
from tests.support.flips import flip_bit
from tests.support.snapshots import check_ratings

START = datetime(2020, 1, 1, tzinfo=UTC)
MOVIES = "movie_id,title,year,genres\n1,Heat,1995,Crime|Drama\n2,Big,1988,Comedy\n3,Ran,1985,\n"

DATED = "movie_id,title,year,genres,updated_at\n"
PROFILES = "user_id,gender,age,occupation,zip_code,updated_at\n"
RATED = "user_id,movie_id,rating,rated_at\n"
RETRACTED = "user_id,movie_id,retracted_at\n"


def take(folder: Path, home: Home) -> Snapshot:
    return write_snapshot(fetch_archive(str(folder), home), home)


def drop(folder: Path, **files: str) -> Path:
    """Writes files into `folder`; `movies` has a default, and `ratings_2` is ratings-2.csv."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in {"movies": MOVIES, **files}.items():
        (folder / f"{name.replace('_', '-')}.csv").write_text(text, encoding="utf-8")
    return folder


def at(minute: int) -> str:
    return (START + timedelta(minutes=minute)).isoformat()


def rows(path: Path) -> list[tuple[object, ...]]:
    """Rows of ratings with minutes in place of times."""
    moments = [name for name in ("rated_at", "until") if name in pl.read_parquet_schema(path)]
    minutes = ((pl.col(name) - START).dt.total_minutes() for name in moments)
    return pl.read_parquet(path).with_columns(minutes).rows()


# ---- which row wins


def test_the_latest_rating_wins_and_older_ones_are_kept_for_earlier_times(tmp_path: Path, home: Home) -> None:
    first = f"{RATED}1,1,3,{at(0)}\n1,2,4,{at(1)}\n"
    late = f"{RATED}1,1,5,{at(9)}\n1,1,2,{at(4)}\n"  # the change of minute 4 arrived after that of minute 9
    snapshot = take(drop(tmp_path / "drops", ratings_1=first, ratings_2=late), home)
    assert rows(snapshot.ratings) == [(1, 1, 5.0, 9), (1, 2, 4.0, 1)]
    assert rows(snapshot.superseded) == [(1, 1, 3.0, 0, 4), (1, 1, 2.0, 4, 9)]


def test_ties_in_time_go_to_the_higher_rating(tmp_path: Path, home: Home) -> None:
    snapshot = take(drop(tmp_path / "drops", ratings=f"{RATED}1,1,3,{at(0)}\n1,1,4,{at(0)}\n1,1,2,{at(0)}\n"), home)
    assert rows(snapshot.ratings) == [(1, 1, 4.0, 0)]
    assert rows(snapshot.superseded) == []


def test_a_retraction_ends_only_earlier_ratings(tmp_path: Path, home: Home) -> None:
    rated = f"{RATED}1,1,3,{at(0)}\n1,2,3,{at(0)}\n1,2,5,{at(9)}\n1,3,1,{at(5)}\n2,1,2,{at(0)}\n"
    gone = f"{RETRACTED}1,1,{at(4)}\n1,1,{at(3)}\n1,2,{at(4)}\n1,3,{at(5)}\n9,9,{at(0)}\n"
    snapshot = take(drop(tmp_path / "drops", ratings=rated, retractions=gone), home)
    assert rows(snapshot.ratings) == [(1, 2, 5.0, 9), (2, 1, 2.0, 0)]
    # the first retraction counts; a rating retracted at its own time was never current
    assert rows(snapshot.superseded) == [(1, 1, 3.0, 0, 3), (1, 2, 3.0, 0, 4)]


def test_a_retraction_in_the_future_is_ignored(tmp_path: Path, home: Home) -> None:
    rated = f"{RATED}1,1,3,{at(0)}\n1,2,4,{at(1)}\n2,1,5,{at(2)}\n2,2,1,{at(3)}\n"
    gone = f"{RETRACTED}1,1,2100-01-01T00:00:00+00:00\n1,2,1994-12-31T00:00:00+00:00\n2,2,{at(4)}\n"
    snapshot = take(drop(tmp_path / "drops", ratings=rated, retractions=gone), home)
    assert rows(snapshot.ratings) == [(1, 1, 3.0, 0), (1, 2, 4.0, 1), (2, 1, 5.0, 2)]
    assert rows(snapshot.superseded) == [(2, 2, 1.0, 3, 4)]
    run = Run("20261121T030000Z-4f1c", datetime.now(UTC), home)
    first = check_ratings(snapshot, run, CheckConfig(min_ratings=2), None)
    assert first.counts["ratings"] == 3
    assert check_ratings(snapshot, run, CheckConfig(min_ratings=2), first.as_of) == first


def test_a_row_in_the_future_counts_once_its_time_has_come(tmp_path: Path, home: Home) -> None:
    """Without any change of the files. The snapshot is read again at the earliest such time of any table."""
    now = datetime(2021, 1, 1, tzinfo=UTC)
    hour, day = now + timedelta(hours=1), now + timedelta(days=1)
    rated = f"{RATED}1,1,3,{at(0)}\n1,2,4,{at(1)}\n2,1,5,{at(2)}\n1,1,5,{day.isoformat()}\n"
    gone = f"{RETRACTED}1,2,{hour.isoformat()}\n2,1,{day.isoformat()}\n"
    titles = {"movies": f"{DATED}1,Heat,1995,,2020-01-01\n", "movies_2": f"{DATED}1,Cold,1995,,{hour.isoformat()}\n"}
    archive = fetch_archive(str(drop(tmp_path / "drops", ratings=rated, retractions=gone, **titles)), home)

    def read(moment: datetime) -> tuple[Snapshot, list[tuple[Any, ...]], list[str]]:
        snapshot = write_snapshot(archive, home, now=moment)
        pairs = pl.read_parquet(snapshot.ratings).select("user_id", "movie_id", "rating").rows()
        return snapshot, pairs, pl.read_parquet(snapshot.movies)["title"].to_list()

    today, pairs, movies = read(now)
    assert (pairs, movies) == ([(1, 1, 3.0), (1, 1, 5.0), (1, 2, 4.0), (2, 1, 5.0)], ["Heat"])
    assert read(hour - timedelta(seconds=1))[0] == today
    _, pairs, movies = read(hour)
    assert (pairs, movies) == ([(1, 1, 3.0), (1, 1, 5.0), (2, 1, 5.0)], ["Cold"])
    assert read(day)[1] == [(1, 1, 5.0)]


def test_an_isolated_rating_replaces_no_other(tmp_path: Path, home: Home) -> None:
    """A year after 500 others, as if a clock had been wrong."""
    rated = RATED + "".join(f"{user},1,4,{at(user)}\n" for user in range(1, 501))
    folder = drop(tmp_path / "drops", ratings=rated, ratings_2=f"{RATED}1,1,3,2024-01-01\n")
    snapshot = take(folder, home)
    assert pl.read_parquet(snapshot.ratings)["rating"].to_list()[:3] == [4.0, 3.0, 4.0]
    assert rows(snapshot.superseded) == []
    drop(folder, ratings_3=f"{RATED}2,1,3,2023-06-01\n")  # two are not that few
    assert pl.read_parquet(take(folder, home).ratings)["rating"].to_list()[:3] == [3.0, 3.0, 4.0]


def test_a_rating_between_the_steps_of_the_scale_replaces_no_other(tmp_path: Path, home: Home) -> None:
    """One half star among 201 ratings is off the scale; a stated scale, which gives another snapshot, admits it."""
    rated = RATED + "".join(f"{user},{movie},{movie + 3},{at(0)}\n" for user in range(1, 101) for movie in (1, 2))
    folder = drop(tmp_path / "drops", ratings=rated, ratings_2=f"{RATED}1,1,3.5,{at(1)}\n")
    whole = take(folder, home)
    half = write_snapshot(fetch_archive(str(folder), home), home, "half")
    assert (whole.rating_scale, half.rating_scale) == (WHOLE_STARS, HALF_STARS)
    assert rows(whole.ratings)[:3] == [(1, 1, 4.0, 0), (1, 1, 3.5, 1), (1, 2, 5.0, 0)]
    assert rows(half.ratings)[:2] == [(1, 1, 3.5, 1), (1, 2, 5.0, 0)]
    run = Run("20261121T030000Z-4f1c", datetime.now(UTC), home)
    checked = check_ratings(whole, run, CheckConfig(min_ratings=2), None)
    assert rows(checked.ratings)[0] == (1, 1, 4.0, 0)
    assert pl.read_parquet(checked.quarantine)["rule"].to_list() == ["rating_on_scale"]
    assert take(folder, home).snapshot_id == whole.snapshot_id != half.snapshot_id


def test_the_scale_has_half_stars_even_if_all_of_them_were_corrected(tmp_path: Path, home: Home) -> None:
    folder = drop(tmp_path / "drops", ratings=f"{RATED}1,1,3.5,{at(0)}\n1,2,2.5,{at(0)}\n")
    drop(folder, ratings_2=f"{RATED}1,1,4,{at(1)}\n", retractions=f"{RETRACTED}1,2,{at(1)}\n")
    snapshot = take(folder, home)
    assert rows(snapshot.ratings) == [(1, 1, 4.0, 1)]
    assert snapshot.rating_scale == HALF_STARS


def test_a_movie_that_the_checks_will_refuse_does_not_replace_a_good_one(tmp_path: Path, home: Home) -> None:
    bad = ("1,Film B1,1066,Drama", "2,Film B1,2101,Drama", "3,  ,1995,Drama", "4,Fire,1066,Drama")
    corrected = DATED + "".join(f"{movie},2021-01-01\n" for movie in bad)
    folder = drop(tmp_path / "drops", ratings=f"{RATED}1,1,3,{at(0)}\n", movies_2=corrected)
    movies = pl.read_parquet(take(folder, home).movies)
    # the bad rows are kept too, so that the checks can refuse them
    assert movies.filter(pl.col("year").is_between(1870, 2100))["title"].to_list() == ["Heat", "Big", "Ran"]
    assert movies["title"].to_list()[-1] == "Fire"


def test_a_user_whom_the_checks_will_refuse_does_not_replace_a_good_one(tmp_path: Path, home: Home) -> None:
    users = PROFILES + "".join(f"{user},,30,,,2020-01-01\n" for user in (1, 2, 3))
    bad = ("1,F,0", "2,F,121", "3,X,31", "4,X,30")
    corrected = PROFILES + "".join(f"{user},,,2021-01-01\n" for user in bad)
    folder = drop(tmp_path / "drops", ratings=f"{RATED}1,1,3,{at(0)}\n", users=users, users_2=corrected)
    snapshot = take(folder, home)
    users_now = pl.read_parquet(snapshot.users).rows()
    good = {(user, None, 30, None, None) for user in (1, 2, 3)}
    assert {*good, (4, "X", 30, None, None)} < set(users_now)
    assert len(users_now) == 7


def test_an_update_in_the_future_counts_as_undated(tmp_path: Path, home: Home) -> None:
    movies = f"{DATED}1,Heat,1995,Crime,2021-01-01\n2,Big,1988,,\n"
    future = f"{DATED}1,Cold,1995,Crime,2999-01-01\n2,Small,1988,,2999-01-01\n"
    ages = {"users": f"{PROFILES}1,,30,,,2021-01-01\n", "users_2": f"{PROFILES}1,,31,,,2999-01-01\n"}
    folder = drop(tmp_path / "drops", ratings=f"{RATED}1,1,3,{at(0)}\n", movies=movies, movies_2=future, **ages)
    snapshot = take(folder, home)
    assert pl.read_parquet(snapshot.movies)["title"].to_list() == ["Heat", "Small"]
    assert pl.read_parquet(snapshot.users)["age"].to_list() == [30]
    drop(folder, movies=movies, movies_3=f"{DATED}2,Great,1988,,\n")
    assert pl.read_parquet(take(folder, home).movies)["title"].to_list() == ["Heat", "Great"]


def test_a_rating_that_the_checks_will_refuse_does_not_replace_a_good_one(tmp_path: Path, home: Home) -> None:
    bad = f"{RATED}1,1,99,{at(5)}\n1,1,4,2999-01-01T00:00:00+00:00\n1,1,4,1970-01-01T00:00:00+00:00\n"
    snapshot = take(drop(tmp_path / "drops", ratings_1=f"{RATED}1,1,3,{at(0)}\n", ratings_2=bad), home)
    assert pl.read_parquet(snapshot.ratings)["rating"].sort().to_list() == [3.0, 4.0, 4.0, 99.0]
    assert rows(snapshot.superseded) == []


def test_the_last_version_of_a_movie_wins(tmp_path: Path, home: Home) -> None:
    dated = "movie_id,title,year,genres,updated_at\n1,Heat!,1995,Crime,2021-01-01\n"
    older = "movie_id,title,year,genres,updated_at\n1,Heat?,1995,Crime,2020-01-01\n"
    plain = "movie_id,title,year,genres\n2,Big 2,1988,Comedy\n"
    folder = drop(tmp_path / "drops", ratings=f"{RATED}1,1,3,{at(0)}\n", movies_1=dated, movies_2=older, movies_3=plain)
    # 1: the latest update wins, although a later file has an older one
    # 2: without updates the file wins that sorts last, and movies.csv sorts before movies-3.csv
    assert pl.read_parquet(take(folder, home).movies)["title"].to_list() == ["Heat!", "Big 2", "Ran"]


def test_contradictions_within_a_file_are_left_to_the_checks(tmp_path: Path, home: Home) -> None:
    twice = "movie_id,title,year,genres\n1,Heat,1995,Crime\n1,Cold,1995,Crime\n"
    snapshot = take(drop(tmp_path / "drops", ratings=f"{RATED}1,1,3,{at(0)}\n", movies=twice), home)
    assert pl.read_parquet(snapshot.movies)["title"].to_list() == ["Cold", "Heat"]


def test_users_tags_and_links_are_read_from_drops(tmp_path: Path, home: Home) -> None:
    folder = drop(
        tmp_path / "drops",
        ratings=f"{RATED}1,1,3,{at(0)}\n",
        users="user_id,gender,age,occupation,zip_code\n1,F,30,artist,00100\n",
        users_2="user_id,age,updated_at\n1,31,2021-01-01\n",
        tags=f'user_id,movie_id,tag,tagged_at\n1,1,"slow, ""good""",{at(0)}\n',
        tags_2=f'user_id,movie_id,tag,tagged_at\n1,1,"slow, ""good""",{at(0)}\n1,1,long,{at(1)}\n',
        links="movie_id,imdb_id,tmdb_id\n1,0113277,949\n2,0094737,\n",
    )
    snapshot = take(folder, home)
    assert pl.read_parquet(snapshot.users).rows() == [(1, None, 31, None, None)]
    assert pl.read_parquet(snapshot.tags)["tag"].to_list() == ['slow, "good"', "long"]
    assert pl.read_parquet(snapshot.links).rows() == [(1, "0113277", 949), (2, "0094737", None)]


def test_a_row_has_its_source_file_and_line(tmp_path: Path, home: Home) -> None:
    folder = drop(tmp_path / "drops", ratings_1=f"{RATED}1,1,3,{at(0)}\n", ratings_2=f"{RATED}x\n1,2,4,{at(0)}\n")
    snapshot = take(folder, home)
    assert pl.read_parquet(snapshot.lines("ratings")).rows() == [("ratings-1.csv", 2), ("ratings-2.csv", 3)]
    assert pl.read_parquet(snapshot.rejects).select("source_table", "source_file", "source_line").rows() == [
        ("ratings", "ratings-2.csv", 2)
    ]


@pytest.mark.parametrize("missing", ["ratings", "movies"])
def test_a_directory_without_ratings_or_movies_is_refused(missing: str, tmp_path: Path, home: Home) -> None:
    folder = drop(tmp_path / "drops", ratings=f"{RATED}1,1,3,{at(0)}\n")
    (folder / f"{missing}.csv").unlink()
    with pytest.raises(DataRefused, match=rf"has no file of {missing}; it has 1 of \w+\. Next: put {missing}\.csv"):
        take(folder, home)


@pytest.mark.parametrize(
    ("merge", "rule", "bounds"),
    [
        ("merge_ratings", "rule_rated_at_plausible", "timestamptz '1995-01-01 00:00:00+00'"),
        ("merge_movies", "rule_movie_year", "between 1870 and 2100"),
        ("merge_users", "rule_user_age", "between 1 and 120"),
        ("merge_users", "rule_user_gender", "in ('M', 'F')"),
    ],
)
def test_merging_and_rules_have_the_same_bounds(merge: str, rule: str, bounds: str) -> None:
    """The bounds are in both statements, because one runs before the tables of the other exist."""
    assert bounds in sql.read(merge)
    assert bounds in sql.read(rule)


# ---- incremental


def test_unchanged_files_are_not_parsed_again(tmp_path: Path, home: Home, caplog: pytest.LogCaptureFixture) -> None:
    folder = drop(tmp_path / "drops", ratings_1=f"{RATED}1,1,3,{at(0)}\n")
    caplog.set_level("INFO", logger="recsys")
    take(folder, home)
    before = {path: path.stat().st_mtime_ns for path in home.parsed.rglob("*.parquet")}
    drop(folder, ratings_2=f"{RATED}1,1,4,{at(1)}\n")
    snapshot = take(folder, home)
    assert [record.args for record in caplog.records if record.msg == "reading %s"] == [
        ("movies.csv",),
        ("ratings-1.csv",),
        ("ratings-2.csv",),
    ]
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert rows(snapshot.ratings) == [(1, 1, 4.0, 1)]
    assert list(snapshot.manifest["drops"]) == ["movies.csv", "ratings-1.csv", "ratings-2.csv"]


def test_an_incomplete_entry_is_parsed_again(tmp_path: Path, home: Home) -> None:
    folder = drop(tmp_path / "drops", ratings=f"{RATED}1,1,3,{at(0)}\n")
    name = take(folder, home).snapshot_id
    for path in home.parsed.rglob("entry.json"):
        path.unlink()
    for path in home.parsed.rglob("rows.parquet"):
        path.write_bytes(b"PAR1")
    for manifest in home.snapshots.rglob("manifest.json"):
        manifest.unlink()
    (home.snapshots / "canonical" / name).rename(tmp_path / "elsewhere")
    assert take(folder, home).snapshot_id == name


@pytest.mark.parametrize("name", ["rows.parquet", "rejects.parquet", "entry.json"])
def test_a_changed_bit_in_an_entry_is_noticed(
    name: str, tmp_path: Path, home: Home, caplog: pytest.LogCaptureFixture
) -> None:
    """Most single bits of a Parquet file can change without an error on reading. The file is parsed again."""
    folder = drop(tmp_path / "drops", ratings=f"{RATED}1,1,3,{at(0)}\n")
    take(folder, home)
    for path in home.parsed.rglob(name):
        flip_bit(path, 8 * (path.stat().st_size // 2))
    drop(folder, ratings_2=f"{RATED}1,2,3,{at(0)}\n")
    assert pl.read_parquet(take(folder, home).ratings)["movie_id"].to_list() == [1, 2]
    assert "is damaged: " in caplog.text


def test_a_drop_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    folder = drop(tmp_path / "drops", ratings=f"{RATED}1,1,3,{at(0)}\n")
    (folder / "ratings-2.csv").symlink_to("/proc/self/mem")  # its first page is not readable, not even by root
    with pytest.raises(SourceError, match=r"cannot be read: .*\. Next: make it readable"):
        list_drops(folder)


def test_a_file_that_changes_while_it_is_read_is_refused(tmp_path: Path, home: Home) -> None:
    folder = drop(tmp_path / "drops", ratings=f"{RATED}1,1,3,{at(0)}\n")
    ratings = folder / "ratings.csv"

    class Writer(logging.Handler):
        """Appends a line to a drop just before it is read."""

        def emit(self, record: logging.LogRecord) -> None:
            if record.args == ("ratings.csv",):
                ratings.write_text(f"{ratings.read_text()}1,2,3,{at(1)}\n")

    log, writer = logging.getLogger("recsys.ingest.drops"), Writer()
    log.addHandler(writer)
    log.setLevel(logging.INFO)
    try:
        with pytest.raises(SourceError, match=r"ratings\.csv changed while it was read\. Next: run again"):
            take(folder, home)
    finally:
        log.removeHandler(writer)
        log.setLevel(logging.NOTSET)
    assert rows(take(folder, home).ratings) == [(1, 1, 3.0, 0), (1, 2, 3.0, 1)]


def test_a_file_that_arrives_after_the_source_was_hashed_counts(tmp_path: Path, home: Home) -> None:
    folder = drop(tmp_path / "drops", ratings_1=f"{RATED}1,1,3,{at(0)}\n")
    archive = fetch_archive(str(folder), home)
    drop(folder, ratings_2=f"{RATED}1,1,4,{at(1)}\n")
    both = write_snapshot(archive, home)
    assert rows(both.ratings) == [(1, 1, 4.0, 1)]
    assert take(folder, home) == both
    (folder / "ratings-2.csv").unlink()
    assert rows(take(folder, home).ratings) == [(1, 1, 3.0, 0)]


def test_removing_a_file_removes_its_rows(tmp_path: Path, home: Home) -> None:
    folder = drop(tmp_path / "drops", ratings_1=f"{RATED}1,1,3,{at(0)}\n")
    name = take(folder, home).snapshot_id
    drop(folder, ratings_2=f"{RATED}1,1,4,{at(1)}\n")
    assert take(folder, home).snapshot_id != name
    (folder / "ratings-2.csv").unlink()
    assert take(folder, home).snapshot_id == name


def test_entries_with_a_forgotten_user_are_deleted(tmp_path: Path, home: Home) -> None:
    folder = drop(tmp_path / "drops", ratings=f"{RATED}1,1,3,{at(0)}\n42,1,3,{at(0)}\n42,oops\n7,oops\n")
    take(folder, home)
    forget([42], home)
    snapshot = take(folder, home)
    assert rows(snapshot.ratings) == [(1, 1, 3.0, 0)]
    assert pl.read_parquet(snapshot.rejects).select("source_line", "row").rows()[0] == (4, WITHHELD)
    assert pl.read_parquet(snapshot.rejects)["row"].str.contains("7,oops").to_list() == [False, True]
    kept = [pl.read_parquet(path) for path in home.parsed.rglob("rows.parquet")]
    assert all(42 not in frame["user_id"] for frame in kept if "user_id" in frame.columns)


# ---- any order, any distribution


@dataclass(frozen=True)
class Delivery:
    """Lines by table, one file each."""

    lines: dict[str, list[str]]


HEADERS = {
    "ratings": RATED,
    "retractions": RETRACTED,
    "movies": "movie_id,title,year,genres,updated_at\n",
    "users": "user_id,gender,age,occupation,zip_code,updated_at\n",
    "tags": "user_id,movie_id,tag,tagged_at\n",
}
TYPES = {"year": pl.Int16, "occupation": pl.String, "zip_code": pl.String}  # columns that may be empty in every row
person = st.integers(1, 12)
small = st.integers(1, 3)
minute = st.integers(0, 5).map(at)
stars = st.sampled_from(["0.5", "1.0", "3.0", "4.5", "5.0", "9.0"])


def line(*fields: st.SearchStrategy[object]) -> st.SearchStrategy[str]:
    return st.tuples(*fields).map(lambda values: ",".join(map(str, values)) + "\n")


# Large, because a file costs as much as hundreds of lines.
deliveries = st.builds(
    Delivery,
    st.fixed_dictionaries(
        {
            "ratings": st.lists(line(person, small, stars, minute), min_size=50, max_size=80),
            "retractions": st.lists(line(person, small, minute), min_size=4, max_size=12),
            # one version per movie and time, because otherwise the names of the files would decide
            "movies": st.lists(
                st.tuples(small, st.integers(0, 9)).map(lambda key: f"{key[0]},T{key[1]},,Drama,{at(key[1])}\n"),
                min_size=1,
                max_size=6,
            ),
            "users": st.lists(
                st.tuples(small, st.integers(1, 9)).map(lambda key: f"{key[0]},F,{key[1]},,,{at(key[1])}\n"), max_size=4
            ),
            "tags": st.lists(line(small, small, st.sampled_from(["slow", "loud"]), minute), max_size=4),
        }
    ),
)


def deliver(folder: Path, delivery: Delivery, order: random.Random, n_files: int) -> Path:
    """Writes the lines shuffled, partly repeated, and distributed over files, some of which are Parquet."""
    folder.mkdir(parents=True)
    for table, lines in delivery.lines.items():
        spread = lines + [line for line in lines if order.random() < 0.3]
        order.shuffle(spread)
        for number in range(n_files):
            share = spread[number::n_files]
            if share or number == 0:
                write_drop(folder / f"{table}-{number}", HEADERS[table] + "".join(share), parquet=order.random() < 0.3)
    return folder


def write_drop(path: Path, text: str, *, parquet: bool) -> None:
    csv = path.with_suffix(".csv")
    csv.write_text(text, encoding="utf-8")
    if parquet and text.count("\n") > 1:
        frame = pl.read_csv(csv, try_parse_dates=True, schema_overrides=TYPES)
        frame.write_parquet(path.with_suffix(".parquet"))
        csv.unlink()


@pytest.mark.slow
@settings(max_examples=4, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(delivery=deliveries, seed=st.integers(0, 2**32), n_files=st.integers(2, 3))
def test_order_and_distribution_of_drops_do_not_change_the_snapshot(
    delivery: Delivery, seed: int, n_files: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    place = tmp_path_factory.mktemp("drops")
    home, order = Home(place / "home"), random.Random(seed)
    whole = take(deliver(place / "whole", delivery, random.Random(0), 1), home)
    split = take(deliver(place / "split", delivery, order, n_files), home)
    assert split.folder == whole.folder
    assert known(whole) == expected(delivery)


@settings(max_examples=15, deadline=None)
@given(delivery=deliveries)
def test_the_reference_agrees_with_examples_by_hand(delivery: Delivery) -> None:
    """Tests the reference implementation of the property test itself."""
    active = [row for row in expected(delivery) if row[4] is None and row[2] <= 5]
    current = {(user, movie): (minute, rating) for user, movie, rating, minute, _ in active}
    assert len(current) == len(active)
    for user, movie, rating, minute in parsed(delivery.lines["ratings"]):
        if rating <= 5 and (user, movie) in current:
            assert (minute, rating) <= current[user, movie]


def parsed(lines: list[str]) -> list[tuple[int, int, float, int]]:
    fields = [line.strip().split(",") for line in lines]
    return [(int(user), int(movie), float(rating), minutes(when)) for user, movie, rating, when in fields]


def minutes(moment: str) -> int:
    return int((datetime.fromisoformat(moment) - START).total_seconds() // 60)


def expected(delivery: Delivery) -> set[tuple[int, int, float, int, int | None]]:
    """(user, movie, rating, minute, until) of every rating that was ever current, computed event by event."""
    ratings = parsed(delivery.lines["ratings"])
    ends = [
        (int(u), int(m), minutes(t)) for u, m, t in (text.strip().split(",") for text in delivery.lines["retractions"])
    ]
    ratings_seen: set[tuple[int, int, float, int, int | None]] = {(*row, None) for row in ratings if row[2] > 5}
    for user, movie in {row[:2] for row in ratings}:
        history = sorted((when, rating) for u, m, rating, when in ratings if (u, m) == (user, movie) and rating <= 5)
        for when in sorted({when for when, _ in history}):
            rating = max(rating for moment, rating in history if moment == when)
            later = [moment for moment, _ in history if moment > when]
            later += [moment for u, m, moment in ends if (u, m) == (user, movie) and moment >= when]
            until = min(later, default=None)
            if until != when:
                ratings_seen.add((user, movie, rating, when, until))
    return ratings_seen


def known(snapshot: Snapshot) -> set[tuple[object, ...]]:
    return {(*row, None) for row in rows(snapshot.ratings)} | set(rows(snapshot.superseded))
