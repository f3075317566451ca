"""Starts, restarts and stops commands as child processes."""

import ctypes
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import click

CHECKOUT = Path(__file__).parents[1]
PREFECT = (sys.executable, "-m", "prefect", "--no-prompt")
STOP_SECONDS = 20.0  # how long a process may take to stop before it is killed
MAX_EXITS = 5  # give up after this many exits within EXITS_SECONDS
EXITS_SECONDS = 600.0
PRCTL = getattr(ctypes.CDLL(None), "prctl", None)  # Linux only
PR_SET_PDEATHSIG = 1  # linux/prctl.h


@dataclass
class Child:
    """A command in its own session.

    Ctrl-C does not reach it, so `recsys serve` decides the order of stopping. On Linux, the kernel kills it when its
    parent dies.
    """

    name: str  # as shown in messages
    command: tuple[str, ...]
    environment: Mapping[str, str]
    log: Path | None = None  # output is appended here; None: the output of the parent
    pause_seconds: float = 1.0  # before a restart; multiplied by the number of earlier exits
    process: subprocess.Popen[bytes] | None = None
    exits: list[float] = field(default_factory=list)  # monotonic times of unexpected exits

    def start(self) -> None:
        die_with_parent = partial(PRCTL, PR_SET_PDEATHSIG, signal.SIGKILL) if PRCTL else None
        with self.log.open("ab") if self.log else nullcontext() as output:
            self.process = subprocess.Popen(
                self.command,
                cwd=CHECKOUT,
                env=self.environment,
                stdout=output,
                stderr=output,
                start_new_session=True,
                preexec_fn=die_with_parent,  # noqa: PLW1509  # safe: this process has one thread
            )

    @property
    def pid(self) -> int | None:
        return self.process.pid if self.process else None

    @property
    def is_alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def report_exit(self) -> None:
        """Reports why the process ended, then pauses before the restart. The pause is longer after each exit.

        Raises: ClickException if the process has exited too often.
        """
        code = self.process.wait() if self.process else 0
        now = time.monotonic()
        self.exits = [*(exit_ for exit_ in self.exits if exit_ > now - EXITS_SECONDS), now]
        reason = f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        message = f"the {self.name} ended: {reason}"
        if len(self.exits) == MAX_EXITS:
            where = f"see {self.log}" if self.log else "see the lines above"
            raise click.ClickException(f"{message}, {MAX_EXITS} times within {EXITS_SECONDS / 60:.0f} minutes; {where}")
        click.echo(f"{message}; restarting it ({len(self.exits)} of at most {MAX_EXITS - 1} restarts)")
        time.sleep(self.pause_seconds * (len(self.exits) - 1))

    def stop(self) -> None:
        if self.process:
            self.process.terminate()
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(STOP_SECONDS)
            self.process.kill()
            self.process.wait()


@contextmanager
def running(child: Child) -> Iterator[Child]:
    """Starts the child. At the end of the block, stops it, even if it has been restarted."""
    try:
        child.start()
        yield child
    finally:
        child.stop()


def run(environment: Mapping[str, str], *module: str) -> tuple[bool, str]:
    """Runs a Python module until it ends. Returns whether it succeeded, and its output."""
    command = [sys.executable, "-m", *module]
    done = subprocess.run(command, cwd=CHECKOUT, env=environment, capture_output=True, text=True, check=False)
    return done.returncode == 0, f"{done.stdout}{done.stderr}"
