import csv
import hashlib
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import polars as pl
import pytest
from click.testing import CliRunner

from flows.cli.main import main
from recsys.datasets import DATASETS
from recsys.errors import SourceError, UsageError
from recsys.home import Home
from recsys.ingest.fetch.fetch import UNNAMED_CSV, fetch_archive
from recsys.ingest.synthetic import generate as module
from recsys.ingest.synthetic.catalogue import NO_GENRES
from recsys.ingest.synthetic.generate import generate, parse_size
from recsys.ingest.write import write_snapshot

SIZE = "300x2000x20000"
HEADERS = {
    "ratings.csv": b"userId,movieId,rating,timestamp",
    "tags.csv": b"userId,movieId,tag,timestamp",
    "movies.csv": b"movieId,title,genres",
    "links.csv": b"movieId,imdbId,tmdbId",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("made") / "folder"
    generate(SIZE, path)
    return path


def digests(path: Path) -> dict[str, str]:
    """Returns the SHA-256 of each file of a folder or a zip, by bare name."""
    if path.is_dir():
        return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in path.iterdir()}
    with zipfile.ZipFile(path) as archive:
        return {Path(name).name: hashlib.sha256(archive.read(name)).hexdigest() for name in archive.namelist()}


def test_files_have_the_published_layout(folder: Path) -> None:
    """Lines end in \\r\\n, as in the published ml-latest-small; fields are quoted only if necessary."""
    assert {file.name for file in folder.iterdir()} == {*HEADERS, "README.txt"}
    for name, header in HEADERS.items():
        first, *others = (folder / name).read_bytes().split(b"\r\n")
        assert first == header
        assert others[-1] == b""
        assert b"\n" not in b"".join(others)
    ratings = (folder / "ratings.csv").read_bytes().decode().split("\r\n")[1:-1]
    assert len(ratings) == 20_000
    assert all(line.count(",") == 3 and line.split(",")[2][1:] in {".0", ".5"} for line in ratings)
    movies = (folder / "movies.csv").read_bytes().decode()
    assert '\r\n1,"Quiet Harbour, The (' in movies
    assert '"""' in movies


def test_titles_are_unique_and_have_every_form(folder: Path) -> None:
    with (folder / "movies.csv").open(encoding="utf-8", newline="") as file:
        movies = list(csv.DictReader(file))
    titles = [movie["title"] for movie in movies]
    assert len(set(titles)) == len(titles) == 2_000
    without_year = [title for title in titles if not title.endswith(")")]
    assert 0 < len(without_year) < 50
    for mark in (", The (", '"', "É", "'"):
        assert any(mark in title for title in titles)
    assert {NO_GENRES} < {movie["genres"] for movie in movies}
    assert any(movie["genres"].count("|") == 2 for movie in movies)


def test_links_have_leading_zeros_and_missing_values(folder: Path) -> None:
    links = pl.read_csv(folder / "links.csv", infer_schema=False)
    assert links["imdbId"].str.contains(r"^\d{7}$").all()
    assert links["imdbId"].str.starts_with("00").any()
    assert links["imdbId"].n_unique() == len(links) == 2_000
    assert links["tmdbId"].null_count() == 5


def test_the_same_size_and_seed_give_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    again, other = tmp_path / "again.zip", tmp_path / "other.zip"
    generate(SIZE, again)
    generate(SIZE, other, seed=1)
    first = again.read_bytes()
    assert digests(again) == digests(folder)
    assert not set(digests(other).values()) & set(digests(folder).values())
    again.unlink()
    generate(SIZE, again)
    assert again.read_bytes() == first


def test_blocks_of_any_size_have_all_ratings(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recsys.ingest.synthetic.draws.BLOCK_RATINGS", 1_000)
    monkeypatch.setattr(module, "MOVIES_AT_A_TIME", 300)
    generate(SIZE, tmp_path / "blocks")
    whole, in_blocks = (pl.read_csv(path / "ratings.csv") for path in (folder, tmp_path / "blocks"))
    assert in_blocks.select("userId", "movieId").n_unique() == len(whole) == 20_000
    counts = [ratings["userId"].value_counts().sort("userId") for ratings in (whole, in_blocks)]
    assert counts[0].equals(counts[1])
    assert (tmp_path / "blocks" / "movies.csv").read_bytes().count(b"\r\n") == 2_001


def test_generated_files_become_a_snapshot_without_a_refused_line(tmp_path: Path, home: Home) -> None:
    made = generate(SIZE, tmp_path / "made.zip")
    archive = fetch_archive(str(tmp_path / "made.zip"), home)
    assert archive.dataset == UNNAMED_CSV
    snapshot = write_snapshot(archive, home)
    rows = snapshot.manifest["rows"]
    assert (rows["ratings"], rows["tags"]) == (made.ratings, made.tags)
    assert (rows["users"], rows["movies"], rows["links"], rows["rejects"]) == (0, 2_000, 2_000, 0)
    assert pl.read_parquet(snapshot.ratings)["user_id"].n_unique() == 300
    movies = pl.read_parquet(snapshot.movies)
    assert movies["year"].drop_nulls().is_between(1920, 1994).all()
    assert movies["year"].null_count() == 2_000 // 97
    assert not movies["title"].str.contains(r"\(\d{4}\)$").any()


def test_the_readme_says_that_the_data_are_synthetic(tmp_path: Path) -> None:
    generate("30x20x100", tmp_path / "made.zip", seed=7)
    with zipfile.ZipFile(tmp_path / "made.zip") as archive:
        folders = {name.partition("/")[0] for name in archive.namelist()}
        readme = archive.read("made-up-30x20x100/README.txt").decode()
    assert folders == {"made-up-30x20x100"}
    assert "made up by `recsys generate 30x20x100 --seed 7`" in readme
    assert "30 users, 20 movies, 100 ratings" in readme


@pytest.mark.parametrize("name", [*DATASETS, "ml-32m.zip", "ML-32M.ZIP"])
def test_a_path_named_like_a_published_edition_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(
        UsageError, match=r"published ml-.* synthetic ratings could be mistaken for it.*Next: pass another name"
    ):
        generate("30x20x100", tmp_path / name)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("size", ["", "300", "300x200", "ax2x3", "-1x2x2", "1x2x3x4", "synthetic:3x2x3", "1e3x20x1000"])
def test_an_invalid_size_is_refused_with_an_example(size: str) -> None:
    with pytest.raises(UsageError, match=r"is not <users>x<movies>x<ratings>, e\.g\. 200948x87585x32000000"):
        parse_size(size)


@pytest.mark.parametrize(
    ("size", "limit"),
    [
        ("10x10x101", "give 10 to 100"),
        ("10x10x9", "give 10 to 100"),
        ("10x10x0", "give 10 to 100"),
        ("0x10x0", "1 to 20,000,000 users"),
        ("10x0x10", "1 to 5,000,000 movies"),
        ("20000001x10x30000000", "1 to 20,000,000 users"),
        ("10x5000001x1000", "1 to 5,000,000 movies"),
    ],
)
def test_a_size_beyond_a_limit_is_refused(size: str, limit: str) -> None:
    with pytest.raises(UsageError, match=limit):
        parse_size(size)


@pytest.mark.parametrize("size", ["1x1x1", "10x10x100", "10x10x10", "1x50x50", "60x1x60"])
def test_the_smallest_and_the_densest_sizes_are_generated(size: str, tmp_path: Path) -> None:
    n_users, n_movies, n_ratings = parse_size(size)
    generate(size, tmp_path / "made")
    ratings = pl.read_csv(tmp_path / "made" / "ratings.csv")
    assert ratings["userId"].n_unique() == n_users
    assert ratings.select("userId", "movieId").n_unique() == len(ratings) == n_ratings
    assert ratings["movieId"].n_unique() <= n_movies


@pytest.mark.parametrize("name", ["made.zip", "made"])
def test_an_existing_path_is_not_overwritten(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text("precious")
    with pytest.raises(UsageError, match=r"exists already and is not overwritten\. Next: remove it"):
        generate("30x20x100", tmp_path / name)
    assert (tmp_path / name).read_text() == "precious"


def test_more_than_the_disk_can_hold_is_refused_before_writing(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"ratings need about .* GB while they are written, and .* GB free"):
        generate("20000000x5000000x90000000000000", tmp_path / "made")
    assert list(tmp_path.iterdir()) == []


def test_a_zip_above_the_limit_for_reading_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"from a zip is 4\.3 GB\. Next: pass the path of a folder"):
        generate("1000000x50000x200000000", tmp_path / "made.zip")


def test_a_path_that_cannot_be_written_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SourceError, match=r"file/made\.zip cannot be written \(.*\)\. Next: check its folder"):
        generate("30x20x100", tmp_path / "file" / "made.zip")


def test_a_failure_leaves_no_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "README", "{unknown}")
    with pytest.raises(KeyError):
        generate("30x20x100", tmp_path / "made")
    assert list(tmp_path.iterdir()) == []


def test_a_generated_folder_has_ordinary_permissions(folder: Path) -> None:
    """The temporary folder in which it was written has stricter ones."""
    there = folder.parent / "ordinary"
    there.mkdir()
    assert folder.stat().st_mode == there.stat().st_mode


def test_the_command_reports_the_written_files(tmp_path: Path) -> None:
    path = tmp_path / "made.zip"
    command = [Path(sys.executable).parent / "recsys", "generate", "30x20x100", path, "--seed", "3", "--json"]
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=True)
    made = json.loads(done.stdout)
    assert (made["path"], made["users"], made["movies"], made["ratings"], made["seed"]) == (str(path), 30, 20, 100, 3)
    assert made["bytes"] == path.stat().st_size
    assert "made-up ratings: 100 ratings in" in done.stderr


def test_the_command_refuses_without_a_traceback() -> None:
    result = CliRunner().invoke(main, ["generate", "10x10x101", "nowhere.zip"])
    assert result.exit_code == 2
    assert result.stderr.startswith("recsys: SIZE 10x10x101 asks for 101 ratings")
    assert "Traceback" not in result.stderr
