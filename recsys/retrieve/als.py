"""Implicit-feedback matrix factorisation: who rated what as a product of vectors, by alternating least squares.

Shapes: U users, I items, R rows of either, D embedding_dim, L the longest history of some rows.
"""

from dataclasses import replace

import torch
from torch import Tensor

from recsys.retrieve.histories import Histories, split_by_size
from recsys.retrieve.retriever import Retriever, Users, log_affinity
from recsys.retrieve.scales import LEAST_CONFIDENCE, MOST_CONFIDENCE
from recsys.settings import AlsConfig
from recsys.train.device import make_generator

LEAST_GROWTH = 1.0  # below 100,000 ratings nothing was measured
MOST_DIMS = 128  # solving for a row takes the cube of this
VECTORS_PER_BLOCK = 2**13  # in memory at once, padding included: 3 MB at 96 dimensions, which a core keeps at hand


class Als(Retriever):
    """A user's vector is the one that reconstructs their history best beside the items' vectors: nobody need be known.

    Minimises Σ over what was rated c (1 - ⟨p_u, q_i⟩)² + unobserved · Σ over all pairs ⟨p_u, q_i⟩² + l2 · Σ over rows
    (n + unobserved · their number of pairs) |row|², n being the sum of the row's c: the confidence in a rating, which
    is 1 + opinion · its stars above the user's mean, between 0.2 and 2.

    Source: Hu, Koren and Volinsky, "Collaborative Filtering for Implicit Feedback Datasets" (ICDM 2008); the penalty as
    in Rendle, Krichene, Zhang and Koren, "Revisiting the Performance of iALS on Item Recommendation Benchmarks"
    (RecSys 2022).
    """

    def __init__(self, item_ID: Tensor, unobserved: Tensor, config: AlsConfig, user_UD: Tensor | None = None) -> None:
        """unobserved: (), that of the fit, whatever the config leaves to the number of ratings. user_UD: vectors of the
        users it was fitted to, if they are at hand: they are asked for all at once, and solving takes its time.
        """
        self.item_ID, self.unobserved, self.config, self.user_UD = item_ID, unobserved, config, user_UD

    def log_affinity(self, users: Users) -> Tensor:
        if self.user_UD is not None and bool((users.user_idx > 0).all()):
            user_BD = self.user_UD[users.user_idx.to(self.user_UD.device)]
        else:
            user_BD = self.user_vectors(users.histories)
        return log_affinity(user_BD @ self.item_ID.T)

    def user_vectors(self, histories: Histories) -> Tensor:
        """(B, D); zero for a user who has rated nothing."""
        return _solve(_trusted(histories, self.config), self.item_ID, float(self.unobserved), self.config)

    def tensors(self) -> dict[str, Tensor]:
        return {"item_ID": self.item_ID, "unobserved": self.unobserved}


def fit_als(histories: Histories, config: AlsConfig, device: torch.device, seed: int) -> Als:
    """`config.iterations` times the users' vectors from the items', then the items' from the users'."""
    dim, unobserved = choose_sizes(config, len(histories.items))
    item_ID = torch.randn(histories.n_items, dim, generator=make_generator(seed)) * config.init_std / dim**0.5
    item_ID, trusted = item_ID.to(device), _trusted(histories, config)
    raters = trusted.transpose()
    for _ in range(config.iterations):
        item_ID = _solve(raters, _solve(trusted, item_ID, unobserved, config), unobserved, config)
    user_UD = _solve(trusted, item_ID, unobserved, config)
    return Als(item_ID, torch.tensor(unobserved, dtype=torch.float64), config, user_UD)


def choose_sizes(config: AlsConfig, n_ratings: int) -> tuple[int, float]:
    """The length of a vector and the weight of the unobserved: those of the config, or what suits so many ratings."""
    growth = max(n_ratings / 100_000, LEAST_GROWTH)
    dim = config.embedding_dim or min(MOST_DIMS, 8 * round(3 * growth**0.6))
    return dim, config.unobserved or 0.2 * growth**-0.3


def _trusted(histories: Histories, config: AlsConfig) -> Histories:
    """The same, with confidences in the place of stars."""
    users, sizes = histories.user_of_each(), histories.sizes().clamp(min=1)
    mean_U = torch.zeros(len(histories)).index_add_(0, users, histories.stars) / sizes
    confidence = 1 + config.opinion * (histories.stars - mean_U[users])
    return replace(histories, stars=confidence.clamp(LEAST_CONFIDENCE, MOST_CONFIDENCE))


def _solve(trusted: Histories, other_ID: Tensor, unobserved: float, config: AlsConfig) -> Tensor:
    """(R, D) the best vectors of all rows beside fixed ones: (Σ c q qᵀ + unobserved · QᵀQ + penalty)⁻¹ Σ c q."""
    dim, device = other_ID.shape[1], other_ID.device
    everywhere_DD = unobserved * other_ID.T @ other_ID
    solved_RD = torch.zeros(len(trusted), dim, device=device)
    # a row takes one vector for each rating, and at least `dim` for its matrix
    for rows_B in split_by_size(trusted.sizes(), VECTORS_PER_BLOCK, min_size=dim):
        q_BLD, c_BL1 = _padded(trusted.take(rows_B), other_ID)
        weighted_BLD = c_BL1 * q_BLD
        left_BDD = weighted_BLD.transpose(1, 2) @ q_BLD + everywhere_DD
        penalty_B1 = config.l2 * (c_BL1.sum(1) + unobserved * len(other_ID))
        left_BDD.diagonal(dim1=1, dim2=2).add_(penalty_B1)
        vectors_BD1 = torch.cholesky_solve(weighted_BLD.sum(1)[:, :, None], torch.linalg.cholesky(left_BDD))
        solved_RD[rows_B.to(device)] = vectors_BD1.squeeze(2)
    return solved_RD


def _padded(own: Histories, other_ID: Tensor) -> tuple[Tensor, Tensor]:
    """(B, L, D) the vectors of what each row has rated and (B, L, 1) their confidences, then zeros."""
    device, sizes = other_ID.device, own.sizes()
    row = own.user_of_each().to(device)
    place = (torch.arange(len(own.items)) - own.offsets[:-1].repeat_interleave(sizes)).to(device)
    q_BLD = other_ID.new_zeros(len(own), int(sizes.max()), other_ID.shape[1])
    c_BL1 = other_ID.new_zeros(len(own), int(sizes.max()), 1)
    q_BLD[row, place] = other_ID[own.items.to(device)]
    c_BL1[row, place, 0] = own.stars.to(device)
    return q_BLD, c_BL1
