"""The artifacts of a night in the Prefect UI: progress bars, figures, the verdict of the gate, a plot.

They are made from the files of the run, so a refused night has artifacts, too. A failure to create one is logged and
does not end the night.
"""

import base64
import logging
import re
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

from prefect.artifacts import (
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)
from prefect.settings import PREFECT_API_URL

from flows.verdict import describe
from recsys.errors import NotPublished, panics_as_errors
from recsys.files import read_json
from recsys.home import Run
from recsys.progress import watched
from recsys.runs.metrics import read_metrics
from recsys.runs.summary import ERRORS, LISTS
from recsys.warehouse.lookup import read_figures

SECONDS = 2.0  # between two updates of a bar
NIGHTS = 30  # maximum number of nights in the plot

logger = logging.getLogger("recsys.show")


def has_server() -> bool:
    """Whether a Prefect server, and therefore a UI, is configured."""
    return bool(PREFECT_API_URL.value())


@contextmanager
def bars() -> Iterator[None]:
    """Shows a progress bar for each long piece of work during the block."""
    if not has_server():
        yield
        return
    with watched(Bars()):
        yield


def show(run: Run) -> None:
    """Creates the artifacts of a run that has ended, successfully or not."""
    if has_server():
        for part in (show_metrics, show_verdict, show_trend):
            attempt(part, run)


def attempt(part: Callable[..., object], *args: object) -> None:
    """Calls `part`. A failure is logged and does not end the night."""
    try:
        with panics_as_errors():
            part(*args)
    except Exception as error:
        logger.warning("%s failed, the Prefect UI does not show it: %s", part.__name__, error)
        logger.debug("traceback", exc_info=error)


class Bars:
    """A progress artifact for each long piece of work."""

    def __init__(self) -> None:
        self.ids: dict[str, UUID] = {}
        self.shown_at: dict[str, float] = {}

    def __call__(self, label: str, share: float) -> None:
        now = time.monotonic()
        if share < 1 and now - self.shown_at.get(label, -SECONDS) < SECONDS:
            return
        self.shown_at[label] = now
        attempt(self._show, label, min(100.0 * share, 100.0))

    def _show(self, label: str, percent: float) -> None:
        if label in self.ids:
            update_progress_artifact(self.ids[label], percent)
            return
        made = create_progress_artifact(percent, key=key_of(label), description=label)
        assert isinstance(made, UUID)
        self.ids[label] = made


def key_of(label: str) -> str:
    """An artifact's key: lower case letters, digits and dashes."""
    return re.sub(r"[^a-z0-9]+", "-", label.lower()).strip("-")


def show_metrics(run: Run) -> None:
    """Creates a table of tonight's model, the champion and the baselines on the holdout, one row each."""
    rows = list(tabulate(run))
    if rows:
        create_table_artifact(
            rows,
            key="metrics",
            description="On the holdout. For errors in stars, lower is better; for lists, higher is better.",
        )


def tabulate(run: Run) -> Iterator[dict[str, Any]]:
    """Yields the rows of the table of metrics. Figures that no model has are left out."""
    figures: dict[str, dict[str, float]] = {}
    for row in read_metrics(run):
        if row.slice == "all" and row.split.startswith("holdout") and row.metric in ERRORS | LISTS:
            figures.setdefault(row.model, {})[row.metric] = row.value
    named = {
        metric: name for metric, name in (ERRORS | LISTS).items() if any(metric in one for one in figures.values())
    }
    for model, values in figures.items():
        shown = {name: f"{values[metric]:.4f}" if metric in values else "" for metric, name in named.items()}
        yield {"model": model, **shown}


def show_verdict(run: Run) -> None:
    """Creates a page with the verdict of the night and its reason, the result of the gate, and links to files."""
    create_markdown_artifact("\n".join(describe(run)), key="verdict", description=f"Night {run.run_id}")


def show_trend(run: Run) -> None:
    """Creates a plot of the newest nights of the dataset."""
    if not run.findings.exists():
        return
    dataset = read_json(run.findings)["dataset"]
    try:
        figures = read_figures(run.home, dataset, NIGHTS).to_dicts()
    except NotPublished:
        return
    from recsys.compare.plots import draw_nights

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "nights.png"
        draw_nights(figures, path)
        show_images({"nights": path})


def show_images(pictures: dict[str, Path]) -> None:
    """Creates artifacts with one PNG file each, by key.

    An image artifact would print its address below the picture, and that address is the whole file: the UI cannot read
    local files. In Markdown the file is embedded, too, but not printed.
    """
    for key, path in pictures.items():
        encoded = base64.b64encode(path.read_bytes()).decode()
        create_markdown_artifact(f"![{key}](data:image/png;base64,{encoded})", key=key, description=path.stem)


def show_rows(rows: Iterable[dict[str, Any]], key: str, description: str) -> None:
    """Creates a table artifact if there is a server."""
    if has_server():
        attempt(lambda: create_table_artifact(list(rows), key=key, description=description))
