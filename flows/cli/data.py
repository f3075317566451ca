"""Commands for data: list datasets, validate a source, forget users, generate synthetic ratings."""

import shutil
import sys
from pathlib import Path
from typing import Any

import click

from flows.cli.console import home_of, home_option, make_settings, report_errors, source_option
from flows.cli.output import (
    PIPE_WIDTH,
    format_option,
    is_for_people,
    json_option,
    print_frame,
    print_json,
    print_page,
)
from flows.cli.parameter_types import ACCEPTED, Moment
from recsys.errors import RecsysError
from recsys.home import Run


@click.command()
@click.option("--local", is_flag=True, help="List the snapshots on this machine instead, with size and age.")
@home_option
@format_option
@json_option
@report_errors
def datasets(local: bool, home: Path | None, as_json: bool) -> None:
    """List the MovieLens editions, or the local snapshots.

    --source accepts the name of an edition.

    \b
    Examples:
      recsys datasets
      recsys datasets --local --home data
    """
    from recsys.ingest.editions import FOOTNOTE, list_datasets
    from recsys.ingest.retention import list_local

    if local:
        print_frame(list_local(home_of(home), in_words=not as_json))
        return
    print_frame(list_datasets(in_words=not as_json))
    if is_for_people():
        click.echo(f"\n{FOOTNOTE}")


@click.command()
@source_option
@home_option
@click.option("--as-of", type=Moment(), metavar="T", help=f"Validate only ratings before T: {ACCEPTED}.")
@json_option
@report_errors
def check(as_json: bool, **options: Any) -> None:
    """Validate a source without running a night.

    Shows the result of every rule, and whether a night would accept the data. Nothing is trained or published. Exit
    code 0 if the data are accepted, 3 if they are refused.

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
@click.option("--undo", is_flag=True, help="Remove the users from the list of forgotten users.")
@home_option
@json_option
@report_errors
def forget(user_ids: tuple[int, ...], undo: bool, home: Path | None, as_json: bool) -> None:
    """Remove users from all future data.

    New snapshots do not contain them, and neither do the tables of the next night. The next night that publishes also
    deletes the older snapshots and run folders that contain them. Checkpoints of interrupted trainings are deleted at
    once. The source and the fetched archives are not changed. Without USER_ID, the forgotten users are listed.

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
        with locked(place, "a request to forget"):  # a running night would publish rows that it has already read
            (forgotten.remember if undo else forgotten.forget)(user_ids, place)
    listed = forgotten.read_forgotten(place)
    if as_json:
        rows = [{"user_id": user_id, "asked_at": listed.asked_at[user_id]} for user_id in listed.user_ids]
        print_json({"rows": rows})
        return
    for user_id in listed.user_ids:
        click.echo(f"user {user_id}: requested {listed.asked_at[user_id]:%Y-%m-%d %H:%M} UTC")
    click.echo(f"{len(listed.user_ids)} users are left out of {place.root} from the next night on")
    if user_ids and not undo:
        click.echo(forgotten.NOT_REACHED)


@click.command()
@click.argument("size")
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Same seed, same ratings.")
@json_option
@report_errors
def generate(size: str, path: Path, seed: int, as_json: bool) -> None:
    """Write synthetic ratings to PATH.

    They have the MovieLens layout, in a zip file if PATH ends in .zip, otherwise in a folder. SIZE is
    <users>x<movies>x<ratings>. The result can be used as a --source.

    \b
    Examples:
      recsys generate 1000x500x50000 /tmp/synthetic.zip
      recsys generate 200948x87585x32000000 /tmp/large.zip --seed 1      as large as ML-32M
      recsys nightly --source /tmp/synthetic.zip
    """
    from recsys.ingest.synthetic.generate import generate as write_ratings

    made = write_ratings(size, path, seed)
    if as_json:
        print_json(made.__dict__)
    else:
        click.echo(
            f"{made.path}: {made.ratings:,} synthetic ratings and {made.tags:,} tags of {made.users:,} users and "
            f"{made.movies:,} movies, {made.bytes / 1e6:,.1f} MB, in {made.seconds:.1f} s"
        )


def print_check(run: Run, as_json: bool) -> None:
    """Prints the results of the checks. Prints nothing if the run ended before them."""
    from recsys.checks.report import describe_check, render_check

    if as_json:
        found = describe_check(run)
        if found:
            print_json(found)
        return
    on_terminal = sys.stdout.isatty()
    width = min(max(shutil.get_terminal_size().columns, 80), PIPE_WIDTH) if on_terminal else PIPE_WIDTH
    page = render_check(run, width, colours=on_terminal)
    if page:
        print_page(page)
