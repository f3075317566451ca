"""Renders a comparison as tables for the terminal, with a legend."""

from collections.abc import Iterable, Iterator
from io import StringIO

from rich.console import Console
from rich.table import Table

from recsys.compare.results import Figure, Row
from recsys.metrics.decode import PURPOSES
from recsys.printable import printable_lines

STARS = {  # lower is better; most are in stars
    "mae_median": "MAE median",
    "mae_rounded": "MAE rounded",
    "mae_mode": "MAE mode",
    "mae_mean": "MAE mean",
    "rmse_mean": "RMSE",
    "mse_mean": "MSE",
    "log_loss": "log loss",
    "ece": "ECE",
}
OWN = {"own_error": "own error", "ndcg_at_10_by_score": "NDCG@10 by score"}
COST = {"epochs": "epochs", "parameters": "parameters", "training_seconds": "seconds"}
REPORTED = {"reported": "reported"}
COLUMNS = STARS | OWN | COST | REPORTED
DROP_ORDER = (  # columns to drop on a narrow terminal, in this order
    "mse_mean", "mae_mode", "mae_mean", "ece", "parameters", "reported", "log_loss", "epochs", "mae_rounded",
    "ndcg_at_10_by_score", "own_error", "training_seconds",
)  # fmt: skip

MISSING_RANKS_LAST = 1e9
UNLIMITED_WIDTH = 10_000  # characters; rich measures tables only up to the width of its console


def render(rows: list[Row], descriptions: dict[str, str], width: int = 160) -> str:
    """Renders one table per split, best MAE first, then the legend."""
    console = Console(file=StringIO(), width=width, highlight=False)
    for split, description in descriptions.items():
        of_split = sorted((row for row in rows if row.split == split), key=_place)
        console.print(f"{split}: {description}", soft_wrap=True, markup=False)
        table, left_out = _fit_width(of_split, console)
        console.print(table)
        if left_out:
            console.print(f"columns left out: {', '.join(left_out)}; see results.csv", soft_wrap=True)
        for row in of_split:
            for failure in row.failures:
                console.print(f"{row.model} failed, {printable_lines(failure)}", soft_wrap=True, markup=False)
        console.print()
    for line in _legend(rows):
        console.print(line)
    return console.file.getvalue()  # type: ignore[attr-defined, no-any-return]


def _place(row: Row) -> tuple[float, float, str]:
    keys = ("mae_median", "mae_rounded")
    mae = next((row.figures[key].mean for key in keys if key in row.figures), MISSING_RANKS_LAST)
    ndcg = row.figures["ndcg_at_10_by_score"].mean if "ndcg_at_10_by_score" in row.figures else 0.0
    return mae, -ndcg, row.model


def _fit_width(rows: list[Row], console: Console) -> tuple[Table, list[str]]:
    """Returns the table with as many columns as fit, and the names of the others. Figures are never truncated."""
    shown = [key for key in COLUMNS if key in REPORTED or any(key in row.figures for row in rows)]
    left_out = []
    for key in (*DROP_ORDER, None):
        table = _table(rows, shown)
        if key is None or Console(width=UNLIMITED_WIDTH).measure(table).minimum <= console.width:
            break
        if key in shown:
            shown.remove(key)
            left_out.append(COLUMNS[key])
    return table, left_out


def _table(rows: list[Row], shown: list[str]) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("network", no_wrap=True, min_width=max((len(row.model) for row in rows), default=0))
    for key in shown:
        cells = [_shown(row, key) for row in rows]
        parts = cells if key in REPORTED else " ".join((COLUMNS[key], *cells)).split()
        least = max((len(part) for part in parts), default=0)
        table.add_column(COLUMNS[key], justify="left" if key in REPORTED else "right", min_width=least)
    for row in rows:
        table.add_row(row.model, *(_shown(row, key) for key in shown))
    return table


def _shown(row: Row, key: str) -> str:
    if key in REPORTED:
        return row.reported["figure"] if row.reported else ""
    return _cell(key, row.figures.get(key))


def _cell(metric: str, figure: Figure | None) -> str:
    if figure is None:
        return ""
    digits = 4 if metric in STARS or metric in OWN else 1 if metric == "training_seconds" else 0
    mean = f"{figure.mean:,.{digits}f}"
    if figure.half_width is None or metric in COST:
        return mean
    return f"{mean}\n±{figure.half_width:.{digits}f}".replace("±0.", "±.")


def _legend(rows: list[Row]) -> Iterator[str]:
    n = max((figure.n for row in rows for figure in row.figures.values()), default=0)
    if n > 1:
        yield (
            f"Means over {n} seeds, ± half of the 95% interval (Student's t). The seed draws the network's weights, "
            "the validation part and the random split; the other splits are equal for all seeds. Random splits of a "
            "dataset share most rows, so the intervals apply to other splits of this dataset, not to other data."
        )
    yield "What each figure is for: " + "; ".join(f"{name}: {purpose}" for name, purpose in PURPOSES.items()) + "."
    yield (
        "ECE: the mean difference between the predicted probability and the observed share of ratings above a level. "
        "NDCG@10 by score: all unseen movies, ordered by the network alone. Expected stars alone make poor lists; "
        "nights blend them with other scores."
    )
    for criterion in dict.fromkeys(row.criterion for row in rows if row.criterion):
        names = dict.fromkeys(row.model for row in rows if row.criterion == criterion)
        yield f"Own error, of networks that predict no stars ({', '.join(names)}): {criterion}."
    yield from _conditions(rows)


def _conditions(rows: Iterable[Row]) -> Iterator[str]:
    reported = dict.fromkeys((row.model, *row.reported.values()) for row in rows if row.reported)
    if reported:
        yield "Reported by the write-ups, on other splits and partly on older data:"
        yield from (f"  {model}: {figure} ({conditions})" for model, figure, conditions in reported)
