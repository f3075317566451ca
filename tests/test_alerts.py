"""Alerts: what they say, what they never say, and that each sink gets each of them once. The sinks are real servers."""

import json
import logging
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest
from click.testing import CliRunner
from sinks import Mailbox, Sink, mailbox, webhook

from flows.alerting import read_settings
from flows.cli import main
from recsys.alert_settings import AlertSettings
from recsys.alerts import Alert, Kind, make_alert
from recsys.errors import UsageError
from recsys.home import Home
from recsys.scrub import scrub
from recsys.send_alert import send

FIELDS = {
    *("kind", "title", "flow", "step", "reason", "run_id", "run_url", "served", "next_command", "home", "host", "at"),
    "text",
}


@pytest.fixture
def hook() -> Iterator[Sink]:
    with webhook() as sink:
        yield sink


@pytest.fixture
def box() -> Iterator[Mailbox]:
    with mailbox() as box:
        yield box


def settings(**fields: object) -> AlertSettings:
    return AlertSettings.model_validate({"wait_seconds": 0, "timeout_seconds": 5, **fields})


def alert(home: Home, reason: str = "holdout MAE 0.95", kind: Kind = "held back", flow: str = "nightly") -> Alert:
    return make_alert(
        kind, home, flow=flow, reason=reason, run=home.run("20261121T030000Z"), step="check_gate",
        run_url="http://127.0.0.1:4200/runs/flow-run/1",
    )  # fmt: skip


def test_every_sink_gets_it_once(home: Home, hook: Sink, box: Mailbox, tmp_path: Path) -> None:
    to = "a@example.org, b@example.org"
    file = tmp_path / "alerts" / "alerts.jsonl"
    told = send(
        alert(home),
        settings(webhook_url=hook.address, email_to=to, smtp_host="127.0.0.1", smtp_port=box.port, file=file),
    )
    assert told == {"webhook": None, "e-mail": None, "file": None}

    (posted,) = hook.received
    assert posted.keys() == FIELDS
    assert (posted["kind"], posted["step"], posted["run_id"]) == ("held back", "check_gate", "20261121T030000Z")
    assert posted["served"] == "nothing: no night has published here yet"
    assert "--force-publish" in posted["next_command"]
    assert [json.loads(line) for line in file.read_text().splitlines()] == [posted]

    assert box.recipients == ["a@example.org", "b@example.org"]
    (mail,) = box.messages
    assert "Subject: [recsys] the model of a night is held back: nightly on " in mail
    assert "reason: holdout MAE 0.95" in mail
    assert "look: http://127.0.0.1:4200/runs/flow-run/1" in mail


def test_says_what_readers_see(served_night: Home) -> None:
    (run,) = [path.name for path in served_night.runs.iterdir()]
    assert alert(served_night).served.startswith(f"the lists of run {run}, ")
    assert alert(served_night).served.endswith("; they stay")


def test_a_warehouse_that_cannot_be_read_is_said(home: Home) -> None:
    home.root.mkdir()
    home.warehouse.write_bytes(b"not a database")
    assert alert(home).served.startswith("nobody knows: ")


@pytest.mark.parametrize("kind", ["failed", "crashed", "data refused", "held back", "late"])
def test_each_kind_says_what_to_type(home: Home, kind: Kind) -> None:
    said = {other: alert(home, kind=other).next_command for other in ("failed", "data refused", "held back", "late")}
    assert f"--home {home.root}" in alert(home, kind=kind).next_command
    assert len(set(said.values())) == len(said)


def test_an_outage_is_tried_again(home: Home, hook: Sink) -> None:
    hook.statuses = [503, 429]
    assert send(alert(home), settings(webhook_url=hook.address)) == {"webhook": None}
    assert len(hook.received) == 1


@pytest.mark.parametrize("status", [404, 301])
def test_a_refusal_is_not(home: Home, hook: Sink, status: int) -> None:
    """Nor is a redirect followed: who is named there need not get it."""
    hook.statuses = [status, 200]
    told = send(alert(home), settings(webhook_url=hook.address))
    assert f"it answered {status}" in str(told["webhook"])
    assert hook.statuses == [200]


def test_a_broken_sink_keeps_no_other_from_it(
    home: Home, hook: Sink, box: Mailbox, caplog: pytest.LogCaptureFixture
) -> None:
    box.refuses = True
    told = send(
        alert(home),
        settings(
            webhook_url="http://127.0.0.1:9/hook/s3cr3t-path", email_to="a@example.org", smtp_host="127.0.0.1",
            smtp_port=box.port, file=home.root / "alerts.jsonl",
        ),
    )  # fmt: skip
    assert "ConnectError" in str(told["webhook"])
    assert told["e-mail"] == "OSError: it takes no mail for a@example.org"
    assert told["file"] is None
    errors = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert len(errors) == 2
    assert "s3cr3t" not in caplog.text


SECRETS = {
    "RECSYS_ALERT_SMTP_PASSWORD": "hunter2-of-mail",
    "PREFECT_SERVER_API_AUTH_STRING": "admin:hunter2-of-prefect",
    "MY_API_KEY": "hunter2-key",
}
LEAKS = (
    "could not open https://me:hunter2-url@host/x.zip?token=hunter2-query&page=2",
    "get https://bucket/x?X-Amz-Signature=hunter2sig&X-Amz-Credential=hunter2cred failed",
    "Authorization: Bearer hunter2.bearer",
    "postgresql+asyncpg://recsys:hunter2-pg@db/prefect is gone",
    "password=hunter2-plain, api_key: hunter2-other",
    "said hunter2-of-mail and admin:hunter2-of-prefect and hunter2-key",
)


@pytest.mark.parametrize("leak", LEAKS)
def test_no_secret_leaves(leak: str, home: Home, hook: Sink, box: Mailbox, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    file = home.root / "alerts.jsonl"
    sinks = settings(
        webhook_url=hook.address, email_to="a@example.org", smtp_host="127.0.0.1", smtp_port=box.port, file=file
    )
    assert set(send(alert(home, leak, flow=leak), sinks).values()) == {None}
    everything = json.dumps(hook.received) + "".join(box.messages) + file.read_text()
    assert "***" in everything
    assert "hunter2" not in everything
    assert "s3cr3t" not in everything


def test_what_is_no_secret_stays() -> None:
    for text in (
        "holdout MAE 0.9500 stars is above the gate 0.9000; see data/runs/20261121T030000Z/metrics.json",
        "No space left on device: '/srv/recsys/data/.warehouse.duckdb.1234'",
        "https://files.example.org/datasets/ml-1m.zip?version=2 answered 503",
        "the basic network is no better than plain biases; the key of a row is (user_id, rank)",
    ):
        assert scrub(text) == text


def test_a_title_makes_no_header_of_its_own(home: Home, box: Mailbox) -> None:
    flow = "nightly\r\nBcc: victim@example.org\x1b[31m"
    told = send(alert(home, flow=flow), settings(email_to="a@example.org", smtp_host="127.0.0.1", smtp_port=box.port))
    assert told == {"e-mail": None}
    assert box.recipients == ["a@example.org"]
    head = box.messages[0].partition("\n\n")[0]
    assert "\nBcc" not in head
    assert "\x1b" not in box.messages[0]


def test_long_reasons_are_cut(home: Home) -> None:
    assert len(alert(home, "x" * 10**6).as_json()["text"]) < 10_000


@pytest.mark.parametrize(
    ("name", "value", "complaint"),
    [
        ("WEBHOOK_URL", "ftp://s3cr3t", "RECSYS_ALERT_WEBHOOK_URL: .*begin with https://"),
        ("EMAIL_TO", "nobody", "RECSYS_ALERT_EMAIL_TO: .*nobody: no e-mail address"),
        ("SMTP_PORT", "70000", "RECSYS_ALERT_SMTP_PORT: .*65535"),
        ("SMTP_SECURITY", "yes", "RECSYS_ALERT_SMTP_SECURITY: .*starttls"),
    ],
)
def test_settings_are_refused_in_words(name: str, value: str, complaint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"RECSYS_ALERT_{name}", value)
    with pytest.raises(UsageError, match=complaint) as refusal:
        read_settings()
    assert "s3cr3t" not in str(refusal.value)


def test_a_password_is_not_sent_in_the_clear(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECSYS_ALERT_SMTP_PASSWORD", "hunter2-of-mail")
    monkeypatch.setenv("RECSYS_ALERT_SMTP_HOST", "mail.example.org")
    with pytest.raises(UsageError, match="set smtp_security") as refusal:
        read_settings()
    assert "hunter2" not in str(refusal.value)


def test_the_command_says_who_was_told(home: Home, hook: Sink, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = ["test-alerts", "--home", str(home.root)]
    nobody = CliRunner().invoke(main, arguments)
    assert (nobody.exit_code, "set RECSYS_ALERT_WEBHOOK_URL" in nobody.stderr) == (2, True)
    monkeypatch.setenv("RECSYS_ALERT_WEBHOOK_URL", hook.address)
    told = CliRunner().invoke(main, arguments)
    assert (told.exit_code, told.stdout) == (0, "webhook: told\n")
    assert hook.received[0]["kind"] == "test"
    hook.statuses = [404]
    assert CliRunner().invoke(main, arguments).exit_code == 1


def test_the_watchdog_tells_once_of_each_missing_night(
    served_night: Home, hook: Sink, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("RECSYS_ALERT_WEBHOOK_URL", hook.address)
    home = Home(tmp_path / "home")
    home.root.mkdir()
    home.warehouse.write_bytes(served_night.warehouse.read_bytes())
    arguments = ["watch", "--home", str(home.root), "--max-age"]
    assert CliRunner().invoke(main, [*arguments, "1"]).exit_code == 0
    assert not hook.received
    with duckdb.connect(home.warehouse) as connection:
        connection.execute("update runs set finished_at = finished_at - interval 3 hours")
    late = [CliRunner().invoke(main, [*arguments, "1"]) for _ in range(2)]
    assert [result.exit_code for result in late] == [1, 1]
    assert "stale: " in late[0].stdout
    assert [one["kind"] for one in hook.received] == ["late"]
    assert "systemctl status recsys-server" in hook.received[0]["next_command"]
