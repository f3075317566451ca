"""The command line. It imports what a command needs when that command runs, so that `recsys --help` is instant."""

import atexit
import functools
import json
import logging
import os
import shutil
import sys
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from recsys.errors import RecsysError, UsageError
from recsys.home import Home, Run

if TYPE_CHECKING:
    import polars as pl

MODELS = ("auto", "ordinal", "softmax")

WIDTH_OF_A_FILE = 160  # columns of a table that goes to a file or a pipe

Command = Callable[..., None]


def shared(command: Command) -> Command:
    """The options that every command has, and errors told in one paragraph rather than a traceback."""

    @click.option("--debug", is_flag=True, help="Show the traceback of an error, and everything that is logged.")
    @functools.wraps(command)
    def run_command(*args: Any, debug: bool, **kwargs: Any) -> None:
        _prepare_process(debug=debug)
        try:
            command(*args, **kwargs)
        except RecsysError as error:
            if debug:
                raise
            _fail(str(error), error.exit_code)
        except Exception as error:
            if debug:
                raise
            _fail(f"unexpected {type(error).__name__}: {error}. Run it again with --debug for the traceback.", 1)

    return run_command


home_option = click.option(
    "--home",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of the tables and runs.  [default: data, or $RECSYS_HOME]",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON for machines.")


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="recsys")
def main() -> None:
    """A nightly movie recommender: MovieLens in, audited top-N tables in DuckDB out.

    \b
    Examples:
      recsys nightly                      one night on MovieLens 100K
      recsys recommend 42                 what user 42 should see
      recsys runs                         every night so far, refused ones too

    Exit codes: 0 success, 2 wrong usage, 3 the data were refused, 4 the gate held the model back, 1 anything else.
    """


@main.command()
@click.option("--source", help="Dataset name, archive, directory, or synthetic:UxMxR.  [default: ml-100k]")
@home_option
@click.option("--model", type=click.Choice(MODELS), help="Network; auto takes the better one on validation.")
@click.option("--as-of", type=datetime.fromisoformat, metavar="T", help="Know only ratings before T, e.g. 1998-04-01.")
@click.option("--n", type=int, help="Movies per user.  [default: 10]")
@click.option("--seed", type=int, help="Seed of the split and the network.  [default: 0]")
@json_option
@shared
def nightly(as_json: bool, **options: Any) -> None:
    """Run one night in this process: fetch, check, train, evaluate, publish.

    \b
    Examples:
      recsys nightly
      recsys nightly --source ml-1m.zip --n 20 --seed 1
      recsys nightly --source synthetic:500x300x20000 --home /tmp/try --json
    """
    settings = _settings(**options)
    from flows.nightly import nightly as run_night
    from recsys.summary import render, summarise

    try:
        summary = run_night(settings)
    except RecsysError as error:
        if as_json and error.run:
            _print_json(summarise(error.run, {}, verdict=error.verdict, reason=str(error)).__dict__)
        raise
    if as_json:
        _print_json(summary.__dict__)
    else:
        click.echo(render(summary))


@main.command()
@click.option(
    "--train",
    required=True,
    type=click.Path(path_type=Path, dir_okay=False),
    help="Parquet: user_id, movie_id, rating.",
)
@click.option(
    "--holdout",
    required=True,
    type=click.Path(path_type=Path, dir_okay=False),
    help="Parquet: user_id, movie_id[, rating].",
)
@click.option("--source", help="Where movies, users and the rating scale come from.  [default: ml-100k]")
@home_option
@click.option("--model", type=click.Choice(MODELS), help="Network; auto takes the better one on a part of --train.")
@click.option(
    "--predictions",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write user_id, movie_id, rating_mean, rating_median.",
)
@click.option("--lists", type=click.Path(path_type=Path, dir_okay=False), help="Write user_id, rank, movie_id, score.")
@click.option("--n", type=int, help="Movies per user in --lists.  [default: 10]")
@click.option("--seed", type=int, help="Seed of the network.  [default: 0]")
@json_option
@shared
def evaluate(
    train: Path, holdout: Path, predictions: Path | None, lists: Path | None, as_json: bool, **options: Any
) -> None:
    """Learn from one file of ratings, predict another: check our figures with your own split and code.

    \b
    Example:
      recsys evaluate --train train.parquet --holdout holdout.parquet --predictions p.parquet --lists l.parquet
    """
    settings = _settings(**options)
    from recsys.evaluate_files import evaluate_files

    report = evaluate_files(train, holdout, settings, predictions=predictions, lists=lists)
    if as_json:
        _print_json(report)
    else:
        click.echo(f"{report['model']}, {report['epochs']} epochs, chosen on a part of {train}")
        for model, metrics in report["metrics"].items():
            click.echo(f"{model}: " + ", ".join(f"{name} {value:.4f}" for name, value in metrics.items()))


@main.command()
@click.argument("user_id", type=int)
@click.option("--n", type=click.IntRange(min=1), help="Only the first N of the list.")
@home_option
@json_option
@shared
def recommend(user_id: int, n: int | None, home: Path | None, as_json: bool) -> None:
    """Show the published list of USER_ID.

    \b
    Example:
      recsys recommend 42 --n 5
    """
    from recsys.warehouse.lookup import recommend as look_up

    rows = look_up(_home(home), user_id)
    if len(rows) < (n or 1):
        click.echo(f"the published list of user {user_id} has {len(rows)} movies", err=True)
    _print_frame(rows.head(n) if n else rows, as_json)


@main.command()
@click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True, help="Newest runs shown.")
@home_option
@json_option
@shared
def runs(limit: int, home: Path | None, as_json: bool) -> None:
    """List the nights, newest first, refused and failed ones too.

    \b
    Example:
      recsys runs --limit 5
    """
    from recsys.warehouse.lookup import list_runs

    frame = list_runs(_home(home), limit)
    shown = ["run_id", "verdict", "dataset", "snapshot", "model", "as_of", "reason"]
    _print_frame(frame if as_json else frame.select(shown), as_json)


@main.command()
@click.option("--local", is_flag=True, help="The snapshots on this machine instead, with size and age.")
@home_option
@json_option
@shared
def datasets(local: bool, home: Path | None, as_json: bool) -> None:
    """List the MovieLens editions that --source knows by name, or the snapshots that are here.

    \b
    Examples:
      recsys datasets
      recsys datasets --local --home data
    """
    from recsys.ingest.datasets import FOOTNOTE, list_datasets
    from recsys.ingest.retention import list_local

    if local:
        _print_frame(list_local(_home(home), in_words=not as_json), as_json)
        return
    _print_frame(list_datasets(in_words=not as_json), as_json)
    if not as_json:
        click.echo(f"\n{FOOTNOTE}")


@main.command()
@click.option("--source", help="Dataset name, archive, directory, or synthetic:UxMxR.  [default: ml-100k]")
@home_option
@click.option("--as-of", type=datetime.fromisoformat, metavar="T", help="Judge only ratings before T.")
@json_option
@shared
def check(as_json: bool, **options: Any) -> None:
    """Validate a source and do nothing else: every rule, what it found, and whether a night would go on.

    Publishes nothing and leaves the tables alone. Exits with 0, or with 3 where the data are refused.

    \b
    Examples:
      recsys check
      recsys check --source drops/ --json
      RECSYS_CHECK__LIMITS__UNREADABLE=0.02 recsys check --source ml-1m.zip
    """
    settings = _settings(**options)
    from recsys.checks.report import check_source

    try:
        _print_check(check_source(settings), as_json)
    except RecsysError as error:
        if error.run:
            _print_check(error.run, as_json)
        raise


@main.command()
@click.argument("user_ids", type=click.IntRange(min=1), nargs=-1, metavar="USER_ID...")
@click.option("--undo", is_flag=True, help="Take the users off the list again.")
@home_option
@json_option
@shared
def forget(user_ids: tuple[int, ...], undo: bool, home: Path | None, as_json: bool) -> None:
    """Forget users: no snapshot from now on has a row of theirs, nor has any table from the next night on.

    The night that publishes next also deletes what still holds them: older snapshots and the folders of older runs.
    The source itself and archives as fetched are not changed. Without USER_ID, lists who is to be forgotten.

    \b
    Examples:
      recsys forget 42
      recsys forget 42 108 --undo
      recsys forget
    """
    from recsys import forgotten
    from recsys.night import locked

    place = _home(home)
    if user_ids:
        with locked(place):  # a night under way would publish what it has read before
            (forgotten.remember if undo else forgotten.forget)(user_ids, place)
    listed = forgotten.read_forgotten(place)
    if as_json:
        _print_json({str(user_id): listed.asked_at[user_id].isoformat() for user_id in listed.user_ids})
        return
    for user_id in listed.user_ids:
        click.echo(f"user {user_id}: asked {listed.asked_at[user_id]:%Y-%m-%d %H:%M} UTC")
    click.echo(f"{len(listed.user_ids)} users of {place.root} are forgotten from its next night on")


@main.command()
@click.argument("size")
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Same seed, same ratings.")
@json_option
@shared
def generate(size: str, path: Path, seed: int, as_json: bool) -> None:
    """Write made-up ratings in MovieLens's layout to PATH: a zip if it ends in .zip, else a folder.

    SIZE is <users>x<movies>x<ratings>. The files are read like any other source.

    \b
    Examples:
      recsys generate 1000x500x50000 /tmp/made-up.zip
      recsys generate 200948x87585x32000000 /tmp/large.zip --seed 1      as large as ML-32M
      recsys nightly --source /tmp/made-up.zip
    """
    from recsys.ingest.generate import generate as write_made_up

    made = write_made_up(size, path, seed)
    if as_json:
        _print_json(made.__dict__)
    else:
        click.echo(
            f"{made.path}: {made.ratings:,} made-up ratings and {made.tags:,} tags of {made.users:,} users and "
            f"{made.movies:,} movies, {made.bytes / 1e6:,.1f} MB, in {made.seconds:.1f} s"
        )


def _prepare_process(*, debug: bool) -> None:
    """Logging to stderr, and what must be in the environment before torch and Prefect are imported."""
    atexit.register(hush_exit)  # the first to be registered, so the last to run
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


def hush_exit() -> None:
    """Closes stderr to what the interpreter's end has to say: nanobind lists every DuckDB object that a thread of
    Prefect still holds, a page of alarm about nothing.
    """
    sys.stderr.flush()
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)


def _settings(**options: Any) -> Any:
    """Settings from the options given; the rest from the environment, then the defaults. Raises: UsageError."""
    from pydantic import ValidationError

    from recsys.settings import Settings

    try:
        return Settings(**{name: value for name, value in options.items() if value is not None})
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(map(str, problem['loc']))} = {problem['input']!r}: {problem['msg']}"
            for problem in error.errors()
        )
        raise UsageError(f"{problems}. See recsys COMMAND --help") from None


def _home(home: Path | None) -> Home:
    return Home(_settings(home=home).home)


def _print_frame(frame: "pl.DataFrame", as_json: bool) -> None:
    if as_json:
        _print_json(frame.to_dicts())
        return
    from rich.console import Console

    from recsys.summary import frame_table

    width = None if sys.stdout.isatty() else WIDTH_OF_A_FILE
    Console(highlight=False, width=width).print(frame_table(frame))


def _print_check(run: Run, as_json: bool) -> None:
    """Nothing, where the run did not get as far as its checks."""
    from recsys.checks.report import describe_check, render_check

    if as_json:
        found = describe_check(run)
        if found:
            _print_json(found)
        return
    on_terminal = sys.stdout.isatty()
    width = min(max(shutil.get_terminal_size().columns, 80), WIDTH_OF_A_FILE) if on_terminal else WIDTH_OF_A_FILE
    page = render_check(run, width, colours=on_terminal)
    if page:
        click.echo(page, nl=False)


def _print_json(value: Any) -> None:
    click.echo(json.dumps(value, indent=2, default=str))


def _fail(message: str, exit_code: int) -> None:
    click.echo(f"recsys: {message}", err=True)
    raise SystemExit(exit_code)
