"""Shared parts of all commands: common options, settings, logs and error messages."""

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
from typing import Any

import click

from flows.cli.output import STAMP, note_error, print_document
from flows.cli.parameter_types import Name
from recsys.errors import RecsysError, UsageError, is_interruption, panics_as_errors
from recsys.home import Home
from recsys.printable import Escaping, printable_lines

EXIT_INTERRUPTED = 128 + signal.SIGINT  # 130, the convention of shells for Ctrl-C
EXIT_TERMINATED = 128 + signal.SIGTERM  # 143

INTERRUPTED, UNEXPECTED = "Interrupted", "Unexpected"  # kinds of errors that are not in `recsys.errors`

received_signal: list[int] = []  # exit codes of the signals that this process has received

Command = Callable[..., None]


def report_errors(command: Command) -> Command:
    """Adds `--quiet`, `--verbose` and `--debug` to a command, and reports an error as one paragraph, not a traceback.

    Prints the JSON document of the command when it ends.
    """

    @click.option("-q", "--quiet", is_flag=True, help="Log only warnings and errors.")
    @click.option("-v", "--verbose", is_flag=True, help="Log details, too.")
    @click.option("--debug", is_flag=True, help="Log details, and show the traceback of an error.")
    @functools.wraps(command)
    def run_command(*args: Any, quiet: bool, verbose: bool, debug: bool, **kwargs: Any) -> None:
        configure_process(logging.DEBUG if debug or verbose else logging.WARNING if quiet else logging.INFO)
        try:
            with panics_as_errors():
                command(*args, **kwargs)
        except BrokenPipeError:
            raise  # the reader closed the pipe, as in `| head`; click exits silently
        except (Exception, KeyboardInterrupt) as error:
            kind, message, exit_code = describe(error)
            note_error(kind, message, exit_code)
            if debug and isinstance(error, Exception):
                raise
            fail(message, exit_code)
        except SystemExit as end:
            if end.code == EXIT_TERMINATED:
                note_error(INTERRUPTED, "terminated", EXIT_TERMINATED)
            raise
        finally:
            print_document()

    return run_command


def describe(error: BaseException) -> tuple[str, str, int]:
    """Returns the kind of an error, its message and the exit code."""
    if isinstance(error, RecsysError):
        return type(error).__name__, str(error), error.exit_code
    if is_interruption(error):
        return INTERRUPTED, "interrupted", exit_code_of(error)
    advice = "Next: run it again with --debug to see the traceback"
    return UNEXPECTED, f"unexpected {type(error).__name__}: {error}. {advice}", 1


MODELS = (
    "auto", "ordinal", "ordinal_basic", "softmax", "dot", "dot_sgd", "dot_bias", "dot_bias_one_cycle", "mlp",
    "mlp_deep", "recurrent", "recurrent_gru", "wide_deep", "nmf", "hybrid",
)  # fmt: skip

home_option = click.option(
    "--home",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of the tables and runs.  [default: data, or $RECSYS_HOME]",
)
source_option = click.option(
    "--source", help="Dataset name, archive, directory, or synthetic:UxMxR.  [default: ml-100k]"
)
model_option = click.option(
    "--model",
    type=Name(MODELS),
    metavar="NAME",
    help="One of recsys networks, or auto: the best candidate on validation.",
)
n_option = click.option("--n", type=int, help="Movies per user.  [default: 10]")
seed_option = click.option("--seed", type=int, help="Seed of the split and the network.  [default: 0]")
config_option = click.option(
    "--config",
    type=click.Path(path_type=Path, dir_okay=False),
    help="JSON file with a network and its config, as written by recsys tune.",
)


def configure_process(level: int) -> None:
    """Configures logging to stderr, and the environment variables that torch and Prefect read on import."""
    console = logging.StreamHandler(sys.stderr)
    console.setLevel(level)
    console.addFilter(Escaping())
    logging.basicConfig(format="%(asctime)s %(message)s", datefmt="%H:%M:%S", handlers=[console])
    logging.getLogger("recsys").setLevel(min(level, logging.INFO))  # the log file of a night has everything
    logging.getLogger("recsys.bars").setLevel(level)
    defaults = {
        "OMP_WAIT_POLICY": "PASSIVE",  # spinning threads starve each other on a busy machine
        "DO_NOT_TRACK": "1",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_LOGGING_LEVEL": "DEBUG" if level == logging.DEBUG else "CRITICAL",  # `report_errors` prints errors
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

        message, exit_code = describe_interruption(Home(home.absolute())), exit_code_of(error)
        note_error(INTERRUPTED, message, exit_code)
        fail(message, exit_code)


def make_settings(*, config: Path | None = None, **options: Any) -> Any:
    """Settings from the given options, then the environment, then the defaults.

    `config` is the path of a JSON file with a network's config. The content of the file becomes the setting `config`.

    Raises: UsageError for an invalid value.
    """
    from pydantic import ValidationError
    from pydantic_settings import SettingsError

    from flows.cli.mistakes import check_variables, describe_invalid
    from recsys.settings import Settings

    check_variables(os.environ)
    options["config"] = read_config(config) if config else None
    try:
        return Settings(**{name: value for name, value in options.items() if value is not None})
    except ValidationError as error:
        raise UsageError(f"{describe_invalid(error)}. See recsys COMMAND --help") from None
    except SettingsError as error:  # invalid JSON for a list or a group of settings
        raise UsageError(
            f"{error}: {error.__cause__}. Next: write lists as JSON, for example "
            """RECSYS_RULES__BLOCKED='["blocked.csv"]'"""
        ) from None


def read_config(path: Path) -> Any:
    """Reads a network and its config, from a file or from what `recsys networks NAME --json` prints."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:  # ValueError includes invalid UTF-8
        raise UsageError(
            f"--config {path} cannot be read as JSON: {error}. Next: pass a file that recsys tune has written"
        ) from None
    return {key: content[key] for key in content if key not in STAMP} if isinstance(content, dict) else content


def home_of(home: Path | None) -> Home:
    return Home(make_settings(home=home).home)


def fail(message: str, exit_code: int) -> None:
    click.echo(f"recsys: {printable_lines(message)}", err=True)
    raise SystemExit(exit_code)
