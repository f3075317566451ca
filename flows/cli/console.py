"""What every command has in common: options, settings, errors in one paragraph, output for people and machines."""

import atexit
import functools
import json
import logging
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from recsys.errors import RecsysError, UsageError, is_interruption
from recsys.home import Home

if TYPE_CHECKING:
    import polars as pl

INTERRUPTED, TERMINATED = 128 + signal.SIGINT, 128 + signal.SIGTERM  # the exit codes that shells know
WIDTH_OF_A_FILE = 160  # columns of a table that goes to a file or a pipe

received_signal: list[int] = []  # the exit code of the signal that ended this process, if one did

Command = Callable[..., None]


def shared(command: Command) -> Command:
    """The options that every command has, and errors told in one paragraph rather than a traceback."""

    @click.option("--debug", is_flag=True, help="Show the traceback of an error, and everything that is logged.")
    @functools.wraps(command)
    def run_command(*args: Any, debug: bool, **kwargs: Any) -> None:
        prepare_process(debug=debug)
        try:
            command(*args, **kwargs)
        except RecsysError as error:
            if debug:
                raise
            fail(str(error), error.exit_code)
        except KeyboardInterrupt as error:
            fail("interrupted", exit_code_of(error))
        except BrokenPipeError:
            raise  # the reader has seen enough, as in `| head`; click ends that quietly
        except Exception as error:
            if debug:
                raise
            if is_interruption(error):
                fail("interrupted", exit_code_of(error))
            fail(f"unexpected {type(error).__name__}: {error}. Run it again with --debug for the traceback.", 1)

    return run_command


home_option = click.option(
    "--home",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of the tables and runs.  [default: data, or $RECSYS_HOME]",
)
config_option = click.option(
    "--config",
    type=click.Path(path_type=Path, dir_okay=False),
    help="A network and its config, as recsys tune writes them.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON for machines.")


def prepare_process(*, debug: bool) -> None:
    """Logging to stderr, and what must be in the environment before torch and Prefect are imported."""
    console = logging.StreamHandler(sys.stderr)
    console.setLevel(logging.DEBUG if debug else logging.INFO)
    logging.basicConfig(format="%(asctime)s %(message)s", datefmt="%H:%M:%S", handlers=[console])
    logging.getLogger("recsys").setLevel(logging.DEBUG if debug else logging.INFO)
    defaults = {
        "OMP_WAIT_POLICY": "PASSIVE",  # spinning threads starve each other on a busy machine
        "DO_NOT_TRACK": "1",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_LOGGING_LEVEL": "DEBUG" if debug else "CRITICAL",  # errors are told by us, once
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
    }
    for name, value in defaults.items():
        os.environ.setdefault(name, value)


def run_program(main: Callable[[], None]) -> None:
    """Runs `main` as the whole of this process, and leaves without taking the interpreter apart.

    That would take most of a second once torch or Great Expectations is loaded, and make nanobind print a page of
    alarm about objects of DuckDB that threads of Prefect still hold. Whatever is registered to be done at the end is.
    """
    exit_code: list[int] = [1]
    atexit.register(_leave, exit_code)  # the first to be registered, so the last to run
    signal.signal(signal.SIGTERM, _terminate)  # by an exception, so that a night records how it ended
    signal.signal(signal.SIGINT, _interrupt)
    try:
        main()
    except SystemExit as end:
        exit_code[0] = end.code if isinstance(end.code, int) else int(end.code is not None)
        raise


def _terminate(*_: object) -> None:
    received_signal.append(TERMINATED)
    raise SystemExit(TERMINATED)


def _interrupt(*_: object) -> None:
    received_signal.append(INTERRUPTED)
    raise KeyboardInterrupt


def _leave(exit_code: list[int]) -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(exit_code[0])


def exit_code_of(error: BaseException) -> int:
    """The exit code of an error that a signal caused. DuckDB raises one of its own when a signal interrupts a query."""
    if isinstance(error, KeyboardInterrupt):
        return INTERRUPTED
    return received_signal[-1] if received_signal else TERMINATED


def make_settings(*, config: Path | None = None, **options: Any) -> Any:
    """Settings from the options given; the rest from the environment, then the defaults. Raises: UsageError.

    `config` is a file of a network's config, as `recsys tune` writes it; the settings hold what is in it.
    """
    from pydantic import ValidationError
    from pydantic_settings import SettingsError

    from recsys.settings import Settings

    options["config"] = read_config(config) if config else None
    try:
        return Settings(**{name: value for name, value in options.items() if value is not None})
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(map(str, problem['loc']))} = {problem['input']!r}: {problem['msg']}"
            for problem in error.errors()
        )
        raise UsageError(f"{problems}. See recsys COMMAND --help") from None
    except SettingsError as error:  # a list, or a group of settings, that is no JSON
        raise UsageError(
            f"{error}: {error.__cause__}. Next: write several values as JSON, as in "
            """RECSYS_RULES__BLOCKED='["blocked.csv"]'"""
        ) from None


def read_config(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:  # of which a byte that is no UTF-8 is one
        raise UsageError(
            f"--config {path} cannot be read as JSON: {error}. Next: give a file that recsys tune wrote"
        ) from None


def home_of(home: Path | None) -> Home:
    return Home(make_settings(home=home).home)


def print_frame(frame: "pl.DataFrame", as_json: bool) -> None:
    if as_json:
        print_json(frame.to_dicts())
        return
    from rich.console import Console

    from recsys.runs.summary import frame_table

    width = None if sys.stdout.isatty() else WIDTH_OF_A_FILE
    Console(highlight=False, width=width).print(frame_table(frame))


def print_json(value: Any) -> None:
    click.echo(json.dumps(value, indent=2, default=str))


def fail(message: str, exit_code: int) -> None:
    click.echo(f"recsys: {message}", err=True)
    raise SystemExit(exit_code)
