"""A ranker under rules, and what they cost.

Shapes: B users of one block, N movies or places.
"""

from collections import Counter
from dataclasses import replace

import torch
from torch import Tensor

from recsys.rank.eligibility import MovieBar, PairBar, compile_rules, open_to_all
from recsys.rank.place import block_size, rank_users
from recsys.rank.ranker import Ranker
from recsys.rank.read_rules import Rules
from recsys.train.choose import Learner

PAIRS_AT_ONCE = 2**18  # of users and movies, asked of each rule: some 20 MB with 20 genres


def apply_rules(ranker: Ranker, rules: Rules, learner: Learner) -> Ranker:
    """The same ranker, which shows nobody what the rules forbid.

    Raises: UsageError if they leave no movie that anybody may be shown.
    """
    genres = learner.features.item.get("genres")
    return replace(ranker, eligibility=compile_rules(rules, learner.vocabulary, genres, ranker.counts))


def count_removed(ranker: Ranker, n: int) -> dict[str, int]:
    """By rule, how many places it takes from the lists of `n` that there would be without any."""
    naive = replace(ranker, eligibility=open_to_all(ranker.histories.n_items))
    removed: Counter[str] = Counter()
    for user_idx in torch.arange(1, len(ranker.histories)).split(block_size(ranker)):
        block = rank_users(naive, ranker.users(user_idx), n, reasons=0)
        item_BN = torch.full((len(user_idx), n), -1)
        item_BN[block.user_idx - user_idx[0], block.rank - 1] = block.item_idx
        removed.update(ranker.eligibility.count_removed(user_idx, item_BN))
    return dict(removed)


def count_available(ranker: Ranker, user_idx: Tensor) -> Tensor:
    """(U,) int64, how many movies the rules and their own ratings leave to each of these users; caps are not looked at.

    Counted movie by movie from what each rule forbids, not from scores as lists are made: what a list lacks without a
    reason is found so.
    """
    rules = ranker.eligibility
    seen = PairBar(ranker.histories.offsets, ranker.histories.items, ranker.histories.n_items)
    bars = [seen, *(bar for bar in rules.bars.values() if not isinstance(bar, MovieBar))]
    item_N = (ranker.listable & ~rules.closed_I).nonzero().squeeze(1)
    counts = []
    for user_B in user_idx.split(max(1, PAIRS_AT_ONCE // max(1, len(item_N)))):
        is_barred_BN = torch.zeros(len(user_B), len(item_N), dtype=torch.bool)
        for bar in bars:
            is_barred_BN |= bar.forbids(user_B, item_N.expand(len(user_B), -1))
        counts.append((~is_barred_BN).sum(1))
    return torch.cat(counts)
