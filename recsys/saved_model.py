"""A trained network on disk: weights as safetensors beside a readable meta.json; no pickle."""

from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from recsys.errors import ModelError
from recsys.features import Features
from recsys.files import read_json, replacing, write_json
from recsys.models import MODELS, RatingNetwork, Sizes
from recsys.train import Choice, Learner
from recsys.version import code_version
from recsys.vocabulary import Vocabulary

FORMAT = 1  # of meta.json; raised when an older reader would misunderstand a newer file


@dataclass(frozen=True)
class SavedModel:
    """One fit: `weights.safetensors` and `meta.json` in `folder`."""

    folder: Path

    @property
    def weights(self) -> Path:
        return self.folder / "weights.safetensors"

    @property
    def meta(self) -> Path:
        return self.folder / "meta.json"


def save_model(network: RatingNetwork, choice: Choice, learner: Learner, folder: Path) -> SavedModel:
    """Writes the weights first and meta.json last, so that a folder with a meta.json is complete."""
    saved = SavedModel(folder)
    with replacing(saved.weights) as aside:
        tensors = {name: value.detach().cpu().contiguous() for name, value in network.state_dict().items()}
        save_file(tensors, aside)
    learner.features.save(folder)
    meta = {
        "format": FORMAT,
        "model": choice.model,
        "config": choice.config.model_dump(mode="json"),
        "epochs": choice.epochs,
        "levels": list(learner.levels),
        "vocabulary": learner.vocabulary.content_hash(),
        "features": learner.features.content_hash(),
        "seed": learner.seed,
        "validation": choice.tried,
        "code_version": code_version(),
    }
    write_json(saved.meta, meta)
    return saved


def load_model(saved: SavedModel, vocabulary: Vocabulary) -> RatingNetwork:
    """The network as it was saved, on the CPU, ready to predict.

    Raises: ModelError if the folder holds no model, one of another format, one trained with another vocabulary, or one
    whose files are damaged.
    """
    if not saved.meta.exists():
        raise ModelError(f"no model in {saved.folder}: meta.json is missing. Run recsys nightly to train one.")
    try:
        meta = read_json(saved.meta)
    except ValueError as error:
        raise ModelError(f"{saved.meta} is damaged: {error}. Train anew.") from None
    if meta["format"] != FORMAT:
        raise ModelError(f"{saved.meta} has format {meta['format']}; this version reads format {FORMAT}. Train anew.")
    if meta["vocabulary"] != vocabulary.content_hash():
        raise ModelError(
            f"{saved.folder} was trained with vocabulary {meta['vocabulary']}, not with {vocabulary.content_hash()}: "
            "its rows would stand for other users and movies. Load it with the vocabulary of its own run."
        )
    variant = MODELS[meta["model"]]
    config = variant.config_type.model_validate(meta["config"])
    sizes = Sizes(vocabulary.n_users, vocabulary.n_movies, tuple(meta["levels"]))
    try:
        network = variant.build(config, sizes, Features.load(saved.folder))
        network.load_state_dict(load_file(saved.weights))
    except (OSError, SafetensorError, RuntimeError) as error:  # missing, cut short, of other shapes
        raise ModelError(f"{saved.weights} does not hold the weights that meta.json describes: {error}") from None
    assert isinstance(network, RatingNetwork), f"{meta['model']} predicts no ratings"
    return network.eval()
