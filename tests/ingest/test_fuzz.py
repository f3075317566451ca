"""Random mutations of valid files of every layout raise only our own errors.

The examples are the same in every run. If RECSYS_FUZZ_EXAMPLES sets their number, they are random.
"""

import os
import re
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import duckdb
import polars as pl
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from recsys.datasets import DATASETS
from recsys.errors import RecsysError, SourceError, UsageError
from recsys.files import hash_file
from recsys.home import Home
from recsys.ingest.fetch.fetch import fetch_archive
from recsys.ingest.parse.formats import read_drop
from recsys.ingest.synthetic.synthetic import plant
from recsys.ingest.write import write_snapshot
from tests.support.archives import parquet, render, write_files

CHOSEN = os.environ.get("RECSYS_FUZZ_EXAMPLES")
BOUNDED = settings(
    max_examples=int(CHOSEN or 25),
    derandomize=CHOSEN is None,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)

Mutation = Callable[[bytes], bytes]

PLANTED = plant(8, 6, 30)
TAGS = PLANTED.ratings.head(9).select("user_id", "movie_id", tag=pl.lit("slow, but good"), tagged_at="rated_at")
LINKS = PLANTED.movies.select("movie_id", imdb_id=pl.format("00{}", "movie_id"), tmdb_id="movie_id")
RETRACTIONS = PLANTED.ratings.head(9).select("user_id", "movie_id", retracted_at="rated_at")
LAYOUTS = ("ml-100k", "ml-1m", "ml-10m", "csv", "atomic", "canonical", "canonical-parquet")
EDITIONS = {name: render(name, PLANTED.ratings, PLANTED.movies, PLANTED.users, TAGS, LINKS) for name in LAYOUTS}
DROPS = {
    **EDITIONS["canonical"],
    **EDITIONS["canonical-parquet"],
    "retractions.csv": RETRACTIONS.write_csv().encode(),
    "retractions.parquet": parquet(RETRACTIONS),
}

# Texts that have broken parsers before: line ends, other alphabets, invalid and huge numbers.
HARD_TEXTS = (
    *(b"", b"\0", b'"', b"'", b",", b";", b"\t", b"|", b"::", b":", b"\r", b"\n", b"\r\n", b"\\N", b"\x1a", b" "),
    *(
        b"\xff\xfe",
        b"\xe9",
        b"\xc3",
        b"\xed\xa0\x80",
        b"\xef\xbb\xbf",
        "\u2028".encode(),
        "\u0663".encode(),
        "🎬".encode(),
    ),
    *(
        b"-1",
        b"0",
        b"4.7",
        b"1e5",
        b"1e309",
        b"nan",
        b"inf",
        b"-0",
        b"0x10",
        b"1_000",
        b"2147483648",
        b"9" * 40,
        b"9" * 5000,
    ),
    *(b"1995-13-01", b"10000-01-01", b"infinity", b"2000-01-01T00:00:00+99:00", b"253402300800", b"epoch", b"null"),
    *(b"{}", b"$1", b"%s", b"'; drop table ratings; --", b"(1995)", b"()", b"(no genres listed)"),
)
WORD = re.compile(rb"[^,|\t:\r\n]+")

place = st.integers(0, 2**16)
hard_text = st.sampled_from(HARD_TEXTS) | st.binary(max_size=9)


@dataclass(frozen=True)
class Spoilt:
    """One mutation of a file, with a readable representation for failing examples."""

    how: str
    at: int
    length: int
    put: bytes

    def __call__(self, content: bytes) -> bytes:
        mutate = {
            "overwrite": put_bytes,
            "delete": delete_bytes,
            "repeat": repeat_bytes,
            "cut": lambda content, *_: content[: self.at % (len(content) + 1)],
            "replace a word": replace_word,
            "swap lines": swap_lines,
            "repeat a line": repeat_line,
            "delete a line": delete_line,
        }[self.how]
        return mutate(content, self.at, self.length, self.put)


def put_bytes(content: bytes, at: int, length: int, put: bytes) -> bytes:
    start = at % (len(content) + 1)
    return content[:start] + put + content[start + length % 3 * len(put) :]


def delete_bytes(content: bytes, at: int, length: int, put: bytes) -> bytes:
    start = at % (len(content) + 1)
    return content[:start] + content[start + length % 40 :]


def repeat_bytes(content: bytes, at: int, length: int, put: bytes) -> bytes:
    start = at % (len(content) + 1)
    return content[:start] + content[start : start + length % 400] * 2 + content[start + length % 400 :]


def replace_word(content: bytes, at: int, length: int, put: bytes) -> bytes:
    words = list(WORD.finditer(content))
    if not words:
        return put
    word = words[at % len(words)]
    return content[: word.start()] + put + content[word.end() :]


def swap_lines(content: bytes, at: int, length: int, put: bytes) -> bytes:
    lines = content.split(b"\n")
    first, second = at % len(lines), length % len(lines)
    lines[first], lines[second] = lines[second], lines[first]
    return b"\n".join(lines)


def repeat_line(content: bytes, at: int, length: int, put: bytes) -> bytes:
    lines = content.split(b"\n")
    return b"\n".join(
        [*lines[: at % len(lines)], *lines[at % len(lines) :][:1] * (length % 5), *lines[at % len(lines) :]]
    )


def delete_line(content: bytes, at: int, length: int, put: bytes) -> bytes:
    lines = content.split(b"\n")
    return b"\n".join(line for number, line in enumerate(lines) if number != at % len(lines))


bytewise = st.builds(Spoilt, st.sampled_from(["overwrite", "delete", "repeat", "cut"]), place, place, hard_text)
linewise = st.builds(
    Spoilt,
    st.sampled_from(["replace a word", "replace a word", "swap lines", "repeat a line", "delete a line"]),
    place,
    place,
    hard_text,
)


@st.composite
def mutated(draw: st.DrawFn, files: Mapping[str, bytes], most: int = 4) -> dict[str, bytes]:
    """The files with one to `most` mutations, at random places or at the start of a word or line."""
    left = dict(files)
    for _ in range(draw(st.integers(1, most))):
        name = draw(st.sampled_from(sorted(left)))
        left[name] = draw(bytewise | linewise)(left[name])
    return left


@contextmanager
def watched_folder() -> Iterator[Path]:
    """A folder in which only a home may be created within the block."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        (path / "sources").mkdir()
        yield path
        assert {entry.name for entry in path.iterdir()} <= {"sources", "home"}


def contents(folder: Path) -> dict[Path, str]:
    return {path: hash_file(path) for path in folder.rglob("*") if path.is_file()}


def ingest(path: Path, home: Path) -> None:
    """Fetches and reads a source; the result is a complete snapshot or a RecsysError with a next step."""
    before = contents(path.parent)
    with suppress(RecsysError):
        snapshot = write_snapshot(fetch_archive(str(path), Home(home)), Home(home))
        rows = {
            table: pl.scan_parquet(snapshot.table(table)).select(pl.len()).collect().item()
            for table in ("ratings", "rejects")
        }
        assert rows == {table: snapshot.manifest["rows"][table] for table in rows}
    assert contents(path.parent) == before


@pytest.fixture(autouse=True)
def empty_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Checks that nothing is written here: a name that is mistaken for a path would create a file in this folder."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    yield
    assert not list(folder.iterdir())


@pytest.mark.slow
@BOUNDED
@given(st.sampled_from(LAYOUTS).flatmap(lambda name: mutated(EDITIONS[name])), st.booleans())
def test_mutated_files_of_an_edition(files: dict[str, bytes], is_zip: bool) -> None:
    with watched_folder() as folder:
        path = write_files(folder / "sources" / f"source{'.zip' * is_zip}", files, "source")
        ingest(path, folder / "home")


@pytest.mark.slow
@BOUNDED
@given(st.sampled_from(LAYOUTS), st.lists(bytewise, min_size=1, max_size=4), st.booleans())
def test_a_mutated_zip(name: str, mutations: list[Mutation], deflated: bool) -> None:
    with watched_folder() as folder:
        path = folder / "sources" / "source.zip"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED if deflated else zipfile.ZIP_STORED) as archive:
            for file, content in EDITIONS[name].items():
                archive.writestr(f"source/{file}", content)
        content = path.read_bytes()
        for mutate in mutations:
            content = mutate(content)
        path.write_bytes(content)
        ingest(path, folder / "home")


@pytest.mark.slow
@BOUNDED
@given(st.sampled_from(sorted(DROPS)).flatmap(lambda name: mutated({name: DROPS[name]})))
def test_a_mutated_drop(files: dict[str, bytes]) -> None:
    ((name, content),) = files.items()
    with watched_folder() as folder, duckdb.connect() as connection:
        path = folder / "sources" / name
        path.write_bytes(content)
        with suppress(RecsysError):
            read_drop(path, path.stem, connection)
            n_rows = connection.execute("select count(*) from rows").fetchall()[0][0]
            n_rejects = connection.execute("select count(*) from rejects").fetchall()[0][0]
            if path.suffix == ".csv":
                lines = content.removeprefix(b"\xef\xbb\xbf").split(b"\n")
                assert n_rows + n_rejects == len(lines) - 1 - (not lines[-1])


any_text = st.text(st.characters(codec=None), max_size=30)
sizes = st.integers(-1, 10**30).map(str) | any_text | st.just("9" * 5000)


@BOUNDED
@example("")
@example("\0")
@example("\ud800")
@example("a" * 5000)
@example("/proc/self/mem")
@example(f"synthetic:{'9' * 5000}x1x1")
@given(
    any_text
    | st.tuples(sizes, sizes, sizes).map(lambda parts: f"synthetic:{'x'.join(parts)}")
    | st.tuples(st.sampled_from([*DATASETS, "/", "./", "../", "~", "file://", "https://"]), any_text).map("".join)
    | st.sampled_from([".", "..", "/", "/dev", "/dev/null", "/dev/zero"])
)
def test_any_source(source: str) -> None:
    """Known names are left out, because they would be fetched. Every other name must be refused."""
    if source in DATASETS:
        return
    with watched_folder() as folder, suppress(UsageError, SourceError):
        fetch_archive(source, Home(folder / "home"), "http://127.0.0.1:9")
