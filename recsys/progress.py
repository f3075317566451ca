"""Progress of a long step or a download: a bar on a terminal, a plain line every few seconds in a log."""

import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

LINE_EVERY_SECONDS = 10.0  # between two lines of a log
BARS = logging.getLogger("recsys.bars")  # bars are shown if its level is at most INFO
BARS.setLevel(logging.INFO)  # without it, a program that configures no logging would show none

Advance = Callable[[int, str], None]  # called with an amount and a note on what was done
Receive = Callable[[int], None]  # called with a number of bytes
Watch = Callable[[str, float], None]  # called with a label and the finished share

_watch: ContextVar[Watch | None] = ContextVar("watch", default=None)


@contextmanager
def watched(watch: Watch) -> Iterator[None]:
    """Calls `watch` for all progress towards a known total within the block, in addition to the bar or the log."""
    token = _watch.set(watch)
    try:
        yield
    finally:
        _watch.reset(token)


@contextmanager
def progress(label: str, total: int, unit: str, logger: logging.Logger, done: int = 0) -> Iterator[Advance]:
    """Yields `advance(amount, note)` for `total` units; `done` units were finished before.

    Logs one line at the end: how much was done, and how fast.
    """
    with _shown(_Meter(label, total, unit, done), logger) as advance:
        yield advance


@contextmanager
def transfer(label: str, total: int | None, logger: logging.Logger) -> Iterator[Receive]:
    """Yields `receive(n_bytes)` for a file of `total` bytes, None if the size is unknown.

    Logs one line at the end: how much was received, and how fast.
    """
    with _shown(_ByteMeter(label, total), logger) as advance:
        yield lambda n_bytes: advance(n_bytes, "")


@contextmanager
def _shown(meter: "_Meter", logger: logging.Logger) -> Iterator[Advance]:
    watch = _watch.get()
    with _bar(meter) if sys.stderr.isatty() and BARS.isEnabledFor(logging.INFO) else _lines(meter, logger) as show:

        def advance(amount: int, note: str) -> None:
            meter.amount += amount
            show(note)
            if watch and meter.total:
                watch(meter.label, meter.reached / meter.total)

        yield advance
    logger.info("%s: %s", meter.label, meter.summary())


@contextmanager
def _bar(meter: "_Meter") -> Iterator[Callable[[str], None]]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    columns = (TextColumn("{task.description}"), BarColumn(bar_width=20), TextColumn("{task.fields[line]}"))
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        task = bars.add_task(meter.label, total=meter.total, completed=meter.done, line="")
        yield lambda note: bars.update(task, completed=meter.reached, line=meter.line(note))


@contextmanager
def _lines(meter: "_Meter", logger: logging.Logger) -> Iterator[Callable[[str], None]]:
    last = time.monotonic()

    def show(note: str) -> None:
        nonlocal last
        if time.monotonic() - last >= LINE_EVERY_SECONDS:
            last = time.monotonic()
            logger.info("%s: %s", meter.label, meter.line(note))

    yield show


class _Meter:
    """Counts finished units since its creation, and formats the progress as text."""

    def __init__(self, label: str, total: int | None, unit: str = "", done: int = 0) -> None:
        self.label, self.total, self.unit, self.done = label, total, unit, done
        self.start, self.amount = time.monotonic(), 0

    @property
    def reached(self) -> int:
        return self.done + self.amount

    @property
    def seconds(self) -> float:
        return max(time.monotonic() - self.start, 1e-9)

    @property
    def left(self) -> str:
        missing = (self.total or 0) - self.reached
        return f"{self.seconds / max(self.amount, 1) * missing:.0f} s left"

    def rate(self) -> str:
        """Rounded to three significant digits; further digits are noise."""
        return f"{float(f'{self.amount / self.seconds:.3g}'):,.0f} a second"

    def line(self, note: str) -> str:
        return f"{self.reached:,} of {self.total:,} {self.unit}, {self.rate()}, {self.left}; {note}"

    def summary(self) -> str:
        counted = f"{self.amount:,}" if self.amount == self.total else f"{self.amount:,} of {self.total:,}"
        return f"{counted} {self.unit} in {self.seconds:.1f} s, {self.rate()}"


class _ByteMeter(_Meter):
    """A meter that counts bytes and shows megabytes."""

    def rate(self) -> str:
        return f"{_megabytes(self.amount / self.seconds)}/s"

    def line(self, note: str) -> str:
        of = "" if self.total is None else f" of {_megabytes(self.total)}, {self.left}"
        return f"{_megabytes(self.amount)}{of}, {self.rate()}"

    def summary(self) -> str:
        return f"{_megabytes(self.amount)} in {self.seconds:.1f} s, {self.rate()}"


def _megabytes(n_bytes: float) -> str:
    return f"{n_bytes / 1e6:,.1f} MB"
