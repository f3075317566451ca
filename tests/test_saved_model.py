from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from planted import FEATURES, LEVELS, fit, predict_all, quick_config, same_weights
from safetensors.torch import load_file, save_file

from recsys.errors import ModelError
from recsys.files import read_json, write_json
from recsys.models import MODELS
from recsys.saved_model import SavedModel, load_model, save_model
from recsys.train import Choice, Learner
from recsys.version import code_version
from recsys.vocabulary import Vocabulary

VOCABULARY = Vocabulary(np.arange(1, 61, dtype=np.int32), np.arange(1, 41, dtype=np.int32))
LEARNER = Learner(VOCABULARY, LEVELS, seed=3, device="cpu", features=FEATURES)


def save(folder: Path, name: str = "ordinal") -> SavedModel:
    network, _ = fit(name)
    choice = Choice(name, quick_config(name), epochs=3, tried={name: {"mae_median": 0.7}})
    return save_model(network, choice, LEARNER, folder / "model")


@pytest.fixture
def saved(tmp_path: Path) -> SavedModel:
    return save(tmp_path)


def change_meta(saved: SavedModel, **values: Any) -> None:
    write_json(saved.meta, read_json(saved.meta) | values)


@pytest.mark.parametrize("name", MODELS)
def test_saved_and_loaded_predicts_the_same_bit_for_bit(name: str, tmp_path: Path) -> None:
    network, _ = fit(name)
    loaded = load_model(save(tmp_path, name), VOCABULARY)
    assert not loaded.training
    assert same_weights(loaded, network)
    assert torch.equal(predict_all(loaded), predict_all(network))
    assert loaded.sizes == network.sizes


def test_the_folder_holds_readable_json_and_no_pickle(saved: SavedModel) -> None:
    assert {path.name for path in saved.folder.iterdir()} == {
        "weights.safetensors",
        "features.safetensors",
        "features.json",
        "meta.json",
    }
    assert read_json(saved.meta) == {
        "format": 1,
        "model": "ordinal",
        "config": quick_config("ordinal").model_dump(mode="json"),
        "epochs": 3,
        "levels": list(LEVELS),
        "vocabulary": VOCABULARY.content_hash(),
        "features": FEATURES.content_hash(),
        "seed": 3,
        "validation": {"ordinal": {"mae_median": 0.7}},
        "code_version": code_version(),
    }
    assert "user_table" in load_file(saved.weights)


def test_a_folder_without_meta_is_no_model(saved: SavedModel) -> None:
    saved.meta.unlink()
    with pytest.raises(ModelError, match=r"no model in .*model: meta\.json is missing\. Run recsys nightly"):
        load_model(saved, VOCABULARY)


def test_meta_comes_last(tmp_path: Path) -> None:
    """A death between the two files leaves a folder that does not pass for a model."""
    (tmp_path / "model" / "meta.json").mkdir(parents=True)  # so that writing it fails
    with pytest.raises(OSError, match=r"meta\.json"):
        save(tmp_path)
    assert (tmp_path / "model" / "weights.safetensors").exists()


def test_another_format_is_refused(saved: SavedModel) -> None:
    change_meta(saved, format=2)
    with pytest.raises(ModelError, match=r"meta\.json has format 2; this version reads format 1\. Train anew"):
        load_model(saved, VOCABULARY)


def test_damaged_meta_is_refused(saved: SavedModel) -> None:
    saved.meta.write_text('{"format": 1, "mod', encoding="utf-8")
    with pytest.raises(ModelError, match=r"meta\.json is damaged: .*Train anew"):
        load_model(saved, VOCABULARY)


@pytest.mark.parametrize("n_movies", [40, 41])
def test_another_vocabulary_is_refused(saved: SavedModel, n_movies: int) -> None:
    """Of the same size too: its rows would be other people's."""
    other = Vocabulary(np.arange(2, 62, dtype=np.int32), np.arange(1, n_movies + 1, dtype=np.int32))
    words = f"trained with vocabulary {VOCABULARY.content_hash()}, not with {other.content_hash()}"
    with pytest.raises(ModelError, match=words):
        load_model(saved, other)


@pytest.mark.parametrize("n_bytes", [0, 4, 100, -1])
def test_truncated_weights_are_refused(saved: SavedModel, n_bytes: int) -> None:
    saved.weights.write_bytes(saved.weights.read_bytes()[:n_bytes])
    with pytest.raises(ModelError, match=r"weights\.safetensors does not hold the weights that meta\.json describes"):
        load_model(saved, VOCABULARY)


def test_missing_weights_are_refused(saved: SavedModel) -> None:
    saved.weights.unlink()
    with pytest.raises(ModelError, match=r"weights\.safetensors does not hold .*No such file"):
        load_model(saved, VOCABULARY)


def test_weights_of_another_shape_are_refused_by_name(saved: SavedModel) -> None:
    weights = load_file(saved.weights)
    save_file(weights | {"user": weights["user"][:, :-1].contiguous()}, saved.weights)
    with pytest.raises(ModelError, match=r"(?s)meta\.json describes: .*size mismatch for user"):
        load_model(saved, VOCABULARY)


def test_weights_of_another_network_are_refused(saved: SavedModel, tmp_path: Path) -> None:
    other = save(tmp_path / "other", "softmax")
    saved.weights.write_bytes(other.weights.read_bytes())
    with pytest.raises(ModelError, match=r"(?s)meta\.json describes: .*user_embedding"):
        load_model(saved, VOCABULARY)


def test_other_levels_in_meta_are_refused(saved: SavedModel) -> None:
    change_meta(saved, levels=[1.0, 2.0, 3.0])
    with pytest.raises(ModelError, match="size mismatch"):
        load_model(saved, VOCABULARY)
