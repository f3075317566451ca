import json
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pyarrow.parquet as pq
import pytest

from recsys.datasets import DATASETS, HALF_STARS
from recsys.errors import DataRefused
from recsys.files import hash_file, read_json, read_sealed, write_json
from recsys.forgotten import forget, read_forgotten
from recsys.home import Home
from recsys.ingest import readings, write
from recsys.ingest.fetch.fetch import fetch_archive
from recsys.ingest.readings import is_free_of
from recsys.ingest.snapshot import Snapshot, list_snapshots
from recsys.ingest.synthetic.synthetic import Planted, plant
from recsys.ingest.write import write_snapshot
from recsys.schema import LINKS, MOVIES, RATINGS, REJECTS, SUPERSEDED, TAGS, USERS
from tests.conftest import RealArchive
from tests.support.archives import write_archive
from tests.support.flips import flip_bit


@pytest.fixture(scope="module")
def planted() -> Planted:
    return plant(60, 50, 1500)


@pytest.fixture(scope="module")
def usual_id(planted: Planted, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The name of the snapshot of `planted`."""
    folder = tmp_path_factory.mktemp("usual")
    source = write_archive(folder / "a.zip", "ml-100k", planted.ratings, planted.movies, planted.users)
    return take(source, Home(folder / "home")).snapshot_id


def take(source: Path | str, home: Home) -> Snapshot:
    return write_snapshot(fetch_archive(str(source), home), home)


def shuffled(table: pl.DataFrame, seed: int) -> pl.DataFrame:
    return table.sample(fraction=1, shuffle=True, seed=seed)


def state(folder: Path) -> dict[str, tuple[int, int]]:
    """Returns inode and modification time of everything below `folder`."""
    files = [folder, *sorted(folder.rglob("*"))]
    return {str(file): (file.stat().st_ino, file.stat().st_mtime_ns) for file in files}


def test_files_have_the_canonical_schemas_and_order(planted: Planted, tmp_path: Path, home: Home) -> None:
    ratings, movies, users = (shuffled(table, 1) for table in (planted.ratings, planted.movies, planted.users))
    snapshot = take(write_archive(tmp_path / "a.zip", "ml-100k", ratings, movies, users), home)
    for path, schema in (
        (snapshot.ratings, RATINGS),
        (snapshot.movies, MOVIES),
        (snapshot.users, USERS),
        (snapshot.tags, TAGS),
        (snapshot.links, LINKS),
        (snapshot.superseded, SUPERSEDED),
        (snapshot.rejects, REJECTS),
    ):
        assert pq.read_schema(path).equals(schema)
    assert pl.read_parquet(snapshot.ratings).rows() == planted.ratings.sort("user_id", "movie_id", "rated_at").rows()
    assert pl.read_parquet(snapshot.movies).rows() == planted.movies.rows()
    assert pl.read_parquet(snapshot.users).rows() == planted.users.rows()
    column = pq.ParquetFile(snapshot.ratings).metadata.row_group(0).column(0)
    assert column.compression == "ZSTD"
    assert column.is_stats_set


def test_every_row_has_its_source_line(planted: Planted, tmp_path: Path, home: Home) -> None:
    ratings, movies, users = (shuffled(table, 2) for table in (planted.ratings, planted.movies, planted.users))
    path = write_archive(tmp_path / "a", "ml-1m", ratings, movies, users, {3: "broken"})
    snapshot = take(path, home)
    for table, file, key in (
        ("ratings", "ratings.dat", "{user_id}::{movie_id}::"),
        ("movies", "movies.dat", "{movie_id}::{title} ("),
        ("users", "users.dat", "{user_id}::{gender}::"),
    ):
        lines = (path / file).read_text().splitlines()
        source_lines = pl.read_parquet(snapshot.lines(table))
        assert source_lines["source_file"].unique().to_list() == [file]
        numbers = source_lines["source_line"].to_list()
        rows = pl.read_parquet(snapshot.table(table)).to_dicts()
        assert len(numbers) == len(rows)
        assert all(lines[n - 1].startswith(key.format(**row)) for n, row in zip(numbers, rows, strict=True))
    refused = pl.read_parquet(snapshot.rejects)
    assert refused.drop("row").rows() == [("ratings", "ratings.dat", 3, "unreadable")]
    assert json.loads(refused["row"][0])["line"] == "broken"


def test_the_manifest_describes_the_snapshot(planted: Planted, tmp_path: Path, home: Home) -> None:
    path = write_archive(tmp_path / "a.zip", "ml-1m", planted.ratings, planted.movies, planted.users, {3: "broken"})
    archive = fetch_archive(str(path), home)
    before = datetime.now(UTC).replace(microsecond=0)
    snapshot = write_snapshot(archive, home)
    assert before <= snapshot.made_at <= datetime.now(UTC)
    assert snapshot.manifest == {
        "schema_version": readings.SCHEMA_VERSION,
        "dataset": "ml-1m",
        "source": {"name": "a.zip", "sha256": archive.sha256, "origin": "local file"},
        "made_at": snapshot.made_at.isoformat(),
        "rows": {"ratings": 1500, "movies": 50, "users": 60, "tags": 0, "links": 0, "superseded": 0, "rejects": 1},
        "notices": [],
        "genres": list(DATASETS["ml-1m"].genres),
        "rating_scale": [1, 2, 3, 4, 5],
        "first_rated_at": planted.ratings["rated_at"].min().isoformat(),  # type: ignore[union-attr]
        "last_rated_at": planted.ratings["rated_at"].max().isoformat(),  # type: ignore[union-attr]
        "licence": DATASETS["ml-1m"].licence,
        "citation": DATASETS["ml-1m"].citation,
        "content_sha256": snapshot.manifest["content_sha256"],
        "files": {path.name: hash_file(path) for path in snapshot.folder.glob("*.parquet")},
    }
    assert snapshot.folder == home.snapshots / "ml-1m" / snapshot.manifest["content_sha256"][:12]
    assert snapshot.snapshot_id == snapshot.folder.name
    assert snapshot.dataset == "ml-1m"
    assert snapshot.rating_scale == (1, 2, 3, 4, 5)


def test_without_an_edition_the_scale_has_half_stars_if_any_occur(planted: Planted, tmp_path: Path, home: Home) -> None:
    """tests/ingest/test_drops.py has other scales."""
    ratings = planted.ratings.with_columns(pl.col("rating").replace({5.0: 4.5}))
    snapshot = take(write_archive(tmp_path / "a", "canonical", ratings, planted.movies, planted.users), home)
    assert snapshot.dataset == "canonical"
    assert snapshot.rating_scale == HALF_STARS
    assert snapshot.manifest["licence"] is None


# ---- the name


@pytest.mark.parametrize(
    ("layout", "name"),
    [("ml-100k", "b"), ("ml-1m", "b.zip"), ("atomic", "b"), ("canonical", "b.zip"), ("canonical-parquet", "b")],
)
def test_equal_content_has_the_same_name(
    layout: str, name: str, planted: Planted, usual_id: str, tmp_path: Path, home: Home
) -> None:
    """Regardless of layout, packing and order of rows."""
    mixed = (shuffled(planted.ratings, 3), shuffled(planted.movies, 3), shuffled(planted.users, 3))
    assert take(write_archive(tmp_path / name, layout, *mixed), home).snapshot_id == usual_id


def test_ml_100k_has_the_same_name_from_grouplens_and_from_the_wheel(
    real_archive: Callable[[str], RealArchive], home: Home
) -> None:
    """The copy is written from the published files in the format of the wheel."""
    archive = real_archive("ml-100k")
    published = take(archive.path, home)
    ratings, movies, users = map(pl.read_parquet, (published.ratings, published.movies, published.users))
    copy = take(write_archive(home.root / "copy", "atomic", ratings, movies, users), home)
    assert copy.snapshot_id == published.snapshot_id
    if archive.is_real:
        assert published.snapshot_id == "2fbbcc65ffe7"  # the real wheel gives the same id


@pytest.mark.parametrize("column", ["user_id", "movie_id", "rating", "rated_at", "title", "year", "genres", "age"])
def test_any_change_of_content_changes_the_name(
    column: str, planted: Planted, usual_id: str, tmp_path: Path, home: Home
) -> None:
    changes = {
        "user_id": pl.col("user_id").replace({60: 61}),
        "movie_id": pl.col("movie_id").replace({50: 51}),
        "rating": pl.when(pl.int_range(pl.len()) == 7).then(6 - pl.col("rating") + 0.25).otherwise("rating"),
        "rated_at": pl.col("rated_at").dt.offset_by("1s"),
        "title": pl.col("title").str.replace("Quiet", "Loud"),
        "year": pl.col("year") + 1,
        "genres": pl.col("genres").list.head(1),
        "age": pl.when(pl.int_range(pl.len()) > 0).then("age"),
    }
    ratings, movies, users = (
        table.with_columns(changes[column].alias(column)) if column in table else table
        for table in (planted.ratings, planted.movies, planted.users)
    )
    changed = take(write_archive(tmp_path / "a", "canonical-parquet", ratings, movies, users), home)
    assert changed.snapshot_id != usual_id


def test_a_refused_line_is_content_but_its_line_number_is_not(planted: Planted, tmp_path: Path, home: Home) -> None:
    tables = (planted.ratings, planted.movies, planted.users)
    names = [
        take(write_archive(tmp_path / str(place), "ml-1m", *tables, broken), home).snapshot_id
        for place, broken in enumerate([{}, {3: "broken"}, {700: "broken"}, {3: "otherwise"}])
    ]
    assert names[1] == names[2]
    assert len(set(names)) == 3


def test_duplicate_rows_are_kept(planted: Planted, tmp_path: Path, home: Home) -> None:
    """A rule of the checks refuses them later."""
    ratings = pl.concat([planted.ratings, planted.ratings.head(5)])
    snapshot = take(write_archive(tmp_path / "a", "ml-1m", ratings, planted.movies, planted.users), home)
    assert pq.read_metadata(snapshot.ratings).num_rows == 1505
    assert len(set(pl.read_parquet(snapshot.lines("ratings"))["source_line"])) == 1505


# ---- each source is written once


@pytest.mark.parametrize("source", ["a.zip", "synthetic:60x50x1500"])
def test_a_second_run_writes_nothing(source: str, planted: Planted, tmp_path: Path, home: Home) -> None:
    if source == "a.zip":
        source = str(
            write_archive(tmp_path / source, "ml-1m", planted.ratings, planted.movies, planted.users, {9: "broken"})
        )
    first = take(source, home)
    before = state(home.root)
    assert take(source, home) == first
    assert state(home.root) == before


def test_the_same_content_from_another_source_keeps_the_first_snapshot(
    planted: Planted, tmp_path: Path, home: Home
) -> None:
    tables = (planted.ratings, planted.movies, planted.users)
    first = take(write_archive(tmp_path / "a.zip", "ml-100k", *tables), home)
    before = state(first.folder)
    assert take(write_archive(tmp_path / "b", "atomic", *tables), home) == first
    assert state(first.folder) == before
    assert list(first.folder.parent.glob("[!.]*")) == [first.folder]


def test_both_of_two_sources_with_the_same_content_are_recorded(planted: Planted, tmp_path: Path, home: Home) -> None:
    sources = [write_archive(tmp_path / name, "ml-1m", planted.ratings, planted.movies, planted.users) for name in "ab"]
    lines = (sources[1] / "ratings.dat").read_bytes().splitlines(keepends=True)
    (sources[1] / "ratings.dat").write_bytes(b"".join(sorted(lines)))
    for source in sources:
        take(source, home)
    before = state(home.root)
    for source in sources:
        take(source, home)
    assert state(home.root) == before


def test_another_schema_version_gives_another_snapshot(
    planted: Planted, tmp_path: Path, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_archive(tmp_path / "a.zip", "ml-1m", planted.ratings, planted.movies, planted.users)
    first = take(path, home)
    monkeypatch.setattr(readings, "SCHEMA_VERSION", 1000)
    monkeypatch.setattr(write, "SCHEMA_VERSION", 1000)
    second = take(path, home)
    assert second.snapshot_id != first.snapshot_id
    assert read_json(second.folder / "manifest.json")["schema_version"] == 1000


def test_a_refused_source_leaves_nothing(tmp_path: Path, planted: Planted, home: Home) -> None:
    path = write_archive(tmp_path / "a", "ml-1m", planted.ratings, planted.movies, planted.users)
    (path / "ratings.dat").write_text("lorem\nipsum\n")
    with pytest.raises(DataRefused):
        take(path, home)
    assert list((home.snapshots / "ml-1m").iterdir()) == []


@pytest.mark.slow
def test_a_killed_run_leaves_no_incomplete_snapshot(home: Home) -> None:
    """Real processes, killed while writing: a snapshot is complete or does not exist."""
    source = "synthetic:1000x500x100000"
    program = (
        "import sys; from pathlib import Path; from recsys.home import Home; "
        "from recsys.ingest.fetch.fetch import fetch_archive; "
        "from recsys.ingest.write import write_snapshot; home = Home(Path(sys.argv[1])); "
        "write_snapshot(fetch_archive(sys.argv[2], home), home)"
    )
    left: set[Path] = set()
    for seconds in (0.02, 0.15):
        with subprocess.Popen([sys.executable, "-c", program, str(home.root), source]) as child:
            while child.poll() is None and not set(home.snapshots.glob("*/.aside*")) - left:
                time.sleep(0.01)
            time.sleep(seconds)
            child.kill()
        left = set(home.snapshots.glob("*/.aside*"))
        if finished := list(home.snapshots.glob("*/[!.]*")):  # finished before the kill, so it must be complete
            assert pq.read_metadata(Snapshot(finished[0]).ratings).num_rows == 100_000
            break
    snapshot = take(source, home)
    assert pq.read_metadata(snapshot.ratings).num_rows == 100_000
    assert snapshot.manifest["rows"]["ratings"] == 100_000
    assert list(home.snapshots.glob("*/.aside*")) == []  # the next writer cleans up


# ---- damage on disk


@pytest.mark.parametrize("name", ["ratings.parquet", "users_lines.parquet", "manifest.json"])
def test_a_changed_bit_is_noticed_and_the_snapshot_is_written_again(
    name: str, planted: Planted, tmp_path: Path, home: Home, caplog: pytest.LogCaptureFixture
) -> None:
    source = write_archive(tmp_path / "a.zip", "ml-1m", planted.ratings, planted.movies, planted.users)
    first = take(source, home)
    path = first.folder / name
    intact = pl.read_parquet(first.ratings), path.read_bytes()
    flip_bit(path, 8 * (path.stat().st_size // 2))
    damaged = path.read_bytes()
    again = take(source, home)
    assert again.folder == first.folder
    assert pl.read_parquet(again.ratings).equals(intact[0])
    assert name == "manifest.json" or path.read_bytes() == intact[1]
    (line,) = [message for message in caplog.messages if "It is written again from its source" in message]
    assert line.startswith(f"snapshot {first.folder}: {name} ")
    aside = first.folder.with_name(f".aside-{first.snapshot_id}")
    assert (aside / name).read_bytes() == damaged
    assert [one.snapshot_id for one in list_snapshots(first.folder.parent)] == [first.snapshot_id]


def test_a_damaged_snapshot_of_another_source_is_not_kept(planted: Planted, tmp_path: Path, home: Home) -> None:
    tables = (planted.ratings, planted.movies, planted.users)
    first = take(write_archive(tmp_path / "a.zip", "ml-100k", *tables), home)
    intact = first.movies.read_bytes()
    flip_bit(first.movies, 5000)
    assert take(write_archive(tmp_path / "b", "atomic", *tables), home) == first
    assert first.movies.read_bytes() == intact


def test_a_snapshot_of_an_older_version_is_written_again(home: Home) -> None:
    """Its manifest has no SHA-256 of the files, so that damage would not be noticed."""
    first = take("synthetic:20x10x100", home)
    manifest = first.folder / "manifest.json"
    older = read_sealed(manifest)
    del older["files"]
    write_json(manifest, older)
    assert take("synthetic:20x10x100", home).manifest["files"]


# ---- forgotten users


def test_a_later_snapshot_has_no_rows_of_a_forgotten_user(planted: Planted, tmp_path: Path, home: Home) -> None:
    tables = (planted.ratings, planted.movies, planted.users)
    path = write_archive(tmp_path / "a.zip", "ml-1m", *tables, {2: "7::oops", 4: "8::oops"})
    before = take(path, home)
    forget([7], home)
    after = take(path, home)
    assert after.snapshot_id != before.snapshot_id
    for table in (after.ratings, after.users):
        rest = pl.read_parquet(before.table(table.stem)).filter(pl.col("user_id") != 7)
        assert pl.read_parquet(table).equals(rest)
    assert set(pl.read_parquet(after.rejects)["row"].str.contains("7::oops")) == {False}
    assert pl.read_parquet(after.rejects).height == pl.read_parquet(before.rejects).height  # still counted
    assert pl.read_parquet(after.lines("ratings")).height == after.manifest["rows"]["ratings"]
    forget([999], home)  # without ratings: the content is unchanged
    assert take(path, home).folder == after.folder
    assert is_free_of(after, read_forgotten(home))
    assert not is_free_of(before, read_forgotten(home))


# ---- published editions


@pytest.mark.parametrize("dataset", DATASETS)
def test_published_editions(dataset: str, real_archive: Callable[[str], RealArchive], home: Home) -> None:
    archive = real_archive(dataset)
    snapshot = take(archive.path, home)
    edition = DATASETS[dataset]
    assert snapshot.rating_scale == edition.rating_scale
    assert snapshot.manifest["rows"]["rejects"] == 0
    if archive.is_real:
        rows = {"ratings": edition.ratings, "movies": edition.movies, "superseded": 0, "rejects": 0}
        assert {table: snapshot.manifest["rows"][table] for table in rows} == rows
        ratings = pl.read_parquet(snapshot.ratings)
        known = {"ml-100k": (1682, 3.52986), "ml-1m": (3706, 3.581564), "ml-latest-small": (9724, 3.501557)}
        assert (ratings["movie_id"].n_unique(), ratings["rating"].mean()) == pytest.approx(known[dataset], abs=1e-6)


def test_a_manifest_is_plain_json(home: Home) -> None:
    snapshot = take("synthetic:20x10x100", home)
    read = json.loads((snapshot.folder / "manifest.json").read_text())
    assert read == snapshot.manifest | {"_sealed": True, "_sha256": read["_sha256"]}
    assert snapshot.dataset == "synthetic-20x10x100"
    assert snapshot.manifest["source"]["name"] == "synthetic:20x10x100"
