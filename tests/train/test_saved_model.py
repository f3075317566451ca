import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from recsys.encode.vocabulary import Vocabulary
from recsys.errors import ModelError
from recsys.files import read_json, write_json
from recsys.train.learn import Choice, Learner
from recsys.train.loop import predict
from recsys.train.saved_model import Meta, SavedModel, load_model, read_meta, save_model
from recsys.version import code_version
from tests.support.planted import (
    FEATURES,
    LEVELS,
    RATERS,
    fit,
    fitted,
    parts,
    predict_all,
    quick_config,
    rating,
    same_weights,
)

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


@pytest.mark.parametrize("name", RATERS)  # every network: each has parameters and buffers of its own kind
def test_a_loaded_network_has_bit_identical_weights_and_predictions(name: str, tmp_path: Path) -> None:
    network, _ = fit(name)
    loaded = load_model(save(tmp_path, name), VOCABULARY)
    assert not loaded.training
    assert same_weights(loaded, network)
    assert torch.equal(predict_all(loaded), predict_all(network))
    assert loaded.sizes == network.sizes


def test_a_network_for_later_is_saved_without_the_seconds_of_ratings(tmp_path: Path) -> None:
    """The served network is only asked about the moment after the last rating, so its file needs no earlier one."""
    network, train = rating(fitted("ordinal")), parts()[0]
    choice = Choice("ordinal", quick_config("ordinal"), epochs=3, tried={})
    save_model(network, choice, LEARNER, tmp_path, for_later=True)
    later = replace(train, rated_at=torch.full_like(train.rated_at, int(train.rated_at.max()) + 1))
    loaded = load_model(SavedModel(tmp_path), VOCABULARY)
    assert torch.equal(predict(loaded, later).p_BK, predict(network, later).p_BK)
    seconds = {int(moment) for moment in train.rated_at}
    for tensor in load_file(SavedModel(tmp_path).weights).values():
        if tensor.dtype == torch.int64:
            low = tensor.flatten() & (1 << 34) - 1
            assert seconds & set(low.tolist()) == set()


def test_the_folder_holds_readable_json_and_no_pickle(saved: SavedModel) -> None:
    assert {path.name for path in saved.folder.iterdir()} == {
        "weights.safetensors",
        "features.safetensors",
        "features.json",
        "meta.json",
    }
    assert read_json(saved.meta) == {
        "format": 2,
        "model": "ordinal",
        "config": quick_config("ordinal").model_dump(mode="json"),
        "epochs": 3,
        "champion": None,
        "levels": list(LEVELS),
        "vocabulary": VOCABULARY.content_hash(),
        "features": FEATURES.content_hash(),
        "seed": 3,
        "metrics": {"validation": {"mae_median": 0.7}},
        "validation": {"ordinal": {"mae_median": 0.7}},
        "code_version": code_version(),
        "torch_version": torch.__version__,
    }
    assert "user_table" in load_file(saved.weights)


def test_a_folder_without_meta_json_is_refused(saved: SavedModel) -> None:
    saved.meta.unlink()
    with pytest.raises(ModelError, match=r"no model in .*model: meta\.json is missing\. Next: run recsys nightly"):
        load_model(saved, VOCABULARY)


def test_meta_json_is_written_last(tmp_path: Path) -> None:
    """If a process is killed between the two files, its folder is not mistaken for a model."""
    (tmp_path / "model" / "meta.json").mkdir(parents=True)  # so that writing it fails
    with pytest.raises(OSError, match=r"meta\.json"):
        save(tmp_path)
    assert (tmp_path / "model" / "weights.safetensors").exists()


def test_another_format_is_refused(saved: SavedModel) -> None:
    change_meta(saved, format=1)
    with pytest.raises(ModelError, match=r"meta\.json has format 1; this version reads format 2\. Next: train again"):
        load_model(saved, VOCABULARY)


def test_damaged_meta_json_is_refused(saved: SavedModel) -> None:
    for damage in ('{"format": 2, "mod', "[]", "7", "{}", ""):
        saved.meta.write_text(damage, encoding="utf-8")
        with pytest.raises(ModelError, match=r"meta\.json is damaged: .*Next: train again"):
            load_model(saved, VOCABULARY)


@pytest.mark.parametrize("key", sorted(set(Meta.model_fields) - {"format"}))
def test_a_missing_key_of_meta_json_is_named(saved: SavedModel, key: str) -> None:
    write_json(saved.meta, {name: value for name, value in read_json(saved.meta).items() if name != key})
    with pytest.raises(ModelError, match=rf"meta\.json is damaged: {key}: Field required\. Next: train again"):
        load_model(saved, VOCABULARY)


def test_an_unknown_network_is_refused(saved: SavedModel) -> None:
    change_meta(saved, model="perceptron")
    with pytest.raises(ModelError, match=r"meta\.json: unknown network perceptron\. Next: train one of ordinal, "):
        load_model(saved, VOCABULARY)


def test_an_invalid_config_is_refused_with_its_fields(saved: SavedModel) -> None:
    config = read_json(saved.meta)["config"]
    change_meta(saved, config=config | {"embedding_dim": 0, "momentum": 0.9})
    with pytest.raises(
        ModelError, match=r"an invalid config for ordinal: embedding_dim: .*; momentum: .*Next: train again"
    ):
        load_model(saved, VOCABULARY)


def test_a_model_trained_on_other_levels_is_refused(saved: SavedModel) -> None:
    assert load_model(saved, VOCABULARY, LEVELS)
    words = r"was trained on ratings of 1, 2, 3, 4, 5 stars, but these ratings have 0\.5, 1\. Next: train it again"
    with pytest.raises(ModelError, match=words):
        load_model(saved, VOCABULARY, (0.5, 1.0))


def test_another_code_version_is_only_logged(saved: SavedModel, caplog: pytest.LogCaptureFixture) -> None:
    change_meta(saved, code_version="0.0.9")
    with caplog.at_level(logging.INFO, logger="recsys.train.saved_model"):
        load_model(saved, VOCABULARY)
    assert caplog.messages == [f"{saved.folder} was trained by version 0.0.9, this is {code_version()}"]


def test_other_features_are_refused(saved: SavedModel) -> None:
    replace(FEATURES, item={}).save(saved.folder)
    with pytest.raises(
        ModelError,
        match=r"the features in .* are [0-9a-f]{12}, but the network was trained with [0-9a-f]{12}\. Next: train again",
    ):
        load_model(saved, VOCABULARY)


@pytest.mark.parametrize("name", ["features.safetensors", "features.json"])
def test_damaged_features_are_refused(saved: SavedModel, name: str) -> None:
    (saved.folder / name).write_bytes((saved.folder / name).read_bytes()[:20])
    with pytest.raises(ModelError, match=r"the features in .*model are damaged: .*Next: train again"):
        load_model(saved, VOCABULARY)
    (saved.folder / name).unlink()
    with pytest.raises(ModelError, match=r"the features in .*model are damaged: .*Next: train again"):
        load_model(saved, VOCABULARY)


def test_holdout_metrics_and_champion_are_saved(tmp_path: Path) -> None:
    network, _ = fit("ordinal")
    choice = Choice("ordinal", quick_config("ordinal"), epochs=3, tried={"ordinal": {"mae_median": 0.7}})
    holdout = {"holdout": {"rmse_mean": 0.9}}
    saved = save_model(network, choice, LEARNER, tmp_path, metrics=holdout, champion="20261121T030000Z")
    meta = read_meta(saved)
    assert meta.metrics == {"validation": {"mae_median": 0.7}} | holdout
    assert meta.champion == "20261121T030000Z"
    assert meta.parsed_config() == choice.config


@pytest.mark.parametrize("n_movies", [40, 41])
def test_another_vocabulary_is_refused(saved: SavedModel, n_movies: int) -> None:
    """It is refused even if it has the same size, because its rows belong to other users."""
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


def test_another_number_of_levels_in_meta_json_is_refused(saved: SavedModel) -> None:
    change_meta(saved, levels=[1.0, 2.0, 3.0])
    with pytest.raises(ModelError, match="size mismatch"):
        load_model(saved, VOCABULARY)
