"""Which errors mean that somebody stopped the run, and which are failures."""

import asyncio

import pytest
from polars.exceptions import PanicException

from recsys.errors import is_interruption


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (KeyboardInterrupt(), True),
        (SystemExit(143), True),
        (asyncio.CancelledError(), True),
        (RuntimeError("Query interrupted"), True),  # DuckDB's
        (PanicException("a library in Rust failed"), False),  # a BaseException, too
        (RuntimeError("no"), False),
    ],
    ids=repr,
)
def test_only_a_signal_or_a_cancellation_is_an_interruption(error: BaseException, expected: bool) -> None:
    """An interruption does not count as a failure of the run, and sends no alert."""
    assert is_interruption(error) is expected
