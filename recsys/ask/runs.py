"""The record of one run in the warehouse, for programs that inspect earlier nights."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from recsys.errors import NotPublished, UsageError
from recsys.home import Home
from recsys.warehouse.lookup import find_served, reading, select

METRICS = "select model, split, slice, metric, value from metrics where run_id = $run_id order by all"
STEPS = "select step, seconds from run_steps where run_id = $run_id order by step"
LISTS = (
    "select user_id, rank, movie_id, score from recommendation_history where run_id = $run_id order by user_id, rank"
)


@dataclass(frozen=True)
class RecordedRun:
    """The record of one run. Moments are UTC."""

    run_id: str
    record: dict[str, Any]  # its row of `runs`, by column
    metrics: pl.DataFrame  # model, split, slice, metric, value
    steps: pl.DataFrame  # step, seconds
    lists: pl.DataFrame  # user_id, rank, movie_id, score; empty if they are not in recommendation_history
    folder: Path  # of the run: settings, log, gate and result pages, until they are deleted


def open_run(home: Home, run_id: str | None = None) -> RecordedRun:
    """Reads the record of a run, by default of the run that is being served.

    Raises: NotPublished if no run is served, or if the warehouse cannot be read; UsageError if there is no such run.
    """
    if run_id is None:
        served = find_served(home)
        if served is None:
            raise NotPublished(f"{home.warehouse} serves no run. Next: `recsys nightly --home {home.root}`")
        run_id = str(served["run_id"])
    with reading(home) as connection:
        record = select(connection, "from runs where run_id = $run_id", run_id=run_id)
        if record.is_empty():
            raise UsageError(
                f"{home.warehouse} has no run '{run_id}'. Next: choose one that `recsys runs --home {home.root}` lists"
            )
        return RecordedRun(
            run_id=run_id,
            record=record.row(0, named=True),
            metrics=select(connection, METRICS, run_id=run_id),
            steps=select(connection, STEPS, run_id=run_id),
            lists=select(connection, LISTS, run_id=run_id),
            folder=home.run(run_id).folder,
        )


def summarise_figures(run: RecordedRun) -> pl.DataFrame:
    """Returns one row per metric of the holdout as a whole, with a column per model, the run's own network first."""
    whole = run.metrics.filter(pl.col("slice") == "all", pl.col("split").str.starts_with("holdout"))
    own_first = whole.sort(pl.col("model") != run.record["model"], maintain_order=True)
    return own_first.pivot("model", index="metric", values="value", aggregate_function="first")
