import hashlib
import logging
import os
import socket
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from recsys.datasets import DATASETS
from recsys.errors import SourceError, SourceOutage, UsageError
from recsys.files import hash_file
from recsys.home import Home
from recsys.ingest.fetch import wheel
from recsys.ingest.fetch.fetch import Archive, fetch_archive, find_fault
from recsys.ingest.synthetic.synthetic import plant
from tests.conftest import RealArchive
from tests.support.archives import write_archive, write_stand_in
from tests.support.flips import flip_bit


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the base class's name for it
        pass


@dataclass(frozen=True)
class Site:
    """A real server on this machine in place of GroupLens, and the folder that it serves."""

    address: str
    folder: Path


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """We and pip reach loopback directly, even on a machine with a proxy."""
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, ",".join(["127.0.0.1", *filter(None, [os.environ.get(name)])]))


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    folder = tmp_path / "site"
    folder.mkdir()
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(QuietHandler, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield Site(f"http://127.0.0.1:{server.server_port}", folder)
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def nowhere() -> str:
    """An address without a server."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}"


@pytest.fixture
def no_index(monkeypatch: pytest.MonkeyPatch, nowhere: str) -> None:
    """Points pip, which runs in a separate process, to an address without a server."""
    monkeypatch.setenv("PIP_INDEX_URL", f"{nowhere}/simple")
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    for variable in ("PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS", "PIP_NO_INDEX"):
        monkeypatch.delenv(variable, raising=False)


def publish(site: Site, dataset: str) -> Path:
    """Writes a stand-in to the site's folder and returns its path."""
    return write_stand_in(site.folder / f"{dataset}.zip", DATASETS[dataset].layout)


def publish_with_checksum(site: Site, dataset: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Like `publish`, for an edition with a published checksum. The checksum is replaced by that of the stand-in."""
    path = publish(site, dataset)
    md5 = hashlib.md5(path.read_bytes()).hexdigest()
    monkeypatch.setitem(DATASETS, dataset, replace(DATASETS[dataset], md5=md5))
    return path


def leftovers(home: Home) -> list[Path]:
    """Everything in the cache except locks, which are kept."""
    return [path for path in home.archives.iterdir() if path.suffix != ".lock"]


# ---- by name: cache, then GroupLens


def test_a_name_is_fetched_once_and_then_read_from_the_cache(site: Site, home: Home, nowhere: str) -> None:
    published = publish(site, "ml-latest-small")
    first = fetch_archive("ml-latest-small", home, site.address)
    assert (first.dataset, first.layout, first.origin) == ("ml-latest-small", "csv", "GroupLens")
    assert first.path == home.archives / "ml-latest-small.zip"
    assert first.sha256 == hash_file(published)

    second = fetch_archive("ml-latest-small", home, nowhere)  # a request would fail
    assert second == replace(first, origin="cache")
    assert leftovers(home) == [first.path]


def test_a_file_with_the_published_checksum_is_accepted(
    site: Site, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish_with_checksum(site, "ml-1m", monkeypatch)
    assert fetch_archive("ml-1m", home, site.address).origin == "GroupLens"
    assert fetch_archive("ml-1m", home, site.address).origin == "cache"


def test_a_file_with_another_checksum_is_refused(site: Site, home: Home) -> None:
    publish(site, "ml-1m")
    with pytest.raises(
        SourceError, match=r"is not ml-1m: its MD5 is [0-9a-f]{32}, not c4d9eecfca2ab87c1945afe126590906"
    ) as refusal:
        fetch_archive("ml-1m", home, site.address)
    assert not isinstance(refusal.value, SourceOutage)  # so the flow does not retry the step
    assert leftovers(home) == []


def test_a_login_page_in_place_of_a_zip_without_checksum_is_refused(site: Site, home: Home) -> None:
    (site.folder / "ml-latest-small.zip").write_text("<html>please log in</html>")
    with pytest.raises(SourceError, match="the file is not a zip of ratings: it looks like an HTML page"):
        fetch_archive("ml-latest-small", home, site.address)
    assert leftovers(home) == []


def test_a_damaged_cache_is_fetched_again(
    site: Site, home: Home, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    published = publish_with_checksum(site, "ml-1m", monkeypatch)
    cached = home.archives / "ml-1m.zip"
    cached.parent.mkdir(parents=True)
    cached.write_bytes(published.read_bytes()[:-100])
    with caplog.at_level(logging.WARNING):
        assert fetch_archive("ml-1m", home, site.address).origin == "GroupLens"
    assert "fetching it again" in caplog.text
    assert hash_file(cached) == hash_file(published)


def test_a_changed_bit_in_a_cache_without_a_published_checksum_is_found(tmp_path: Path) -> None:
    """The zip has a checksum of each file, which is only compared when the file is read to its end."""
    edition = DATASETS["ml-latest-small"]
    cached = write_stand_in(tmp_path / edition.file, edition.layout)
    assert find_fault(edition, cached) is None
    flip_bit(cached, 8 * (cached.stat().st_size // 3))
    assert "is not a zip of ratings" in str(find_fault(edition, cached))


def test_not_found_names_what_was_tried_and_the_alternatives(site: Site, home: Home) -> None:
    with pytest.raises(SourceError) as refusal:
        fetch_archive("ml-1m", home, site.address)
    message = str(refusal.value)
    assert f"{site.address}/ml-1m.zip answered 404" in message
    assert not isinstance(refusal.value, SourceOutage)
    for way in ("(1) download", "pass the zip's path to --source", "(2) use --source ml-100k", "--source synthetic:"):
        assert way in message


def test_an_unreachable_server_is_an_outage(home: Home, nowhere: str) -> None:
    start = time.monotonic()
    with pytest.raises(SourceOutage, match=r"cannot be reached \(.*refused\), in 2 tries"):
        fetch_archive("ml-latest-small", home, nowhere)
    assert time.monotonic() - start < 5


# ---- ml-100k from the wheel


@pytest.mark.slow
def test_the_wheel_is_used_if_grouplens_cannot_be_reached(home: Home, nowhere: str) -> None:
    """With a package index this fetches the real wheel; without one, the error must name both attempts."""
    try:
        archive = fetch_archive("ml-100k", home, nowhere)
    except SourceError as refusal:
        assert "cannot be reached" in str(refusal)
        assert "pip cannot download recbole==1.2.1" in str(refusal)
        return
    assert archive.origin == wheel.ORIGIN
    assert (archive.dataset, archive.layout, archive.sha256) == ("ml-100k", "atomic", wheel.FILE_SHA256)
    assert leftovers(home) == [home.archives / wheel.FILE]
    again = fetch_archive("ml-100k", home, nowhere)
    assert again == replace(archive, origin=f"cache of {wheel.ORIGIN}")


@pytest.mark.usefixtures("no_index")
def test_without_an_index_the_error_names_everything_that_was_tried(home: Home, nowhere: str) -> None:
    with pytest.raises(SourceError) as refusal:
        fetch_archive("ml-100k", home, nowhere)
    message = str(refusal.value)
    assert f"{nowhere}/ml-100k.zip cannot be reached" in message
    assert "pip cannot download recbole==1.2.1" in message
    for way in ("(1) download", "(2) let pip reach a package index that has recbole==1.2.1", "use --source synthetic:"):
        assert way in message
    assert "--source ml-100k" not in message  # that is the source that failed
    assert leftovers(home) == []


def test_the_copy_from_the_wheel_has_three_files_and_always_the_same_bytes(tmp_path: Path) -> None:
    planted = plant(20, 10, 100)
    source = write_archive(tmp_path / "a.zip", "atomic", planted.ratings, planted.movies, planted.users)
    for name in ("one.zip", "two.zip"):
        wheel.write_copy(source, tmp_path / name)
    assert (tmp_path / "one.zip").read_bytes() == (tmp_path / "two.zip").read_bytes()
    assert [Path(name).name for name in zipfile.ZipFile(tmp_path / "one.zip").namelist()] == list(wheel.MEMBERS)


# ---- local


@pytest.mark.parametrize(
    ("layout", "dataset"),
    [
        ("ml-100k", "ml-100k"),
        ("ml-1m", "ml-1m"),
        ("csv", "movielens-csv"),
        ("atomic", "ml-100k"),
        ("canonical", "canonical"),
        ("canonical-parquet", "canonical"),
    ],
)
@pytest.mark.parametrize("name", ["source.zip", "source"])
def test_a_local_source_is_recognised_by_its_content(
    layout: str, dataset: str, name: str, tmp_path: Path, home: Home, nowhere: str
) -> None:
    planted = plant(20, 10, 100)
    path = write_archive(tmp_path / name, layout, planted.ratings, planted.movies, planted.users)
    archive = fetch_archive(str(path), home, nowhere)
    assert (archive.dataset, archive.origin, archive.path) == (dataset, "local file", path)
    assert not home.root.exists()  # nothing is copied


@pytest.mark.parametrize("name", ["ml-latest-small.zip", "ml-latest-small"])
def test_a_csv_edition_is_recognised_by_its_name(name: str, tmp_path: Path, home: Home) -> None:
    planted = plant(20, 10, 100)
    path = write_archive(tmp_path / name, "csv", planted.ratings, planted.movies, planted.users)
    assert fetch_archive(str(path), home).dataset == "ml-latest-small"


@pytest.mark.parametrize("dataset", DATASETS)
def test_published_archives_are_recognised(
    dataset: str, real_archive: Callable[[str], RealArchive], home: Home
) -> None:
    assert fetch_archive(str(real_archive(dataset).path), home).dataset == dataset


def test_the_hash_of_a_directory_depends_only_on_its_relevant_files(tmp_path: Path, home: Home) -> None:
    planted = plant(20, 10, 100)
    path = write_archive(tmp_path / "source", "ml-100k", planted.ratings, planted.movies, planted.users)
    before = fetch_archive(str(path), home)
    (path / "README").write_text("irrelevant")
    assert fetch_archive(str(path), home) == before
    (path / "u.data").write_bytes((path / "u.data").read_bytes()[:-10])
    assert fetch_archive(str(path), home).sha256 != before.sha256


def test_a_directory_without_ratings_is_refused(tmp_path: Path, home: Home) -> None:
    with pytest.raises(SourceError, match=r"has no ratings in a known layout.*u\.data, u\.item"):
        fetch_archive(str(tmp_path), home)


def test_a_file_that_is_not_a_zip_is_refused(tmp_path: Path, home: Home) -> None:
    path = tmp_path / "ml-1m.zip"
    path.write_text("not a zip")
    with pytest.raises(SourceError, match="is not a readable zip"):
        fetch_archive(str(path), home)


def test_a_synthetic_source_is_named_by_its_sizes(home: Home, nowhere: str) -> None:
    archive = fetch_archive("synthetic:200x100x5000", home, nowhere)
    assert archive == Archive(
        source="synthetic:200x100x5000",
        dataset="synthetic-200x100x5000",
        sha256=archive.sha256,
        origin="generated",
        path=None,
        layout=None,
    )
    assert archive.sha256 != fetch_archive("synthetic:200x100x5001", home).sha256


def test_a_misspelt_name_gets_a_suggestion_and_every_valid_value(home: Home) -> None:
    with pytest.raises(UsageError, match=r"ml100k is neither .* Did you mean ml-100k\?") as refusal:
        fetch_archive("ml100k", home)
    for possible in (*DATASETS, "zip or directory", "synthetic:<users>x<movies>x<ratings>"):
        assert possible in str(refusal.value)


def test_a_path_that_does_not_exist_is_wrong_usage(tmp_path: Path, home: Home) -> None:
    with pytest.raises(UsageError, match="nor a path that exists") as refusal:
        fetch_archive(str(tmp_path / "nothing.zip"), home)
    assert "Did you mean" not in str(refusal.value)
