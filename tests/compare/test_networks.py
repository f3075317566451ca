import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from flows.cli.main import main
from recsys.compare.networks import config_of, list_knobs, list_networks
from recsys.models import MODELS


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["networks", *arguments])


def test_every_network_has_a_line() -> None:
    frame = list_networks()
    assert frame["network"].to_list() == list(MODELS)
    assert frame["what"].n_unique() == len(MODELS)
    assert frame["what"].str.len_chars().is_between(10, 100).all()
    assert not frame.filter(network="sequence")["stars"].item()
    shown = run().stdout
    assert all(name in shown for name in MODELS)
    assert "MAE 0.669: ML-1M" in shown


@pytest.mark.parametrize("name", MODELS)
def test_every_field_has_a_value_and_a_description(name: str) -> None:
    frame = list_knobs(config_of(name, 1_000_000, 5))
    assert {"training.epochs", "training.learning_rate"} <= set(frame["knob"])
    assert (frame["what"].str.len_chars() > 5).all()
    assert (frame["value"] != "").all()


def test_values_depend_on_the_number_of_ratings() -> None:
    few, many = (dict(list_knobs(config_of("ordinal", n, 5)).select("knob", "value").rows()) for n in (10**5, 10**7))
    assert float(few["l2"]) > float(many["l2"])
    assert few["features"] == "genres, decade, gender, age, occupation"
    searched = dict(list_knobs(config_of("ordinal", 10**5, 5)).select("knob", "searched").rows())
    assert searched["embedding_dim"] == "15 95 int"
    assert searched["features"] == ""


def test_the_json_output_is_a_config_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.json"
    path.write_text(run("ordinal_basic", "--ratings", "900", "--json").stdout)
    assert json.loads(path.read_text())["model"] == "ordinal_basic"
    command = ["compare", "--source", "synthetic:30x20x600", "--models", "ordinal_basic", "--epochs", "stated"]
    shown = CliRunner().invoke(main, [*command, "--config", str(path), "--home", str(tmp_path / "home"), "--json"])
    assert shown.exit_code == 0, shown.output
    assert json.loads(shown.stdout)["comparisons"][0]["rows"][0]["figures"]["epochs"]["mean"] == 14


def test_an_unknown_network_is_refused() -> None:
    shown = run("ordinary")
    assert shown.exit_code == 2
    assert "no network ordinary. Did you mean ordinal? Next: use one of ordinal, ordinal_basic" in shown.stderr
