"""`recsys check`: fetches, reads and checks a source without publishing, and renders the result of each rule."""

from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from io import StringIO
from typing import Any

from rich.console import Console
from rich.table import Table

from recsys.checks.check import check_moment, check_ratings
from recsys.checks.findings import Finding
from recsys.checks.result import Result, read_result
from recsys.datasets import name_data
from recsys.expect.validate import Validate, preloading, validate_views
from recsys.files import read_json
from recsys.home import Run
from recsys.ingest.fetch.fetch import check_source_name, fetch_archive
from recsys.ingest.write import is_known, write_snapshot
from recsys.runs.night import checking
from recsys.runs.step import timed
from recsys.settings import Settings

STYLES = {"pass": "green", "quarantined": "yellow", "warn": "yellow", "stop": "red", "not compared": "dim"}
SEVERITY = ("stop", "warn", "quarantined", "not compared", "pass")  # the order in which rules are shown


def check_source(settings: Settings, validate: Validate = validate_views) -> Run:
    """Runs the steps of a night up to the checks; publishes nothing and leaves the warehouse unchanged.

    Raises: DataRefused, which carries the run, so that its result can still be shown; the errors of fetching and
    reading.
    """
    check_source_name(settings.source)
    check_moment(settings.as_of)
    with checking(settings) as run:
        archive = timed(fetch_archive)(settings.source, run.home)
        with nullcontext() if is_known(archive, run.home, settings.rating_scale, run.started_at) else preloading():
            snapshot = timed(write_snapshot)(archive, run.home, settings.rating_scale, run.started_at)
        timed(check_ratings)(snapshot, run, settings.check, settings.as_of, validate)
    return run


def describe_check(run: Run) -> dict[str, Any] | None:
    """The object that `recsys check --json` prints; None if the run ended before its checks."""
    if not run.findings.exists():
        return None
    found: dict[str, Any] = read_json(run.findings)
    return found | {"quarantine": str(run.quarantine), "data_docs": str(run.data_docs / "index.html")}


def render_check(run: Run, width: int, *, colours: bool) -> str | None:
    """The result as text: a table of the row rules, a table of the other rules, and the paths of the files."""
    if not run.findings.exists():
        return None
    result = read_result(run.findings)
    console = Console(file=StringIO(), width=width, highlight=False, force_terminal=colours)
    console.print(_headline(result, run), style="bold", markup=False)
    worst_first = sorted(result.rules, key=lambda finding: SEVERITY.index(finding.verdict))  # stable
    rows = [finding for finding in worst_first if finding.offending is not None]
    others = [finding for finding in worst_first if finding.offending is None]
    console.print(_table(["table", "rule", "demand", "lines", "share", "limit", "verdict"], map(_row_cells, rows)))
    console.print(_table(["table", "rule", "demand", "value", "warn", "stop", "verdict"], map(_other_cells, others)))
    console.print(_footer(result, run), soft_wrap=True, markup=False)
    return console.file.getvalue()  # type: ignore[attr-defined, no-any-return]


def _headline(result: Result, run: Run) -> str:
    verdict = "passed" if result.passed else "refused"
    reused = f", as in {result.reused_from}: nothing has changed since" if result.reused_from else ""
    return f"Check {result.run_id}: {name_data(result.dataset, run)}, snapshot {result.snapshot}: {verdict}{reused}"


def _footer(result: Result, run: Run) -> str:
    refused = result.counts.get("quarantine", 0)
    lines = [f"Snapshot as a whole: {result.compared}"] if result.compared else []
    lines += [f"{refused:,} refused lines in {run.quarantine}"]
    lines += [f"All rules in {run.data_docs / 'index.html'}"] if run.data_docs.exists() else []
    return "\n".join(lines)


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    table = Table(box=None, pad_edge=False)
    for name in columns:
        right = name in ("lines", "share", "limit", "value", "warn", "stop")
        table.add_column(name, justify="right" if right else "left", no_wrap=name != "demand", overflow="fold")
    for *cells, verdict in rows:
        table.add_row(*cells, f"[{STYLES[verdict]}]{verdict}[/]")
    return table


def _row_cells(finding: Finding) -> list[str]:
    share, limit = f"{finding.share:.3%}", f"{finding.limit:.3%}"
    return [finding.table, finding.rule, finding.demands, f"{finding.offending:,}", share, limit, finding.verdict]


def _other_cells(finding: Finding) -> list[str]:
    numbers = map(_number, (finding.observed, finding.warn, finding.stop))
    return [finding.table, finding.rule, finding.demands, *numbers, finding.verdict]


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if value == int(value) else f"{value:,.4g}"
