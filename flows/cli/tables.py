"""Commands for the published tables as a whole: status and export."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from flows.cli.console import home_of, home_option, report_errors
from flows.cli.output import json_option, print_json

if TYPE_CHECKING:
    from recsys.warehouse.export import Export
    from recsys.warehouse.status import Status


@click.command()
@click.option(
    "--max-age",
    type=click.FloatRange(min=0, min_open=True),
    metavar="H",
    help="Exit with 1 if no night has succeeded for more than H hours.",
)
@home_option
@json_option
@report_errors
def status(max_age: float | None, home: Path | None, as_json: bool) -> None:
    """Show the published run and its age.

    The output also names the last problem. A night succeeds if it published, or if the published lists are still
    current. Exit code 0 if a run is published and, with --max-age, the last successful night ended at most H hours ago;
    otherwise 1.

    \b
    Examples:
      recsys status
      recsys status --max-age 26              for monitoring: one night a day, two hours of slack
      15 * * * * recsys status --max-age 26 --home /srv/recsys >/tmp/status || mail -s recsys me </tmp/status
    """
    from recsys.warehouse.status import status as ask

    print_status(ask(home_of(home), max_age), as_json)


def print_status(found: "Status", as_json: bool) -> None:
    """Prints the status as one line or as JSON. Raises SystemExit(1) if it is not ok."""
    from recsys.warehouse.status import render

    if as_json:
        print_json(found.as_json())
    else:
        click.echo(render(found))
    if not found.ok:
        raise SystemExit(1)


@click.command()
@click.argument("directory", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--tables", metavar="A,B", help="Export only these tables.  [default: all except recommendation_history]")
@click.option("--keep", type=click.IntRange(min=1), metavar="K", help="Remove all runs except the newest K from DIR.")
@home_option
@json_option
@report_errors
def export(directory: Path, tables: str | None, keep: int | None, home: Path | None, as_json: bool) -> None:
    """Write the published tables to DIR as Parquet files.

    Each table of a run is written atomically to DIR/TABLE/run_id=RUN/part-0.parquet. DIR/_latest.json is written last
    and names the run to read. Exporting the same run again changes nothing. Forgotten users are left out, and
    partitions written before the latest request to forget are removed.

    \b
    Examples:
      recsys export /srv/lake/recsys
      recsys export /srv/lake/recsys --tables recommendations,movies --keep 7
    """
    from recsys.warehouse.export import EXPORTED
    from recsys.warehouse.export import export as write

    done = write(home_of(home), directory, tables.split(",") if tables is not None else EXPORTED, keep)
    if as_json:
        print_json({**done.__dict__, "changed": done.changed})
    else:
        _print_export(done)


def _print_export(done: "Export") -> None:
    rows = ", ".join(f"{table} {count:,}" for table, count in done.rows.items())
    if done.written:
        click.echo(f"run {done.run_id} exported to {done.directory}: {rows} rows")
    else:
        click.echo(f"run {done.run_id} is already in {done.directory}, nothing to write: {rows} rows")
    if done.removed:
        click.echo(f"removed {len(done.removed)} partitions of other runs, the first {done.removed[0]}")
