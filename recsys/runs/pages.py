"""The files of a run that a browser may see, by name: results of checks, figures and durations, but no source rows.

`deployments.pages` serves these files, and nothing else in the home.
"""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from recsys.home import Run
from recsys.runs.metrics import MEASURING

PAGES: Mapping[str, Callable[[Run], Path]] = {
    "checks.html": lambda run: run.data_docs / "index.html",
    "audit.html": lambda run: run.audit_docs / "index.html",
    "gate.json": lambda run: run.gate,
    **{f"{step}.json": lambda run, step=step: run.metrics / f"{step}.json" for step in MEASURING},  # type: ignore[misc]
    "steps.json": lambda run: run.steps,
}
TITLES: Mapping[str, str] = {
    "checks.html": "checks of the data",
    "audit.html": "audit of the tables",
    "gate.json": "the gate",
    "evaluate.json": "figures on the holdout",
    "compare_champion.json": "figures beside last night's model",
    "score.json": "figures of tonight's lists",
    "steps.json": "seconds of each step",
}
MEDIA_TYPES = {".html": "text/html", ".json": "application/json"}


def find_page(run: Run, name: str) -> Path | None:
    """The file of a page; None if there is no such page, or if its file is missing or is a link out of the run."""
    if name not in PAGES:
        return None
    path = PAGES[name](run).resolve()
    return path if path.is_file() and path.is_relative_to(run.home.runs.resolve() / run.run_id) else None


def list_pages(run: Run) -> Iterator[tuple[str, Path]]:
    """Yields the pages that the run has, by name."""
    found = ((name, find_page(run, name)) for name in PAGES)
    yield from ((name, path) for name, path in found if path)
