import numpy as np
import pytest
import torch

from recsys.encode.features import NO_FEATURES, Feature, Features
from recsys.retrieve.histories import Histories
from recsys.retrieve.popularity import Properties, fit_popularity, gather_properties
from recsys.settings import PopularityConfig
from tests.support.rankers import CPU, dense, histories_of, random_histories, users_of

NO_PROPERTIES = Properties((), torch.zeros(40, 0))


@pytest.fixture
def histories() -> Histories:
    """Users 38 and 39 have no ratings."""
    rated = random_histories(40, 15)
    return histories_of({user: rated.of(user).tolist() for user in range(1, 38)}, 40, 15)


@pytest.fixture
def properties() -> Properties:
    """All users have the first property; no user with ratings has the last."""
    values_UF = (torch.rand(40, 4, generator=torch.Generator().manual_seed(0)) < 0.4).float()
    values_UF[:, 0], values_UF[:38, 3], values_UF[0] = 1.0, 0.0, 0.0
    return Properties(("a=1", "b=1", "b=2", "c=1"), values_UF)


def feature(names: tuple[str, ...], values: list[int]) -> Feature:
    return Feature(names, torch.arange(len(values) + 1), torch.tensor(values))


def test_properties_are_what_users_state_at_sign_up() -> None:
    features = Features(
        user={
            "occupation": feature(("artist", "lawyer"), [0, 2, 1, 2]),
            "gender": feature(("F", "M"), [0, 1, 2, 0]),
            "region": feature(("0", "1"), [0, 1, 1, 2]),
        },
        item={},
    )
    properties = gather_properties(features, 4)
    assert properties.names == ("gender=F", "gender=M", "occupation=artist", "occupation=lawyer")
    assert properties.of_users_UF.tolist() == [[0, 0, 0, 0], [1, 0, 0, 1], [0, 1, 1, 0], [0, 0, 0, 1]]
    assert properties.of_users_UF.dtype == torch.float32
    assert properties.of(["occupation=lawyer", "gender=F"]).tolist() == [[1, 0, 0, 1]]
    assert properties.of([]).tolist() == [[0, 0, 0, 0]]


def test_users_without_features_have_no_properties(histories: Histories) -> None:
    properties = gather_properties(NO_FEATURES, 40)
    assert properties.names == ()
    assert properties.of_users_UF.shape == (40, 0)
    assert properties.of([]).shape == (1, 0)
    popularity = fit_popularity(histories, properties, PopularityConfig(), CPU)
    assert popularity.shares_FI.shape == (1, 15)
    affinity_UI = popularity.log_affinity(users_of(histories, torch.arange(40))).exp()
    n_users = (histories.sizes() > 0).sum()
    torch.testing.assert_close(affinity_UI[:, 1:], (histories.counts() / n_users)[1:].expand(40, 14))


def test_affinity_by_hand() -> None:
    """Three of four users rated movie 1, among them both with the property: 0.5 ratings more than expected.

    The effect of this property of two users is 0.5 / (2 + l2).
    """
    histories = histories_of({1: [1], 2: [1], 3: [1, 2], 4: [2]}, 5, 3)
    properties = Properties(("a=1",), torch.tensor([[0.0], [1.0], [1.0], [0.0], [0.0]]))
    popularity = fit_popularity(histories, properties, PopularityConfig(l2=3.0), CPU)
    assert popularity.shares_FI[0].tolist() == [0, 0.75, 0.5]
    assert popularity.shares_FI[1].tolist() == pytest.approx([0, 0.5 / 5, -1 / 5])
    users = users_of(histories, torch.tensor([1, 4]), properties.of_users_UF)
    assert popularity.log_affinity(users).exp()[:, 1:].flatten().tolist() == pytest.approx([0.85, 0.3, 0.75, 0.5])


def test_effects_of_properties_solve_the_normal_equations(histories: Histories, properties: Properties) -> None:
    """The target is "has rated" minus the share of all users, for users with ratings."""
    popularity = fit_popularity(histories, properties, PopularityConfig(l2=7.0), CPU)
    x_UI = dense(histories)
    has_rated_U = x_UI.any(1)
    share_I = x_UI[has_rated_U].mean(0)
    known_UF = properties.of_users_UF.numpy().astype(np.float64)[has_rated_U]
    left, right = known_UF.T @ known_UF + 7.0 * np.eye(4), known_UF.T @ (x_UI[has_rated_U] - share_I)
    np.testing.assert_allclose(popularity.shares_FI[0].numpy(), share_I, atol=1e-6)
    np.testing.assert_allclose(popularity.shares_FI[1:].numpy(), np.linalg.solve(left, right), atol=1e-6)
    assert (popularity.shares_FI[4] == 0).all(), "no user with ratings has this property"


def test_users_without_ratings_do_not_affect_the_fit(histories: Histories, properties: Properties) -> None:
    other_UF = properties.of_users_UF.clone()
    other_UF[38:] = 1 - other_UF[38:]
    fitted = [
        fit_popularity(histories, Properties(properties.names, values_UF), PopularityConfig(), CPU).shares_FI
        for values_UF in (properties.of_users_UF, other_UF)
    ]
    assert torch.equal(*fitted)


def test_l2_shrinks_the_effects_to_zero(histories: Histories, properties: Properties) -> None:
    little, much = (
        fit_popularity(histories, properties, PopularityConfig(l2=l2), CPU).shares_FI[1:].norm() for l2 in (1.0, 1e4)
    )
    assert much < 0.01 * little
