"""A ranker under rules, and what they cost."""

from collections import Counter
from dataclasses import replace

import torch

from recsys.eligibility.eligibility import compile_rules, open_to_all
from recsys.eligibility.read_rules import Rules
from recsys.rank.place import block_size, rank_users
from recsys.rank.ranker import Ranker
from recsys.train import Learner


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
