"""What Prefect's UI shows of a night beside its steps: progress, figures, the gate's verdict, a plot, where to read on.

All of it is made from files that the run has left, so a night that was refused is shown like any other. Nothing here
can end a night: a server that is gone is a line in the log.
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
    create_image_artifact,
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)
from prefect.settings import PREFECT_API_URL

from recsys.errors import NotPublished
from recsys.files import read_json
from recsys.home import Run
from recsys.progress import watched
from recsys.runs.metrics import read_metrics
from recsys.runs.night import describe_run
from recsys.runs.summary import ERRORS, LISTS, in_files
from recsys.warehouse.lookup import list_runs, read_figures

SECONDS = 2.0  # between two updates of a bar
NIGHTS = 30  # of the plot

logger = logging.getLogger("recsys.show")


def has_server() -> bool:
    """Whether somebody can look: the server that a night starts for itself ends with it."""
    return bool(PREFECT_API_URL.value())


@contextmanager
def bars() -> Iterator[None]:
    """While the block lasts, long pieces of work have a bar each."""
    if not has_server():
        yield
        return
    with watched(Bars()):
        yield


def show(run: Run) -> None:
    """What came out of a run that has ended, however it did."""
    if has_server():
        for part in (show_metrics, show_verdict, show_trend):
            attempt(part, run)


def attempt(part: Callable[..., object], *args: object) -> None:
    """What cannot be shown is told, and no reason to end a night."""
    try:
        part(*args)
    except Exception as error:
        logger.warning("%s: Prefect's UI does not get it: %s", part.__name__, error)
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
    """Tonight's model, the one being served and the baselines on the holdout: a row each, a column for each figure."""
    rows = list(tabulate(run))
    if rows:
        create_table_artifact(
            rows, key="metrics", description="On the holdout. Less is better in stars, more in lists."
        )


def tabulate(run: Run) -> Iterator[dict[str, Any]]:
    """Only figures that somebody has."""
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
    """How the night ended and why, what the gate found, and where to read on."""
    create_markdown_artifact("\n".join(describe(run)), key="verdict", description=f"Night {run.run_id}")


def describe(run: Run) -> Iterator[str]:
    """Markdown, line by line."""
    verdict, reason = find_verdict(run)
    outcome = describe_run(run, verdict=verdict, reason=None)
    yield f"# {verdict}"
    if reason:
        yield f"\n{_inert(reason)}\n"
    yield f"- run `{run.run_id}`, data `{outcome.dataset}`, snapshot `{outcome.snapshot}`, as of {outcome.as_of}"
    yield f"- model {outcome.model or 'not chosen yet'}"
    yield from _describe_gate(run)
    yield "\n## Where to read on\n"
    for name, path in in_files(run):
        yield f"- {name}: [{path}]({path.as_uri()})"


def find_verdict(run: Run) -> tuple[str, str | None]:
    """As it stands in `runs`, and the reason; from the run's folder where it could not be recorded there."""
    try:
        for row in list_runs(run.home, NIGHTS).iter_rows(named=True):
            if row["run_id"] == run.run_id:
                return row["verdict"], row["reason"]
    except NotPublished:
        pass
    ended = read_json(run.ended) if run.ended.exists() else {}
    return ended.get("verdict", "failed"), ended.get("reason")


def _describe_gate(run: Run) -> Iterator[str]:
    if not run.gate.exists():
        return
    gate = read_json(run.gate)
    yield "\n## The gate\n"
    if gate["champion"]:
        yield f"- compared with run `{gate['champion']}`, which was being served"
    else:
        yield f"- compared with no champion: {_inert(gate['not_compared'])}"
    yield from (f"- **broken**: {_inert(one)}" for one in gate["broken"])
    if not gate["broken"]:
        yield "- every limit holds"
    if gate["forced"]:
        yield "- published all the same: somebody asked for it"


def show_trend(run: Run) -> None:
    """The newest nights of the data set as a picture."""
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
    """PNG files by the key of their artifact; they travel in the artifact itself, as the UI has no files of ours."""
    for key, path in pictures.items():
        encoded = base64.b64encode(path.read_bytes()).decode()
        create_image_artifact(f"data:image/png;base64,{encoded}", key=key, description=path.stem)


def show_rows(rows: Iterable[dict[str, Any]], key: str, description: str) -> None:
    """A table where there is somebody to look at it."""
    if has_server():
        attempt(lambda: create_table_artifact(list(rows), key=key, description=description))


def _inert(text: str) -> str:
    """A text that quotes a source, as text: neither markup nor a link."""
    return re.sub(r"([\\`*_{}\[\]()<>#|!])", r"\\\1", " ".join(text.split()))
