import json
import re
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import polars as pl
import pytest
import torch
from click.testing import CliRunner, Result
from torch import Tensor

from flows.cli.main import main
from recsys.compare.data import Data, Parts, cut, load_data, make_learner
from recsys.compare.order import measure_order
from recsys.compare.plan import plan_comparison
from recsys.compare.search_space import with_values
from recsys.compare.trial import Setting, Trial, run_trial, train_network
from recsys.errors import DataRefused
from recsys.evaluate.holdout import judge
from recsys.files import alone, read_json
from recsys.metrics.errors import number_metrics
from recsys.models import MODELS, NetworkConfig, RatingNetwork
from recsys.models.baselines import fit_baselines
from recsys.settings import Settings, SplitConfig, TunedConfig
from recsys.split.cut import cut_holdout, cut_validation
from recsys.split.leaks import find_leaks
from recsys.train.loop import predict
from tests.support.planted import quick_config

SOURCE = "synthetic:60x40x1200"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module", autouse=True)
def quick() -> Iterator[None]:
    """Train networks for two epochs of eight steps."""
    with pytest.MonkeyPatch.context() as patch:
        for name, variant in MODELS.items():
            patch.setitem(MODELS, name, replace(variant, configure=partial(configure_quick, quick_config(name))))
        yield


def configure_quick(config: NetworkConfig, n_ratings: int, n_levels: int) -> NetworkConfig:
    return with_values(config, {"training.epochs": 2, "training.batch_size": n_ratings // 8})


@pytest.fixture(scope="module")
def settings(home: Path) -> Settings:
    return Settings(source=SOURCE, home=home)


@pytest.fixture(scope="module")
def data(settings: Settings) -> Data:
    return load_data(settings)


@pytest.fixture(scope="module")
def setting(data: Data, settings: Settings) -> Setting:
    return make_setting(data, settings)


def make_setting(data: Data, settings: Settings, parts: Parts | None = None, **changes: object) -> Setting:
    whole = cut(data, SplitConfig(), seed=0)
    learner = make_learner(data, parts or whole, settings, seed=0)
    return replace(Setting("random", parts or whole, learner, "stated", 4.0), **changes)  # type: ignore[arg-type]


def run(home: Path, *arguments: object) -> Result:
    command = ["compare", "--source", SOURCE, "--home", home, *arguments]
    return CliRunner().invoke(main, list(map(str, command)))


def test_parts_are_those_of_a_night(data: Data) -> None:
    config = SplitConfig(holdout_share=0.2)
    rest, holdout = cut_holdout(data.ratings, config, seed=5)
    train, validation = cut_validation(rest, config, seed=5)
    parts = cut(data, config, seed=5)
    assert parts.holdout.equals(holdout)
    assert (parts.fitted.equals(train), parts.validation.equals(validation)) == (True, True)
    assert parts.train.equals(rest)


def test_a_split_that_leaks_is_refused(data: Data, tmp_path: Path) -> None:
    for name, frame in (("a", data.ratings), ("b", data.ratings.head(3))):
        frame.write_parquet(tmp_path / name)
    plan = plan_comparison("bias", "", 1, "stated", Settings(), (tmp_path / "a", tmp_path / "b"))
    with pytest.raises(DataRefused, match="3 of 3 rows of holdout are in train"):
        cut(data, plan.splits["files"], seed=0)


def test_figures_of_a_network(setting: Setting) -> None:
    trial = run_trial("softmax", setting)
    network, choice = train_network("softmax", setting)
    assert isinstance(network, RatingNetwork)
    asked = setting.learner.encode(setting.parts.holdout)
    expected = judge(predict(network, asked), asked, network.levels())
    assert {name: trial.metrics[name] for name in expected} == expected
    assert trial.metrics["mse_mean"] == expected["rmse_mean"] ** 2
    assert trial.metrics["epochs"] == choice.epochs == 2
    widths = 2 * 32 * 128 + 128 + 2 * (128 * 128 + 128) + 128 * 5 + 5 + 4 * 128  # dense layers and batch norms
    sizes = setting.learner.sizes()
    assert trial.metrics["parameters"] == 32 * (sizes.n_users + sizes.n_items) + widths
    assert trial.metrics["training_seconds"] > 0
    assert trial.slices["rating=4"]["n"] == (asked.level_idx == 3).sum()
    assert sum(one["n"] for one in trial.bins) == 4 * len(asked)


def test_figures_of_a_baseline(setting: Setting) -> None:
    known, asked = (setting.learner.encode(part) for part in (setting.parts.train, setting.parts.holdout))
    levels_K = torch.tensor(setting.learner.levels)
    sizes = setting.learner.sizes()
    for name, fitted in fit_baselines(known, sizes).items():
        trial = run_trial(name, setting)
        stars_hat = fitted(asked.user_idx, asked.item_idx)
        expected = number_metrics(stars_hat, levels_K[asked.level_idx], levels_K)
        assert {metric: trial.metrics[metric] for metric in expected} == expected
        assert "log_loss" not in trial.metrics
    counts = torch.bincount(known.item_idx, minlength=sizes.n_items).float()
    popular = run_trial("popularity", setting).metrics
    holdout = setting.parts.holdout
    by_count = measure_order(lambda pairs: counts[pairs.item_idx], known, holdout, setting.learner, 4.0)
    assert popular.keys() == {"ndcg_at_10_by_score", "training_seconds"}
    assert popular["ndcg_at_10_by_score"] == by_count


def test_epochs_are_chosen_on_validation_or_taken_from_the_config(setting: Setting) -> None:
    chosen = train_network("ordinal", replace(setting, epochs="chosen"))[1]
    stated = train_network("ordinal", setting)[1]
    assert stated.epochs == MODELS["ordinal"].configure(len(setting.parts.train), 5).training.epochs
    assert (list(chosen.tried), list(stated.tried)) == (["ordinal"], [])
    assert chosen.config == MODELS["ordinal"].configure(len(setting.parts.fitted), 5)
    assert stated.config == MODELS["ordinal"].configure(len(setting.parts.train), 5) != chosen.config


def test_a_tuned_config_applies_to_its_network_only(setting: Setting) -> None:
    config = with_values(MODELS["softmax"].configure(900, 5), {"embedding_dim": 3})
    tuned = TunedConfig(model="softmax", config=config.model_dump())
    given = replace(setting, tuned=tuned)
    assert train_network("softmax", given)[1].config == config
    assert train_network("ordinal", given)[1].config == train_network("ordinal", setting)[1].config


@pytest.mark.parametrize("epochs", ["chosen", "stated"])
def test_the_holdout_has_no_effect_on_training(data: Data, settings: Settings, setting: Setting, epochs: str) -> None:
    """Weights, epochs and vocabulary do not depend on the holdout, which has users and movies of its own."""
    strangers = pl.col("user_id").is_in([1, 2, 3]) | pl.col("movie_id").is_in([4, 5])
    known = {
        name: part.filter(~strangers) for name, part in vars(setting.parts).items() if name in ("fitted", "validation")
    }
    assert len(setting.parts.holdout.filter(strangers))

    def answer(holdout: pl.DataFrame) -> Tensor:
        parts = Parts(**known, holdout=holdout)
        network, _ = train_network("ordinal", make_setting(data, settings, parts, epochs=epochs))
        return torch.cat([value.flatten() for value in network.state_dict().values()])

    assert find_leaks(answer, setting.parts.holdout) == []


def test_choosing_epochs_on_the_holdout_would_be_detected(data: Data, settings: Settings, setting: Setting) -> None:
    def answer(holdout: pl.DataFrame) -> Tensor:
        parts = replace(setting.parts, holdout=holdout, validation=holdout)
        choice = train_network("softmax", make_setting(data, settings, parts, epochs="chosen"))[1]
        return torch.tensor(list(choice.tried["softmax"].values())[:5])

    assert "its stars" in find_leaks(answer, setting.parts.holdout)


def test_a_failing_network_has_a_trial_with_the_failure(setting: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    diverge("softmax", monkeypatch)
    trial = run_trial("softmax", setting)
    assert trial == Trial("random", "softmax", 0, failure=trial.failure)
    assert trial.failure and trial.failure.startswith("ModelError: softmax on random: epoch 1, step ")


def diverge(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    config = with_values(quick_config(name), {"training.learning_rate": 1e30, "training.schedule": "constant"})
    monkeypatch.setitem(MODELS, name, replace(MODELS[name], configure=lambda *_: config))


def test_the_command_prints_a_table_for_each_split_and_writes_files(home: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    shown = run(home, "--models", "softmax,bias,popularity", "--split", "random,time:0.2", "--seeds", 2, "--out", out)
    assert shown.exit_code == 0, shown.output
    assert "random: 25% drawn at random; 900 ratings to train on, 300 held out" in shown.stdout
    assert "time:0.2: the newest 20%; 960 ratings to train on, 240 held out" in shown.stdout
    assert str(out) in shown.stdout
    written = {path.name for path in out.iterdir()}
    assert written == {"conditions.json", "trials", "results.json", "results.csv", "slices.csv", "results.png",
                       "reliability.png"}  # fmt: skip
    found = read_json(out / "results.json")
    assert [(row["split"], row["model"]) for row in found["rows"]] == [
        (split, model) for split in ("random", "time:0.2") for model in ("softmax", "bias", "popularity")
    ]
    assert {(trial["split"], trial["model"], trial["seed"]) for trial in found["trials"]} == {
        (split, model, seed)
        for split in ("random", "time:0.2")
        for model in ("softmax", "bias", "popularity")
        for seed in (0, 1)
    }
    random, newest = (row["figures"]["rmse_mean"] for row in found["rows"] if row["model"] == "bias")
    assert random["half_width"] > 0  # two seeds, two draws
    assert newest["half_width"] == 0
    assert random["mean"] != newest["mean"]


def test_an_interrupted_comparison_is_resumed(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = run(home, "--models", "bias", "--out", tmp_path, "--json")
    monkeypatch.setattr("recsys.compare.trial.fit_baselines", None)  # fitting bias again would fail
    second = run(home, "--models", "bias,popularity", "--out", tmp_path, "--json")
    rows = [json.loads(result.stdout)["comparisons"][0]["rows"] for result in (first, second)]
    assert rows[1][0] == rows[0][0]
    assert second.exit_code == 1  # popularity has to be fitted, and fitting fails
    assert rows[1][1]["failures"]
    other = run(home, "--models", "bias", "--out", tmp_path, "--holdout-share", "0.5")
    assert other.exit_code == 2
    assert "has a comparison with other conditions: splits was" in other.stderr


def test_a_failing_network_has_a_row_and_does_not_stop_the_others(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    diverge("softmax", monkeypatch)
    shown = run(home, "--models", "softmax,bias", "--out", tmp_path)
    assert shown.exit_code == 1
    assert "softmax failed, seed 0: ModelError: softmax on validation: epoch 1" in shown.stdout
    assert "bias  " in shown.stdout
    assert "softmax on synthetic-60x40x1200 failed, see the lines below the table" in shown.stderr
    assert (tmp_path / "results.png").exists()


def test_invalid_input_is_refused_before_training(home: Path, tmp_path: Path) -> None:
    for wrong in (("--split", "random,u1"), ("--source", "nosuchfile.zip")):
        shown = run(home, "--models", "bias", "--out", tmp_path / "out", *wrong)
        assert shown.exit_code != 0
        assert not list(tmp_path.rglob("trials"))
    (tmp_path / "file").touch()
    shown = run(home, "--models", "bias", "--out", tmp_path / "file" / "out")
    assert (shown.exit_code, "cannot be written: Not a directory" in shown.stderr) == (2, True)


def test_one_process_at_a_time_writes_to_a_folder(home: Path, tmp_path: Path) -> None:
    with alone(tmp_path / "out", "comparison"):
        shown = run(home, "--models", "bias", "--out", tmp_path / "out")
    assert shown.exit_code == 1
    assert f"the comparison in {tmp_path / 'out'} is already running" in shown.stderr


def test_several_sources_each_have_a_folder(home: Path, tmp_path: Path) -> None:
    smaller = "synthetic:40x30x600"
    command = ("--models", "bias", "--source", smaller, "--out", tmp_path)
    shown = run(home, *command)
    assert shown.exit_code == 0, shown.output
    assert re.findall(r"(\d+) ratings to train on", shown.stdout) == ["900", "450"]
    results = [tmp_path / source.replace(":", "-") / "results.json" for source in (SOURCE, smaller)]
    found = json.loads(run(home, *command, "--json").stdout)
    assert found["comparisons"] == [read_json(path) for path in results]


def test_train_and_holdout_files_are_compared(home: Path, data: Data, tmp_path: Path) -> None:
    train, holdout = tmp_path / "train.parquet", tmp_path / "holdout.parquet"
    data.ratings.head(1000).write_parquet(train)
    data.ratings.tail(200).write_parquet(holdout)
    command = ("--models", "bias", "--train", train, "--holdout", holdout, "--json")
    shown = run(home, *command)
    assert shown.exit_code == 0, shown.output
    (found,) = json.loads(shown.stdout)["comparisons"]
    assert found["splits"]["files"].endswith("1,000 ratings to train on, 200 held out")
    assert (home / "comparisons" / found["id"] / "results.csv").exists()


def test_learning_rates_are_suggested(home: Path, tmp_path: Path) -> None:
    command = ("--models", "softmax,bias,dot", "--find-lr", "--out", tmp_path)
    shown = run(home, *command)
    assert shown.exit_code == 0, shown.output
    lines = {line.split()[0]: line.split()[1:] for line in shown.stdout.splitlines()}
    assert {"softmax", "dot"} < lines.keys()
    assert "bias" not in lines
    (found,) = json.loads(run(home, *command, "--json").stdout)["comparisons"]
    assert lines["softmax"] == [f"{found[key]['softmax']:.2g}" for key in ("suggested", "stated")]
    assert 1e-6 < found["suggested"]["softmax"] < 10
    assert (tmp_path / "learning_rates.png").exists()
    assert run(home, "--models", "bias", "--find-lr").exit_code == 2


def test_invalid_options_are_wrong_usage(home: Path) -> None:
    shown = run(home, "--models", "sofmax")
    assert (shown.exit_code, "Did you mean softmax?" in shown.stderr) == (2, True)
    published = run(home, "--models", "bias", "--split", "u1")
    assert (published.exit_code, "has no u1.base and u1.test" in published.stderr) == (2, True)


@pytest.mark.slow
def test_all_networks_can_be_compared_in_one_call(home: Path, tmp_path: Path) -> None:
    shown = run(home, "--models", "all", "--out", tmp_path, "--json")
    assert shown.exit_code == 0, shown.output
    (found,) = json.loads(shown.stdout)["comparisons"]
    for row in found["rows"]:
        assert row["failures"] == []
        assert 0 <= row["figures"]["ndcg_at_10_by_score"]["mean"] <= 1
        if row["model"] in MODELS:
            rates = MODELS[row["model"]].rates
            assert ("mae_median" in row["figures"]) == rates
            assert ("own_error" in row["figures"]) == bool(row["criterion"]) == (not rates)
