"""Progress as log lines, because stderr of a test is not a terminal. Two tests open a pseudo-terminal."""

import logging
import os
import pty
import re
import select
import subprocess
import sys
from collections.abc import Iterator

import pytest

from recsys import progress as progress_module
from recsys.progress import progress, transfer

logger = logging.getLogger("recsys.tested")


@pytest.fixture(autouse=True)
def at_info(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    with caplog.at_level(logging.INFO, logger=logger.name):
        yield


def test_a_short_step_is_one_line(caplog: pytest.LogCaptureFixture) -> None:
    with progress("train", 2000, "ratings", logger) as advance:
        advance(1000, "loss 1.2")
        advance(1000, "loss 1.1")
    (line,) = caplog.messages
    assert re.fullmatch(r"train: 2,000 ratings in \d\.\d s, [\d,]+ a second", line)
    assert caplog.records[0].levelno == logging.INFO


def test_a_long_step_logs_its_progress(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress_module, "LINE_EVERY_SECONDS", 0.0)
    with progress("train", 2000, "ratings", logger) as advance:
        advance(500, "loss 1.2")
        advance(1500, "loss 1.1")
    first, second, last = caplog.messages
    assert first.startswith("train: 500 of 2,000 ratings, ")
    assert first.endswith(" s left; loss 1.2")
    assert re.fullmatch(r"train: 2,000 of 2,000 ratings, [\d,]+ a second, 0 s left; loss 1\.1", second)
    assert last.startswith("train: 2,000 ratings in ")


def test_a_step_that_fails_logs_no_summary(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(ValueError, match="broken"), progress("train", 10, "ratings", logger) as advance:
        advance(5, "")
        raise ValueError("broken")
    assert caplog.messages == []


def test_a_log_gets_no_terminal_codes(capfd: pytest.CaptureFixture[str]) -> None:
    with progress("train", 10, "ratings", logger) as advance:
        advance(10, "")
    assert capfd.readouterr() == ("", "")


def test_a_terminal_shows_a_bar() -> None:
    script = (
        "import logging; from recsys.progress import progress\n"
        "with progress('train', 10, 'steps', logging.getLogger()) as advance: advance(10, 'loss 1.1')"
    )
    shown = run_on_terminal(script)
    assert "train" in shown
    assert "10 of 10 steps" in shown
    assert "loss 1.1" in shown
    assert "\x1b[" in shown


def run_on_terminal(script: str) -> str:
    """Returns the stderr of a Python program whose stderr is a terminal."""
    main, side = pty.openpty()
    subprocess.run([sys.executable, "-c", script], stderr=side, check=True, env={**os.environ, "TERM": "xterm"})
    assert select.select([main], [], [], 10)[0], "nothing was written"
    shown = os.read(main, 65_536).decode()
    os.close(side)
    os.close(main)
    return shown


# ---- downloads


def test_a_short_download_is_one_line(caplog: pytest.LogCaptureFixture) -> None:
    with transfer("a.zip", 5_000_000, logger) as receive:
        receive(2_000_000)
        receive(3_000_000)
    (line,) = caplog.messages
    assert re.fullmatch(r"a\.zip: 5\.0 MB in \d+\.\d s, [\d,.]+ MB/s", line)


def test_a_long_download_logs_progress_and_speed(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress_module, "LINE_EVERY_SECONDS", 0.0)
    with transfer("a.zip", 4_000_000, logger) as receive:
        receive(2_000_000)
        receive(2_000_000)
    first, second, last = caplog.messages
    assert re.fullmatch(r"a\.zip: 2\.0 MB of 4\.0 MB, \d+ s left, [\d,.]+ MB/s", first)
    assert second.startswith("a.zip: 4.0 MB of 4.0 MB, 0 s left, ")
    assert last.startswith("a.zip: 4.0 MB in ")
    assert last.endswith(" MB/s")


def test_a_download_of_unknown_size_logs_no_time_left(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress_module, "LINE_EVERY_SECONDS", 0.0)
    with transfer("a.zip", None, logger) as receive:
        receive(1_000_000)
    assert re.fullmatch(r"a\.zip: 1\.0 MB, [\d,.]+ MB/s", caplog.messages[0])


def test_a_download_that_breaks_off_logs_no_summary(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(ValueError, match="cut"), transfer("a.zip", 10, logger) as receive:
        receive(5)
        raise ValueError("cut")
    assert caplog.messages == []


def test_a_terminal_shows_size_and_rate() -> None:
    script = (
        "import logging, time; from recsys.progress import transfer\n"
        "with transfer('a.zip', 4_000_000, logging.getLogger()) as receive:\n"
        "    receive(1_000_000); time.sleep(0.3); receive(3_000_000)"
    )
    shown = run_on_terminal(script)
    assert "a.zip" in shown
    assert "4.0 MB of 4.0 MB" in shown
    assert "MB/s" in shown


def test_the_speed_of_a_resumed_step_excludes_earlier_work(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress_module, "LINE_EVERY_SECONDS", 0.0)
    with progress("train", 4000, "ratings", logger, done=2000) as advance:
        advance(1000, "loss 1.2")
        advance(500, "loss 1.1")
    first, second, last = caplog.messages
    assert first.startswith("train: 3,000 of 4,000 ratings, ")
    assert second.startswith("train: 3,500 of 4,000 ratings, ")
    assert last.startswith("train: 1,500 of 4,000 ratings in ")


def test_speed_has_three_digits_and_gives_the_time_left() -> None:
    meter = progress_module._Meter("train", 4 * 1_234_567)
    meter.start -= 10.0
    meter.amount = 1_234_567
    assert meter.rate() == "123,000 a second"
    assert meter.left == "30 s left"
