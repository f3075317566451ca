"""Shared parts of all commands: common options, settings, error messages, and output as tables or JSON."""

import atexit
import functools
import io
import json
import logging
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from recsys.errors import RecsysError, UsageError, is_interruption
from recsys.home import Home
from recsys.printable import Escaping, printable_lines

if TYPE_CHECKING:
    import polars as pl

EXIT_INTERRUPTED = 128 + signal.SIGINT  # 130, the convention of shells for Ctrl-C
EXIT_TERMINATED = 128 + signal.SIGTERM  # 143
PIPE_WIDTH = 160  # columns of a table that is written to a file or a pipe

received_signal: list[int] = []  # exit codes of the signals that this process has received

Command = Callable[..., None]


def report_errors(command: Command) -> Command:
    """Adds `--debug` to a command, and reports an error as one paragraph instead of a traceback."""

    @click.option("--debug", is_flag=True, help="Show debug logs, and the traceback of an error.")
    @functools.wraps(command)
    def run_command(*args: Any, debug: bool, **kwargs: Any) -> None:
        configure_process(debug=debug)
        try:
            command(*args, **kwargs)
        except RecsysError as error:
            if debug:
                raise
            fail(str(error), error.exit_code)
        except KeyboardInterrupt as error:
            fail("interrupted", exit_code_of(error))
        except BrokenPipeError:
            raise  # the reader closed the pipe, as in `| head`; click exits silently
        except Exception as error:
            if debug:
                raise
            if is_interruption(error):
                fail("interrupted", exit_code_of(error))
            fail(f"unexpected {type(error).__name__}: {error}. Next: run it again with --debug to see the traceback", 1)

    return run_command


home_option = click.option(
    "--home",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of the tables and runs.  [default: data, or $RECSYS_HOME]",
)
source_option = click.option(
    "--source", help="Dataset name, archive, directory, or synthetic:UxMxR.  [default: ml-100k]"
)
n_option = click.option("--n", type=int, help="Movies per user.  [default: 10]")
seed_option = click.option("--seed", type=int, help="Seed of the split and the network.  [default: 0]")
config_option = click.option(
    "--config",
    type=click.Path(path_type=Path, dir_okay=False),
    help="JSON file with a network and its config, as written by recsys tune.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def configure_process(*, debug: bool) -> None:
    """Configures logging to stderr, and the environment variables that torch and Prefect read on import."""
    console = logging.StreamHandler(sys.stderr)
    console.setLevel(logging.DEBUG if debug else logging.INFO)
    console.addFilter(Escaping())
    logging.basicConfig(format="%(asctime)s %(message)s", datefmt="%H:%M:%S", handlers=[console])
    logging.getLogger("recsys").setLevel(logging.DEBUG if debug else logging.INFO)
    defaults = {
        "OMP_WAIT_POLICY": "PASSIVE",  # spinning threads starve each other on a busy machine
        "DO_NOT_TRACK": "1",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_LOGGING_LEVEL": "DEBUG" if debug else "CRITICAL",  # `report_errors` prints errors
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
    }
    for name, value in defaults.items():
        os.environ.setdefault(name, value)


def run_program(main: Callable[[], None]) -> None:
    """Runs `main` as the whole program, and exits without finalising the interpreter.

    Finalising takes most of a second after torch or Great Expectations is loaded. It also makes nanobind print a page
    of warnings about DuckDB objects that Prefect's threads still hold. Functions registered with `atexit` still run.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # as stderr: a title must not decide the exit code
    exit_code: list[int] = [1]
    atexit.register(_exit_now, exit_code)  # registered first, so it runs last
    signal.signal(signal.SIGTERM, _terminate)  # raises an exception, so that a night records how it ended
    signal.signal(signal.SIGINT, _interrupt)
    try:
        main()
    except SystemExit as end:
        exit_code[0] = end.code if isinstance(end.code, int) else int(end.code is not None)
        raise


def _terminate(*_: object) -> None:
    received_signal.append(EXIT_TERMINATED)
    raise SystemExit(EXIT_TERMINATED)


def _interrupt(*_: object) -> None:
    received_signal.append(EXIT_INTERRUPTED)
    raise KeyboardInterrupt


def _exit_now(exit_code: list[int]) -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(exit_code[0])


def exit_code_of(error: BaseException) -> int:
    """The exit code of an error that a signal caused. DuckDB raises its own error if a signal interrupts a query."""
    if isinstance(error, KeyboardInterrupt):
        return EXIT_INTERRUPTED
    return received_signal[-1] if received_signal else EXIT_TERMINATED


@contextmanager
def resumable(home: Path) -> Iterator[None]:
    """If a signal interrupts the night in the block, ends the program with a message that says how to resume it."""
    try:
        yield
    except BaseException as error:
        if not is_interruption(error):
            raise
        from recsys.runs.resume import describe_interruption

        fail(describe_interruption(Home(home.absolute())), exit_code_of(error))


def make_settings(*, config: Path | None = None, **options: Any) -> Any:
    """Settings from the given options, then the environment, then the defaults.

    `config` is the path of a JSON file with a network's config. The content of the file becomes the setting `config`.

    Raises: UsageError for an invalid value.
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
    except SettingsError as error:  # invalid JSON for a list or a group of settings
        raise UsageError(
            f"{error}: {error.__cause__}. Next: write lists as JSON, for example "
            """RECSYS_RULES__BLOCKED='["blocked.csv"]'"""
        ) from None


def read_config(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:  # ValueError includes invalid UTF-8
        raise UsageError(
            f"--config {path} cannot be read as JSON: {error}. Next: pass a file that recsys tune has written"
        ) from None


def home_of(home: Path | None) -> Home:
    return Home(make_settings(home=home).home)


def print_frame(frame: "pl.DataFrame", as_json: bool) -> None:
    if as_json:
        print_json(frame.to_dicts())
        return
    from rich.console import Console

    from recsys.runs.summary import frame_table

    width = None if sys.stdout.isatty() else PIPE_WIDTH
    Console(highlight=False, width=width).print(frame_table(frame))


def print_json(value: Any) -> None:
    click.echo(json.dumps(value, indent=2, default=str))


def fail(message: str, exit_code: int) -> None:
    click.echo(f"recsys: {printable_lines(message)}", err=True)
    raise SystemExit(exit_code)
