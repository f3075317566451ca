"""Compares networks on the same rows and writes a report."""

from pathlib import Path
from typing import Annotated

from prefect import flow
from pydantic import Field
from pydantic.json_schema import SkipJsonSchema

from flows.alerting import ALERTING
from flows.endings import with_final_states
from flows.naming import name_of_night
from flows.show import attempt, bars, has_server, show_images, show_rows
from recsys.compare.plan import MAX_SEEDS, plan_comparison
from recsys.compare.results import Row
from recsys.runs.summary import ERRORS, LISTS
from recsys.settings import Settings


@flow(name="compare", description=__doc__, flow_run_name=name_of_night, **ALERTING)
@with_final_states
def compare(
    models: str = "all",
    splits: str = "random",
    seeds: Annotated[int, Field(ge=1, le=MAX_SEEDS)] = 1,
    settings: Settings | SkipJsonSchema[None] = None,
) -> Path:
    """The same as `recsys compare`. Returns the folder of the results, in HOME/comparisons.

    Raises: UsageError for an unknown network or split; ModelError if a network could not be trained.

    Args:
        models: Networks and baselines, separated by commas, or all.
        splits: random, time or last, separated by commas.
        seeds: Number of seeds to repeat with.
        settings: Settings that differ from those of the worker.
    """
    from recsys.compare.compare import check_complete, prepare
    from recsys.compare.compare import compare as run_comparison

    settings = settings or Settings()
    plan = plan_comparison(models, splits, seeds, "chosen", settings, (None, None))
    with bars():
        found = run_comparison(prepare(plan, settings))
    rows = (
        {"split": row.split, "model": row.model, **_figures(row), "failures": "; ".join(row.failures)}
        for row in found.rows
    )
    show_rows(rows, "comparison", f"{found.dataset}, snapshot {found.snapshot}; full results in {found.folder}")
    if has_server():
        attempt(show_images, {name: found.folder / f"{name}.png" for name in ("results", "reliability")})
    check_complete([found])
    return found.folder


def _figures(row: Row) -> dict[str, str]:
    return {
        name: f"{row.figures[metric].mean:.4f}" for metric, name in (ERRORS | LISTS).items() if metric in row.figures
    }
