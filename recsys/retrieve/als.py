"""Implicit-feedback matrix factorisation by alternating least squares (iALS).

Shapes: U users, I items, R rows (users or items), D embedding_dim, L the longest history in a block.
"""

from dataclasses import replace

import torch
from torch import Tensor

from recsys.retrieve.histories import Histories, split_by_size
from recsys.retrieve.retriever import Retriever, Users, log_affinity
from recsys.retrieve.scales import LEAST_CONFIDENCE, MOST_CONFIDENCE
from recsys.settings import AlsConfig
from recsys.train.device import make_generator

LEAST_GROWTH = 1.0  # datasets below 100,000 ratings were not measured; they get the same sizes
MOST_DIMS = 128  # the cost of a row grows with the cube of this
VECTORS_PER_BLOCK = 2**13  # including padding: 3 MB at 96 dimensions, which fits into the cache of a core


class Als(Retriever):
    """Scores movies by dot products. A user's vector is computed from their history, so new users get scores, too.

    The fit minimises Σ over rated pairs c (1 - ⟨p_u, q_i⟩)² + unobserved · Σ over all pairs ⟨p_u, q_i⟩²
    + l2 · Σ over rows (n + unobserved · number of pairs of the row) |row|². Here c is the confidence in a rating,
    1 + opinion · (stars - mean stars of the user), clipped to [0.2, 2], and n is the sum of c over the row.

    Source: Hu, Koren and Volinsky, "Collaborative Filtering for Implicit Feedback Datasets" (ICDM 2008); the penalty as
    in Rendle, Krichene, Zhang and Koren, "Revisiting the Performance of iALS on Item Recommendation Benchmarks"
    (RecSys 2022).
    """

    def __init__(self, item_ID: Tensor, unobserved: Tensor, config: AlsConfig, user_UD: Tensor | None = None) -> None:
        """unobserved: (), the weight used by the fit. user_UD: vectors of the fitted users; if None, they are solved
        again when needed.
        """
        self.item_ID, self.unobserved, self.config, self.user_UD = item_ID, unobserved, config, user_UD

    def log_affinity(self, users: Users) -> Tensor:
        if self.user_UD is not None and bool((users.user_idx > 0).all()):
            user_BD = self.user_UD[users.user_idx.to(self.user_UD.device)]
        else:
            user_BD = self.user_vectors(users.histories)
        return log_affinity(user_BD @ self.item_ID.T)

    def user_vectors(self, histories: Histories) -> Tensor:
        """Returns (B, D); zero for a user without ratings."""
        return _solve(_with_confidence(histories, self.config), self.item_ID, float(self.unobserved), self.config)

    def tensors(self) -> dict[str, Tensor]:
        return {"item_ID": self.item_ID, "unobserved": self.unobserved}


def fit_als(histories: Histories, config: AlsConfig, device: torch.device, seed: int) -> Als:
    """Alternates `config.iterations` times: solves for user vectors with fixed item vectors, then the reverse."""
    dim, unobserved = choose_sizes(config, len(histories.items))
    item_ID = torch.randn(histories.n_items, dim, generator=make_generator(seed)) * config.init_std / dim**0.5
    item_ID, weighted = item_ID.to(device), _with_confidence(histories, config)
    raters = weighted.transpose()
    for _ in range(config.iterations):
        item_ID = _solve(raters, _solve(weighted, item_ID, unobserved, config), unobserved, config)
    user_UD = _solve(weighted, item_ID, unobserved, config)
    return Als(item_ID, torch.tensor(unobserved, dtype=torch.float64), config, user_UD)


def choose_sizes(config: AlsConfig, n_ratings: int) -> tuple[int, float]:
    """Returns the vector length and the weight of unobserved pairs, from the config or else by `n_ratings`."""
    growth = max(n_ratings / 100_000, LEAST_GROWTH)
    dim = config.embedding_dim or min(MOST_DIMS, 8 * round(3 * growth**0.6))
    return dim, config.unobserved or 0.2 * growth**-0.3


def _with_confidence(histories: Histories, config: AlsConfig) -> Histories:
    """Replaces the stars with confidences."""
    users, sizes = histories.user_of_each(), histories.sizes().clamp(min=1)
    mean_U = torch.zeros(len(histories)).index_add_(0, users, histories.stars) / sizes
    confidence = 1 + config.opinion * (histories.stars - mean_U[users])
    return replace(histories, stars=confidence.clamp(LEAST_CONFIDENCE, MOST_CONFIDENCE))


def _solve(weighted: Histories, other_ID: Tensor, unobserved: float, config: AlsConfig) -> Tensor:
    """Solves for the vectors of all rows, (R, D), given the others: (Σ c q qᵀ + unobserved · QᵀQ + penalty)⁻¹ Σ c q."""
    dim, device = other_ID.shape[1], other_ID.device
    everywhere_DD = unobserved * other_ID.T @ other_ID
    solved_RD = torch.zeros(len(weighted), dim, device=device)
    # a row needs one vector for each rating, and at least `dim` vectors for its matrix
    for rows_B in split_by_size(weighted.sizes(), VECTORS_PER_BLOCK, min_size=dim):
        q_BLD, c_BL1 = _padded(weighted.take(rows_B), other_ID)
        weighted_BLD = c_BL1 * q_BLD
        left_BDD = weighted_BLD.transpose(1, 2) @ q_BLD + everywhere_DD
        penalty_B1 = config.l2 * (c_BL1.sum(1) + unobserved * len(other_ID))
        left_BDD.diagonal(dim1=1, dim2=2).add_(penalty_B1)
        vectors_BD1 = torch.cholesky_solve(weighted_BLD.sum(1)[:, :, None], torch.linalg.cholesky(left_BDD))
        solved_RD[rows_B.to(device)] = vectors_BD1.squeeze(2)
    return solved_RD


def _padded(own: Histories, other_ID: Tensor) -> tuple[Tensor, Tensor]:
    """Returns (B, L, D) the vectors of each row's items and (B, L, 1) their confidences, padded with zeros."""
    device, sizes = other_ID.device, own.sizes()
    row = own.user_of_each().to(device)
    place = (torch.arange(len(own.items)) - own.offsets[:-1].repeat_interleave(sizes)).to(device)
    q_BLD = other_ID.new_zeros(len(own), int(sizes.max()), other_ID.shape[1])
    c_BL1 = other_ID.new_zeros(len(own), int(sizes.max()), 1)
    q_BLD[row, place] = other_ID[own.items.to(device)]
    c_BL1[row, place, 0] = own.stars.to(device)
    return q_BLD, c_BL1
