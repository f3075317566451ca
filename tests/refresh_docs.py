"""`make refresh-docs`: runs the commands whose output the documentation shows, and writes what they print.

It writes three kinds of output. In README.md and docs/asking.md, it replaces the blocks from a comment to the end of a
code fence. It draws docs/list.svg. It writes docs/commands.md, docs/json.md, docs/settings.md and docs/tables.md from
the command line, the settings and the schema, and in docs/contract.md the table of metrics. The comment of a block
names its command, date, version and defaults:

    <!-- output of `recsys runs`, 2026-11-30, recsys 0.1.0, defaults 1a2b3c4d5e6f -->

`tests/docs/test_outputs.py` fails when a block was made with other defaults, or before the latest release.
"""

import hashlib
import itertools
import json
import os
import re
import shlex
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import duckdb
from pydantic import BaseModel
from pydantic_core import to_jsonable_python

import sql
from flows.cli.documents import DOCUMENTS, ERRORS
from flows.cli.main import main as cli
from flows.cli.output import SCHEMA
from recsys import __version__
from recsys.models import MODELS
from recsys.settings import CANDIDATES, Settings
from tests.conftest import REAL_DATA

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = (ROOT / "README.md", DOCS / "asking.md")
PICTURE = DOCS / "list.svg"
BLOCK = re.compile(
    r"<!-- output of `(?P<command>[^`]+)`, (?P<made_on>\S+), recsys (?P<version>\S+), defaults (?P<defaults>\w+) -->\n"
    r"```(?P<kind>\w*)\n(?P<text>.*?)```\n",
    flags=re.DOTALL,
)
METRICS = re.compile(r"(\| metric \| unit \| better \| measures \|\n\|[-|]+\|\n)(?:\|.*\|\n)+")
USER = 42  # whose list is shown


@dataclass(frozen=True)
class Shown:
    """How much of a command's output is shown; the rest becomes a line with an ellipsis."""

    keep: str = ""  # pattern of the lines that are shown; all of them if empty
    lines: int = 1000  # the largest number of lines that are shown


NIGHT = r"^(Night|ml-100k|Error|Lists|model|(ordinal|bias|ease|als|popularity) +\d|user_id| +1 +[123] )"
CONTINUED = r"^ {40,}"  # the continuation of a table row that is wider than the page; left out without an ellipsis
SHOWN = {
    "recsys nightly": Shown(keep=NIGHT),
    f'recsys explain {USER} "Braveheart"': Shown(lines=22),
}


def main() -> None:
    """Refreshes everything; the night takes about a minute."""
    for name, render in GENERATED.items():
        (DOCS / name).write_text(render(), encoding="utf-8")
    with tempfile.TemporaryDirectory() as folder:
        for page in PAGES:
            text = page.read_text(encoding="utf-8")
            page.write_text(BLOCK.sub(lambda block: refresh(block["command"], Path(folder)), text), encoding="utf-8")
        PICTURE.write_text(draw_list(Path(folder) / "data"), encoding="utf-8")


def refresh(command: str, folder: Path) -> str:
    """A block with the present output of the command, run in `folder`."""
    printed = shorten(run(command, folder), SHOWN.get(command, Shown()))
    prompt = "" if command == "recsys nightly" else f"$ {command}\n"
    made = f"{datetime.now(UTC):%Y-%m-%d}, recsys {__version__}, defaults {hash_defaults()}"
    return f"<!-- output of `{command}`, {made} -->\n```text\n{prompt}{printed}\n```\n"


def run(command: str, folder: Path) -> str:
    """The stdout of the command, with `data/` in `folder` as its home."""
    archive = REAL_DATA / "ml-100k.zip"
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("RECSYS_", "PREFECT_"))}
    environment |= {"PYTHONPATH": str(ROOT)} | ({"RECSYS_SOURCE": str(archive)} if archive.exists() else {})
    program = "from flows.cli.main import program; program()"
    arguments = [sys.executable, "-c", program, *shlex.split(command)[1:]]
    done = subprocess.run(arguments, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout


def shorten(text: str, shown: Shown) -> str:
    """The lines that are shown, with one ellipsis in place of those between them."""
    lines: list[str] = []
    for line in text.rstrip().splitlines():
        is_kept = not shown.keep or re.search(shown.keep, line) or not line.strip()
        if is_kept and len(lines) < shown.lines:
            lines.append(line.rstrip())
        elif not re.search(CONTINUED, line):
            lines.append("…")
    return re.sub(r"\n*…[\n…]*", "\n…\n", "\n".join(lines)).strip()


def hash_defaults() -> str:
    """12 hexadecimal digits of a hash of all defaults: the settings and the config of each candidate network."""
    settings = Settings.model_construct().model_dump(mode="json", exclude={"home", "resume_hours"})
    configs = {name: MODELS[name].configure(100_000, 5).model_dump(mode="json") for name in CANDIDATES}
    return hashlib.sha256(json.dumps([settings, configs], sort_keys=True).encode()).hexdigest()[:12]


def draw_list(home: Path) -> str:
    """The first five movies of a user's published list as an SVG that needs no font and no network."""
    from rich.console import Console
    from rich.table import Table
    from rich.terminal_theme import DIMMED_MONOKAI

    import recsys

    table = Table(box=None, padding=(0, 3, 0, 0), header_style="bold cyan")
    for name in ("rank", "movie", "stars", "because you liked"):
        table.add_column(name, justify="right" if name in ("rank", "stars") else "left", no_wrap=True)
    for row in recsys.recommend(recsys.Home(home), USER).head(5).iter_rows(named=True):
        movie = f"[bold]{row['title']}[/bold] [dim]{row['year']}[/dim]"
        because = " · ".join(row["because_titles"][:2])
        table.add_row(str(row["rank"]), movie, f"[yellow]{row['rating_hat']:.1f}[/yellow]", f"[green]{because}[/green]")
    console = Console(record=True, width=110, file=open(os.devnull, "w"), force_terminal=True)  # noqa: PTH123, SIM115
    console.print(table)
    svg = console.export_svg(title=f"recsys recommend {USER}", theme=DIMMED_MONOKAI, unique_id="list")
    svg = re.sub(r"@font-face \{.*?\}", "", svg, flags=re.DOTALL)
    return svg.replace("Fira Code", "ui-monospace, Menlo, Consolas").replace(
        "font-family: arial", "font-family: sans-serif"
    )


def render_commands() -> str:
    """docs/commands.md: the help of every command."""
    parts = [
        "# Commands",
        _fill(
            "Every command with its options, as `recsys COMMAND --help` prints them. What the exit codes mean is "
            "in the [contract](contract.md#exit-codes), and what `--json` prints in [JSON](json.md). `make "
            "refresh-docs` writes this page."
        ),
        _fill(
            "The Tab key completes commands, options and names of networks after one line in the start-up file of "
            "the shell:"
        ),
        '```bash\neval "$(_RECSYS_COMPLETE=bash_source recsys)"          # ~/.bashrc\n'
        'eval "$(_RECSYS_COMPLETE=zsh_source recsys)"           # ~/.zshrc\n'
        "_RECSYS_COMPLETE=fish_source recsys | source           # ~/.config/fish/config.fish\n```",
    ]
    program = click.Context(cli, info_name="recsys", terminal_width=110, **cli.context_settings)
    for name in itertools.chain(*cli.sections.values()):
        command = cli.commands[name]
        context = click.Context(command, parent=program, info_name=name, terminal_width=110)
        parts.append(f"## {name}\n\n```text\n{command.get_help(context).strip()}\n```")
    return "\n\n".join(parts) + "\n"


def render_json() -> str:
    """docs/json.md: the keys of every JSON document."""
    parts = [
        "# JSON",
        _fill(
            "Every command accepts `--json`; where it prints a table, this is short for `--format json`. Stdout "
            "then has exactly one JSON document, whether the command succeeds or fails. Progress and errors still "
            "go to stderr as text. `make refresh-docs` writes this page from `flows/cli/documents.py`."
        ),
        _fill(
            "Every document has `schema`, the version of this page, and `command`. A key is removed or gets "
            f"another meaning only with a higher `schema`, which is {SCHEMA} now. Keys can be added at any time, "
            "so ignore unknown ones. Times are ISO 8601 in UTC. Numbers that JSON cannot express (NaN, infinity) "
            "are null. `rows` are those of the table that the command shows, with all columns and ids; `--format "
            "csv` prints the same rows."
        ),
        _fill(
            "If a command fails, its document has `error`, beside the result as far as there is one: `nightly` "
            "and `check` show why data were refused. A stale `status` is a result, so it has exit code 1, but no "
            "`error`."
        ),
        _table_of_keys(ERRORS),
    ]
    parts += [f"## `recsys {name}`\n\n{_table_of_keys(keys)}" for name, keys in DOCUMENTS.items()]
    return "\n\n".join(parts) + "\n"


def _fill(text: str) -> str:
    return textwrap.fill(text, 118)


def _table_of_keys(keys: dict[str, str]) -> str:
    rows = (f"| `{name}` | {_in_row(about)} |" for name, about in keys.items())
    return "\n".join(["| key | type and meaning |", "|---|---|", *rows])


def render_settings() -> str:
    """docs/settings.md: every setting with its environment variable, default and description."""
    groups: dict[str, list[str]] = {}
    for path, default, description in list_settings(Settings):
        variable = "RECSYS_" + "__".join(path).upper()
        row = f"| `{variable}` | {_in_cell(default)} | {_in_row(description)} |"
        groups.setdefault(".".join(path[:-1]), []).append(row)
    parts = [
        "# Settings",
        "Every setting with its environment variable, its default, its unit and its reason. The command line and\n"
        "Prefect's form set the same values. `make refresh-docs` writes this page from `recsys/settings/`.",
    ]
    for group, rows in groups.items():
        heading = f"`{group}`" if group else "A night"
        parts.append("\n".join([f"## {heading}", "", "| variable | default | what it does |", "|---|---|---|", *rows]))
    return "\n\n".join(parts) + "\n"


def list_settings(model: type[BaseModel], path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any, str]]:
    """(path, default, description) of every setting, groups after single settings."""
    groups = {}
    for name, field in model.model_fields.items():
        if isinstance(field.default, BaseModel):
            groups[name] = type(field.default)
        else:
            yield (*path, name), field.get_default(call_default_factory=True), field.description or ""
    for name, group in groups.items():
        yield from list_settings(group, (*path, name))


def render_tables() -> str:
    """docs/tables.md: every table, view and macro of the warehouse with the comments that it carries."""
    parts = [
        "# Tables",
        "Every table, view and macro of `warehouse.duckdb`, as its own comments describe it. How to open and query\n"
        "them is in [Reading the tables](consumers.md). `make refresh-docs` writes this page from `sql/schema.sql`.",
    ]
    with duckdb.connect() as connection:
        connection.execute(sql.read("schema"))
        described = connection.sql(
            "select table_name, comment from duckdb_tables() union all "
            "select view_name, comment from duckdb_views() where not internal order by table_name"
        )
        for name, comment in described.fetchall():
            rows = connection.execute(
                "select column_name, data_type, comment from duckdb_columns() where table_name = $name "
                "order by column_index",
                {"name": name},
            ).fetchall()
            cells = [f"| `{column}` | {kind.lower()} | {_in_row(about)} |" for column, kind, about in rows]
            heading = [
                f"## `{name}`",
                "",
                *textwrap.wrap(comment, 118),
                "",
                "| column | type | meaning |",
                "|---|---|---|",
            ]
            parts.append("\n".join([*heading, *cells]))
        macros = "select function_name, comment from duckdb_functions() where not internal order by function_name"
        for name, comment in connection.sql(macros).fetchall():
            parts.append("\n".join([f"## `{name}(moment)`", "", *textwrap.wrap(comment, 118)]))
    return "\n\n".join(parts) + "\n"


def render_contract() -> str:
    """docs/contract.md with its table of metrics, which the warehouse has as `metric_names`."""
    with duckdb.connect() as connection:
        described = connection.sql(sql.read("described_metrics")).fetchall()
    rows = [
        f"| `{metric.replace('*', '…')}` | {unit or '–'} | {better or '–'} | {measures} |"
        for metric, unit, better, measures in described
    ]
    page = (DOCS / "contract.md").read_text(encoding="utf-8")
    return METRICS.sub(lambda table: table[1] + "\n".join(rows) + "\n", page)


def _in_cell(default: Any) -> str:
    value = to_jsonable_python(default)
    return "" if value is None else f"`{value if isinstance(value, str) else json.dumps(value)}`"


def _in_row(text: str) -> str:
    return text.replace("|", r"\|")


GENERATED = {
    "commands.md": render_commands,
    "contract.md": render_contract,
    "json.md": render_json,
    "settings.md": render_settings,
    "tables.md": render_tables,
}

if __name__ == "__main__":
    main()
