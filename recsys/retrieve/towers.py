"""Ranking networks (`triplet`, `sequence`) as retrievers: the product of a user vector and every movie vector.

Shapes: U users, I items, B users of one block, W width of a row.
"""

import torch
from torch import Tensor

from recsys.models import Pairs
from recsys.models.ranking import RankingNetwork
from recsys.retrieve.retriever import Retriever, Users


class Towers(Retriever):
    """Scores movies by a ranking network, whose score is a log-affinity; see `NegativeSampler.correct`."""

    def __init__(self, user_UW: Tensor, item_IW: Tensor) -> None:
        self.user_UW, self.item_IW = user_UW, item_IW

    def log_affinity(self, users: Users) -> Tensor:
        return self.user_UW[users.user_idx.to(self.user_UW.device)] @ self.item_IW.T

    def tensors(self) -> dict[str, Tensor]:
        return {"user_UW": self.user_UW, "item_IW": self.item_IW}


@torch.no_grad()
def gather_towers(network: RankingNetwork, moment: int) -> Towers:
    """Computes the vectors of a trained network for lists made at `moment`, in seconds since 1970."""
    user_idx = torch.arange(network.sizes.n_users, device=network.item_table.device)
    pairs = Pairs(user_idx, torch.zeros_like(user_idx), torch.full_like(user_idx, moment))
    return Towers(network.user_rows(pairs), network.item_table)
