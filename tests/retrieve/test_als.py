from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

from recsys.retrieve import als as als_module
from recsys.retrieve.als import Als, choose_sizes, fit_als
from recsys.retrieve.histories import Histories
from recsys.settings import AlsConfig
from tests.support.rankers import CPU, dense, histories_of
from tests.support.rankers import random_histories as random_pairs

CONFIG = AlsConfig(embedding_dim=4, iterations=300, l2=0.02, unobserved=0.3)


def random_histories(n_users: int, n_items: int, share: float = 0.3, seed: int = 0) -> Histories:
    """Random histories with ratings of one to five stars."""
    pairs = random_pairs(n_users, n_items, share, seed)
    stars = np.random.default_rng(seed).integers(1, 6, len(pairs.items)).astype(np.float32)
    return replace(pairs, stars=torch.from_numpy(stars))


def confidences(histories: Histories, config: AlsConfig) -> npt.NDArray[np.float64]:
    """Return (U, I), 0 where not rated."""
    c_UI = np.zeros((len(histories), histories.n_items))
    for user in range(len(histories)):
        own = histories.take(torch.tensor([user]))
        stars = own.stars.double().numpy()
        if len(stars):
            c_UI[user, own.items.numpy()] = np.clip(1 + config.opinion * (stars - stars.mean()), 0.2, 2.0)
    return c_UI


def objective(histories: Histories, p_UD: Tensor, q_ID: Tensor, config: AlsConfig) -> Tensor:
    """The objective in the docstring of `Als`, in float64."""
    assert config.unobserved is not None
    c_UI = torch.from_numpy(confidences(histories, config))
    product_UI, n_U, n_I = p_UD @ q_ID.T, c_UI.sum(1), c_UI.sum(0)
    penalty = ((n_U + config.unobserved * len(n_I)) * p_UD.square().sum(1)).sum()
    penalty = penalty + ((n_I + config.unobserved * len(n_U)) * q_ID.square().sum(1)).sum()
    fit = (c_UI * (1 - product_UI) ** 2).sum() + config.unobserved * product_UI.square().sum()
    return fit + config.l2 * penalty


def fit(histories: Histories, config: AlsConfig = CONFIG, seed: int = 0) -> tuple[Als, Tensor, Tensor]:
    """Return the model and its user and item vectors in float64."""
    als = fit_als(histories, config, CPU, seed)
    return als, als.user_vectors(histories).double(), als.item_ID.double()


@pytest.mark.parametrize(("n_users", "n_items"), [(60, 25), (25, 60)])
def test_the_fit_ends_at_a_stationary_point(n_users: int, n_items: int) -> None:
    histories = random_histories(n_users, n_items)
    _, p_UD, q_ID = fit(histories)
    p_UD.requires_grad_()
    q_ID.requires_grad_()
    objective(histories, p_UD, q_ID, CONFIG).backward()
    assert p_UD.grad is not None
    assert q_ID.grad is not None
    scale = 2 * dense(histories).sum(1).max()  # the size of the terms of a gradient, which cancel out
    assert p_UD.grad.abs().max() < 1e-4 * scale
    assert q_ID.grad.abs().max() < 1e-4 * scale
    assert p_UD.detach().norm() > 1, "not the trivial solution of zeros"


def test_every_iteration_lowers_the_objective() -> None:
    histories = random_histories(60, 25)
    values = []
    for iterations in range(1, 8):
        config = CONFIG.model_copy(update={"iterations": iterations})
        values.append(objective(histories, *fit(histories, config)[1:], config).item())
    assert values == sorted(values, reverse=True)
    assert values[-1] < 0.999 * values[0]


def test_a_user_vector_is_optimal_for_fixed_item_vectors() -> None:
    """This includes users that were not in the fit."""
    histories, others = random_histories(60, 25), random_histories(10, 25, share=0.5, seed=9)
    als, _, q_ID = fit(histories, AlsConfig(embedding_dim=4, iterations=3, unobserved=0.3))
    p_UD, q, config = als.user_vectors(others).numpy(), q_ID.numpy(), als.config
    assert config.unobserved is not None
    for user, c_I in enumerate(confidences(others, config)):
        left = q.T @ np.diag(c_I + config.unobserved) @ q
        left += config.l2 * (c_I.sum() + config.unobserved * 25) * np.eye(4)
        np.testing.assert_allclose(p_UD[user], np.linalg.solve(left, q.T @ c_I), atol=1e-5)


@pytest.mark.parametrize(
    ("n_ratings", "dim", "unobserved"), [(10, 24, 0.2), (100_000, 24, 0.2), (1_000_000, 96, 0.1), (10**8, 128, 0.025)]
)
def test_default_sizes_depend_on_the_number_of_ratings(n_ratings: int, dim: int, unobserved: float) -> None:
    chosen = choose_sizes(AlsConfig(), n_ratings)
    assert chosen[0] == dim
    assert chosen[1] == pytest.approx(unobserved, rel=0.02)
    assert choose_sizes(AlsConfig(embedding_dim=5, unobserved=0.7), n_ratings) == (5, 0.7)


def test_users_and_items_without_ratings_have_zero_vectors() -> None:
    histories = histories_of({1: [1, 2], 2: [2, 3], 4: [1]}, n_users=6, n_items=5)
    _, p_UD, q_ID = fit(histories, AlsConfig(embedding_dim=3))
    assert (p_UD[[0, 3, 5]] == 0).all()
    assert (q_ID[[0, 4]] == 0).all()
    assert (p_UD[[1, 2, 4]].norm(dim=1) > 0).all()
    assert (q_ID[1:4].norm(dim=1) > 0).all()


@pytest.mark.parametrize("vectors", [1, 10, 64, 2**10])
def test_blocks_of_any_size_give_the_same_vectors(vectors: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The amount of padding has no effect."""
    histories = random_histories(60, 25)
    config = AlsConfig(embedding_dim=4, iterations=2)
    _, *whole = fit(histories, config)
    monkeypatch.setattr(als_module, "VECTORS_PER_BLOCK", vectors)
    _, *in_blocks = fit(histories, config)
    for one, other in zip(whole, in_blocks, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("field", AlsConfig.model_fields)
def test_every_setting_changes_the_vectors(field: str) -> None:
    histories = random_histories(60, 25)
    config = AlsConfig(embedding_dim=4, iterations=2, unobserved=0.3)
    turned = config.model_copy(update={field: getattr(config, field) * 2})
    affinities = [
        als.user_vectors(histories) @ als.item_ID.T for als in (fit(histories, c)[0] for c in (config, turned))
    ]
    assert (affinities[0] - affinities[1]).abs().max() > 1e-5


def test_the_seed_changes_the_vectors() -> None:
    histories = random_histories(60, 25)
    first, second = (fit(histories, AlsConfig(embedding_dim=4, iterations=1), seed)[2] for seed in (0, 1))
    assert not torch.equal(first, second)
