"""Fits a ranker: its retrievers to the training ratings, and the weights of the parts of a score to validation."""

import hashlib
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from recsys.models import Interactions, RatingNetwork
from recsys.models.ranking import RankingNetwork
from recsys.rank.eligibility import genre_matrix, no_rules
from recsys.rank.films import films_of, no_twins
from recsys.rank.place import block_size
from recsys.rank.ranker import LIKES, STARS, Ranker
from recsys.rank.score import find_candidates, score_parts
from recsys.rank.weights import NO_WEIGHTS, LabelledCandidates, Weights, fit_weights
from recsys.retrieve.als import fit_als
from recsys.retrieve.ease import fit_ease
from recsys.retrieve.histories import Histories, gather_histories
from recsys.retrieve.new_movies import find_new_movies
from recsys.retrieve.popularity import Properties, fit_popularity, gather_properties
from recsys.retrieve.retriever import Retriever
from recsys.retrieve.towers import gather_towers
from recsys.settings import RankConfig
from recsys.train.device import pick_device
from recsys.train.learn import Learner, configure, fit_seeded

logger = logging.getLogger(__name__)

SIZES = (0, 1, 3, 5, 10)  # numbers of visible ratings for which weights are learned
FULL_HISTORY = 20  # size for users with at least this many ratings, whose weights are learned from whole histories
MAX_CANDIDATES = 100  # per user, for learning weights; lower ranks have little influence on a list
POPULARITY = "popularity"  # the only retriever that ignores the user's ratings
PRIOR_RATINGS = 3  # with this many, a user's ratings count as much as popularity
USERS = 3_000  # of validation, drawn by the seed; more than enough to learn five weights


_kept: dict[str, Ranker] = {}  # at most one: the last ranker fitted with `keep`, by the hash of its inputs


def fit_ranker(
    network: RatingNetwork,
    train: Interactions,
    learner: Learner,
    config: RankConfig,
    weights: Weights,
    *,
    keep: bool = False,
) -> Ranker:
    """Fits the retrievers to `train`, the ratings that `network` was trained on.

    With `keep`, the result stays in memory for the next call, which reuses it if the inputs are the same. Two steps of
    a night rank with the same retrievers, and fitting them takes minutes on the largest editions.
    """
    key = _digest(train, learner, config)
    kept = _kept.pop(key, None)
    _kept.clear()
    ranker = replace(kept, network=network, weights=weights) if kept else _fit(network, train, learner, config, weights)
    if keep:
        _kept[key] = ranker
    return ranker


def _digest(train: Interactions, learner: Learner, config: RankConfig) -> str:
    """Returns a hash of everything that a ranker depends on, except its network and weights."""
    films = sorted(learner.vocabulary.film_of.items())
    settings = (learner.sizes(), learner.features.content_hash(), films, learner.seed, learner.device, config)
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
    new = find_new_movies(learner.features, histories.counts(), moment)
    return Ranker(
        network=network,
        histories=histories,
        properties=properties,
        retrievers=retrievers,
        new_movies=new,
        films=films_of(learner.vocabulary),
        eligibility=no_rules(histories.n_items),
        genres_IG=genre_matrix(learner.features.item.get("genres"), histories.n_items).T.contiguous(),
        weights=weights,
        rated_at=moment,
        config=config,
    )


def learn_weights(
    network: RatingNetwork, train: Interactions, validation: Interactions, learner: Learner, config: RankConfig
) -> Weights:
    """Fits a ranker to `train`, the ratings that `network` was trained on, and learns its weights on `validation`."""
    return learn_ranker_weights(fit_ranker(network, train, learner, config, NO_WEIGHTS), validation, learner.seed)


def learn_ranker_weights(ranker: Ranker, validation: Interactions, seed: int) -> Weights:
    """Learns the weights that rank the relevant movies of `validation` first.

    The ranker must not be fitted to `validation`. Weights for users with few ratings are learned from the same users:
    all but a few of their ratings are hidden, and the network treats them as unknown users. All movies that they have
    rated are still left out of their lists. As in all training, every entry of a film counts as a movie of its own.
    """
    ranker = replace(ranker, films=no_twins(ranker.histories.n_items))
    relevant = torch.tensor(ranker.network.sizes.levels)[validation.level_idx] >= ranker.config.relevant_from
    rows = validation.take(relevant.nonzero().squeeze(1))
    asked = rows.user_idx.unique()
    asked = asked[ranker.histories.sizes()[asked] > 0]
    order = torch.randperm(len(asked), generator=torch.Generator().manual_seed(seed))
    asked = asked[order[:USERS]].sort().values
    by_size = {}
    for size in (*SIZES, FULL_HISTORY):
        labelled = _label_candidates(ranker, asked, rows, size, seed)
        if not labelled.is_relevant_BC.any():
            logger.warning(
                "weights from %d ratings: no relevant candidates in validation, so the prior weights are used", size
            )
        prior = prior_weights(ranker.parts, size)
        prior_P = torch.tensor([prior[part] for part in ranker.parts], dtype=torch.float64)
        weight_P = fit_weights(labelled, prior_P, ranker.config.weights_doubt_users)
        by_size[size] = dict(zip(ranker.parts, weight_P.tolist(), strict=True))
        logger.info("weights from %d ratings: %s", size, ", ".join(f"{k} {v:.2f}" for k, v in by_size[size].items()))
    return Weights(by_size)


def prior_weights(parts: Sequence[str], size: int) -> dict[str, float]:
    """Returns the prior weights of the parts for users with `size` ratings.

    With more ratings, popularity has a lower weight and the other retrievers have higher ones. The weight of expected
    stars is from docs/experiments.md.
    """
    trust = size / (size + PRIOR_RATINGS)
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
    assert isinstance(network, RankingNetwork), f"{name} is not a ranking network"
    return gather_towers(network.eval(), moment)


def _label_candidates(
    ranker: Ranker, asked: Tensor, relevant: Interactions, size: int, seed: int
) -> LabelledCandidates:
    """Returns the candidates of users with all but `size` of their ratings hidden, labelled as relevant or not."""
    users = ranker.users(asked)
    if size < FULL_HISTORY:
        users = replace(users, user_idx=torch.zeros_like(asked), histories=users.histories.shorten(size, seed))
    keys = relevant.user_idx * ranker.histories.n_items + relevant.item_idx
    blocks = []
    for rows in torch.arange(len(asked)).split(block_size(ranker)):
        block = users.take(rows)
        found = find_candidates(ranker, block, min(MAX_CANDIDATES, ranker.config.candidates))
        is_relevant_BC = torch.isin(asked[rows][:, None] * ranker.histories.n_items + found.item_BC, keys)
        blocks.append((score_parts(ranker, block, found)[0], found.is_there, is_relevant_BC & found.is_there))
    return LabelledCandidates(*(torch.cat(columns) for columns in zip(*blocks, strict=True)))
