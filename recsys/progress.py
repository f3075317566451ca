"""Progress of a long step or a download: a bar on a terminal, now and then a plain line in a log."""

import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

LINE_EVERY_SECONDS = 10.0  # in a log; often enough to see that a step lives

Advance = Callable[[int, str], None]
Receive = Callable[[int], None]


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


@contextmanager
def transfer(label: str, done: int, total: int | None, logger: logging.Logger) -> Iterator[Receive]:
    """Yields `receive(n_bytes)` for a file of `total` bytes, None where nobody knows, of which `done` are here already.

    Ends with one log line that says how much came, and how fast.
    """
    start, received = time.monotonic(), 0
    with (
        _transfer_bar(label, done, total)
        if sys.stderr.isatty()
        else _transfer_lines(label, done, total, logger) as show
    ):

        def receive(n_bytes: int) -> None:
            nonlocal received
            received += n_bytes
            show(n_bytes)

        yield receive
    seconds = time.monotonic() - start
    before = f", {megabytes(done)} were here already" if done else ""
    logger.info("%s: %s in %.1f s, %s%s", label, megabytes(received), seconds, rate(received, seconds), before)


def megabytes(n_bytes: float) -> str:
    return f"{n_bytes / 1e6:,.1f} MB"


def rate(n_bytes: float, seconds: float) -> str:
    return f"{megabytes(n_bytes / max(seconds, 1e-9))}/s"


@contextmanager
def _transfer_bar(label: str, done: int, total: int | None) -> Iterator[Receive]:
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    text = TextColumn("{task.description}")
    columns = (text, BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        task = bars.add_task(label, total=total, completed=done)
        yield lambda n_bytes: bars.update(task, advance=n_bytes)


@contextmanager
def _transfer_lines(label: str, done: int, total: int | None, logger: logging.Logger) -> Iterator[Receive]:
    start = last = time.monotonic()
    received = 0

    def receive(n_bytes: int) -> None:
        nonlocal received, last
        received += n_bytes
        now = time.monotonic()
        if now - last >= LINE_EVERY_SECONDS:
            last = now
            here = done + received
            of = (
                ""
                if total is None
                else f" of {megabytes(total)}, {(total - here) * (now - start) / received:.0f} s left"
            )
            logger.info("%s: %s%s, %s", label, megabytes(here), of, rate(received, now - start))

    yield receive
