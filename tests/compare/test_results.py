import csv
import math
from pathlib import Path

import pytest

from recsys.compare.results import Figure, TrialStore, estimate, summarise, summarise_slices, write_results
from recsys.compare.table import OWN, STARS, render
from recsys.compare.trial import Trial
from recsys.errors import UsageError
from recsys.files import read_json, read_sealed
from tests.support.flips import flip_bit


def trial(model: str, seed: int, **metrics: float) -> Trial:
    return Trial("random", model, seed, metrics, {"genre=Drama": {"n": 10.0 + seed}})


TRIALS = [
    trial("softmax", 0, mae_median=0.5, rmse_mean=1.0),
    trial("bias", 0, rmse_mean=0.9),
    trial("softmax", 1, mae_median=0.7, rmse_mean=1.0),
    Trial("random", "bias", 1, failure="ModelError: the loss is nan"),
]


def test_an_interval_by_hand() -> None:
    """0.5, 0.7 and 0.9 have standard deviation 0.2 and error 0.2/√3. t(2) at 97.5% is 4.302653."""
    figure = estimate([0.5, 0.7, 0.9])
    assert figure.mean == pytest.approx(0.7)
    assert figure.n == 3
    assert figure.half_width == pytest.approx(4.302653 * 0.2 / math.sqrt(3), rel=1e-6)


def test_one_seed_has_no_interval_and_equal_values_one_of_width_zero() -> None:
    assert estimate([0.5]) == Figure(0.5, None, 1)
    assert estimate([0.5, 0.5]) == Figure(0.5, 0.0, 2)


def test_a_row_for_each_network_and_split() -> None:
    softmax, bias = summarise([*TRIALS, trial("softmax", 2)])
    assert softmax.figures["mae_median"] == estimate([0.5, 0.7])
    assert softmax.figures["rmse_mean"].half_width == 0.0
    assert softmax.reported and softmax.reported["figure"] == "MAE 0.669"
    assert bias.figures == {"rmse_mean": Figure(0.9, None, 1)}
    assert (bias.reported, bias.failures) == (None, ["seed 1: ModelError: the loss is nan"])


def test_slices_are_means_over_seeds() -> None:
    assert summarise_slices(TRIALS) == [
        {"split": "random", "model": model, "slice": "genre=Drama", "metric": "n", "value": value}
        for model, value in (("softmax", 10.5), ("bias", 10.0))
    ]


def test_result_files_by_hand(tmp_path: Path) -> None:
    write_results(summarise(TRIALS), TRIALS, {"id": "here"}, tmp_path)
    with (tmp_path / "results.csv").open(encoding="utf-8") as file:
        softmax, bias = csv.DictReader(file)
    assert (softmax["model"], softmax["seeds"], float(softmax["mae_median"])) == ("softmax", "2", 0.6)
    assert (bias["mae_median"], bias["rmse_mean"], bias["rmse_mean_half_width"]) == ("", "0.9", "")
    assert bias["failures"] == "seed 1: ModelError: the loss is nan"
    found = read_json(tmp_path / "results.json")
    assert found["id"] == "here"
    assert [Trial(**one) for one in found["trials"]] == TRIALS
    assert found["rows"][0]["figures"]["mae_median"]["mean"] == 0.6
    assert (tmp_path / "slices.csv").read_text(encoding="utf-8").splitlines()[0] == "split,model,slice,metric,value"


def test_finished_trials_are_stored_and_failed_ones_are_not(tmp_path: Path) -> None:
    runs = []

    def run() -> Trial:
        runs.append(1)
        return TRIALS[0]

    for _ in range(2):
        store = TrialStore(tmp_path, {"snapshot": "abc"})
        assert store.take_or_run("time:0.1", "softmax", 0, run) == TRIALS[0]
    assert len(runs) == 1
    for _ in range(2):
        assert store.take_or_run("time:0.1", "bias", 1, lambda: runs.append(1) or TRIALS[3]) == TRIALS[3]  # type: ignore[func-returns-value]
    assert len(runs) == 3


@pytest.mark.parametrize("damage", ['{"split": "time', '{"other": 1}', ""])
def test_a_damaged_trial_is_run_again(damage: str, tmp_path: Path) -> None:
    store = TrialStore(tmp_path, {"snapshot": "abc"})
    assert store.take_or_run("time:0.1", "softmax", 0, lambda: TRIALS[0]) == TRIALS[0]
    (path,) = (tmp_path / "trials").iterdir()
    path.write_text(damage)
    assert store.take_or_run("time:0.1", "softmax", 0, lambda: TRIALS[1]) == TRIALS[1]
    assert Trial(**read_sealed(path)) == TRIALS[1]


def test_a_trial_with_a_changed_bit_is_run_again(tmp_path: Path) -> None:
    """The figure would be another number."""
    store = TrialStore(tmp_path, {"snapshot": "abc"})
    assert store.take_or_run("random", "softmax", 0, lambda: TRIALS[0]) == TRIALS[0]
    (path,) = (tmp_path / "trials").iterdir()
    flip_bit(path, 8 * (path.read_bytes().index(b"mae_median") + len('mae_median": 0.')))
    assert store.take_or_run("random", "softmax", 0, lambda: TRIALS[1]) == TRIALS[1]


def test_damaged_conditions_are_named(tmp_path: Path) -> None:
    (tmp_path / "conditions.json").touch()
    with pytest.raises(UsageError, match=r"conditions\.json is damaged\. Next: pass another --out"):
        TrialStore(tmp_path, {"snapshot": "abc"})
    (tmp_path / "conditions.json").write_text('{"snapshot": "abc", "more": 1}')
    with pytest.raises(UsageError, match="more was 1, now it is None"):
        TrialStore(tmp_path, {"snapshot": "abc"})


@pytest.mark.parametrize("width", [40, 80, 120, 200])
def test_figures_are_not_truncated_on_a_narrow_terminal(width: int) -> None:
    metrics = dict.fromkeys((*STARS, *OWN), 0.61234) | {"epochs": 14.0, "parameters": 1e6, "training_seconds": 9.9}
    page = render(summarise([trial("ordinal", 0, **metrics), trial("ordinal", 1, **metrics)]), {"random": "25%"}, width)
    table = page.split("\n\n")[0]
    assert "…" not in page
    assert "0.6123" in table
    assert ("columns left out: MSE" in table) == (width < 200)


def test_trials_under_other_conditions_are_refused(tmp_path: Path) -> None:
    TrialStore(tmp_path, {"snapshot": "abc", "code": "1"})
    with pytest.raises(UsageError, match=r"a comparison with other conditions: code was 1, now it is 2\. Next: pass"):
        TrialStore(tmp_path, {"snapshot": "abc", "code": "2"})


def test_the_table_is_sorted_and_has_a_legend() -> None:
    page = render(summarise(TRIALS), {"random": "25% drawn at random"})
    lines = page.splitlines()
    assert lines[0].strip() == "random: 25% drawn at random"
    assert lines[1].split() == ["network", "MAE", "median", "RMSE", "reported"]
    assert lines[2].split() == ["softmax", "0.6000", "1.0000", "MAE", "0.669"]
    assert lines[3].split() == ["±1.2706", "±.0000"]
    assert lines[4].split() == ["bias", "0.9000"]
    assert "bias failed, seed 1: ModelError: the loss is nan" in page
    assert "median: one number with the least absolute error" in page
    assert "softmax: MAE 0.669 (ML-1M, 25% random holdout, 10 epochs)" in page
    assert "Means over 2 seeds" in page


def test_networks_without_stars_come_last_with_their_own_error() -> None:
    ranks_only = Trial("random", "popularity", 0, {"own_error": 0.125, "ndcg_at_10_by_score": 0.25}, criterion="pairs")
    page = render(summarise([ranks_only, TRIALS[0]]), {"random": ""})
    assert page.index("softmax") < page.index("popularity")
    assert "0.1250" in page
    assert "Own error, of networks that predict no stars (popularity): pairs." in page
