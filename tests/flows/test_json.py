"""With --json, every command prints one JSON document with the keys of docs/json.md, also if it fails."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from flows.cli.console import report_errors
from flows.cli.documents import DOCUMENTS, ERRORS
from flows.cli.main import main
from flows.cli.output import SCHEMA, json_option, print_json
from recsys.backfill import Filled
from recsys.errors import DataRefused
from recsys.home import Home
from recsys.runs.rollback import RolledBack
from recsys.runs.summary import Summary

DOCUMENTED = {
    ("recommend", "5"): "recommend",
    ("recommend", "--segment", "gender=F"): "recommend",
    ("recommend", "--ratings", "20=5, 30=1"): "recommend",
    ("similar", "20"): "similar",
    ("explain", "5", "3"): "explain",
    ("runs",): "runs",
    ("runs", "RUN_ID"): "runs RUN_ID",
    ("rollback", "--list"): "rollback --list",
    ("status",): "status",
    ("watch",): "watch",
    ("test-alerts",): "test-alerts",
    ("forget", "7"): "forget",
    ("export", "LAKE", "--tables", "movies"): "export",
    ("generate", "20x20x100", "LAKE/made"): "generate",
    ("networks",): "networks",
    ("networks", "dot"): "networks NAME",
    ("datasets",): "datasets",
    ("datasets", "--local"): "datasets --local",
}
REFUSED = [
    (("recommend", "777"), "UsageError", 2),
    (("recommend", "many"), "UsageError", 2),
    (("recommend", "5", "--format", "csv", "--json"), "UsageError", 2),
    (("similar", "No Such Film"), "UsageError", 2),
    (("explain", "5", "No Such Film"), "UsageError", 2),
    (("runs", "20000101T000000Z"), "UsageError", 2),
    (("nightly", "--model", "ordnal"), "UsageError", 2),
    (("nightly", "--as-of", "2099-01-01"), "UsageError", 2),
    (("check", "--source", "ml-100kk"), "UsageError", 2),
    (("backfill", "--from", "2001-01-02", "--to", "2001-01-01"), "UsageError", 2),
    (("compare", "--models", "ordnal"), "UsageError", 2),
    (("tune", "--model", "ordnal", "--minutes", "1"), "UsageError", 2),
    (("networks", "ordnal"), "UsageError", 2),
    (("generate", "many", "PATH"), "UsageError", 2),
    (("evaluate", "--train", "no.parquet", "--holdout", "no.parquet"), "UsageError", 2),
]


def invoke(home: Home, *words: str, **environment: str) -> Result:
    takes_home = "home" in {parameter.name for parameter in main.commands[words[0]].params}
    where = ("--home", str(home.root)) if takes_home else ()
    return CliRunner().invoke(main, [*words, "--json", *where], env={"PREFECT_API_URL": "", **environment})


def list_keys(value: Any, about: Mapping[str, str], prefix: str = "") -> Iterator[str]:
    """The keys of a document. Objects that are documented as a whole are one key."""
    for key, one in value.items():
        name = f"{prefix}{key}"
        inner = one if isinstance(one, list) else [one] if isinstance(one, dict) else []
        below = f"{name}[]." if isinstance(one, list) else f"{name}."
        if any(known.startswith(below) for known in about):
            for each in inner:
                yield from list_keys(each, about, below)
        else:
            yield name


@pytest.fixture(scope="module")
def mine(served_night: Home, tmp_path_factory: pytest.TempPathFactory) -> Home:
    """The published night, with files of its own beside it."""
    home = Home(tmp_path_factory.mktemp("json") / "home")
    home.root.mkdir()
    for path in served_night.root.glob("[!.]*"):
        (home.root / path.name).symlink_to(path)
    return home


@pytest.mark.parametrize(("words", "name"), DOCUMENTED.items(), ids=" ".join)
def test_documents_have_the_documented_keys(words: tuple[str, ...], name: str, mine: Home, tmp_path: Path) -> None:
    run_id = json.loads(invoke(mine, "runs").stdout)["rows"][0]["run_id"]
    words = tuple(word.replace("RUN_ID", run_id).replace("LAKE", str(tmp_path)) for word in words)
    done = invoke(mine, *words, RECSYS_ALERT_FILE=str(tmp_path / "alerts"))
    assert done.exit_code == 0, done.stderr
    document = json.loads(done.stdout)
    assert (document.pop("schema"), document.pop("command")) == (SCHEMA, words[0])
    documented = DOCUMENTS[name]
    empty = tuple(f"{key}[]." for key, value in document.items() if value == [])
    expected = {key for key in documented if not key.startswith(empty)}
    assert {*list_keys(document, documented)} == expected
    assert document.get("run_id", run_id) == run_id


@pytest.mark.parametrize(
    ("name", "result", "prefix"),
    [("nightly", Summary, ""), ("rollback", RolledBack, ""), ("backfill", Filled, "rows[].")],
)
def test_documents_of_long_commands_have_the_fields_of_their_results(name: str, result: type, prefix: str) -> None:
    assert {f"{prefix}{field.name}" for field in fields(result)} == {*DOCUMENTS[name]}


def test_every_command_has_a_document() -> None:
    assert {name.partition(" ")[0] for name in DOCUMENTS} == {*main.commands} - {"serve"}


@pytest.mark.parametrize("command", sorted(main.commands))
def test_an_unknown_option_is_reported_as_json(command: str) -> None:
    done = CliRunner().invoke(main, [command, "--no-such-option", "--json"])
    check_error(done, command, "UsageError", 2)
    assert "--no-such-option" in json.loads(done.stdout)["error"]["message"]


@pytest.mark.parametrize(("words", "kind", "exit_code"), REFUSED, ids=str)
def test_errors_of_commands_are_reported_as_json(
    words: tuple[str, ...], kind: str, exit_code: int, served_night: Home
) -> None:
    check_error(invoke(served_night, *words), words[0], kind, exit_code)


def test_a_missing_warehouse_is_reported_as_json(home: Home) -> None:
    for words in (("recommend", "5"), ("similar", "Heat"), ("runs",), ("rollback", "--list"), ("export", "lake")):
        check_error(invoke(home, *words), words[0], "NotPublished", 1)


def test_an_unknown_command_is_reported_as_json() -> None:
    check_error(CliRunner().invoke(main, ["recomend", "42", "--format=json"]), None, "UsageError", 2)


@pytest.mark.parametrize(
    ("error", "kind", "exit_code"),
    [
        (DataRefused("too few ratings"), "DataRefused", 3),
        (KeyboardInterrupt(), "Interrupted", 130),
        (ZeroDivisionError("a bug"), "Unexpected", 1),
    ],
    ids=str,
)
def test_a_result_and_an_error_are_one_document(error: BaseException, kind: str, exit_code: int) -> None:
    @click.command()
    @json_option
    @report_errors
    def command(as_json: bool) -> None:
        print_json({"rows": [float("nan")]})
        raise error

    done = CliRunner().invoke(command, ["--json"])
    check_error(done, "command", kind, exit_code)
    assert json.loads(done.stdout)["rows"] == [None], "NaN is not JSON"
    assert CliRunner().invoke(command, []).stdout == ""


def check_error(done: Result, command: str | None, kind: str, exit_code: int) -> None:
    """Stdout has the document, stderr the paragraph, and both agree with the exit code."""
    document = json.loads(done.stdout)
    assert (document["schema"], document["command"]) == (SCHEMA, command)
    error = document["error"]
    assert {f"error.{key}" for key in error} == {*ERRORS}
    assert (error["kind"], error["exit_code"], done.exit_code) == (kind, exit_code, exit_code)
    assert " ".join(error["message"].split()) in " ".join(done.stderr.split())
