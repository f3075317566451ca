"""Texts of a source on a terminal and in logs. An escape sequence of a title must not reach either."""

import io
import logging

import pytest

from flows.cli.console import fail
from recsys.printable import Escaping, printable_lines

HOSTILE = "line 7: \x1b]0;owned\x07\r\u202eevil\nnext"
SAFE = r"line 7: \x1b]0;owned\x07\r\u202eevil" + "\n    next"


def test_control_characters_are_escaped_and_further_lines_are_indented() -> None:
    assert printable_lines(HOSTILE) == SAFE
    assert printable_lines("Amélie [rec] 日本") == "Amélie [rec] 日本"


def test_a_log_has_no_control_characters_of_a_source() -> None:
    """Two handlers get the same record; the second one must not escape it again."""
    outputs = io.StringIO(), io.StringIO()
    logger = logging.Logger("recsys.test")
    for output in outputs:
        handler = logging.StreamHandler(output)
        handler.addFilter(Escaping())
        logger.addHandler(handler)
    logger.info("%s of %d", HOSTILE, 3)
    assert [output.getvalue() for output in outputs] == [f"{SAFE} of 3\n"] * 2


def test_an_error_message_has_no_control_characters_of_a_source(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        fail(HOSTILE, 3)
    assert ended.value.code == 3
    assert capsys.readouterr().err == f"recsys: {SAFE}\n"
