"""Costs and benefits of diversity and of the popularity penalty."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import mean

import polars as pl

from recsys.compare.data import cut, load_data
from recsys.compare.plots import new_figure, write_figure
from recsys.rank.lists import list_blocks
from recsys.rank.place import rank_movies
from recsys.settings import RankConfig, Settings
from tests.benches.learned import Judged, judge, make_ranker, train_once
from tests.benches.tables import format_table, pool_seeds, with_interval

GRID = {
    "diversity": (0.0, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7),
    "popularity_penalty": (0.0, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6),
}
GAINS = {
    "coverage_at_10": "coverage@10",
    "novelty_at_10": "novelty, bits",
    "diversity_at_10": "diversity",
    "gini_at_10": "Gini index",
}
Point = tuple[str, float]  # a setting and its value; the other setting is 0
PLACES = 10


def measure_trade_off(settings: Settings, seeds: Sequence[int], epochs: int | None, picture: Path) -> str:
    """Return Markdown with figures on the holdout for each value of each setting, and draw them."""
    data = load_data(settings)
    judged: dict[Point, list[Judged]] = defaultdict(list)
    for seed in seeds:
        trained = train_once(data, cut(data, settings.split, seed), settings, seed, epochs)
        ranker, stage = make_ranker(trained, settings.rank), trained.on_holdout
        relevant, catalogue = stage.relevant(settings.rank.relevant_from), stage.catalogue(ranker.listable)
        for knob, value in ((knob, value) for knob, values in GRID.items() for value in values):
            turned = replace(ranker, config=turn(settings.rank, knob, value))
            lists = pl.concat(list_blocks(rank_movies(turned, PLACES, reasons=0), stage.learner.vocabulary))
            judged[knob, value].append(judge(lists, relevant, stage, catalogue))
    draw(judged, picture)
    return format_table(
        ("knob", "value", "NDCG@10 (95%)", *GAINS.values()), [_row(*point, judged[point]) for point in judged]
    )


def turn(config: RankConfig, knob: str, value: float) -> RankConfig:
    """Return a config with one setting at this value and the other at 0."""
    return RankConfig.model_validate(config.model_dump() | dict.fromkeys(GRID, 0.0) | {knob: value})


def _row(knob: str, value: float, by_seed: list[Judged]) -> tuple[str, ...]:
    ndcg = with_interval(pool_seeds([one.users for one in by_seed], "ndcg_at_10"))
    means = ("" if (of_all := _mean(by_seed, metric)) is None else f"{of_all:.4f}" for metric in GAINS)
    return (knob, f"{value:g}", ndcg, *means)


def _mean(by_seed: list[Judged], metric: str) -> float | None:
    """Return None if lists lack the metric, e.g. diversity without genres."""
    values = [one.metrics[metric] for one in by_seed if metric in one.metrics]
    return mean(values) if values else None


def draw(judged: dict[Point, list[Judged]], path: Path) -> None:
    """Draw a panel per metric and a line per setting, annotated with its values."""
    figure = new_figure(15, 4)
    for axes, (metric, title) in zip(figure.subplots(1, len(GAINS)), GAINS.items(), strict=True):
        for knob, values in GRID.items():
            points = [
                (value, of_all, _mean(judged[knob, value], "ndcg_at_10"))
                for value in values
                if (of_all := _mean(judged[knob, value], metric)) is not None
            ]
            axes.plot([gain for _, gain, _ in points], [ndcg for *_, ndcg in points], "o-", markersize=3, label=knob)
            for value, gain, ndcg in points:
                axes.annotate(f"{value:g}", (gain, ndcg), fontsize=7, xytext=(2, 3), textcoords="offset points")
        axes.set(xlabel=title, ylabel="NDCG@10")
        axes.grid(alpha=0.3)
        axes.legend(fontsize=7)
    write_figure(figure, path)
