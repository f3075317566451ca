"""Trainings that run ahead in another process, so that a night uses a second core.

A training ahead leaves the checkpoint of its last epoch. The training itself then finds this checkpoint and ends at
once, as if it had been killed after its last epoch, so its result is the same bit for bit. If the process ahead fails
or is killed, the training runs as usual.

The process is a new interpreter, not a fork, because forked processes cannot use torch's threads or a GPU.
"""

import logging
import os
import pickle
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import IO

logger = logging.getLogger(__name__)

MIN_RATINGS = 50_000  # below, starting a process takes longer than the training
POLL_SECONDS = 0.05


@dataclass(frozen=True)
class _Ahead:
    process: subprocess.Popen[bytes]
    started: float  # time.monotonic()


_running: dict[str, _Ahead] = {}  # by label


def start(label: str, train: Callable[..., None]) -> None:
    """Starts `train(watch=watch)` in another process. `train` is pickled; it calls `watch` after each epoch.

    `wait` with the same label waits for the end. Nothing is started if the process would share a core with this one.
    """
    if count_cores() < 2 or any(ahead.process.poll() is None for ahead in _running.values()):
        return
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    process = subprocess.Popen(
        [sys.executable, "-c", "from recsys.train.ahead import main; main()", str(os.getpid())],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=environment,
        start_new_session=True,  # Ctrl-C ends the night, which ends this process
    )
    _running[label] = _Ahead(process, time.monotonic())
    assert process.stdin is not None
    with suppress(OSError):  # it has died; `wait` notices
        _send(train, process.stdin)
    logger.info("%s: also started, in process %d", label, process.pid)


def count_cores() -> int:
    """Number of cores that this process may use; on macOS, which cannot limit them, that of all cores."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _send(train: Callable[..., None], pipe: IO[bytes]) -> None:
    with pipe:
        pickle.dump(train, pipe, protocol=pickle.HIGHEST_PROTOCOL)


def started(label: str) -> float:
    """When the training with this label began, by time.monotonic(): ahead, or now."""
    return _running[label].started if label in _running else time.monotonic()


def wait(label: str) -> None:
    """Waits until the training ahead with this label has ended, if there is one."""
    ahead = _running.get(label)
    if ahead is None:
        return
    if ahead.process.poll() is None:
        logger.info("%s: waiting for process %d", label, ahead.process.pid)
    while ahead.process.poll() is None:  # not one long wait, so that a time limit or Ctrl-C takes effect
        time.sleep(POLL_SECONDS)
    del _running[label]
    if ahead.process.returncode:
        logger.warning("%s: process %d ended early with code %d", label, ahead.process.pid, ahead.process.returncode)


@contextmanager
def ended() -> Iterator[None]:
    """Ends all trainings ahead after the block, for example if the night fails before it needs them."""
    try:
        yield
    finally:
        for label in list(_running):
            process = _running.pop(label).process
            process.kill()
            process.wait()


@dataclass(frozen=True)
class Watch:
    """Ends the process if the one that started it has ended."""

    parent: int

    def __call__(self, _: object) -> None:
        if os.getppid() != self.parent:
            sys.exit(1)


def main() -> None:
    """Trains what `start` has sent."""
    train: Callable[..., None] = pickle.load(sys.stdin.buffer)
    train(watch=Watch(int(sys.argv[1])))
