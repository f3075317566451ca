"""The page of a night in Markdown: verdict, figures with their limits, lists, slowest steps, and where the files are.

It is made from the run's files and the warehouse, so a refused night has a page, too. It names no user.
"""

import os
import re
from collections.abc import Iterable, Iterator
from typing import Any

from recsys.datasets import name_data
from recsys.errors import NotPublished
from recsys.files import read_json
from recsys.forgotten import withhold
from recsys.home import Run
from recsys.printable import printable
from recsys.runs.log import read_seconds
from recsys.runs.metrics import read_metrics
from recsys.runs.night import describe_run
from recsys.runs.pages import TITLES, list_pages
from recsys.runs.resume import read_record, read_step
from recsys.settings import Settings
from recsys.warehouse.lookup import count_rows, list_runs, read_figures, sample
from recsys.warehouse.outcome import TONIGHT, Outcome
from recsys.warehouse.status import SUCCESS

PAGES_URL = "RECSYS_PAGES_URL"  # address of `deployments.pages`; `make serve` sets it
RECENT = 30  # newest runs in which the verdict is looked up
SLOWEST = 5  # number of steps
FIGURES = {"mae_median": "MAE, stars", "ndcg_at_10": "NDCG@10", "coverage_at_10": "coverage@10"}
BASELINES = {"mae_median": ("bias", "mae_rounded"), "ndcg_at_10": ("popularity", "ndcg_at_10"),
             "coverage_at_10": ("popularity", "coverage_at_10")}  # fmt: skip

Figures = dict[tuple[str, str, str], float]  # on the holdout, by model, slice and metric


def describe(run: Run) -> Iterator[str]:
    """Yields the lines of the page."""
    verdict, reason = find_verdict(run)
    outcome = describe_run(run, verdict=verdict, reason=None)
    yield f"# {verdict.capitalize()}"
    if reason:
        yield f"\n{escape_markdown(withhold(reason))}\n"
    yield from _describe_data(run, outcome)
    yield from _describe_figures(run, outcome)
    if verdict in SUCCESS:
        yield from _describe_lists(run)
    yield from _describe_steps(run)
    yield from _describe_files(run)


def find_verdict(run: Run) -> tuple[str, str | None]:
    """Reads the verdict and the reason from the table `runs`, or from the run's folder if the table lacks them."""
    try:
        for row in list_runs(run.home, RECENT).iter_rows(named=True):
            if row["run_id"] == run.run_id:
                return row["verdict"], row["reason"]
    except NotPublished:
        pass
    ended = read_record(run.ended)
    return ended.get("verdict", "failed"), ended.get("reason")


def find_address(run: Run) -> str | None:
    """The address of the run's pages; None if none are served, or those of another home."""
    address = os.environ.get(PAGES_URL)
    if not address or Settings().home.absolute() != run.home.root:
        return None
    return f"{address.rstrip('/')}/{run.run_id}"


def _describe_data(run: Run, outcome: Outcome) -> Iterator[str]:
    counts = read_json(run.findings)["counts"] if run.findings.exists() else {}
    named = [("ratings", "ratings"), ("users", "users"), ("movies", "movies"), ("quarantine", "refused lines")]
    rows = [f"{counts[key]:,} {name}" for key, name in named if key in counts]
    if outcome.dataset:
        before = f", before {outcome.as_of:%Y-%m-%d %H:%M} UTC" if outcome.as_of else ""
        yield f"- data: {escape_markdown(name_data(outcome.dataset, run))}, snapshot `{outcome.snapshot}`{before}"
    if rows:
        yield f"- rows: {', '.join(rows)}"
    yield f"- model: {outcome.model or 'not chosen yet'}"
    yield f"- run: `{run.run_id}`"
    step = read_step(run)
    if step and outcome.verdict not in (*SUCCESS, "backfilled"):
        yield f"- ended in step: {escape_markdown(step.step)}"


def _describe_figures(run: Run, outcome: Outcome) -> Iterator[str]:
    """Yields tonight's figures beside those of a baseline and of last night's model, and the result of the gate."""
    if not run.gate.exists() or outcome.model is None:
        return
    gate, limits = read_json(run.gate), read_json(run.config)["gate"]
    figures = _read_figures(run) | ({} if gate["champion"] else _read_last_night(run, outcome.dataset))
    yield "\n## Figures on the holdout\n"
    yield from write_table(
        ("", "tonight", "baseline", "last night", "difference (interval)", "limits"),
        (_describe_figure(metric, outcome.model, figures, limits) for metric in FIGURES),
    )
    if gate["champion"]:
        yield f"\nLast night's model is that of run `{gate['champion']}`, on the rows that both may be judged by."
    else:
        why = escape_markdown(str(gate["not_compared"]))
        yield f"\nNot compared with last night's model, whose figures are those on its own holdout: {why}"
    yield "\n" + ("- all limits are met" if not gate["broken"] else "")
    yield from (f"- **broken**: {escape_markdown(one)}" for one in gate["broken"])
    if gate["forced"]:
        yield "- published anyway, because --force-publish was given"


def _describe_figure(metric: str, model: str, figures: Figures, limits: dict[str, Any]) -> tuple[str, ...]:
    baseline, of_baseline = BASELINES[metric]
    ends = (figures.get((model, "against=champion", f"{metric}_difference{end}")) for end in ("", "_low", "_high"))
    value, low, high = ends
    difference = f"{value:+.4f} ({low:+.4f} to {high:+.4f})" if None not in (value, low, high) else ""
    wanted = {
        "mae_median": f"≤ {limits['max_mae_median']:g}; difference ≤ {limits['max_mae_regression']:g}",
        "ndcg_at_10": f"difference ≥ −{limits['max_ndcg_regression']:g}",
        "coverage_at_10": f"≥ {limits['min_coverage_ratio']:g} × last night, "
        f"{limits['min_popularity_coverage_ratio']:g} × baseline",
    }
    return (
        FIGURES[metric],
        _number(figures.get((model, "all", metric))),
        f"{_number(figures.get((baseline, 'all', of_baseline)))} ({baseline})",
        _number(figures.get(("champion", "all", metric))),
        difference,
        wanted[metric],
    )


def _read_last_night(run: Run, dataset: str | None) -> Figures:
    """The figures of the dataset's latest published night before this run, on that night's own holdout."""
    try:
        rows = read_figures(run.home, dataset or "", RECENT).to_dicts()
    except NotPublished:
        return {}
    earlier = [row for row in rows if row["run_id"] != run.run_id and row["verdict"] == "published"]
    last = earlier[-1]["run_id"] if earlier else None  # rows are in the order in which the runs ended
    return {
        ("champion", "all", row["metric"]): row["value"]
        for row in earlier
        if (row["run_id"], row["model"]) == (last, "network")
    }


def _read_figures(run: Run) -> Figures:
    return {
        (row.model, row.slice, row.metric): row.value for row in read_metrics(run) if row.split.startswith("holdout")
    }


def _describe_lists(run: Run) -> Iterator[str]:
    """Yields the sizes of the tables, how many lists have changed, and one list as an example, without its user."""
    tables = ", ".join(f"{name} {count:,}" for name, count in count_rows(run.home).items())
    yield "\n## Lists\n"
    yield f"- rows: {tables}"
    yield from describe_changes(run)
    _, rows = sample(run.home)
    yield "\nOne user's list:\n"
    yield from write_table(
        ("rank", "movie", "stars expected", "because of"),
        (
            (str(row["rank"]), _title(row), _number(row["rating_hat"], 2), "; ".join(row["because_titles"] or ()))
            for row in rows.iter_rows(named=True)
        ),
    )


def describe_changes(run: Run) -> Iterator[str]:
    """Yields how many lists differ from last night's, if last night had lists of the same data."""
    n = read_json(run.config)["n"]
    of_lists = {row.metric: row.value for row in read_metrics(run) if (row.split, row.slice) == (TONIGHT, "all")}
    if users := of_lists.get("users_with_both"):
        changed = f"{of_lists[f'changed_at_{n}'] * users:,.0f} of {users:,.0f} lists"
        yield f"- changed since last night: {changed}; {of_lists[f'churn_at_{n}']:.1%} of their movies were replaced"


def _title(row: dict[str, Any]) -> str:
    return f"{row['title']} ({row['year']})" if row["year"] else str(row["title"])


def _describe_steps(run: Run) -> Iterator[str]:
    seconds = read_seconds(run)
    if seconds:
        slowest = sorted(seconds.items(), key=lambda step: (-step[1], step[0]))[:SLOWEST]
        yield f"\n## Slowest steps of {sum(seconds.values()):,.0f} s\n"
        yield from write_table(("step", "seconds"), ((name, f"{value:,.1f}") for name, value in slowest))


def _describe_files(run: Run) -> Iterator[str]:
    """Yields links to the pages, if they are served, and the paths of what is read on the machine."""
    address = find_address(run)
    yield "\n## Files\n"
    for name, path in list_pages(run):
        yield f"- {TITLES[name]}: " + (f"[{name}]({address}/{name})" if address else f"`{path}`")
    on_machine = {"refused lines": run.quarantine, "log": run.log, "tables": run.home.warehouse}
    yield from (f"- {name}: `{path}`" for name, path in on_machine.items() if path.exists())


def write_table(columns: Iterable[str], rows: Iterable[Iterable[str]]) -> Iterator[str]:
    """Yields the lines of a table. Cells are plain text."""
    named = tuple(columns)
    yield f"| {' | '.join(named)} |"
    yield f"|{' --- |' * len(named)}"
    yield from (f"| {' | '.join(map(escape_markdown, row))} |" for row in rows)


def escape_markdown(text: str) -> str:
    """Escapes Markdown, HTML and control characters in a text that may quote the source."""
    return re.sub(r"([\\`*_{}\[\]()<>#|!~&:@])", r"\\\1", printable(" ".join(text.split())))


def _number(value: float | None, digits: int = 4) -> str:
    return "" if value is None else f"{value:.{digits}f}"
