"""The commands that bring nights back: an earlier one's lists, and those that were missed."""

import re
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import click

from flows.cli.console import home_of, home_option, json_option, make_settings, print_frame, print_json, shared
from recsys.errors import UsageError

UNITS = {"d": "days", "h": "hours", "m": "minutes"}


class Step(click.ParamType):  # type: ignore[type-arg]  # generic for type checkers alone
    """A time between nights: 1d, 12h, 30m."""

    name = "step"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        if isinstance(value, timedelta):
            return value
        parts = re.fullmatch(r"([0-9]{1,6})([dhm])", str(value).strip())
        if not parts or not int(parts[1]):
            self.fail(f"{value!r} is no time between nights; write it as 1d, 12h or 30m", param, ctx)
        return timedelta(**{UNITS[parts[2]]: int(parts[1])})


@click.command()
@click.argument("run_id", required=False)
@click.option("--list", "only_list", is_flag=True, help="Show the runs that published, and change nothing.")
@click.option("--release", is_flag=True, help="Let nights publish again after a roll-back.")
@home_option
@json_option
@shared
def rollback(run_id: str | None, only_list: bool, release: bool, home: Path | None, as_json: bool) -> None:
    """Serve the lists of RUN_ID again, or those of the run before the present one.

    One step for readers, and a row in the table runs. Nights go on being judged, and none publishes until --release.

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
            raise UsageError("give a RUN_ID or --release, not both. See recsys rollback --help")
        served = back.release(place)
        told: dict[str, Any] = {"released": True, "served": served}
        words = f"run {served} is served, and the next night that passes the gate takes its place"
    else:
        done = back.roll_back(place, run_id)
        told = done.__dict__
        words = (
            f"run {done.to_run} is served in the place of {done.from_run}. Nights are held back until "
            f"`recsys rollback --release --home {place.root}`"
        )
    if as_json:
        print_json(told)
    else:
        click.echo(words)


@click.command()
@click.option("--from", "first", type=datetime.fromisoformat, required=True, metavar="T", help="The first night.")
@click.option("--to", "last", type=datetime.fromisoformat, required=True, metavar="T", help="The last one, included.")
@click.option("--step", type=Step(), default="1d", show_default=True, help="From one night to the next.")
@click.option("--source", help="Dataset name, archive, directory, or synthetic:UxMxR.  [default: ml-100k]")
@home_option
@click.option("--model", help="Network, as in recsys nightly.")
@click.option("--n", type=int, help="Movies per user.  [default: 10]")
@click.option("--seed", type=int, help="Seed of the split and the network.  [default: 0]")
@json_option
@shared
def backfill(first: datetime, last: datetime, step: timedelta, as_json: bool, **options: Any) -> None:
    """Make the nights that are missing between two moments: each knows only the ratings before its own.

    Nights that have lists are skipped, so it can be ended and started again. A night earlier than the one being served
    goes to recommendation_history and changes nothing else. A night that is refused or held back does not end it.

    \b
    Examples:
      recsys backfill --from 1998-04-01 --to 1998-04-07
      recsys backfill --from 1998-04-01T00:00 --to 1998-04-02T00:00 --step 12h --source ml-100k.zip --json
    """
    settings = make_settings(**options)
    from flows.backfill import backfill as fill

    filled = fill(first, last, step, settings)
    if as_json:
        print_json([night.__dict__ for night in filled])
    else:
        for night in filled:
            why = f": {night.reason}" if night.reason else ""
            click.echo(f"{night.as_of:%Y-%m-%d %H:%M}  {night.run_id or ''}  {night.verdict}{why}")
    if code := next((night.exit_code for night in filled if night.exit_code), 0):
        raise SystemExit(code)
