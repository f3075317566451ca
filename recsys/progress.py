"""Progress of a long step: a bar on a terminal, now and then a plain line in a log."""

import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

LINE_EVERY_SECONDS = 10.0  # in a log; often enough to see that a step lives

Advance = Callable[[int, str], None]


@contextmanager
def progress(label: str, total: int, unit: str, logger: logging.Logger) -> Iterator[Advance]:
    """Yields `advance(amount, note)`; ends with one log line that says how much was done and how fast."""
    start = time.monotonic()
    with _bar(label, total) if sys.stderr.isatty() else _lines(label, total, unit, logger) as advance:
        yield advance
    seconds = time.monotonic() - start
    logger.info("%s: %s %s in %.1f s", label, f"{total:,}", unit, seconds)


@contextmanager
def _bar(label: str, total: int) -> Iterator[Advance]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        task = bars.add_task(label, total=total, note="")
        yield lambda amount, note: bars.update(task, advance=amount, note=note)


@contextmanager
def _lines(label: str, total: int, unit: str, logger: logging.Logger) -> Iterator[Advance]:
    start = last = time.monotonic()
    done = 0

    def advance(amount: int, note: str) -> None:
        nonlocal done, last
        done += amount
        now = time.monotonic()
        if now - last >= LINE_EVERY_SECONDS:
            last = now
            left_seconds = (now - start) / max(done, 1) * (total - done)
            logger.info("%s: %s of %s %s, %.0f s left; %s", label, f"{done:,}", f"{total:,}", unit, left_seconds, note)

    yield advance
