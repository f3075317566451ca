"""Applies rules to a ranker, and counts the places that they remove.

Shapes: B users of one block, N movies or places, F films.
"""

from collections import Counter
from dataclasses import replace

import torch
from torch import Tensor

from recsys.models.sparse import group_rows
from recsys.rank.eligibility import MovieFilter, PairFilter, compile_rules, no_rules
from recsys.rank.place import block_size, rank_users
from recsys.rank.ranker import Ranker
from recsys.rank.read_rules import Rules
from recsys.train.learn import Learner

PAIRS_AT_ONCE = 2**18  # (user, movie) pairs that a rule checks at once: about 20 MB with 20 genres


def apply_rules(ranker: Ranker, rules: Rules, learner: Learner) -> Ranker:
    """Returns a copy of the ranker that obeys the rules.

    Raises: UsageError if the rules exclude all movies.
    """
    genres = learner.features.item.get("genres")
    return replace(ranker, eligibility=compile_rules(rules, learner.vocabulary, genres, ranker.counts))


def count_removed(ranker: Ranker, n: int) -> dict[str, int]:
    """Counts the places that each rule removes from lists of `n` made without any rules."""
    naive = replace(ranker, eligibility=no_rules(ranker.histories.n_items))
    removed: Counter[str] = Counter()
    for user_idx in torch.arange(1, len(ranker.histories)).split(block_size(ranker)):
        block = rank_users(naive, ranker.users(user_idx), n, reasons=0)
        item_BN = torch.full((len(user_idx), n), -1)
        item_BN[block.user_idx - user_idx[0], block.rank - 1] = block.item_idx
        removed.update(ranker.eligibility.count_removed(user_idx, item_BN))
    return dict(removed)


def count_available(ranker: Ranker, user_idx: Tensor) -> Tensor:
    """Returns (U,) int64: the number of unseen films that the rules allow for each of these users, ignoring caps.

    The count depends on the rules only, not on the code that makes lists, so the audit can detect lists that are too
    short.
    """
    rules = ranker.eligibility
    rated = ranker.films.spread(ranker.histories.user_of_each(), ranker.histories.items)
    seen = PairFilter(*group_rows(*rated, len(ranker.histories)), ranker.histories.n_items)
    filters = [seen, *(one for one in rules.filters.values() if not isinstance(one, MovieFilter))]
    item_N = (ranker.listable & ~rules.closed_I).nonzero().squeeze(1)
    films, film_N = ranker.films.film_I[item_N].unique(return_inverse=True)
    counts = []
    for user_B in user_idx.split(max(1, PAIRS_AT_ONCE // max(1, len(item_N)))):
        is_forbidden_BN = torch.zeros(len(user_B), len(item_N), dtype=torch.bool)
        for one in filters:
            is_forbidden_BN |= one.forbids(user_B, item_N.expand(len(user_B), -1))
        n_allowed_BF = torch.zeros(len(user_B), len(films)).index_add_(1, film_N, (~is_forbidden_BN).float())
        counts.append((n_allowed_BF > 0).sum(1))
    return torch.cat(counts)
