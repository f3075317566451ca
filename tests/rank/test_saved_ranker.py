from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
import torch
from safetensors.torch import load_file

from recsys.ask.fold_in import SavedRanker
from recsys.errors import NotPublished
from recsys.files import read_json, write_json
from recsys.models import RatingNetwork
from recsys.rank.fit import fit_ranker
from recsys.rank.place import rank_movies, rank_users
from recsys.rank.ranker import Ranker, make_new_user
from recsys.rank.read_rules import Rule, Rules
from recsys.rank.ruled import apply_rules
from recsys.rank.saved_ranker import load_ranker, save_ranker
from recsys.settings import AlsConfig, EaseConfig, RankConfig, RetrieverName
from tests.support.planted import SIZES, fit
from tests.support.rankers import LEARNER, tastes, weights_of

NAMES: tuple[RetrieverName, ...] = ("ease", "als", "popularity", "triplet")
CONFIG = RankConfig(
    retrievers=NAMES,
    ease=EaseConfig(l2=20.0, max_items=15),
    als=AlsConfig(embedding_dim=4, unobserved=0.2),
    candidates=20,
    popularity_penalty=0.3,
    diversity=0.2,
)


@pytest.fixture(scope="module")
def network() -> RatingNetwork:
    return fit("ordinal", train=tastes()[0])[0]


@pytest.fixture(scope="module")
def ranker(network: RatingNetwork) -> Ranker:
    """A ranker with movies without ratings and closed movies."""
    fitted = fit_ranker(network, tastes()[0], LEARNER, CONFIG, weights_of(CONFIG))
    blocked = Rule("blocked[0]", pl.DataFrame({"movie_id": [1, 40]}, schema={"movie_id": pl.Int32}))
    return apply_rules(fitted, Rules(min_ratings=0, blocked=(blocked,)), LEARNER)


@pytest.fixture(scope="module")
def folder(ranker: Ranker, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("ranker")
    save_ranker(ranker, path)
    return path


def test_lists_are_bit_identical(ranker: Ranker, folder: Path, network: RatingNetwork) -> None:
    before, after = (list(rank_movies(one, 10)) for one in (ranker, load_ranker(folder, network)))
    assert len(before) == len(after) > 0
    for ours, theirs in zip(before, after, strict=True):
        assert ours.served_by == theirs.served_by
        for name in ("user_idx", "rank", "item_idx", "score", "rating_hat", "because"):
            assert torch.equal(getattr(ours, name), getattr(theirs, name))
    shown = {item for block in after for item in block.item_idx.tolist()}
    assert 39 in shown, "a new movie"
    assert not {0, 1, 40} & shown, "movies that rules close"


def test_lists_of_new_users_are_the_same(ranker: Ranker, folder: Path, network: RatingNetwork) -> None:
    ours, theirs = (
        rank_users(one, make_new_user(one, ["gender=F"], {3: 5.0, 8: 1.0}), 10)
        for one in (ranker, load_ranker(folder, network))
    )
    assert torch.equal(ours.item_idx, theirs.item_idx)
    torch.testing.assert_close(ours.score, theirs.score, rtol=0, atol=1e-5)  # kernels depend on the alignment
    assert torch.equal(ours.rating_hat, theirs.rating_hat)


def test_everything_is_loaded(ranker: Ranker, folder: Path, network: RatingNetwork) -> None:
    loaded = load_ranker(folder, network)
    assert (loaded.config, loaded.weights, loaded.rated_at) == (CONFIG, weights_of(CONFIG), ranker.rated_at)
    assert loaded.parts == ranker.parts
    assert loaded.properties.names == ranker.properties.names
    assert len(loaded.histories) == SIZES.n_users
    for name, retriever in ranker.retrievers.items():
        assert type(loaded.retrievers[name]) is type(retriever)
        for key, tensor in retriever.tensors().items():
            assert torch.equal(loaded.retrievers[name].tensors()[key], tensor)


def test_saving_again_gives_the_same_files(
    ranker: Ranker, folder: Path, network: RatingNetwork, tmp_path: Path
) -> None:
    save_ranker(load_ranker(folder, network), tmp_path)
    names = ("ranker.json", "ranker.safetensors", "histories.safetensors")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names)
    assert (tmp_path / "ranker.json").read_bytes() == (folder / "ranker.json").read_bytes()
    for name in names[1:]:
        ours, theirs = load_file(folder / name), load_file(tmp_path / name)
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[key], theirs[key]) for key in ours)


def test_the_order_of_retrievers_is_kept(ranker: Ranker, network: RatingNetwork, tmp_path: Path) -> None:
    turned = replace(ranker, retrievers={name: ranker.retrievers[name] for name in reversed(NAMES)})
    save_ranker(turned, tmp_path)
    assert tuple(load_ranker(tmp_path, network).retrievers) == tuple(reversed(NAMES))
    assert tuple(SavedRanker(tmp_path).retrievers) == tuple(reversed(NAMES))


def test_a_folder_with_ranker_json_is_complete(ranker: Ranker, tmp_path: Path) -> None:
    (tmp_path / "histories.safetensors").mkdir()  # so that writing this file fails
    with pytest.raises(OSError, match="histories"):
        save_ranker(ranker, tmp_path)
    assert not (tmp_path / "ranker.json").exists()


def test_files_of_another_format_version_are_refused(folder: Path, network: RatingNetwork, tmp_path: Path) -> None:
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    write_json(tmp_path / "ranker.json", read_json(folder / "ranker.json") | {"format": 0})
    for read in (lambda: load_ranker(tmp_path, network), lambda: SavedRanker(tmp_path)):
        with pytest.raises(NotPublished, match=r"ranker\.json has format 0; this version reads format \d+\. Next: "):
            read()
