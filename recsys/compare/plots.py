"""Draws plots as PNG. Matplotlib is imported only for drawing, and needs no display."""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recsys.compare.results import Row
from recsys.compare.trial import Trial
from recsys.files import replacing
from recsys.train.learning_rate import LearningRateCurve

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INCH_PER_ROW, INCHES_AROUND = 0.28, 1.3
PANELS = {
    "mae_median": "MAE of the median, stars",
    "rmse_mean": "RMSE of the mean, stars",
    "ndcg_at_10_by_score": "NDCG@10, ordered by score",
}
MAX_LABELS = 10  # days named below a plot of nights
NIGHT_PANELS = (  # metric of the network, baseline (model, metric), title
    ("mae_median", ("bias", "mae_rounded"), "holdout MAE in stars: lower is better"),
    ("ndcg_at_10", ("popularity", "ndcg_at_10"), "NDCG@10 of lists on the holdout: higher is better"),
)
REPORTED = re.compile(r"(MAE|RMSE|MSE) ([0-9.]+)")  # start of Reported.figure


def draw_comparison(rows: Sequence[Row], path: Path) -> None:
    """Draws means with 95% intervals, one row of panels per split. Diamonds are figures reported by write-ups."""
    splits = list(dict.fromkeys(row.split for row in rows))
    n_rows = max((sum(row.split == split for row in rows) for split in splits), default=1)
    figure = new_figure(15, len(splits) * (INCHES_AROUND + INCH_PER_ROW * n_rows))
    grid = figure.subplots(len(splits), len(PANELS), squeeze=False)
    for line, split in zip(grid, splits, strict=True):
        of_split = [row for row in rows if row.split == split]
        for axes, (metric, title) in zip(line, PANELS.items(), strict=True):
            _draw_points(axes, of_split, metric, f"{split}: {title}")
    write_figure(figure, path)


def draw_reliability(trials: Iterable[Trial], path: Path) -> None:
    """Draws observed shares against predicted probabilities. Calibrated predictions are on the dotted line."""
    drawn = [trial for trial in trials if trial.bins]
    splits = list(dict.fromkeys(trial.split for trial in drawn)) or ["no network predicts stars"]
    figure = new_figure(5.5 * len(splits), 5)
    for axes, split in zip(figure.subplots(1, len(splits), squeeze=False)[0], splits, strict=True):
        axes.plot([0, 1], [0, 1], ":", color="grey")
        of_split = {
            trial.model: trial for trial in drawn if trial.split == split
        }  # one seed per model is enough to show the shape
        for model, trial in of_split.items():
            points = [(one["predicted"], one["observed"]) for one in trial.bins]
            axes.plot(*zip(*points, strict=True), "o-", markersize=3, linewidth=1, label=model)
        axes.set(title=f"{split}: rating above a level", xlabel="predicted probability", ylabel="observed share")
        if of_split:
            axes.legend(fontsize=7)
    write_figure(figure, path)


def draw_learning_rates(curves: Mapping[str, LearningRateCurve], path: Path) -> None:
    """Draws each network's smoothed loss by rate, relative to its first loss. Dotted lines are the suggestions."""
    figure = new_figure(9, 5)
    axes = figure.subplots()
    for name, curve in curves.items():
        losses = [loss / curve.losses[0] for loss in curve.losses]
        (line,) = axes.plot(curve.rates, losses, linewidth=1.2, label=f"{name}: {curve.suggestion:.2g}")
        axes.axvline(curve.suggestion, linestyle=":", linewidth=0.8, color=line.get_color())
    axes.set(xscale="log", xlabel="learning rate", ylabel="loss, relative to the first", ylim=(None, 1.5))
    if curves:
        axes.legend(fontsize=7, title="suggested")
    write_figure(figure, path)


def draw_nights(figures: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Draws the network and its baselines night by night, in the order of `figures`, those of `lookup.read_figures`.

    Published nights are dots, others are crosses.
    """
    figure = new_figure(11, 3.6)
    nights = [*dict.fromkeys(one["run_id"] for one in figures)]
    for axes, (metric, beaten, title) in zip(figure.subplots(1, 2), NIGHT_PANELS, strict=True):
        for model, of_model in (("network", metric), beaten):
            points = [one for one in figures if (one["model"], one["metric"]) == (model, of_model)]
            places = [nights.index(one["run_id"]) for one in points]
            (line,) = axes.plot(places, [one["value"] for one in points], linewidth=1, label=model)
            for place, one in zip(places, points, strict=True):
                axes.plot(place, one["value"], "o" if one["verdict"] == "published" else "x", color=line.get_color())
        axes.set_title(title, fontsize=9)
        days = label_days(nights)
        axes.set_xticks(list(days), list(days.values()), rotation=45, ha="right", fontsize=7)
        axes.grid(alpha=0.3)
        axes.legend(fontsize=7)
    write_figure(figure, path)


def label_days(nights: Sequence[str]) -> dict[int, str]:
    """The labels of nights, given by run_id in order, by place: each day once, and at most `MAX_LABELS` days."""
    days = [f"{night[:4]}-{night[4:6]}-{night[6:8]}" for night in nights]
    first = [place for place, day in enumerate(days) if place == 0 or days[place - 1] != day]
    step = -(-len(first) // MAX_LABELS) or 1
    return {place: days[place] for place in first[::step]}


def reported_value(figure: str, metric: str) -> float | None:
    """Returns the value of a reported figure for this metric, if any. An MSE is converted to an RMSE."""
    found = REPORTED.match(figure)
    if found is None:
        return None
    name, value = found[1], float(found[2])
    if metric == "mae_median":
        return value if name == "MAE" else None
    if metric == "rmse_mean":
        return {"RMSE": value, "MSE": math.sqrt(value)}.get(name)
    return None


def _draw_points(axes: "Axes", rows: Sequence[Row], metric: str, title: str) -> None:
    """Draws points, best on top. Bars would need an axis from 0, where differences of hundredths are invisible."""
    measured = [(row, row.figures[metric]) for row in rows if metric in row.figures]
    measured.sort(key=lambda pair: pair[1].mean, reverse=not metric.startswith("ndcg"))
    places = list(range(len(measured)))
    means = [one.mean for _, one in measured]
    axes.errorbar(means, places, xerr=[one.half_width or 0.0 for _, one in measured], fmt="o", capsize=3)
    reported = [reported_value((row.reported or {}).get("figure", ""), metric) for row, _ in measured]
    marks = [(value, place) for value, place in zip(reported, places, strict=True) if value is not None]
    if marks:
        values, beside = zip(*marks, strict=True)
        axes.plot(values, beside, "D", color="#e45756", fillstyle="none", label="reported, on other splits and data")
        axes.legend(fontsize=7)
    axes.set_yticks(places, [row.model for row, _ in measured], fontsize=8)
    axes.set_title(title, fontsize=9)
    axes.grid(axis="x", alpha=0.3)
    axes.margins(y=0.1)


def new_figure(width: float, height: float) -> "Figure":
    """Makes a figure of this size in inches, without pyplot, which keeps figures and picks a GUI backend."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def write_figure(figure: "Figure", path: Path) -> None:
    """Writes a PNG file. The same figure gives the same bytes."""
    with replacing(path) as aside:
        figure.savefig(aside, format="png", dpi=110, metadata={"Software": None})
