"""Trained networks on disk: weights as safetensors and a readable meta.json; no pickle."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from recsys.encode.features import Features
from recsys.encode.vocabulary import Vocabulary
from recsys.errors import ModelError
from recsys.files import read_json, replacing, write_json
from recsys.models import MODELS, NetworkConfig, RatingNetwork, Sizes
from recsys.models.moments import timeless_state
from recsys.settings import Config
from recsys.train.learn import Choice, Learner
from recsys.version import code_version

logger = logging.getLogger(__name__)

FORMAT = 2  # version of meta.json; increased when older code would misread a newer file

Metrics = dict[str, dict[str, float]]  # by split, then by metric


@dataclass(frozen=True)
class SavedModel:
    """The files of one trained network: `weights.safetensors`, the features and `meta.json` in `folder`."""

    folder: Path

    @property
    def weights(self) -> Path:
        return self.folder / "weights.safetensors"

    @property
    def meta(self) -> Path:
        return self.folder / "meta.json"


class Meta(Config):
    """The content of meta.json, which describes the saved weights."""

    format: int
    model: str  # its name in MODELS
    config: dict[str, Any]
    epochs: int  # chosen on validation; a warm start uses fewer
    champion: str | None  # the run whose network training started from; None: from scratch
    levels: tuple[float, ...]  # possible ratings in stars, ascending
    vocabulary: str  # hash
    features: str  # hash
    seed: int
    metrics: Metrics  # of the same network and epochs trained from scratch, on validation and holdout
    validation: Metrics  # of every candidate, by name
    code_version: str
    torch_version: str

    def parsed_config(self) -> NetworkConfig:
        return MODELS[self.model].config_type.model_validate(self.config)


def save_model(
    network: RatingNetwork,
    choice: Choice,
    learner: Learner,
    folder: Path,
    *,
    metrics: Metrics | None = None,
    champion: str | None = None,
    for_later: bool = False,
) -> SavedModel:
    """Saves a network. meta.json is written last, so that a folder with a meta.json is complete.

    `metrics`, by split, are added to those on validation. `champion` is the run that training started from, if any.
    With `for_later`, the network will only be asked about times after its training ratings, and the seconds at which
    people rated are not saved.
    """
    saved = SavedModel(folder)
    with replacing(saved.weights) as aside:
        state = timeless_state(network) if for_later else network.state_dict()
        tensors = {name: value.detach().cpu().contiguous() for name, value in state.items()}
        save_file(tensors, aside)
    learner.features.save(folder)
    meta = Meta(
        format=FORMAT,
        model=choice.model,
        config=choice.config.model_dump(mode="json"),
        epochs=choice.epochs,
        champion=champion,
        levels=learner.levels,
        vocabulary=learner.vocabulary.content_hash(),
        features=learner.features.content_hash(),
        seed=learner.seed,
        metrics={"validation": choice.tried.get(choice.model, {})} | (metrics or {}),
        validation=choice.tried,
        code_version=code_version(),
        torch_version=torch.__version__,
    )
    write_json(saved.meta, meta.model_dump(mode="json"))
    return saved


def read_meta(saved: SavedModel) -> Meta:
    """Reads meta.json. Raises: ModelError if it is missing, damaged, in another format or names an unknown network."""
    if not saved.meta.exists():
        raise ModelError(f"no model in {saved.folder}: meta.json is missing. Next: run recsys nightly to train one.")
    try:
        read = read_json(saved.meta)
        found = read["format"]
    except (ValueError, TypeError, KeyError, OSError) as error:
        raise ModelError(f"{saved.meta} is damaged: {type(error).__name__}: {error}. Next: train again.") from None
    if found != FORMAT:
        raise ModelError(f"{saved.meta} has format {found}; this version reads format {FORMAT}. Next: train again.")
    try:
        meta = Meta.model_validate(read)
    except ValidationError as error:
        raise ModelError(f"{saved.meta} is damaged: {_describe(error)}. Next: train again.") from None
    if meta.model not in MODELS:
        raise ModelError(f"{saved.meta}: unknown network {meta.model}. Next: train one of {', '.join(MODELS)}.")
    return meta


def load_model(saved: SavedModel, vocabulary: Vocabulary, levels: tuple[float, ...] | None = None) -> RatingNetwork:
    """Loads a saved network on the CPU, ready to predict. `levels`, if given, must be those that it was trained on.

    A network saved by another version of the code is loaded, and that version is logged.

    Raises: ModelError if the folder has no model, or one that is damaged, has another format, or was trained with
    another vocabulary or on other levels.
    """
    meta = read_meta(saved)
    _check_fits(meta, saved, vocabulary, levels)
    try:
        config = meta.parsed_config()
    except ValidationError as error:
        raise ModelError(
            f"{saved.meta} has an invalid config for {meta.model}: {_describe(error)}. Next: train again."
        ) from None
    sizes = Sizes(vocabulary.n_users, vocabulary.n_movies, meta.levels)
    try:
        network = MODELS[meta.model].build(config, sizes, _load_features(saved, meta))
        network.load_state_dict(load_file(saved.weights))
    except (OSError, SafetensorError, RuntimeError) as error:  # missing, truncated or of other shapes
        raise ModelError(f"{saved.weights} does not hold the weights that meta.json describes: {error}") from None
    assert isinstance(network, RatingNetwork), f"{meta.model} predicts no ratings"
    return network.eval()


def _check_fits(meta: Meta, saved: SavedModel, vocabulary: Vocabulary, levels: tuple[float, ...] | None) -> None:
    if meta.vocabulary != vocabulary.content_hash():
        raise ModelError(
            f"{saved.folder} was trained with vocabulary {meta.vocabulary}, not with {vocabulary.content_hash()}: "
            "its rows belong to other users and movies. Next: load it with the vocabulary of its own run."
        )
    if levels is not None and meta.levels != levels:
        ours, theirs = (", ".join(f"{level:g}" for level in each) for each in (levels, meta.levels))
        raise ModelError(
            f"{saved.folder} was trained on ratings of {theirs} stars, but these ratings have {ours}. Next: train it "
            "again."
        )
    if meta.code_version != code_version():
        logger.info("%s was trained by version %s, this is %s", saved.folder, meta.code_version, code_version())


def _load_features(saved: SavedModel, meta: Meta) -> Features:
    try:
        features = Features.load(saved.folder)
    except (OSError, ValueError, LookupError, SafetensorError) as error:
        raise ModelError(f"the features in {saved.folder} are damaged: {error}. Next: train again.") from None
    if features.content_hash() != meta.features:
        raise ModelError(
            f"the features in {saved.folder} are {features.content_hash()}, but the network was trained with "
            f"{meta.features}. Next: train again."
        )
    return features


def _describe(error: ValidationError) -> str:
    return "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors())
