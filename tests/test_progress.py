"""Standard error of a test is no terminal, so progress is plain lines here; one test opens a real terminal."""

import logging
import os
import pty
import subprocess
import sys
from collections.abc import Iterator

import pytest

from recsys import progress as progress_module
from recsys.progress import progress

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
    assert line.startswith("train: 2,000 ratings in ")
    assert line.endswith(" s")
    assert caplog.records[0].levelno == logging.INFO


def test_a_long_step_tells_how_far_it_is(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress_module, "LINE_EVERY_SECONDS", 0.0)
    with progress("train", 2000, "ratings", logger) as advance:
        advance(500, "loss 1.2")
        advance(1500, "loss 1.1")
    first, second, last = caplog.messages
    assert first.startswith("train: 500 of 2,000 ratings, ")
    assert first.endswith(" s left; loss 1.2")
    assert second == "train: 2,000 of 2,000 ratings, 0 s left; loss 1.1"
    assert last.startswith("train: 2,000 ratings in ")


def test_a_step_that_fails_does_not_say_it_is_done(caplog: pytest.LogCaptureFixture) -> None:
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
        "with progress('train', 10, 'ratings', logging.getLogger()) as advance: advance(10, 'loss 1.1')"
    )
    main, side = pty.openpty()
    subprocess.run([sys.executable, "-c", script], stderr=side, check=True, env={**os.environ, "TERM": "xterm"})
    shown = os.read(main, 65_536).decode()
    os.close(side)
    os.close(main)
    assert "train" in shown
    assert "10/10" in shown
    assert "loss 1.1" in shown
    assert "\x1b[" in shown
