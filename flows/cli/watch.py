"""Commands for monitoring: the watchdog and a test of the alerts."""

from pathlib import Path

import click

from flows.cli.console import home_of, home_option, report_errors
from flows.cli.output import json_option, print_json
from flows.cli.tables import print_status


@click.command()
@click.option(
    "--max-age",
    type=click.FloatRange(min=0, min_open=True),
    default=26.0,
    show_default=True,
    metavar="H",
    help="Maximum age of the last good night, in hours.",
)
@home_option
@json_option
@report_errors
def watch(max_age: float, home: Path | None, as_json: bool) -> None:
    """Check for missing and dead nights, and send alerts.

    Alerts are configured by RECSYS_ALERT_…; see docs/operations.md. One alert is sent for each missing night. With
    PREFECT_API_URL, runs whose process is gone are closed as well. Exit code 1 if the published tables are too old.
    Needs neither a server nor a worker, so it can run from a system timer.

    \b
    Examples:
      recsys watch
      recsys watch --max-age 26 --home /srv/recsys
    """
    place = home_of(home)
    from flows.watch import run_watchdog

    print_status(run_watchdog(place, max_age), as_json)


@click.command("test-alerts")
@home_option
@json_option
@report_errors
def test_alerts(home: Path | None, as_json: bool) -> None:
    """Send a test alert to every configured recipient.

    \b
    Examples:
      recsys test-alerts
      RECSYS_ALERT_WEBHOOK_URL=https://chat.example/hook recsys test-alerts --json
    """
    place = home_of(home)
    from flows.failures import read_settings
    from recsys.alerts.alert import make_alert
    from recsys.alerts.send import send
    from recsys.errors import UsageError

    problems = send(make_alert("test", place, flow="test-alerts", reason="a test of the alerts"), read_settings())
    if not problems:
        raise UsageError(
            "no alerts are configured. Next: set RECSYS_ALERT_WEBHOOK_URL, RECSYS_ALERT_EMAIL_TO or RECSYS_ALERT_FILE; "
            "see docs/operations.md"
        )
    if as_json:
        print_json({"rows": [{"recipient": name, "problem": problem} for name, problem in problems.items()]})
    else:
        for name, problem in problems.items():
            click.echo(f"{name}: {problem or 'sent'}")
    if any(problems.values()):
        raise SystemExit(1)
