from pathlib import Path

import pytest
from matplotlib.image import imread

from recsys.compare.plots import (
    draw_comparison,
    draw_learning_rates,
    draw_nights,
    draw_reliability,
    label_days,
    reported_value,
)
from recsys.compare.results import summarise
from recsys.compare.trial import Trial
from recsys.train.learning_rate import LearningRateCurve

BINS = [{"lower": 0.0, "upper": 0.1, "n": 5, "predicted": 0.05, "observed": 0.2}]


def trials(split: str = "random") -> list[Trial]:
    return [
        Trial(split, name, seed, {"mae_median": 0.6 + 0.1 * seed, "ndcg_at_10_by_score": 0.2}, bins=BINS)
        for name in ("softmax", "ordinal")
        for seed in range(2)
    ]


@pytest.mark.parametrize(
    ("figure", "metric", "value"),
    [
        ("MAE 0.669", "mae_median", 0.669),
        ("MAE 0.669", "rmse_mean", None),
        ("MSE 0.7646 / 0.784", "rmse_mean", 0.7646**0.5),
        ("RMSE 0.9", "rmse_mean", 0.9),
        ("MSE 0.7646", "mae_median", None),
        ("no figure", "rmse_mean", None),
        ("MSE 0.7646", "ndcg_at_10_by_score", None),
    ],
)
def test_reported_figures(figure: str, metric: str, value: float | None) -> None:
    assert reported_value(figure, metric) == (value if value is None else pytest.approx(value))


def test_each_split_has_a_row_of_panels(tmp_path: Path) -> None:
    one, two = tmp_path / "one.png", tmp_path / "two.png"
    draw_comparison(summarise(trials()), one)
    draw_comparison(summarise([*trials(), *trials("time")]), two)
    heights = [imread(path).shape[0] for path in (one, two)]
    assert heights[1] == pytest.approx(2 * heights[0], abs=2)
    assert imread(one)[..., :3].std() > 0.02  # something is drawn


def test_the_same_figures_make_the_same_picture(tmp_path: Path) -> None:
    for name in ("one.png", "two.png"):
        draw_comparison(summarise(trials()), tmp_path / name)
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()


def test_reliability_with_and_without_networks_that_rate(tmp_path: Path) -> None:
    for name, drawn in (("some", trials()), ("none", [Trial("random", "popularity", 0)])):
        draw_reliability(drawn, tmp_path / f"{name}.png")
    assert (tmp_path / "some.png").read_bytes() != (tmp_path / "none.png").read_bytes()


def test_learning_rates_of_some_networks_and_of_none(tmp_path: Path) -> None:
    curve = LearningRateCurve((1e-4, 1e-3, 1e-2), (1.0, 0.5, 0.9), 1e-4)
    for name, curves in (("two", {"mlp": curve, "softmax": curve}), ("none", {})):
        draw_learning_rates(curves, tmp_path / f"{name}.png")
    assert (tmp_path / "two.png").read_bytes() != (tmp_path / "none.png").read_bytes()


def test_published_and_other_nights_are_drawn(tmp_path: Path) -> None:
    """A night that was held back has another marker at the same position."""
    night = {"run_id": "20261121T030000Z", "model": "network", "metric": "mae_median", "value": 0.63}
    for name, figures in {
        "published": [night | {"verdict": "published"}],
        "held back": [night | {"verdict": "held back"}],
        "none": [],
    }.items():
        draw_nights(figures, tmp_path / f"{name}.png")
    assert len({path.read_bytes() for path in tmp_path.iterdir()}) == 3


def test_each_day_is_named_once_below_a_plot_of_nights() -> None:
    nights = ["20261130T030000Z", "20261201T030000Z", "20261201T040000Z", "20261202T030000Z"]
    assert label_days(nights) == {0: "2026-11-30", 1: "2026-12-01", 3: "2026-12-02"}
    month = [f"202611{day:02}T030000Z" for day in range(1, 31)]
    assert [*label_days(month)] == [*range(0, 30, 3)]
    assert label_days([]) == {}
