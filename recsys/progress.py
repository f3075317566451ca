"""Progress of a long step or a download: a bar on a terminal, now and then a plain line in a log."""

import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

LINE_EVERY_SECONDS = 10.0  # in a log; often enough to see that a step lives

Advance = Callable[[int, str], None]
Receive = Callable[[int], None]
Watch = Callable[[str, float], None]  # what is being done, and the share of it that is done

_watch: ContextVar[Watch | None] = ContextVar("watch", default=None)


@contextmanager
def watched(watch: Watch) -> Iterator[None]:
    """While the block lasts, `watch` is told of all progress, beside whoever reads the terminal or the log."""
    token = _watch.set(watch)
    try:
        yield
    finally:
        _watch.reset(token)


@contextmanager
def progress(label: str, total: int, unit: str, logger: logging.Logger, done: int = 0) -> Iterator[Advance]:
    """Yields `advance(amount, note)` for `total` units, of which `done` were done earlier.

    Ends with one log line that says how much was done, and how fast.
    """
    speed, watch = _Speed(), _watch.get()
    with _bar(label, total, done) if sys.stderr.isatty() else _lines(label, total, unit, logger, done) as show:

        def advance(amount: int, note: str) -> None:
            speed.amount += amount
            show(amount, note, speed)
            if watch:
                watch(label, (done + speed.amount) / total)

        yield advance
    whole = f"{speed.amount:,}" if speed.amount == total else f"{speed.amount:,} of {total:,}"
    logger.info("%s: %s %s in %.1f s, %s", label, whole, unit, speed.seconds, speed)


class _Speed:
    """Of what was done since this was made."""

    def __init__(self) -> None:
        self.start = time.monotonic()
        self.amount = 0

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.start

    def seconds_for(self, amount: int) -> float:
        return self.seconds / max(self.amount, 1) * amount

    def __str__(self) -> str:
        """To three figures: no more of them are the same twice."""
        return f"{float(f'{self.amount / max(self.seconds, 1e-9):.3g}'):,.0f} a second"


Show = Callable[[int, str, _Speed], None]


@contextmanager
def _bar(label: str, total: int, done: int) -> Iterator[Show]:
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
        task = bars.add_task(label, total=total, completed=done, note="")
        yield lambda amount, note, speed: bars.update(task, advance=amount, note=f"{speed}; {note}")


@contextmanager
def _lines(label: str, total: int, unit: str, logger: logging.Logger, done: int) -> Iterator[Show]:
    last = time.monotonic()

    def show(amount: int, note: str, speed: _Speed) -> None:
        nonlocal done, last
        done += amount
        if time.monotonic() - last >= LINE_EVERY_SECONDS:
            last = time.monotonic()
            left_seconds = speed.seconds_for(total - done)
            logger.info(
                "%s: %s of %s %s, %s, %.0f s left; %s",
                label, f"{done:,}", f"{total:,}", unit, speed, left_seconds, note,
            )  # fmt: skip

    yield show


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
