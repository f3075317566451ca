"""A ranker learned from ratings: its retrievers, and on validation the weights of its parts."""

import hashlib
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from recsys.models import Interactions, RatingNetwork
from recsys.models.ranking import RankingNetwork
from recsys.rank.eligibility import genre_matrix, open_to_all
from recsys.rank.place import block_size
from recsys.rank.ranker import LIKES, STARS, Ranker
from recsys.rank.score import find_candidates, score_parts
from recsys.rank.weights import NO_WEIGHTS, Lesson, Weights, fit_weights
from recsys.retrieve.als import fit_als
from recsys.retrieve.ease import fit_ease
from recsys.retrieve.histories import Histories, gather_histories
from recsys.retrieve.new_movies import find_new_movies
from recsys.retrieve.popularity import Properties, fit_popularity, gather_properties
from recsys.retrieve.retriever import Retriever
from recsys.retrieve.towers import gather_towers
from recsys.settings import RankConfig
from recsys.train.choose import Learner, configure, fit_seeded
from recsys.train.device import pick_device

logger = logging.getLogger(__name__)

SIZES = (0, 1, 3, 5, 10)  # ratings left to users of whom validation is asked as if no more were known
WHOLE = 20  # from so many ratings on, a user's own whole history has taught the weights
TAUGHT = 100  # candidates that teach: what is further down matters little to a list, and most of it is there
POPULARITY = "popularity"  # the one retriever that reads no ratings of the user
RATINGS_TO_TRUST = 3  # so many, and a user's own ratings say as much as popularity
USERS = 3_000  # of validation, drawn by the seed: five weights are known well from fewer


_kept: dict[str, Ranker] = {}  # at most one: the last ranker fitted with `keep`, by its inputs


def fit_ranker(
    network: RatingNetwork,
    train: Interactions,
    learner: Learner,
    config: RankConfig,
    weights: Weights,
    *,
    keep: bool = False,
) -> Ranker:
    """Fit the retrievers to `train`, the ratings that `network` was trained on.

    With `keep`, the result stays in memory for the next call, which reuses it if its inputs are the same: a night ranks
    with the same retrievers in two steps, and fitting them takes minutes on the largest editions.
    """
    key = _digest(train, learner, config)
    kept = _kept.pop(key, None)
    _kept.clear()
    ranker = replace(kept, network=network, weights=weights) if kept else _fit(network, train, learner, config, weights)
    if keep:
        _kept[key] = ranker
    return ranker


def _digest(train: Interactions, learner: Learner, config: RankConfig) -> str:
    """Identify everything that a ranker depends on, apart from its network and weights."""
    settings = (learner.sizes(), learner.features.content_hash(), learner.seed, learner.device, config)
    digest = hashlib.sha256(repr(settings).encode())
    for column in vars(train).values():
        digest.update(column.cpu().contiguous().numpy().data)
    return digest.hexdigest()


def _fit(network: RatingNetwork, train: Interactions, learner: Learner, config: RankConfig, weights: Weights) -> Ranker:
    moment = int(train.rated_at.max()) + 1 if len(train) else 0
    histories = gather_histories(train, learner.sizes())
    properties = gather_properties(learner.features, len(histories))
    retrievers: dict[str, Retriever] = {}
    for name in config.retrievers:
        start = time.monotonic()
        retrievers[name] = _fit_retriever(name, train, histories, properties, learner, config, moment)
        logger.info("retriever %s: %.1f s", name, time.monotonic() - start)
    new = find_new_movies(learner.features, histories.counts())
    return Ranker(
        network=network,
        histories=histories,
        properties=properties,
        retrievers=retrievers,
        new_movies=new,
        eligibility=open_to_all(histories.n_items),
        genres_IG=genre_matrix(learner.features.item.get("genres"), histories.n_items).T.contiguous(),
        weights=weights,
        rated_at=moment,
        config=config,
    )


def learn_weights(
    network: RatingNetwork, train: Interactions, validation: Interactions, learner: Learner, config: RankConfig
) -> Weights:
    """What `teach` says of a ranker that knows `train` alone, as its network must."""
    return teach(fit_ranker(network, train, learner, config, NO_WEIGHTS), validation, learner.seed)


def teach(ranker: Ranker, validation: Interactions, seed: int) -> Weights:
    """Weights that put the relevant movies of `validation` first in the lists of a ranker that has not learned from it.

    Users of few ratings have weights of their own, taught by users of whom all but so many ratings are hidden, as
    strangers to the network: what they have seen is left out of their lists all the same.
    """
    relevant = torch.tensor(ranker.network.sizes.levels)[validation.level_idx] >= ranker.config.relevant_from
    rows = validation.take(relevant.nonzero().squeeze(1))
    asked = rows.user_idx.unique()
    asked = asked[ranker.histories.sizes()[asked] > 0]
    order = torch.randperm(len(asked), generator=torch.Generator().manual_seed(seed))
    asked = asked[order[:USERS]].sort().values
    by_size = {}
    for size in (*SIZES, WHOLE):
        lesson = _lesson(ranker, asked, rows, size, seed)
        if not lesson.is_relevant_BC.any():
            logger.warning("weights from %d ratings: validation teaches nothing; they are what was expected", size)
        expected = expect_weights(ranker.parts, size)
        expected_P = torch.tensor([expected[part] for part in ranker.parts], dtype=torch.float64)
        weight_P = fit_weights(lesson, expected_P, ranker.config.weights_doubt_users)
        by_size[size] = dict(zip(ranker.parts, weight_P.tolist(), strict=True))
        logger.info("weights from %d ratings: %s", size, ", ".join(f"{k} {v:.2f}" for k, v in by_size[size].items()))
    return Weights(by_size)


def expect_weights(parts: Sequence[str], size: int) -> dict[str, float]:
    """What the parts of a score are taken to count for somebody with `size` ratings, before validation is asked.

    The more ratings, the more the retrievers that read them have to say, and the less popularity; expected stars count
    as in the planning figures of docs/experiments.md.
    """
    trust = size / (size + RATINGS_TO_TRUST)
    readers = [part for part in parts if part not in (POPULARITY, STARS, LIKES)]
    return {
        **{part: 2 * trust / len(readers) for part in readers},
        POPULARITY: 1 - trust if readers else 1.0,
        STARS: 2.0,
        LIKES: 1.0,
    }


def _fit_retriever(
    name: str,
    train: Interactions,
    histories: Histories,
    properties: Properties,
    learner: Learner,
    config: RankConfig,
    moment: int,
) -> Retriever:
    device = pick_device(learner.device)
    closed_form: dict[str, Callable[[], Retriever]] = {
        "ease": lambda: fit_ease(histories, config.ease, device),
        "als": lambda: fit_als(histories, config.als, device, learner.seed),
        "popularity": lambda: fit_popularity(histories, properties, config.popularity, device),
    }
    if name in closed_form:
        return closed_form[name]()
    network, _ = fit_seeded(name, configure(name, len(train), learner), train, learner, label=f"retriever {name}")
    assert isinstance(network, RankingNetwork), f"{name} has no vectors to be multiplied"
    return gather_towers(network.eval(), moment)


def _lesson(ranker: Ranker, asked: Tensor, relevant: Interactions, size: int, seed: int) -> Lesson:
    """What the ranker would propose to these users, if `size` ratings of each were known."""
    users = ranker.users(asked)
    if size < WHOLE:
        users = replace(users, user_idx=torch.zeros_like(asked), histories=users.histories.shorten(size, seed))
    keys = relevant.user_idx * ranker.histories.n_items + relevant.item_idx
    lessons = []
    for rows in torch.arange(len(asked)).split(block_size(ranker)):
        block = users.take(rows)
        found = find_candidates(ranker, block, min(TAUGHT, ranker.config.candidates))
        is_relevant_BC = torch.isin(asked[rows][:, None] * ranker.histories.n_items + found.item_BC, keys)
        lessons.append((score_parts(ranker, block, found)[0], found.is_there, is_relevant_BC & found.is_there))
    return Lesson(*(torch.cat(columns) for columns in zip(*lessons, strict=True)))
