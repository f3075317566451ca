"""The commands about the published tables as a whole: whether they are fresh, and taking them elsewhere."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from flows.cli.console import home_of, home_option, json_option, print_json, shared

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
@shared
def status(max_age: float | None, home: Path | None, as_json: bool) -> None:
    """Say in one line what is served, how old it is, and what went wrong last.

    A night succeeds if it published, or found that the lists being served are still right. Exits with 0 if something
    is served and, with --max-age, if the newest such night ended at most H hours ago; with 1 otherwise.

    \b
    Examples:
      recsys status
      recsys status --max-age 26              for monitoring: a night a day, and two hours of grace
      15 * * * * recsys status --max-age 26 --home /srv/recsys >/tmp/status || mail -s recsys me </tmp/status
    """
    from recsys.warehouse.status import status as ask

    tell_status(ask(home_of(home), max_age), as_json)


def tell_status(found: "Status", as_json: bool) -> None:
    """In one line, or as JSON; the exit code is 1 if it is not well."""
    from recsys.warehouse.status import render

    if as_json:
        print_json(found.as_json())
    else:
        click.echo(render(found))
    if not found.ok:
        raise SystemExit(1)


@click.command()
@click.argument("directory", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--tables", metavar="A,B", help="Only these.  [default: all but recommendation_history]")
@click.option("--keep", type=click.IntRange(min=1), metavar="K", help="Remove all but the newest K runs from DIR.")
@home_option
@json_option
@shared
def export(directory: Path, tables: str | None, keep: int | None, home: Path | None, as_json: bool) -> None:
    """Write the tables that are served to DIR as Parquet, for engines other than DuckDB.

    Each run gets DIR/TABLE/run_id=RUN/part-0.parquet, complete or not at all. DIR/_latest.json is written last and
    names the run to read. The same run again changes nothing. Users who asked to be forgotten are left out, and
    partitions that were written before the newest such request are removed.

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
        click.echo(f"run {done.run_id} is in {done.directory} already, nothing to write: {rows} rows")
    if done.removed:
        click.echo(f"removed {len(done.removed)} partitions of other runs, the first {done.removed[0]}")
