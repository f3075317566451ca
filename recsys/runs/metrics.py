"""The figures of a run: one file for each step that measures, and one reader."""

from collections.abc import Iterable
from dataclasses import asdict

from recsys.files import read_json, write_json
from recsys.home import Run
from recsys.warehouse.outcome import MetricRow

MEASURING = ("evaluate", "compare_champion", "score")  # steps, in the order of a night; the checks have result.json


def write_metrics(run: Run, step: str, rows: Iterable[MetricRow]) -> None:
    """Writes the figures that a step has measured, in place of those of an earlier attempt."""
    assert step in MEASURING, f"nothing would read the metrics of {step}"
    write_json(run.metrics / f"{step}.json", [asdict(row) for row in rows])


def read_metrics(run: Run) -> tuple[MetricRow, ...]:
    """All metrics of the run so far: those of the snapshot from the checks, and those of networks and lists."""
    found = read_json(run.findings).get("metrics", []) if run.findings.exists() else []
    paths = [run.metrics / f"{step}.json" for step in MEASURING]
    rows = [*found, *(row for path in paths if path.exists() for row in read_json(path))]
    return tuple(MetricRow(**row) for row in rows)
