"""Results of a comparison: a store of finished trials, means and intervals over seeds, and result files."""

import csv
import logging
import math
import statistics
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from recsys.compare.trial import Trial
from recsys.errors import UsageError
from recsys.files import read_sealed, replacing, write_json, write_sealed
from recsys.models import MODELS

logger = logging.getLogger(__name__)

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Figure:
    """A mean over seeds, and the `half_width` of its 95% interval, which is None for a single seed."""

    mean: float
    half_width: float | None
    n: int


@dataclass(frozen=True)
class Row:
    """One network on one split: figures by metric, and failures."""

    split: str
    model: str
    figures: dict[str, Figure]
    criterion: str
    reported: dict[str, str] | None  # figure and conditions, from the write-up
    failures: list[str]


def estimate(values: list[float]) -> Figure:
    """Returns the mean of independent draws and the half-width of its 95% interval.

    Source: Student, "The Probable Error of a Mean" (Biometrika, 1908).
    """
    from scipy.stats import t

    n = len(values)
    if n < 2:
        return Figure(values[0], None, n)
    error = statistics.stdev(values) / math.sqrt(n)
    return Figure(statistics.fmean(values), float(t.ppf((1 + CONFIDENCE) / 2, n - 1)) * error, n)


def summarise(trials: Iterable[Trial]) -> list[Row]:
    """Returns a row per split and network, in the order of the trials. Means are over the trials with the metric."""
    groups: dict[tuple[str, str], list[Trial]] = {}
    for trial in trials:
        groups.setdefault((trial.split, trial.model), []).append(trial)
    return [_row(split, model, group) for (split, model), group in groups.items()]


def summarise_slices(trials: Iterable[Trial]) -> list[dict[str, Any]]:
    """Returns means over seeds in long form: split, model, slice, metric, value."""
    values: dict[tuple[str, str, str, str], list[float]] = {}
    for trial in trials:
        for part, metrics in trial.slices.items():
            for metric, value in metrics.items():
                values.setdefault((trial.split, trial.model, part, metric), []).append(value)
    names = ("split", "model", "slice", "metric")
    return [dict(zip(names, key, strict=True)) | {"value": statistics.fmean(found)} for key, found in values.items()]


class TrialStore:
    """Stores finished trials, one file each, so that an interrupted comparison can be resumed."""

    def __init__(self, folder: Path, conditions: dict[str, Any]) -> None:
        """Raises: UsageError if `folder` has trials with other conditions, which are not comparable."""
        self.folder = folder
        there = folder / "conditions.json"
        kept = _read(there) if there.exists() else conditions
        if not isinstance(kept, dict):
            raise UsageError(f"--out {folder}: {there} is damaged. Next: pass another --out, or remove that folder")
        for name in {**conditions, **kept}:
            if kept.get(name) != conditions.get(name):
                raise UsageError(
                    f"--out {folder} has a comparison with other conditions: {name} was {kept.get(name)}, now it is "
                    f"{conditions.get(name)}. Next: pass another --out, or remove that folder"
                )
        write_sealed(there, conditions)

    def take_or_run(self, split: str, model: str, seed: int, run: Callable[[], Trial]) -> Trial:
        """Returns the stored trial, or runs and stores it. Failed trials are not stored; damaged ones are run again."""
        path = self.folder / "trials" / f"{split.replace(':', '-')} {model} {seed}.json"
        if path.exists():
            try:
                return Trial(**_read(path))
            except TypeError:  # not JSON, or JSON with other fields
                logger.warning("%s is damaged; the trial is run again", path)
        trial = run()
        if trial.failure is None:
            write_sealed(path, trial.as_json())
        return trial


def _read(path: Path) -> Any:
    """Reads an object that was written sealed. Returns None if it is damaged."""
    try:
        return read_sealed(path)
    except ValueError:
        return None


def write_results(rows: list[Row], trials: list[Trial], found: dict[str, Any], folder: Path) -> None:
    """Writes results.json (everything), results.csv (one line per row) and slices.csv (long form)."""
    write_json(
        folder / "results.json",
        found | {"rows": [asdict(row) for row in rows], "trials": [trial.as_json() for trial in trials]},
    )
    metrics = list(dict.fromkeys(metric for row in rows for metric in row.figures))
    _write_csv(folder / "results.csv", [_flat(row, metrics) for row in rows])
    _write_csv(folder / "slices.csv", summarise_slices(trials))


def _row(split: str, model: str, trials: list[Trial]) -> Row:
    good = [trial for trial in trials if trial.failure is None]
    metrics = dict.fromkeys(metric for trial in good for metric in trial.metrics)
    figures = {
        metric: estimate([trial.metrics[metric] for trial in good if metric in trial.metrics]) for metric in metrics
    }
    variant = MODELS.get(model)
    reported = asdict(variant.reported) if variant and variant.reported else None
    failures = [f"seed {trial.seed}: {trial.failure}" for trial in trials if trial.failure]
    criterion = next((trial.criterion for trial in good if trial.criterion), "")
    return Row(split, model, figures, criterion, reported, failures)


def _flat(row: Row, metrics: list[str]) -> dict[str, Any]:
    flat: dict[str, Any] = {"split": row.split, "model": row.model}
    flat["seeds"] = max((figure.n for figure in row.figures.values()), default=0)
    for metric in metrics:
        figure = row.figures.get(metric)
        flat[metric] = figure.mean if figure else None
        flat[f"{metric}_half_width"] = figure.half_width if figure else None
    reported = row.reported or {}
    return flat | {
        "reported": reported.get("figure"),
        "reported_conditions": reported.get("conditions"),
        "failures": "; ".join(row.failures),
    }


def _write_csv(path: Path, lines: list[dict[str, Any]]) -> None:
    with replacing(path) as aside, aside.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(lines[0]) if lines else ["split", "model"])
        writer.writeheader()
        writer.writerows(lines)
