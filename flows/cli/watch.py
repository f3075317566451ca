"""The commands that look after nights: the watchdog, and a try of who would be told."""

from pathlib import Path

import click

from flows.cli.console import home_of, home_option, json_option, print_json, shared
from flows.cli.tables import tell_status


@click.command()
@click.option(
    "--max-age",
    type=click.FloatRange(min=0, min_open=True),
    default=26.0,
    show_default=True,
    metavar="H",
    help="Hours that the last good night may be old.",
)
@home_option
@json_option
@shared
def watch(max_age: float, home: Path | None, as_json: bool) -> None:
    """Look for nights that are missing or have died, and send the alerts that are set (RECSYS_ALERT_…).

    Of each missing night people are told once. With PREFECT_API_URL, runs whose process is gone are closed, too. Exits
    with 1 if what is served is too old. Needs neither server nor worker, so that a timer can ask when both are gone.

    \b
    Examples:
      recsys watch
      recsys watch --max-age 26 --home /srv/recsys
    """
    place = home_of(home)
    from flows.watch import patrol

    tell_status(patrol(place, max_age), as_json)


@click.command("test-alerts")
@home_option
@json_option
@shared
def test_alerts(home: Path | None, as_json: bool) -> None:
    """Send a test to every webhook, address and file that is set, and say which of them got it.

    \b
    Examples:
      recsys test-alerts
      RECSYS_ALERT_WEBHOOK_URL=https://chat.example/hook recsys test-alerts --json
    """
    place = home_of(home)
    from flows.alerting import read_settings
    from recsys.alerts.alert import make_alert
    from recsys.alerts.send import send
    from recsys.errors import UsageError

    problems = send(make_alert("test", place, flow="test-alerts", reason="somebody tries the alerts"), read_settings())
    if not problems:
        raise UsageError(
            "nobody would be told of anything. Next: set RECSYS_ALERT_WEBHOOK_URL, RECSYS_ALERT_EMAIL_TO or "
            "RECSYS_ALERT_FILE; see docs/operations.md"
        )
    if as_json:
        print_json(problems)
    else:
        for name, problem in problems.items():
            click.echo(f"{name}: {problem or 'told'}")
    if any(problems.values()):
        raise SystemExit(1)
