"""Against a real server on loopback that misbehaves in every way that the internet does (tests/support/servers.py)."""

import errno
import hashlib
import json
import logging
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest

from recsys import __version__
from recsys.errors import SourceError, SourceOutage
from recsys.ingest.fetch.download import download
from recsys.ingest.fetch.patience import Patience, retry_after
from tests.support.servers import (
    Answer,
    Site,
    cut,
    drip,
    hold_back,
    no_ranges,
    other_bytes,
    other_length,
    other_range,
    proxying,
    redirect,
    serving,
    silence,
    stall,
    status,
    without_length,
)

CONTENT = random.Random(0).randbytes(300_000)
OTHER = random.Random(1).randbytes(300_000)
CUT = 100_000  # bytes after which connections break

QUICK = Patience(connect_seconds=2, read_seconds=0.3, tries=3, pause_seconds=0.01, longest_pause_seconds=1)

# A second process: fetches argv[1] to argv[2], whose MD5 should be argv[3], and tells what it does on standard error.
PROGRAM = """
import hashlib, logging, sys
from pathlib import Path
from recsys.ingest.fetch.download import download
logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
url, path, md5 = sys.argv[1:]
right = lambda file: hashlib.md5(file.read_bytes()).hexdigest() == md5
download(url, Path(path), lambda file: None if right(file) else "wrong")
"""


@pytest.fixture
def site() -> Iterator[Site]:
    with serving(Site(CONTENT)) as running:
        yield running


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "archives" / "file.zip"


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever proxy the machine has, loopback is reached directly."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


def find_fault(path: Path) -> str | None:
    return None if path.read_bytes() in (CONTENT, OTHER) else "not the right ones"


def fetch(site: Site, path: Path, patience: Patience = QUICK) -> None:
    download(site.url, path, find_fault, patience)


def check_only(path: Path, content: bytes = CONTENT) -> None:
    """The file is there, whole, and nothing beside it but its lock."""
    assert path.read_bytes() == content
    assert {file.name for file in path.parent.iterdir()} == {"file.zip", ".file.zip.lock"}


def part(path: Path) -> Path:
    return path.with_name(".file.zip.part")


# ---- a good day


def test_a_file_is_fetched_in_one_request_and_said_to_be(
    site: Site, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "recsys"):
        fetch(site, path)
    check_only(path)
    assert site.ranges == [None]
    assert caplog.messages[0] == f"fetching {site.url}"
    assert caplog.messages[-1].startswith("file.zip: 0.3 MB in ")
    assert caplog.messages[-1].endswith(" MB/s")


def test_it_says_who_asks_and_wants_the_bytes_as_they_are(site: Site, path: Path) -> None:
    fetch(site, path)
    assert site.requests[0]["User-Agent"].startswith(f"recsys/{__version__} (")
    assert site.requests[0]["Accept-Encoding"] == "identity"


def test_a_file_that_is_there_and_right_is_left_alone(site: Site, path: Path) -> None:
    fetch(site, path)
    fetch(site, path)
    assert len(site.requests) == 1


def test_a_file_that_is_there_and_wrong_is_replaced(site: Site, path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(b"old")
    fetch(site, path)
    check_only(path)


# ---- bad connections


@pytest.mark.parametrize("broken", [cut(CUT), stall(CUT), drip], ids=["cut", "stall", "drip"])
def test_what_was_broken_off_is_gone_on_with(broken: Answer, site: Site, path: Path) -> None:
    site.answers = [broken]
    fetch(site, path)
    check_only(path)
    first, second = site.sent_bytes
    assert second == len(CONTENT) - int(str(site.ranges[1]).strip("bytes=-"))
    assert first + second == pytest.approx(len(CONTENT), abs=5)  # drops may be on their way
    assert site.requests[1]["If-Range"] == site.tag


def test_many_cuts_are_survived_if_each_connection_was_worth_it(path: Path) -> None:
    large = random.Random(2).randbytes(6 * 2**20)
    with serving(Site(large)) as site:
        site.answers = [cut(2**20)] * 5
        download(site.url, path, lambda file: None if file.read_bytes() == large else "wrong", QUICK)
        assert sum(site.sent_bytes) == len(large)


def test_a_server_that_always_breaks_off_ends_in_an_outage_and_the_next_call_goes_on(site: Site, path: Path) -> None:
    site.usual = cut(CUT // 2)  # of what is asked for each time
    with pytest.raises(SourceOutage, match=r"file\.zip broke off \(.*\), in 3 tries; 0\.1 MB are kept"):
        fetch(site, path)
    assert len(site.requests) == 3
    assert not path.exists()
    assert part(path).read_bytes() == CONTENT[: 3 * CUT // 2]

    site.answers, site.usual = [], Site(b"").usual
    fetch(site, path)
    check_only(path)
    assert site.sent_bytes[-1] == len(CONTENT) - 3 * CUT // 2


def test_a_server_that_says_nothing_is_given_up(site: Site, path: Path) -> None:
    site.usual = silence
    start = time.monotonic()
    with pytest.raises(SourceOutage, match=r"cannot be reached \(timed out\), in 2 tries"):
        fetch(site, path)
    assert time.monotonic() - start < 10


def test_nobody_listening_is_known_at_once(path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{free.getsockname()[1]}/file.zip"
    start = time.monotonic()
    with pytest.raises(SourceOutage, match=r"cannot be reached .*refused.*in 2 tries"):
        download(address, path, find_fault)  # with all the patience of a real night
    assert time.monotonic() - start < 5


def test_a_name_that_nobody_knows_is_known_at_once(path: Path) -> None:
    with pytest.raises(SourceOutage, match=r"http://nobody\.invalid/file\.zip cannot be reached"):
        download("http://nobody.invalid/file.zip", path, find_fault, QUICK)


# ---- lies about length


def test_less_than_announced_is_no_file(site: Site, path: Path) -> None:
    site.usual = other_length(len(CONTENT) + 1_000)
    with pytest.raises(SourceOutage, match="broke off"):
        fetch(site, path)
    assert not path.exists()


def test_more_than_announced_is_not_taken_for_the_file(site: Site, path: Path) -> None:
    site.usual = other_length(len(CONTENT) - 1_000)
    with pytest.raises(SourceError, match="gave 299,000 bytes, but they are not the right ones, twice in a row"):
        fetch(site, path)
    assert not path.exists()
    assert not part(path).exists()


def test_a_rest_that_is_longer_than_the_file_is_refused(site: Site, path: Path) -> None:
    site.answers = [cut(CUT), other_range(f"bytes {CUT}-299999/300000", CONTENT[CUT:] + b"more")]
    with pytest.raises(SourceError, match="sends more than the 300,000 bytes that it may have"):
        fetch(site, path)
    assert not part(path).exists()


def test_a_file_without_end_is_refused(site: Site, path: Path) -> None:
    site.usual = without_length(CONTENT)
    with pytest.raises(SourceError, match="sends more than the 200,000 bytes"):
        fetch(site, path, replace(QUICK, most_bytes=200_000))


def test_a_file_that_is_announced_too_large_is_not_even_begun(site: Site, path: Path) -> None:
    with pytest.raises(SourceError, match="announces 300,000 bytes, the limit is 200,000"):
        fetch(site, path, replace(QUICK, most_bytes=200_000))
    assert not part(path).exists()


def test_a_file_that_the_disk_has_no_room_for_is_not_even_begun(site: Site, path: Path) -> None:
    site.answers = [other_length(10**15)]
    with pytest.raises(SourceError, match=r"has 1,000,000,000,000,000 bytes, and .*archives has room for"):
        fetch(site, path, replace(QUICK, most_bytes=10**16))


def test_no_length_at_all_is_no_lie(site: Site, path: Path) -> None:
    site.answers = [without_length(CONTENT)]
    fetch(site, path)
    check_only(path)


# ---- wrong bytes


def test_wrong_bytes_get_a_second_chance(site: Site, path: Path, caplog: pytest.LogCaptureFixture) -> None:
    site.answers = [other_bytes(b"<html>please log in</html>")]
    fetch(site, path)
    check_only(path)
    assert site.ranges == [None, None]
    assert "gave 26 bytes, but they are not the right ones; fetching it once more" in caplog.text


def test_wrong_bytes_twice_are_refused_and_what_was_there_stays(site: Site, path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(b"old")
    site.usual = other_bytes(b"<html>please log in</html>")
    with pytest.raises(SourceError, match="twice in a row") as refusal:
        fetch(site, path)
    assert not isinstance(refusal.value, SourceOutage)
    assert len(site.requests) == 2
    check_only(path, b"old")


def test_a_part_that_was_spoilt_meanwhile_is_fetched_anew(site: Site, path: Path) -> None:
    site.usual = cut(CUT)
    with pytest.raises(SourceOutage):
        fetch(site, path, replace(QUICK, tries=1))
    part(path).write_bytes(bytes(CUT))
    site.usual = Site(b"").usual
    fetch(site, path)
    check_only(path)
    assert site.ranges == [None, f"bytes={CUT}-", None]


# ---- ranges


def test_a_server_without_ranges_sends_all_again(site: Site, path: Path) -> None:
    site.answers = [cut(CUT), no_ranges]
    fetch(site, path)
    check_only(path)
    assert site.sent_bytes == [CUT, len(CONTENT)]


def test_a_server_that_always_starts_over_is_given_up_however_much_it_sends(path: Path) -> None:
    large = random.Random(2).randbytes(3 * 2**20)
    with serving(Site(large)) as site:
        site.tag, site.usual = None, cut(2 * 2**20)
        with pytest.raises(SourceOutage, match=r"in 3 tries$"):  # and nothing is said to be kept
            download(site.url, path, find_fault, QUICK)
        assert len(site.requests) == 3


@pytest.mark.parametrize("tag", ['"second"', None])
def test_a_file_that_changed_between_two_parts_is_fetched_anew(tag: str | None, site: Site, path: Path) -> None:
    site.usual = cut(CUT)
    with pytest.raises(SourceOutage):
        fetch(site, path, replace(QUICK, tries=1))
    site.content, site.tag, site.usual = OTHER, tag, Site(b"").usual
    fetch(site, path)
    check_only(path, OTHER)
    assert site.sent_bytes == [CUT, len(OTHER)]


@pytest.mark.parametrize(
    ("told", "headers"),
    [
        ("bytes 0-299999/300000", {}),
        (f"bytes {CUT}-399999/400000", {}),
        ("all of it", {}),
        (f"bytes {CUT}-299999/300000", {"ETag": '"second"'}),
    ],
)
def test_a_rest_that_is_not_ours_is_not_appended(told: str, headers: dict[str, object], site: Site, path: Path) -> None:
    site.answers = [cut(CUT), other_range(told, OTHER[CUT:], **headers)]
    fetch(site, path)
    check_only(path)
    assert site.ranges == [None, f"bytes={CUT}-", None]


def test_a_file_that_has_become_shorter_is_fetched_anew(site: Site, path: Path) -> None:
    site.answers = [cut(CUT), status(416)]
    fetch(site, path)
    check_only(path)
    assert site.ranges == [None, f"bytes={CUT}-", None]


def test_without_proof_that_it_is_the_same_file_all_comes_anew(site: Site, path: Path) -> None:
    site.tag, site.answers = None, [cut(CUT)]
    fetch(site, path)
    check_only(path)
    assert site.ranges == [None, None]


@pytest.mark.parametrize(
    "note", [None, "", "{", "[]", '{"url": "http://elsewhere", "validator": "1", "total_bytes": 9}']
)
def test_a_part_of_nobody_knows_what_is_fetched_anew(note: str | None, site: Site, path: Path) -> None:
    path.parent.mkdir()
    part(path).write_bytes(OTHER[:CUT])
    if note is not None:
        part(path).with_suffix(".part.json").write_text(note)
    fetch(site, path)
    check_only(path)
    assert site.ranges == [None]


def test_a_whole_part_needs_no_request(site: Site, path: Path) -> None:
    """Killed between the last byte and the renaming."""
    path.parent.mkdir()
    part(path).write_bytes(CONTENT)
    note = {"url": site.url, "validator": site.tag, "total_bytes": len(CONTENT)}
    part(path).with_suffix(".part.json").write_text(json.dumps(note))
    fetch(site, path)
    check_only(path)
    assert site.requests == []


# ---- answers


def test_not_found_is_not_asked_for_twice(site: Site, path: Path) -> None:
    site.usual = status(404)
    with pytest.raises(SourceError, match=r"file\.zip answered 404") as refusal:
        fetch(site, path)
    assert not isinstance(refusal.value, SourceOutage)
    assert len(site.requests) == 1


@pytest.mark.parametrize("code", [408, 429, 500, 503])
def test_an_answer_for_the_moment_is_tried_again(code: int, site: Site, path: Path) -> None:
    site.answers = [status(code), status(code)]
    fetch(site, path)
    check_only(path)


def test_unavailable_for_good_is_an_outage(site: Site, path: Path) -> None:
    site.usual = status(503)
    with pytest.raises(SourceOutage, match="answered 503, in 3 tries"):
        fetch(site, path)
    assert len(site.requests) == 3


def test_a_server_is_left_alone_for_as_long_as_it_asks(site: Site, path: Path) -> None:
    site.answers = [status(503, Retry_After=1)]
    start = time.monotonic()
    fetch(site, path)
    assert time.monotonic() - start >= 1  # the pause of its own accord would be 0.01 s
    check_only(path)


def test_a_server_that_asks_for_too_much_is_given_up_at_once(site: Site, path: Path) -> None:
    site.answers = [status(503, Retry_After=3600)]
    with pytest.raises(SourceOutage, match="answered 503 and asks to wait 3600 s, the limit is 1 s"):
        fetch(site, path)


def test_retry_after_is_a_number_a_date_or_nothing() -> None:
    assert retry_after("120") == 120
    assert retry_after("") is None
    assert retry_after("soon") is None
    assert retry_after("Fri, 10 Jul 1998 00:00:00 GMT") == 0
    in_a_minute = format_datetime(datetime.now(UTC) + timedelta(seconds=60), usegmt=True)
    assert retry_after(in_a_minute) == pytest.approx(60, abs=2)


def test_redirects_are_followed_with_the_range(site: Site, path: Path) -> None:
    site.answers = [redirect("/elsewhere.zip"), cut(CUT), redirect("/elsewhere.zip")]
    fetch(site, path)
    check_only(path)
    assert site.ranges == [None, None, f"bytes={CUT}-", f"bytes={CUT}-"]


@pytest.mark.parametrize("to", ["/file.zip", "ftp://127.0.0.1/file.zip", "file:///etc/passwd"])
def test_redirects_that_lead_nowhere_are_not_followed_for_ever(to: str, site: Site, path: Path) -> None:
    site.usual = redirect(to)
    with pytest.raises(SourceError, match="cannot be fetched"):
        fetch(site, path)
    assert len(site.requests) <= QUICK.redirects + 1
    assert not path.exists()


# ---- proxies


def test_proxies_are_those_of_the_environment(site: Site, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with proxying() as (proxy, asked):
        monkeypatch.setenv("HTTP_PROXY", proxy)
        url = site.url.replace("127.0.0.1", "files.example")  # a name that only the proxy knows
        download(url, path, find_fault, QUICK)
    check_only(path)
    assert asked == [url]


def test_a_proxy_that_is_gone_is_named_without_its_password(
    site: Site, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://somebody:secret@127.0.0.1:1")
    with pytest.raises(SourceOutage, match=r"cannot be reached through 127\.0\.0\.1, the proxy of the e") as refusal:
        fetch(site, path)
    assert "secret" not in str(refusal.value)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    fetch(site, path)
    check_only(path)


def test_a_proxy_that_cannot_be_meant_is_refused_in_words(
    site: Site, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "carrier-pigeon://127.0.0.1")
    with pytest.raises(SourceError, match=r"settings of the environment cannot be used .*look at HTTP_PROXY"):
        fetch(site, path)


# ---- the machine


def test_a_folder_that_cannot_be_written_is_said_to_be(site: Site, path: Path) -> None:
    path.parent.write_text("a file, where a folder should be")
    with pytest.raises(SourceError, match=r"file\.zip cannot be written \(.*\)\. Next: make room"):
        fetch(site, path)


def test_a_file_that_grows_too_large_for_the_machine_is_said_to(site: Site, path: Path) -> None:
    program = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({CUT}, {CUT}))\n{PROGRAM}"
    command = [sys.executable, "-c", program, site.url, str(path), ""]
    shown = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False).stderr
    assert f"SourceError: {path} cannot be written ({os.strerror(errno.EFBIG)}). Next: make room for it" in shown
    assert part(path).stat().st_size == CUT  # and a larger disk goes on from there


# ---- other processes


@pytest.fixture
def start(site: Site, path: Path) -> Iterator[Callable[[], subprocess.Popen[str]]]:
    """Starts processes that fetch the site's file to `path`; none outlives the test."""
    processes = []

    def start_one() -> subprocess.Popen[str]:
        md5 = hashlib.md5(CONTENT).hexdigest()
        command = [sys.executable, "-c", PROGRAM, site.url, str(path), md5]
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        processes.append(process)
        return process

    yield start_one
    for process in processes:
        process.kill()
        process.communicate()


def read_until(process: subprocess.Popen[str], words: str) -> None:
    assert process.stderr is not None
    assert any(words in line for line in process.stderr), f"it never said {words!r}"


def wait_for(condition: Callable[[], bool], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_killed_in_the_middle_the_next_process_fetches_only_the_rest(
    site: Site, path: Path, start: Callable[[], subprocess.Popen[str]]
) -> None:
    site.answers = [stall(CUT)]
    first = start()
    wait_for(lambda: part(path).exists() and part(path).stat().st_size == CUT)
    first.send_signal(signal.SIGKILL)
    assert first.wait() == -signal.SIGKILL
    assert not path.exists()
    assert part(path).read_bytes() == CONTENT[:CUT]

    second = start()
    assert second.wait(60) == 0
    check_only(path)
    assert site.ranges == [None, f"bytes={CUT}-"]
    assert site.sent_bytes == [CUT, len(CONTENT) - CUT]


def test_of_two_processes_one_fetches_and_the_other_waits_for_it(
    site: Site, path: Path, start: Callable[[], subprocess.Popen[str]]
) -> None:
    site.usual = hold_back
    first = start()
    wait_for(lambda: len(site.requests) == 1)
    second = start()
    read_until(second, "another process is fetching file.zip; waiting for it")
    site.released.set()
    assert first.wait(60) == 0
    assert second.wait(60) == 0
    assert len(site.requests) == 1
    check_only(path)


def test_waiting_for_another_process_ends(site: Site, path: Path, start: Callable[[], subprocess.Popen[str]]) -> None:
    site.usual = hold_back
    start()
    wait_for(lambda: len(site.requests) == 1)
    with pytest.raises(SourceOutage, match=r"another process has been fetching .*file\.zip for more than 0 s"):
        fetch(site, path, replace(QUICK, lock_seconds=0.1))
