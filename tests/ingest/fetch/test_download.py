"""Downloads from a real server on loopback that misbehaves like servers on the internet (tests/support/servers.py)."""

import errno
import logging
import os
import random
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest

from recsys import __version__
from recsys.errors import SourceError, SourceOutage
from recsys.ingest.fetch.download import download
from recsys.ingest.fetch.retry import RetryPolicy, parse_retry_after
from tests.support.servers import (
    Answer,
    Site,
    cut,
    drip,
    hold_back,
    other_bytes,
    other_length,
    proxying,
    redirect,
    serving,
    silence,
    stall,
    status,
    without_length,
)

CONTENT = random.Random(0).randbytes(300_000)
CUT = 100_000  # bytes after which connections break

QUICK = RetryPolicy(
    connect_seconds=2, stall_seconds=0.3, total_seconds=30, tries=3, pause_seconds=0.01, max_pause_seconds=1
)


@pytest.fixture
def site() -> Iterator[Site]:
    with serving(Site(CONTENT)) as running:
        yield running


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "archives" / "file.zip"


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Loopback is reached directly, even on a machine with a proxy."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


def find_fault(path: Path) -> str | None:
    return None if path.read_bytes() == CONTENT else "is the wrong one"


def fetch(site: Site, path: Path, policy: RetryPolicy = QUICK) -> None:
    download(site.url, path, find_fault, policy)


def names_beside(path: Path) -> set[str]:
    return {file.name for file in path.parent.iterdir()}


def check_complete(path: Path, content: bytes = CONTENT) -> None:
    """Checks that the file is complete and that its folder has only the file and its lock."""
    assert path.read_bytes() == content
    assert names_beside(path) == {"file.zip", ".file.zip.lock"}


def check_absent(path: Path) -> None:
    assert names_beside(path) == {".file.zip.lock"}


# ---- good connections


def test_a_file_is_fetched_with_one_request_that_names_us_and_is_logged(
    site: Site, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "recsys"):
        fetch(site, path)
    check_complete(path)
    (headers,) = site.requests
    assert headers["User-Agent"].startswith(f"recsys/{__version__} (")
    assert headers["Accept-Encoding"] == "identity"
    assert caplog.messages[0] == f"fetching {site.url}"
    assert caplog.messages[-1].startswith("file.zip: 0.3 MB in ")
    assert caplog.messages[-1].endswith(" MB/s")


def test_an_existing_file_is_fetched_again_only_if_it_is_wrong(site: Site, path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(b"old")
    fetch(site, path)
    check_complete(path)
    fetch(site, path)
    assert len(site.requests) == 1


def test_a_file_gets_its_name_only_after_it_was_checked(site: Site, path: Path) -> None:
    """If the process is killed before the check, a part is left, which the next download overwrites."""
    path.parent.mkdir()
    path.with_name(".file.zip.part").write_bytes(CONTENT * 2)
    checked = []

    def find_fault(part: Path) -> str | None:
        checked.append((part.read_bytes() == CONTENT, path.exists()))
        return None

    download(site.url, path, find_fault, QUICK)
    assert checked == [(True, False)]
    check_complete(path)


# ---- bad connections


@pytest.mark.parametrize("broken", [cut(CUT), stall(CUT), silence], ids=["cut", "stall", "silence"])
def test_a_broken_connection_is_retried_from_the_start(broken: Answer, site: Site, path: Path) -> None:
    site.answers = [broken]
    fetch(site, path)
    check_complete(path)
    assert len(site.requests) == 2


def test_a_server_that_always_breaks_off_is_an_outage_that_leaves_nothing(site: Site, path: Path) -> None:
    site.usual = cut(CUT)
    with pytest.raises(SourceOutage, match=r"file\.zip broke off \(.*\), in 3 tries$"):
        fetch(site, path)
    assert len(site.requests) == 3
    check_absent(path)


def test_a_server_that_sends_drops_meets_the_total_deadline(site: Site, path: Path) -> None:
    site.usual = drip
    with pytest.raises(SourceOutage, match=r"sent \d+ bytes in 0 s, the time limit"):
        fetch(site, path, replace(QUICK, total_seconds=0.2))
    assert len(site.requests) == 1
    check_absent(path)


def test_a_silent_server_is_an_outage_after_two_tries(site: Site, path: Path) -> None:
    site.usual = silence
    with pytest.raises(SourceOutage, match=r"cannot be reached \(timed out\), in 2 tries"):
        fetch(site, path)


def test_a_refused_connection_fails_quickly(path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{free.getsockname()[1]}/file.zip"
    start = time.monotonic()
    with pytest.raises(SourceOutage, match=r"cannot be reached .*refused.*in 2 tries"):
        download(address, path, find_fault)  # with the policy of a real night
    assert time.monotonic() - start < 5


def test_an_unknown_host_is_an_outage(path: Path) -> None:
    with pytest.raises(SourceOutage, match=r"http://nobody\.invalid/file\.zip cannot be reached"):
        download("http://nobody.invalid/file.zip", path, find_fault, QUICK)


# ---- wrong lengths and wrong bytes


def test_a_file_shorter_than_announced_is_never_accepted(site: Site, path: Path) -> None:
    site.usual = other_length(len(CONTENT) + 1_000)
    with pytest.raises(SourceOutage, match="broke off"):
        fetch(site, path)
    check_absent(path)


def test_a_file_of_unknown_length_is_fetched(site: Site, path: Path) -> None:
    site.usual = without_length
    fetch(site, path)
    check_complete(path)


@pytest.mark.parametrize(
    ("usual", "message"),
    [
        (None, "announces 300,000 bytes, the limit is 200,000"),
        (without_length, "sends more than 200,000 bytes, which is the limit"),
    ],
)
def test_the_size_limit_holds_with_and_without_a_length(
    usual: Answer | None, message: str, site: Site, path: Path
) -> None:
    site.usual = usual or site.usual
    with pytest.raises(SourceError, match=message):
        fetch(site, path, replace(QUICK, max_bytes=200_000))
    check_absent(path)


@pytest.mark.parametrize(
    ("usual", "n_bytes"), [(other_bytes(b"<html>please log in</html>"), "26"), (other_length(299_000), "299,000")]
)
def test_wrong_bytes_are_refused_at_once_and_the_old_file_stays(
    usual: Answer, n_bytes: str, site: Site, path: Path
) -> None:
    path.parent.mkdir()
    path.write_bytes(b"old")
    site.usual = usual
    with pytest.raises(SourceError, match=rf"returned {n_bytes} bytes, but the file is the wrong one") as refusal:
        fetch(site, path)
    assert not isinstance(refusal.value, SourceOutage)
    assert len(site.requests) == 1
    check_complete(path, b"old")


# ---- answers


def test_not_found_is_not_retried(site: Site, path: Path) -> None:
    site.usual = status(404)
    with pytest.raises(SourceError, match=r"file\.zip answered 404") as refusal:
        fetch(site, path)
    assert not isinstance(refusal.value, SourceOutage)
    assert len(site.requests) == 1


@pytest.mark.parametrize("code", [408, 429, 500, 503])
def test_a_temporary_error_is_retried(code: int, site: Site, path: Path, caplog: pytest.LogCaptureFixture) -> None:
    site.answers = [status(code), status(code)]
    fetch(site, path)
    check_complete(path)
    assert f"file.zip answered {code}; try 3 of 3 in 0.0 s" in caplog.text


def test_a_lasting_temporary_error_is_an_outage(site: Site, path: Path) -> None:
    site.usual = status(503)
    with pytest.raises(SourceOutage, match="answered 503, in 3 tries"):
        fetch(site, path)
    assert len(site.requests) == 3


def test_retry_after_is_honoured(site: Site, path: Path) -> None:
    site.answers = [status(503, Retry_After=1)]
    start = time.monotonic()
    fetch(site, path)
    assert time.monotonic() - start >= 1  # without the header it would be 0.01 s
    check_complete(path)


def test_retry_after_beyond_the_limit_is_an_outage(site: Site, path: Path) -> None:
    site.answers = [status(503, Retry_After=3600)]
    with pytest.raises(SourceOutage, match="answered 503 and asks to wait 3600 s, the limit is 1 s"):
        fetch(site, path)


def test_retry_after_is_a_number_or_a_date() -> None:
    assert parse_retry_after("120") == 120
    assert parse_retry_after("") is None
    assert parse_retry_after("soon") is None
    assert parse_retry_after("Fri, 10 Jul 1998 00:00:00 GMT") == 0
    in_a_minute = format_datetime(datetime.now(UTC) + timedelta(seconds=60), usegmt=True)
    assert parse_retry_after(in_a_minute) == pytest.approx(60, abs=2)


def test_pauses_double_up_to_the_limit() -> None:
    policy = RetryPolicy(pause_seconds=1, max_pause_seconds=6)
    for attempt, seconds in ((2, 1), (3, 2), (4, 4), (5, 6), (6, 6)):
        assert seconds / 2 <= policy.pause_before(attempt) <= seconds


def test_redirects_are_followed(site: Site, path: Path) -> None:
    site.answers = [redirect("/elsewhere.zip")]
    fetch(site, path)
    check_complete(path)


@pytest.mark.parametrize("to", ["/file.zip", "ftp://127.0.0.1/file.zip", "file:///etc/passwd"])
def test_redirects_to_nowhere_are_refused(to: str, site: Site, path: Path) -> None:
    site.usual = redirect(to)
    with pytest.raises(SourceError, match="cannot be fetched"):
        fetch(site, path)
    assert len(site.requests) <= QUICK.max_redirects + 1
    check_absent(path)


# ---- proxies


def test_the_environments_proxy_is_used(site: Site, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with proxying() as (proxy, asked):
        monkeypatch.setenv("HTTP_PROXY", proxy)
        url = site.url.replace("127.0.0.1", "files.example")  # only the proxy can resolve this name
        download(url, path, find_fault, QUICK)
    check_complete(path)
    assert asked == [url]


def test_an_unreachable_proxy_is_named_without_its_password(
    site: Site, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://user:secret@127.0.0.1:1")
    with pytest.raises(SourceOutage, match=r"cannot be reached through 127\.0\.0\.1, the proxy of the e") as refusal:
        fetch(site, path)
    assert "secret" not in str(refusal.value)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    fetch(site, path)
    check_complete(path)


def test_an_invalid_proxy_setting_is_refused(site: Site, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "carrier-pigeon://127.0.0.1")
    with pytest.raises(SourceError, match=r"settings of the environment are invalid .*check HTTP_PROXY"):
        fetch(site, path)


# ---- the disk


def test_a_folder_that_cannot_be_written_is_reported(site: Site, path: Path) -> None:
    path.parent.write_text("a file in place of the folder")
    with pytest.raises(SourceError, match=r"file\.zip cannot be written \(.*\)\. Next: make room"):
        fetch(site, path)


def test_a_full_disk_is_reported(site: Site, path: Path) -> None:
    path.parent.mkdir()
    path.with_name(".file.zip.part").symlink_to("/dev/full")  # writes there fail as on a full disk
    with pytest.raises(SourceError, match=rf"cannot be written \({os.strerror(errno.ENOSPC)}\)\. Next: make room"):
        fetch(site, path)
    check_absent(path)


# ---- two downloads of one file, in two threads: the lock works in the same way between processes


def test_a_second_download_waits_and_uses_the_file_of_the_first(
    site: Site, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    site.usual = hold_back
    patient = replace(QUICK, stall_seconds=30)
    with caplog.at_level(logging.INFO, "recsys"), ThreadPoolExecutor(2) as pool:
        downloads = [pool.submit(fetch, site, path, patient) for _ in range(2)]
        wait_for_log(caplog, "another process is fetching file.zip; waiting for it")
        with pytest.raises(SourceOutage, match=r"another process has been fetching .*file\.zip for more than 0 s"):
            fetch(site, path, replace(patient, lock_seconds=0.1))
        site.released.set()
        for done in downloads:
            done.result(30)
    assert len(site.requests) == 1
    check_complete(path)


def wait_for_log(caplog: pytest.LogCaptureFixture, words: str, seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while words not in caplog.text:
        assert time.monotonic() < deadline, f"{words!r} was not logged"
        time.sleep(0.01)
