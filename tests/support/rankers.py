"""Small hand-made histories and rankers, and helpers to fit rankers to the planted ratings."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

from recsys.encode.features import NO_FEATURES
from recsys.encode.vocabulary import Vocabulary
from recsys.models import MODELS, Interactions, RatingNetwork, Sizes
from recsys.rank.eligibility import no_rules
from recsys.rank.films import no_twins
from recsys.rank.place import Block
from recsys.rank.ranker import Ranker
from recsys.rank.weights import Weights
from recsys.retrieve.ease import Ease
from recsys.retrieve.histories import Histories, gather_histories
from recsys.retrieve.new_movies import find_new_movies
from recsys.retrieve.popularity import gather_properties
from recsys.retrieve.retriever import Retriever, Users
from recsys.settings import RankConfig
from recsys.train.learn import Learner
from tests.support import planted
from tests.support.planted import FEATURES, LEVELS, SIZES, quick_config

Place = tuple[int, int, float]  # item_idx, rank, score
CPU = torch.device("cpu")
VOCABULARY = Vocabulary(*(np.arange(1, size, dtype=np.int32) for size in (SIZES.n_users, SIZES.n_items)))
LEARNER = Learner(VOCABULARY, LEVELS, seed=0, device="cpu", features=FEATURES)  # of the planted ratings
BLENDED = Weights({0: {"ease": 1.0, "stars": 2.0, "likes": 0.0}})  # log affinity and twice the log of expected stars


@contextmanager
def short_trainings(*names: str) -> Iterator[None]:
    """Train these networks for one epoch."""
    with pytest.MonkeyPatch.context() as patch:
        for name in names:
            config = quick_config(name, epochs=1)
            patch.setitem(MODELS, name, replace(MODELS[name], configure=lambda *_, config=config: config))
        yield


def weights_of(config: RankConfig) -> Weights:
    """Return arbitrary nonzero weights of all parts of `config`, different for each size."""
    parts = (*config.retrievers, "stars", "likes")
    return Weights(
        {
            size: {part: 0.2 + ((3 * size + 5 * place) % 8) / 4 for place, part in enumerate(parts)}
            for size in (0, 1, 3, 10)
        }
    )


def rows_of(rated: Mapping[int, Iterable[int]], level_idx: int = 4) -> Interactions:
    listed = [(user, item) for user, items in rated.items() for item in items]
    pairs = torch.tensor(listed, dtype=torch.int64).view(-1, 2)
    return planted.rows_of(pairs[:, 0], pairs[:, 1], torch.full((len(pairs),), level_idx))


def histories_of(rated: Mapping[int, Iterable[int]], n_users: int, n_items: int) -> Histories:
    return gather_histories(rows_of(rated), Sizes(n_users, n_items, LEVELS))


def histories_of_seen(seen_UI: npt.NDArray[np.bool_]) -> Histories:
    return histories_of({user: row.nonzero()[0] for user, row in enumerate(seen_UI)}, *seen_UI.shape)


def random_histories(n_users: int, n_items: int, share: float = 0.3, seed: int = 0) -> Histories:
    """Rate each pair with the same probability; user 0 and item 0 have no ratings."""
    seen_UI = np.random.default_rng(seed).random((n_users, n_items)) < share
    seen_UI[0] = seen_UI[:, 0] = False
    return histories_of_seen(seen_UI)


def dense(histories: Histories) -> npt.NDArray[np.float64]:
    """Return (U, I), 1 where rated."""
    return np.asarray(histories.matrix().toarray(), dtype=np.float64)


def users_of(histories: Histories, user_idx: Tensor, properties_UF: Tensor | None = None) -> Users:
    """Return users as a ranker passes them to its retrievers."""
    own = histories.take(user_idx)
    properties_UF = torch.zeros(len(histories), 0) if properties_UF is None else properties_UF
    return Users(user_idx, own, properties_UF[user_idx], seen=own)


def ease_of(weights_II: Tensor) -> Ease:
    """Return an EASE without tail items."""
    none = torch.empty(0, 0)
    return Ease(torch.arange(len(weights_II)), weights_II, none.long().flatten(), none.long(), none)


def indifferent(n_users: int, n_items: int) -> RatingNetwork:
    """Return an untrained network that predicts the same stars for every pair."""
    network = MODELS["ordinal"].build(quick_config("ordinal"), Sizes(n_users, n_items, LEVELS), NO_FEATURES)
    assert isinstance(network, RatingNetwork)
    with torch.no_grad():
        for weight in network.parameters():
            weight.zero_()
    return network


def ranker_of(
    histories: Histories, retrievers: dict[str, Retriever], weights: Weights = BLENDED, config: RankConfig | None = None
) -> Ranker:
    """Return a ranker with equal predicted stars for all pairs and without user properties."""
    network = indifferent(len(histories), histories.n_items)
    properties = gather_properties(NO_FEATURES, len(histories))
    return Ranker(
        network=network,
        histories=histories,
        properties=properties,
        retrievers=retrievers,
        new_movies=find_new_movies(NO_FEATURES, histories.counts()),
        films=no_twins(histories.n_items),
        eligibility=no_rules(histories.n_items),
        genres_IG=torch.zeros(histories.n_items, 1),
        weights=weights,
        rated_at=0,
        config=config or RankConfig(),
    )


def hand_made(shares: dict[tuple[int, int], float], histories: Histories) -> Ranker:
    """Return a ranker whose EASE weights are zero except for these."""
    weights_II = torch.zeros(histories.n_items, histories.n_items)
    for pair, share in shares.items():
        weights_II[pair] = share
    return ranker_of(histories, {"ease": ease_of(weights_II)})


def lists_of(blocks: Iterable[Block]) -> dict[int, list[Place]]:
    lists: dict[int, list[Place]] = {}
    for block in blocks:
        columns = (block.user_idx, block.item_idx, block.rank, block.score)
        for user, *place in zip(*(column.tolist() for column in columns), strict=True):
            lists.setdefault(user, []).append(tuple(place))
    return lists


def items_of(blocks: Iterable[Block]) -> dict[int, list[int]]:
    return {user: [item for item, _, _ in places] for user, places in lists_of(blocks).items()}


def places_of(blocks: Iterable[tuple[Tensor, Tensor, Tensor]]) -> dict[int, list[tuple[int, int]]]:
    """Return (rank, item_idx) by user."""
    lists: dict[int, list[tuple[int, int]]] = {}
    for block in blocks:
        for user, place, item in zip(*(column.tolist() for column in block), strict=True):
            lists.setdefault(user, []).append((place, item))
    return lists


def tastes(seed: int = 0) -> tuple[Interactions, Interactions]:
    """Return train and holdout (the last fifth) of ratings of the planted users, in order of time.

    Movies differ in popularity. Users rate movies of their own parity with 5 stars, and five times as often as the
    others, which get 2 stars. Users 59 and 60 and movies 39 and 40 have no ratings.
    """
    generator = np.random.default_rng(seed)
    user_UI, item_UI = np.indices((SIZES.n_users, SIZES.n_items))
    chance_UI = 0.9 * 0.97**item_UI * np.where((user_UI - item_UI) % 2, 0.2, 1.0)
    is_known_UI = (user_UI > 0) & (item_UI > 0) & (user_UI < 59) & (item_UI < 39)
    pairs = np.argwhere((generator.random(chance_UI.shape) < chance_UI) & is_known_UI)
    user_idx, item_idx = torch.from_numpy(generator.permutation(pairs)).unbind(1)
    level_idx = torch.where((user_idx - item_idx) % 2 == 0, 4, 1)
    rows = Interactions(user_idx, item_idx, 1000 + torch.arange(len(pairs)), level_idx)
    n_known = len(pairs) * 4 // 5
    return rows.take(torch.arange(n_known)), rows.take(torch.arange(n_known, len(pairs)))
