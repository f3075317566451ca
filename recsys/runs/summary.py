"""The summary of a night: one object for machines, a short page for people."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from io import StringIO
from pathlib import Path
from typing import Any

import polars as pl
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from recsys.datasets import name_data
from recsys.files import read_json
from recsys.home import Home, Run
from recsys.printable import printable, printable_lines
from recsys.runs.metrics import read_metrics
from recsys.runs.night import describe_run
from recsys.warehouse.lookup import sample
from recsys.warehouse.outcome import Published

ERRORS = {
    "mae_median": "MAE median",
    "mae_rounded": "MAE rounded",
    "mae_mode": "MAE mode",
    "mae_mean": "MAE mean",
    "rmse_mean": "RMSE mean",
    "log_loss": "log loss",
}
LISTS = {
    "ndcg_at_10": "NDCG@10",
    "recall_at_10": "recall@10",
    "recall_at_50": "recall@50",
    "mrr_at_50": "MRR@50",
    "hit_rate_at_10": "hit rate@10",
    "coverage_at_10": "coverage@10",
    "novelty_at_10": "novelty@10",
    "diversity_at_10": "diversity@10",
}


@dataclass(frozen=True)
class Summary:
    """The object that `recsys nightly --json` prints; `metrics` are the network's, by split."""

    run_id: str
    verdict: str
    published: bool
    reason: str | None
    as_of: str | None
    dataset: str | None
    snapshot: str | None
    model: str | None
    home: str
    metrics: dict[str, dict[str, float]]
    baselines: dict[str, dict[str, float]]  # on the holdout, by name
    relevant_from: float  # stars from which a holdout movie counts as relevant in a list
    rows: dict[str, int]  # per table of the warehouse
    seconds: dict[str, float]  # per step

    @property
    def holdout(self) -> dict[str, float]:
        """The network's metrics on the holdout, random or by time."""
        return next((values for split, values in self.metrics.items() if _is_holdout(split)), {})


def summarise_night(run: Run, published: Published) -> Summary:
    """The summary of a night that succeeded."""
    return summarise(run, dict(published.rows), verdict=published.verdict, reason=published.reason)


def summarise(run: Run, rows: dict[str, int], *, verdict: str = "published", reason: str | None = None) -> Summary:
    """The summary of a run, from the files in its folder."""
    outcome = describe_run(run, verdict=verdict, reason=reason)
    measured = [row for row in read_metrics(run) if row.slice == "all"]
    return Summary(
        run_id=run.run_id,
        verdict=verdict,
        published=outcome.published,
        reason=reason,
        as_of=outcome.as_of.isoformat() if outcome.as_of else None,
        dataset=outcome.dataset,
        snapshot=outcome.snapshot,
        model=outcome.model,
        home=str(run.home.root),
        metrics=_by(measured, "split", model=outcome.model),
        baselines=_by((row for row in measured if row.model != outcome.model and _is_holdout(row.split)), "model"),
        relevant_from=read_json(run.config)["rank"]["relevant_from"],
        rows=rows,
        seconds=dict(outcome.seconds),
    )


def render(summary: Summary, width: int = 110) -> str:
    """The short page: verdict, metrics beside the baselines, where the tables are, a sample select and its result."""
    console = Console(file=StringIO(), width=width, highlight=False)
    console.print(f"Night {summary.run_id}: {summary.verdict}", style="bold")
    if summary.reason:
        console.print(printable_lines(summary.reason), soft_wrap=True, markup=False)
    data = name_data(summary.dataset, Home(Path(summary.home)).run(summary.run_id))
    console.print(f"{data}, snapshot {summary.snapshot}, ratings before {summary.as_of}", markup=False)
    console.print()
    console.print(_table("Error on the holdout, in stars (lower is better)", ERRORS, summary))
    n_users = summary.holdout.get("users_with_relevant", 0)
    title = f"Lists of {n_users:,.0f} users on the holdout (higher is better, up to hit rate)"
    console.print(_table(title, LISTS, summary))
    console.print(_about_lists(summary))
    console.print(
        f"{summary.model} was chosen on a validation part of the training ratings, evaluated on the holdout, and "
        "trained once more on all ratings for tonight's lists."
    )
    console.print()
    console.print(f"Tables in {Home(Path(summary.home)).warehouse}:", soft_wrap=True, markup=False)
    console.print("  " + ", ".join(f"{table} {count:,}" for table, count in summary.rows.items()))
    if summary.published:
        statement, rows = sample(Home(Path(summary.home)))
        console.print()
        console.print(statement.strip(), soft_wrap=True, markup=False)
        console.print()
        console.print(frame_table(rows))
    console.print(f"{sum(summary.seconds.values()):.0f} s: {_slowest(summary.seconds)}")
    return console.file.getvalue()  # type: ignore[attr-defined, no-any-return]


def _about_lists(summary: Summary) -> str:
    holdout = summary.holdout
    without = holdout.get("users_without_relevant", 0)
    words = (
        f"In lists, holdout movies of {summary.relevant_from:g} stars or more are relevant, and movies rated in "
        f"training are left out. Users without a relevant movie ({without:,.0f}) count only in coverage, novelty and "
        "diversity."
    )
    if "ndcg_at_10_low" in holdout:
        low, high = (holdout[f"ndcg_at_10_{end}"] for end in ("low", "high"))
        words += f" The 95% interval of {summary.model}'s NDCG@10 over users is {low:.4f} to {high:.4f}."
    return words


def frame_table(frame: pl.DataFrame) -> Table:
    """A small frame as a table for the terminal."""
    table = Table(box=None, pad_edge=False)
    columns = [[_cell(value) for value in frame[name]] for name in frame.columns]
    for (name, kind), cells in zip(frame.schema.items(), columns, strict=True):
        is_prose = any(" " in cell for cell in cells) and not kind.is_temporal()
        table.add_column(name, justify="right" if kind.is_numeric() else "left", overflow="fold", no_wrap=not is_prose)
    for row in zip(*columns, strict=True):
        table.add_row(*map(escape, row))  # a title may look like Rich markup: [rec]
    return table


def frame_csv(frame: pl.DataFrame) -> str:
    """A frame as CSV. The elements of lists are joined, because CSV has no lists."""
    listed = [name for name, kind in frame.schema.items() if isinstance(kind, pl.List)]
    return frame.with_columns(pl.col(name).cast(pl.List(pl.String)).list.join("; ") for name in listed).write_csv()


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list | pl.Series):
        return printable("; ".join(map(str, value)))
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M}"
    return printable(str(value))


def _table(title: str, metrics: dict[str, str], summary: Summary) -> Table:
    table = Table(title=title, title_justify="left", title_style="", box=None, pad_edge=False)
    table.add_column("model", min_width=12)
    for name in metrics.values():
        table.add_column(name, justify="right")
    for model, values in _rows(summary):
        if values.keys() & metrics.keys():
            table.add_row(model, *(f"{values[name]:.4f}" if name in values else "" for name in metrics))
    return table


def _rows(summary: Summary) -> Iterator[tuple[str, dict[str, float]]]:
    yield f"{summary.model}", summary.holdout
    yield from sorted(summary.baselines.items(), key=lambda item: item[1].get("rmse_mean", 9.0))


def _is_holdout(split: str) -> bool:
    return split.startswith("holdout")


def _by(rows: Any, key: str, model: str | None = None) -> dict[str, dict[str, float]]:
    """{split or model: {metric: value}}, of one model if given."""
    grouped: dict[str, dict[str, float]] = {}
    for row in rows:
        if model is None or row.model == model:
            grouped.setdefault(getattr(row, key), {})[row.metric] = row.value
    return grouped


def _slowest(seconds: dict[str, float]) -> str:
    steps = sorted(seconds.items(), key=lambda item: -item[1])[:5]
    return ", ".join(f"{name} {value:.1f}" for name, value in steps)
