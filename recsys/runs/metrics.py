"""The figures of a run: one file for each step that measures, and one reader."""

from collections.abc import Iterable, Iterator
from dataclasses import asdict

from recsys.files import read_json, write_json
from recsys.home import Run
from recsys.metrics.differences import Difference
from recsys.warehouse.outcome import AGAINST, MetricRow

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


def metrics_of(model: str, rows: tuple[MetricRow, ...]) -> dict[str, dict[str, float]]:
    """The metrics of a network by split, over all ratings."""
    measured: dict[str, dict[str, float]] = {}
    for row in rows:
        if row.model == model and row.slice == "all":
            measured.setdefault(row.split, {})[row.metric] = row.value
    return measured


def metric_rows(metrics: dict[str, dict[str, float]], split: str, network: str) -> list[MetricRow]:
    """Metrics in long form. The model "network" is renamed to the chosen network."""
    return [
        MetricRow(network if model == "network" else model, split, "all", metric, value)
        for model, values in metrics.items()
        for metric, value in values.items()
    ]


def slice_rows(slices: dict[str, dict[str, float]], split: str, network: str) -> list[MetricRow]:
    return [
        MetricRow(network, split, part, metric, value)
        for part, values in slices.items()
        for metric, value in values.items()
    ]


def difference_rows(differences: Iterable[Difference], split: str, network: str) -> Iterator[MetricRow]:
    """The differences between the network's lists and other lists, with the ends of their intervals."""
    for one in differences:
        for end, value in (("", one.value), ("_low", one.low), ("_high", one.high)):
            yield MetricRow(network, split, f"{AGAINST}{one.slice}", f"{one.metric}_difference{end}", value)
