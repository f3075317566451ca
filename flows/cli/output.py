"""Output of commands: texts and tables for people, CSV for spreadsheets, and JSON documents for programs.

With --json, stdout has exactly one JSON document, also if the command fails. `flows.cli.documents` describes the
documents.
"""

import json
import math
import sys
from collections.abc import Mapping
from datetime import datetime
from io import StringIO
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import click

from flows.cli.parameter_types import Name
from recsys.printable import printable

if TYPE_CHECKING:
    import polars as pl

SCHEMA = 1  # version of the documents; increased when a key is removed or gets another meaning
PIPE_WIDTH = 160  # columns of a table that is written to a file or a pipe
FORMATS = ("table", "csv", "json")

STAMP = ("schema", "command")  # the first keys of every document
FORMAT, DOCUMENT = "recsys.format", "recsys.document"  # keys of the click context, which all parts of a command share


def _choose(context: click.Context, parameter: click.Parameter, value: str | bool | None) -> bool:
    """Notes the format. Returns whether it is JSON."""
    chosen = "json" if value is True else value or None
    if chosen and context.meta.setdefault(FORMAT, chosen) != chosen:
        raise click.UsageError(f"--json and --format {context.meta[FORMAT]} contradict each other", context)
    return context.meta.get(FORMAT) == "json"


json_option = click.option("--json", "as_json", is_flag=True, callback=_choose, help="Print one JSON document.")
format_option = click.option(
    "--format",
    type=Name(FORMATS),
    is_eager=True,  # before --json, which is its short form
    expose_value=False,
    callback=_choose,
    help="Format of the result; --json is short for --format json.  [default: table]",
)


def wants_json(words: list[str]) -> bool:
    """Whether these arguments of the command line ask for JSON. For arguments that click could not parse."""
    return "--json" in words or "--format=json" in words or ("--format", "json") in pairwise(words)


def print_json(value: Mapping[str, Any]) -> None:
    """Adds keys to the document of the command, which is printed when the command ends."""
    click.get_current_context().meta.setdefault(DOCUMENT, {}).update(value)


def note_error(kind: str, message: str, exit_code: int) -> None:
    """Adds an error to the document, if the command prints one."""
    context = click.get_current_context()
    if context.meta.get(FORMAT) == "json":
        print_json({"error": describe_error(kind, message, exit_code)})


def describe_error(kind: str, message: str, exit_code: int) -> dict[str, Any]:
    return {"kind": kind, "message": message, "exit_code": exit_code}


def print_document() -> None:
    """Prints the document of the command that ends, if it was asked for one."""
    context = click.get_current_context()
    if context.meta.get(FORMAT) == "json":
        write_document(context.info_name, context.meta.get(DOCUMENT, {}))


def write_document(command: str | None, content: Mapping[str, Any]) -> None:
    document = dict(zip(STAMP, (SCHEMA, command), strict=True)) | dict(content)
    click.echo(json.dumps(_plain(document), indent=2, allow_nan=False))


def _plain(value: Any) -> Any:
    """Converts to the types of JSON: times to ISO 8601, paths to text, numbers that are not finite to null."""
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, datetime):
        return value.isoformat()
    return value if value is None or isinstance(value, bool | int | str) else str(value)


def is_for_people() -> bool:
    """Whether texts may stand beside the tables."""
    return bool(click.get_current_context().meta.get(FORMAT, "table") == "table")


def print_frame(frame: "pl.DataFrame", shown: list[str] | None = None, **about: Any) -> None:
    """Prints a frame in the format that was asked for.

    A table has only the columns `shown`. CSV has all columns. JSON has all columns as `rows`, and the keys `about`.
    """
    chosen = click.get_current_context().meta.get(FORMAT, "table")
    if chosen == "json":
        print_json({**about, "rows": frame.to_dicts()})
    elif chosen == "csv":
        from recsys.runs.summary import frame_csv

        click.echo(frame_csv(frame), nl=False)
    else:
        print_table(frame.select(shown) if shown else frame)


def print_table(frame: "pl.DataFrame") -> None:
    from rich.console import Console

    from recsys.runs.summary import frame_table

    width = None if sys.stdout.isatty() else PIPE_WIDTH
    console = Console(file=StringIO(), highlight=False, width=width, force_terminal=sys.stdout.isatty())
    console.print(frame_table(frame))
    print_page(console.file.getvalue())  # type: ignore[attr-defined]


def print_page(text: str) -> None:
    """Prints a text of several lines. Files and pipes get no blanks at the ends of lines."""
    lines = text.rstrip("\n").split("\n")
    click.echo("\n".join(lines if sys.stdout.isatty() else (line.rstrip() for line in lines)))


def show_value(value: Any) -> str:
    """Formats a value as a cell of a table."""
    return f"{value:%Y-%m-%d %H:%M:%S}" if isinstance(value, datetime) else printable(str(value))
