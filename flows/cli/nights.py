"""Commands that publish past nights: roll back to an earlier run, and backfill missing nights."""

import re
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import click

from flows.cli.console import (
    home_of,
    home_option,
    json_option,
    make_settings,
    n_option,
    print_frame,
    print_json,
    report_errors,
    resumable,
    seed_option,
    source_option,
)
from recsys.errors import UsageError
from recsys.printable import printable_lines

UNITS = {"d": "days", "h": "hours", "m": "minutes"}


class Step(click.ParamType):  # type: ignore[type-arg]  # generic for type checkers only
    """A time between nights, such as 1d, 12h or 30m."""

    name = "step"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        if isinstance(value, timedelta):
            return value
        parts = re.fullmatch(r"([0-9]{1,6})([dhm])", str(value).strip())
        if not parts or not int(parts[1]):
            self.fail(f"{value!r} is not a time between nights; write it as 1d, 12h or 30m", param, ctx)
        return timedelta(**{UNITS[parts[2]]: int(parts[1])})


@click.command()
@click.argument("run_id", required=False)
@click.option("--list", "only_list", is_flag=True, help="List the runs that can be published again; change nothing.")
@click.option("--release", is_flag=True, help="Let nights publish again after a rollback.")
@home_option
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
        print_frame(back.list_targets(place).select(shown), as_json)
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
@click.option("--from", "first", type=datetime.fromisoformat, required=True, metavar="T", help="The first night.")
@click.option(
    "--to", "last", type=datetime.fromisoformat, required=True, metavar="T", help="The last night, inclusive."
)
@click.option("--step", type=Step(), default="1d", show_default=True, help="Time from one night to the next.")
@source_option
@home_option
@click.option("--model", help="Network, as in recsys nightly.")
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
        print_json([night.__dict__ for night in filled])
    else:
        for night in filled:
            why = f": {printable_lines(night.reason)}" if night.reason else ""
            click.echo(f"{night.as_of:%Y-%m-%d %H:%M}  {night.run_id or ''}  {night.verdict}{why}")
    if code := next((night.exit_code for night in filled if night.exit_code), 0):
        raise SystemExit(code)
