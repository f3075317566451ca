import json
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
from click.testing import CliRunner
from filelock import FileLock

from flows.cli.documents import DOCUMENTS
from flows.cli.main import main
from recsys.compare.data import cut, load_data, make_learner
from recsys.compare.search_space import with_values
from recsys.compare.tune import Tuned, objective, tune
from recsys.errors import HomeBusy, ModelError, UsageError
from recsys.files import read_json
from recsys.models import MODELS, NetworkConfig
from recsys.settings import Settings, SplitConfig, TunedConfig
from recsys.train.choose import choose

SOURCE = "synthetic:60x40x1200"


def settings_for(home: Path, seed: int = 0) -> Settings:
    return Settings(source=SOURCE, home=home, seed=seed)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def found(home: Path) -> Tuned:
    return tune("softmax", settings_for(home), minutes=5, max_trials=3)


@pytest.fixture
def other_home(home: Path, found: Tuned, tmp_path: Path) -> Path:
    """A home with the same checked source and no searches."""
    return Path(shutil.copytree(home, tmp_path / "home", ignore=shutil.ignore_patterns("tuning")))


def read_trials(found: Tuned) -> pl.DataFrame:
    return pl.read_csv(found.folder / "trials.csv")


def test_the_first_trial_is_the_default_config_and_the_best_is_no_worse(found: Tuned) -> None:
    trials = read_trials(found)
    assert len(trials) == 3
    assert trials["trial"].to_list() == [0, 1, 2]
    first = trials.row(0, named=True)
    assert (first["embedding_dim"], first["dropout"], first["training.learning_rate"]) == (32, 0.5, 0.01)
    assert first["mae_median"] == found.default["mae_median"]
    assert found.metrics["mae_median"] == trials["mae_median"].min()
    assert {"rmse_mean", "log_loss", "epochs", "training_seconds"} <= found.metrics.keys()
    assert found.trials == {"complete": 3}
    assert trials["dropout"].n_unique() == 3


def test_the_figures_are_those_of_validation(found: Tuned, home: Path) -> None:
    settings = settings_for(home)
    data = load_data(settings)
    parts = cut(data, SplitConfig(), seed=0)
    tuned = TunedConfig.model_validate(read_json(found.best))
    choice = choose("auto", parts.fitted, parts.validation, make_learner(data, parts, settings, 0), tuned=tuned)
    assert choice.config == found.config
    assert choice.epochs == found.metrics["epochs"]
    assert choice.tried["softmax"]["mae_median"] == found.metrics["mae_median"]


def test_a_second_call_resumes_the_search(found: Tuned, home: Path) -> None:
    before = read_trials(found)
    again = tune("softmax", settings_for(home), minutes=5, max_trials=1)
    assert again.folder == found.folder
    after = read_trials(again)
    assert len(after) == 4
    assert after.head(3).equals(before)
    assert after["dropout"].n_unique() == 4  # nothing is tried twice
    assert again.metrics["mae_median"] <= found.metrics["mae_median"]


def test_another_seed_starts_another_search(found: Tuned, home: Path) -> None:
    assert tune("softmax", settings_for(home, seed=1), minutes=5, max_trials=1).folder != found.folder


def test_the_same_seed_tries_the_same_values(found: Tuned, other_home: Path) -> None:
    again = tune("softmax", settings_for(other_home), minutes=5, max_trials=3)
    without_seconds = [read_trials(one).drop("training_seconds").head(3) for one in (found, again)]
    assert without_seconds[1].equals(without_seconds[0])


@pytest.mark.usefixtures("found")  # the checks of its home need not be run again
def test_a_killed_trial_is_repeated(home: Path) -> None:
    """A trial that is killed with kill -9 is queued again with the same values."""
    before = {*home.glob("tuning/*")}
    command = ["tune", "--model", "softmax", "--source", SOURCE, "--home", str(home), "--minutes", "9", "--seed", "2"]
    program = f"from flows.cli.main import main; main({command!r})"
    child = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while sum(count_values(folder / "trials.log") for folder in {*home.glob("tuning/*")} - before) < 8:
        assert child.poll() is None
        time.sleep(0.01)
    child.kill()
    child.wait()
    found = tune("softmax", settings_for(home, seed=2), minutes=5, max_trials=1)
    trials = read_trials(found)
    killed = trials.filter(pl.col("state") == "FAIL")
    assert len(killed) == 1
    again = trials.filter(pl.col("trial") == killed["trial"].item() + 1)
    values = ["embedding_dim", "hidden_dim", "dropout", "training.learning_rate"]
    assert again.select(values).equals(killed.select(values))


def count_values(log: Path) -> int:
    """Count the values drawn so far; the search has four fields."""
    return log.read_text().count('"param_name"') if log.exists() else 0


def test_the_search_stops_during_a_training_at_the_time_limit(other_home: Path) -> None:
    """The first trial may exceed the time limit, so that there is a result."""
    found = tune("softmax", settings_for(other_home), minutes=1e-6)
    assert found.trials == {"complete": 1}


def test_a_second_search_at_the_same_time_is_refused(home: Path, found: Tuned) -> None:
    with (
        FileLock(found.folder.with_name(f".{found.folder.name}.lock")),
        pytest.raises(HomeBusy, match="is already running"),
    ):
        tune("softmax", settings_for(home), minutes=1, max_trials=1)


@pytest.mark.parametrize(("model", "minutes"), [("sofmax", 1.0), ("softmax", 0.0)])
def test_invalid_arguments_are_refused(model: str, minutes: float, home: Path) -> None:
    with pytest.raises(UsageError, match=r"--m\w+ (sofmax: |0 is invalid)"):
        tune(model, settings_for(home), minutes)


def test_the_objective_of_ranking_networks_is_their_own_error() -> None:
    assert objective({"own_error": 0.25}) == 0.25
    assert objective({"own_error": 0.25, "mae_median": 0.5}) == 0.5


def test_a_search_without_a_successful_trial_fails(other_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shipped = MODELS["softmax"]

    def diverging(n_ratings: int, n_levels: int) -> NetworkConfig:
        return with_values(shipped.configure(n_ratings, n_levels), {"training.learning_rate": 1e30})

    monkeypatch.setitem(MODELS, "softmax", replace(shipped, configure=diverging))
    with pytest.raises(ModelError, match=r"none of 1 trials of softmax succeeded"):
        tune("softmax", settings_for(other_home), minutes=1, max_trials=1)


def test_the_command_prints_the_config_for_a_night(found: Tuned, home: Path) -> None:
    command = ["tune", "--model", "softmax", "--source", SOURCE, "--home", str(home), "--minutes", "5", "--trials", "1"]
    shown = CliRunner().invoke(main, [*command, "--json"])
    assert shown.exit_code == 0, shown.output
    printed = json.loads(shown.stdout)
    assert {*printed} == {"schema", "command", *DOCUMENTS["tune"]}
    assert {"model": printed["model"], "config": printed["config"]} == read_json(found.best)
    page = CliRunner().invoke(main, command).stdout
    assert f"recsys nightly --config {found.best}" in page
    assert ", default config " in page


@pytest.mark.parametrize("minutes", [0, -1, float("nan"), float("inf")])
def test_minutes_must_be_finite_and_positive(minutes: float, home: Path) -> None:
    with pytest.raises(UsageError, match=r"--minutes .* is invalid. Next: pass a number above 0"):
        tune("softmax", settings_for(home), minutes)
