"""Prefect's commands as child processes: started, started again when they die, and ended."""

import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path

import click

CHECKOUT = Path(__file__).parents[1]
PREFECT = (sys.executable, "-m", "prefect", "--no-prompt")
STOP_SECONDS = 20.0  # what a process gets to end by itself
MAX_DEATHS = 5  # so many within DEATHS_SECONDS are no accident
DEATHS_SECONDS = 600.0


@dataclass
class Child:
    """A Prefect command, in a session of its own: Ctrl-C does not reach it, so that the order of ends is ours."""

    name: str  # as we speak of it
    command: tuple[str, ...]
    environment: Mapping[str, str]
    log: Path | None = None  # what its output is added to; None: our own output
    process: subprocess.Popen[bytes] | None = None
    deaths: list[float] = field(default_factory=list)  # by the monotonic clock

    def start(self) -> None:
        with self.log.open("ab") if self.log else nullcontext() as output:
            self.process = subprocess.Popen(
                [*PREFECT, *self.command],
                cwd=CHECKOUT,
                env=self.environment,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    @property
    def pid(self) -> int | None:
        return self.process.pid if self.process else None

    @property
    def is_alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def tell_death(self) -> None:
        """Says how it died, before it is started again; waits, for longer with each death.

        Raises: ClickException if it dies too often.
        """
        code = self.process.wait() if self.process else 0
        now = time.monotonic()
        self.deaths = [*(death for death in self.deaths if death > now - DEATHS_SECONDS), now]
        died = f"the Prefect {self.name} ended: {_explain(code)}"
        if len(self.deaths) == MAX_DEATHS:
            where = f"see {self.log}" if self.log else "the lines above may say why"
            raise click.ClickException(f"{died}, {MAX_DEATHS} times within {DEATHS_SECONDS / 60:.0f} minutes; {where}")
        click.echo(f"{died}; starting it again ({len(self.deaths)} of at most {MAX_DEATHS - 1} times)")
        time.sleep(len(self.deaths) - 1)

    def stop(self) -> None:
        if self.process:
            self.process.terminate()
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(STOP_SECONDS)
            self.process.kill()
            self.process.wait()


@contextmanager
def running(child: Child) -> Iterator[Child]:
    """Starts the child; whichever process it is by then is ended when the block is left."""
    try:
        child.start()
        yield child
    finally:
        child.stop()


def run(environment: Mapping[str, str], *module: str) -> tuple[bool, str]:
    """Runs a module of Python's to its end: whether it went well, and what it said."""
    command = [sys.executable, "-m", *module]
    done = subprocess.run(command, cwd=CHECKOUT, env=environment, capture_output=True, text=True, check=False)
    return done.returncode == 0, f"{done.stdout}{done.stderr}"


def _explain(code: int) -> str:
    return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
