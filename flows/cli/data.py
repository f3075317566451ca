"""The commands about data alone: what there is, whether it is good, whom to leave out, and data made up."""

import shutil
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

import click

from flows.cli.console import (
    WIDTH_OF_A_FILE,
    home_of,
    home_option,
    json_option,
    make_settings,
    print_frame,
    print_json,
    shared,
)
from recsys.errors import RecsysError
from recsys.home import Run


@click.command()
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
    from recsys.ingest.editions import FOOTNOTE, list_datasets
    from recsys.ingest.retention import list_local

    if local:
        print_frame(list_local(home_of(home), in_words=not as_json), as_json)
        return
    print_frame(list_datasets(in_words=not as_json), as_json)
    if not as_json:
        click.echo(f"\n{FOOTNOTE}")


@click.command()
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
    settings = make_settings(**options)
    from recsys.checks.report import check_source

    try:
        print_check(check_source(settings), as_json)
    except RecsysError as error:
        if error.run:
            print_check(error.run, as_json)
        raise


@click.command()
@click.argument("user_ids", type=click.IntRange(min=1), nargs=-1, metavar="USER_ID...")
@click.option("--undo", is_flag=True, help="Take the users off the list again.")
@home_option
@json_option
@shared
def forget(user_ids: tuple[int, ...], undo: bool, home: Path | None, as_json: bool) -> None:
    """Forget users: no snapshot from now on has a row of theirs, nor has any table from the next night on.

    The night that publishes next also deletes what still holds them: older snapshots and the folders of older runs.
    Checkpoints of trainings that were killed go at once.
    The source itself and archives as fetched are not changed. Without USER_ID, lists who is to be forgotten.

    \b
    Examples:
      recsys forget 42
      recsys forget 42 108 --undo
      recsys forget
    """
    from recsys import forgotten
    from recsys.runs.night import locked

    place = home_of(home)
    if user_ids:
        with locked(place, "a request to forget"):  # a night under way would publish what it has read before
            (forgotten.remember if undo else forgotten.forget)(user_ids, place)
    listed = forgotten.read_forgotten(place)
    if as_json:
        print_json({str(user_id): listed.asked_at[user_id].isoformat() for user_id in listed.user_ids})
        return
    for user_id in listed.user_ids:
        click.echo(f"user {user_id}: asked {listed.asked_at[user_id]:%Y-%m-%d %H:%M} UTC")
    click.echo(f"{len(listed.user_ids)} users of {place.root} are forgotten from its next night on")


@click.command()
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
    from recsys.ingest.synthetic.generate import generate as write_made_up

    made = write_made_up(size, path, seed)
    if as_json:
        print_json(made.__dict__)
    else:
        click.echo(
            f"{made.path}: {made.ratings:,} made-up ratings and {made.tags:,} tags of {made.users:,} users and "
            f"{made.movies:,} movies, {made.bytes / 1e6:,.1f} MB, in {made.seconds:.1f} s"
        )


def print_check(run: Run, as_json: bool) -> None:
    """Nothing, where the run did not get as far as its checks."""
    from recsys.checks.report import describe_check, render_check

    if as_json:
        found = describe_check(run)
        if found:
            print_json(found)
        return
    on_terminal = sys.stdout.isatty()
    width = min(max(shutil.get_terminal_size().columns, 80), WIDTH_OF_A_FILE) if on_terminal else WIDTH_OF_A_FILE
    page = render_check(run, width, colours=on_terminal)
    if page:
        click.echo(page, nl=False)
