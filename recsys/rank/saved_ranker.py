"""Saves and loads a ranker, for `recsys explain` and `recsys recommend --ratings`. Its network is saved separately.

ranker.json            weights, retrievers, names of user properties, config
ranker.safetensors     tensors of the retrievers, new movies, films, and predictions for users unknown to the network
histories.safetensors  rated items by user
"""

from dataclasses import replace
from pathlib import Path

from safetensors.torch import load_file, save_file
from torch import Tensor

from recsys.files import replacing, write_json
from recsys.models import RatingNetwork
from recsys.rank.common import FORMAT, read_description
from recsys.rank.eligibility import no_rules
from recsys.rank.films import Films
from recsys.rank.ranker import Ranker
from recsys.rank.strangers import Strangers
from recsys.rank.weights import Weights
from recsys.retrieve.als import Als
from recsys.retrieve.ease import Ease
from recsys.retrieve.histories import Histories
from recsys.retrieve.new_movies import NewMovies
from recsys.retrieve.popularity import Popularity, Properties
from recsys.retrieve.retriever import Retriever
from recsys.retrieve.towers import Towers
from recsys.settings import RankConfig

KINDS: dict[type[Retriever], str] = {Ease: "ease", Als: "als", Popularity: "popularity", Towers: "towers"}


def save_ranker(ranker: Ranker, folder: Path) -> None:
    """Writes the files. ranker.json is written last, so that a folder with a ranker.json is complete."""
    arrays = {f"{name}.{key}": value for name, one in ranker.retrievers.items() for key, value in one.tensors().items()}
    arrays |= {f"new_movies.{key}": value for key, value in vars(ranker.new_movies).items()}
    arrays |= {"listable": ranker.listable & ~ranker.eligibility.closed_I, "genres_IG": ranker.genres_IG}
    arrays["film_I"] = ranker.films.film_I
    arrays |= {"counts": ranker.counts, "users.properties_UF": ranker.properties.of_users_UF}
    arrays |= {f"strangers.{key}": value for key, value in vars(ranker.strangers).items()}
    histories = {key: getattr(ranker.histories, key) for key in ("offsets", "items", "stars")}
    for tensors, name in ((arrays, "ranker.safetensors"), (histories, "histories.safetensors")):
        with replacing(folder / name) as aside:
            save_file({key: value.cpu().contiguous() for key, value in tensors.items()}, aside)
    described = {
        "format": FORMAT,
        "retrievers": [[name, KINDS[type(one)]] for name, one in ranker.retrievers.items()],
        "properties": ranker.properties.names,
        "weights": ranker.weights.by_size,
        "levels": ranker.network.sizes.levels,
        "rated_at": ranker.rated_at,
        "rating_mean": ranker.rating_mean,
        "config": ranker.config.model_dump(mode="json"),
    }
    write_json(folder / "ranker.json", described)


def load_ranker(folder: Path, network: RatingNetwork) -> Ranker:
    """Loads what `save_ranker` wrote, on the CPU. `network` is the one that the ranker was saved with.

    Caps and rules for single users are not saved. The loaded ranker applies only the rules for all users.

    Raises: NotPublished if the files have another format version.
    """
    described = read_description(folder)
    arrays, histories = load_file(folder / "ranker.safetensors"), load_file(folder / "histories.safetensors")
    # copied, because sums over tensors that are aligned as in a file are rounded differently
    arrays = {key: value.clone() for key, value in arrays.items()}
    config = RankConfig.model_validate(described["config"])

    def part(name: str) -> dict[str, Tensor]:
        return {key.removeprefix(f"{name}."): value for key, value in arrays.items() if key.startswith(f"{name}.")}

    retrievers: dict[str, Retriever] = {}
    for name, kind in described["retrievers"]:
        retrievers[name] = _read_retriever(kind, part(name), config)
    return Ranker(
        network=network,
        histories=Histories(**histories, n_items=len(arrays["listable"])),
        properties=Properties(tuple(described["properties"]), arrays["users.properties_UF"]),
        retrievers=retrievers,
        new_movies=NewMovies(**part("new_movies")),
        films=Films(arrays["film_I"]),
        eligibility=replace(no_rules(len(arrays["listable"])), closed_I=~arrays["listable"]),
        genres_IG=arrays["genres_IG"],
        weights=Weights.from_json(described["weights"]),
        rated_at=described["rated_at"],
        config=config,
        saved_strangers=Strangers(**part("strangers")),
    )


def _read_retriever(kind: str, tensors: dict[str, Tensor], config: RankConfig) -> Retriever:
    if kind == "ease":
        return Ease(**tensors)
    if kind == "als":
        return Als(**tensors, config=config.als)
    return Popularity(**tensors) if kind == "popularity" else Towers(**tensors)
