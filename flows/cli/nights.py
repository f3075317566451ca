"""Commands that publish past nights: roll back to an earlier run, and backfill missing nights."""

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import click

from flows.cli.console import (
    home_of,
    home_option,
    make_settings,
    model_option,
    n_option,
    report_errors,
    resumable,
    seed_option,
    source_option,
)
from flows.cli.output import format_option, is_for_people, json_option, print_frame, print_json, print_table, show_value
from flows.cli.parameter_types import ACCEPTED, Moment, Step
from recsys.errors import UsageError
from recsys.home import Home
from recsys.printable import printable_lines


@click.command()
@click.argument("run_id", required=False)
@click.option("--list", "only_list", is_flag=True, help="List the runs that can be published again; change nothing.")
@click.option("--release", is_flag=True, help="Let nights publish again after a rollback.")
@home_option
@format_option
@json_option
@report_errors
def rollback(run_id: str | None, only_list: bool, release: bool, home: Path | None, as_json: bool) -> None:
    """Publish the lists of an earlier run again.

    Without RUN_ID: those of the run before the current one. Readers see one atomic change. The rollback is recorded in
    the table runs. Nights still run, but none publishes until --release.

    \b
    Examples:
      recsys rollback
      recsys rollback --list
      recsys rollback 20261121T030000Z
      recsys rollback --release
    """
    from recsys.runs import rollback as back

    place = home_of(home)
    if only_list:
        shown = ["run_id", "as_of", "dataset", "model", "is_served", "is_kept"]
        print_frame(back.list_targets(place).select(shown))
        return
    if release:
        if run_id:
            raise UsageError("pass a RUN_ID or --release, not both. See recsys rollback --help")
        served = back.release(place)
        result: dict[str, Any] = {"released": True, "served": served}
        message = f"run {served} is published; the next night that passes the gate replaces it"
    else:
        done = back.roll_back(place, run_id)
        result = done.__dict__
        message = (
            f"run {done.to_run} is published in place of {done.from_run}. Nights are held back until "
            f"`recsys rollback --release --home {place.root}`"
        )
    if as_json:
        print_json(result)
    else:
        click.echo(message)


@click.command()
@click.option("--from", "first", type=Moment(), required=True, metavar="T", help=f"The first night: {ACCEPTED}.")
@click.option(
    "--to", "last", type=Moment(), default="today", show_default=True, metavar="T", help="The last night, inclusive."
)
@click.option("--step", type=Step(), default="1d", show_default=True, help="Time from one night to the next.")
@source_option
@home_option
@model_option
@n_option
@seed_option
@json_option
@report_errors
def backfill(first: datetime, last: datetime, step: timedelta, as_json: bool, **options: Any) -> None:
    """Run the missing nights between two moments.

    Each uses only the ratings before its own moment. Nights that have lists are skipped, so an interrupted backfill can
    be repeated. A night earlier than the published one is added to recommendation_history and changes nothing else. A
    refused or held back night does not end the backfill.

    \b
    Examples:
      recsys backfill --from 7d                             the last week, up to this morning at 00:00 UTC
      recsys backfill --from 1998-04-01 --to 1998-04-07
      recsys backfill --from 1998-04-01T00:00 --to 1998-04-02T00:00 --step 12h --source ml-100k.zip --json
    """
    settings = make_settings(**options)
    from flows.launch import run_backfill
    from recsys.backfill import list_moments

    list(list_moments(first, last, step))  # invalid moments are reported before Prefect starts
    with resumable(settings.home):
        filled = run_backfill(first, last, step, settings)
    if as_json:
        print_json({"rows": [night.__dict__ for night in filled]})
    else:
        for night in filled:
            why = f": {printable_lines(night.reason)}" if night.reason else ""
            click.echo(f"{night.as_of:%Y-%m-%d %H:%M}  {night.run_id or ''}  {night.verdict}{why}")
    if code := next((night.exit_code for night in filled if night.exit_code), 0):
        raise SystemExit(code)


@click.command()
@click.argument("run_id", required=False)
@click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True, help="Number of runs to list.")
@home_option
@format_option
@json_option
@report_errors
def runs(run_id: str | None, limit: int, home: Path | None, as_json: bool) -> None:
    """List all nights, newest first, or show one.

    The list includes refused, failed and held back nights. With RUN_ID: the verdict and its reason, the figures on the
    holdout and the seconds of each step; CSV and JSON have all figures.

    \b
    Examples:
      recsys runs --limit 5
      recsys runs 20261121T030000Z
    """
    if run_id:
        print_run(home_of(home), run_id, as_json)
        return
    from recsys.warehouse.lookup import list_runs

    print_frame(
        list_runs(home_of(home), limit), ["run_id", "verdict", "dataset", "snapshot", "model", "as_of", "reason"]
    )


def print_run(home: Home, run_id: str, as_json: bool) -> None:
    from recsys.ask.runs import open_run, summarise_figures

    run = open_run(home, run_id)
    if as_json:
        print_json({**run.record, "metrics": run.metrics.to_dicts(), "steps": run.steps.to_dicts()})
    elif not is_for_people():
        print_frame(run.metrics)
    else:
        for name, value in run.record.items():
            if value is not None:
                click.echo(f"{name:13} {show_value(value)}")
        for table in (summarise_figures(run), run.steps):
            click.echo()
            print_table(table)
        if run.folder.is_dir():
            click.echo(f"\nfiles in {run.folder}")
