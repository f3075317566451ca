import logging

import numpy as np
import numpy.typing as npt
import pytest
import torch

from recsys.retrieve import ease as ease_module
from recsys.retrieve.ease import TAIL_WEIGHTS, Ease, fit_ease
from recsys.retrieve.histories import Histories
from recsys.settings import EaseConfig
from tests.support.rankers import CPU, dense, histories_of, random_histories

Floats = npt.NDArray[np.float64]


def closed_form(x_UH: Floats, l2: float) -> Floats:
    inverse_HH = np.linalg.inv(x_UH.T @ x_UH + l2 * np.eye(x_UH.shape[1]))
    return np.asarray(np.eye(len(inverse_HH)) - inverse_HH / np.diag(inverse_HH))


def ridge(x_UH: Floats, y_U: Floats, l2: float) -> Floats:
    return np.asarray(np.linalg.solve(x_UH.T @ x_UH + l2 * np.eye(x_UH.shape[1]), x_UH.T @ y_U))


def fit(histories: Histories, l2: float = 5.0, max_items: int = 12_000) -> Ease:
    return fit_ease(histories, EaseConfig(l2=l2, max_items=max_items), CPU)


@pytest.mark.parametrize(("n_users", "n_items"), [(60, 25), (25, 60), (40, 40)])
def test_ease_equals_the_closed_form(n_users: int, n_items: int) -> None:
    histories = random_histories(n_users, n_items)
    ease = fit(histories)
    np.testing.assert_allclose(ease.weights_HH.numpy(), closed_form(dense(histories), 5.0), atol=1e-5)
    assert (ease.weights_HH.diagonal() == 0).all()
    assert ease.weights_HH.dtype == torch.float32
    assert torch.equal(ease.head_H, torch.arange(n_items))
    assert len(ease.tail_T) == 0


def test_ease_equals_the_ridge_regression_of_each_movie_on_the_others() -> None:
    histories = random_histories(50, 8, share=0.4, seed=1)
    x_UI, weights_II = dense(histories), fit(histories, l2=3.0).weights_HH.numpy()
    for item in range(8):
        others = [other for other in range(8) if other != item]
        expected = ridge(x_UI[:, others], x_UI[:, item], 3.0)
        np.testing.assert_allclose(weights_II[others, item], expected, atol=1e-5)


def test_affinity_is_the_sum_of_the_weights_of_rated_movies() -> None:
    histories = random_histories(60, 25)
    ease = fit(histories)
    expected = dense(histories) @ closed_form(dense(histories), 5.0)
    np.testing.assert_allclose(ease.affinity(histories).numpy(), expected, atol=1e-5)


# ---- a head and a tail


@pytest.fixture
def long_tailed() -> Histories:
    """Movies with lower indices have more ratings. Movies 33 to 35 have none."""
    chances_I = np.where(np.arange(36) < 33, 0.7 / (1 + np.arange(36) / 6), 0.0)
    seen_UI = np.random.default_rng(2).random((200, 36)) < chances_I
    return histories_of({user: row[1:].nonzero()[0] + 1 for user, row in enumerate(seen_UI) if user}, 200, 36)


@pytest.fixture
def few_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ease_module, "TAIL_WEIGHTS", 4)
    monkeypatch.setattr(ease_module, "TAIL_BLOCK", 7)


def test_the_head_has_the_most_rated_items_and_the_tail_the_others(long_tailed: Histories) -> None:
    ease, counts = fit(long_tailed, max_items=12), long_tailed.counts()
    order = sorted(range(36), key=lambda item: (-int(counts[item]), item))
    assert ease.head_H.tolist() == sorted(order[:12])
    assert ease.tail_T.tolist() == sorted(order[12:32])
    assert (counts[order[32:]] == 0).all()


def test_the_head_is_regressed_on_itself_alone(long_tailed: Histories) -> None:
    ease = fit(long_tailed, max_items=12)
    expected = closed_form(dense(long_tailed)[:, ease.head_H], 5.0)
    np.testing.assert_allclose(ease.weights_HH.numpy(), expected, atol=1e-5)


@pytest.mark.usefixtures("few_weights")
def test_the_tail_is_regressed_on_the_head_and_keeps_its_strongest_weights(long_tailed: Histories) -> None:
    ease, x_UI = fit(long_tailed, max_items=12), dense(long_tailed)
    assert ease.from_TW.shape == ease.weights_TW.shape == (20, 4)
    for place, item in enumerate(ease.tail_T.tolist()):
        regression = ridge(x_UI[:, ease.head_H], x_UI[:, item], 5.0)
        strongest = sorted(np.abs(regression).argsort()[-4:])
        assert ease.from_TW[place].tolist() == strongest
        np.testing.assert_allclose(ease.weights_TW[place].numpy(), regression[strongest], atol=1e-5)


def test_small_heads_keep_all_weights(long_tailed: Histories) -> None:
    ease = fit(long_tailed, max_items=12)
    assert TAIL_WEIGHTS > 12
    assert ease.from_TW.tolist() == [list(range(12))] * 20


@pytest.mark.parametrize("max_items", [2, 12, 31, 32, 33, 35, 36, 100])
@pytest.mark.usefixtures("few_weights")
def test_shares_add_up_to_the_affinity(long_tailed: Histories, max_items: int) -> None:
    """The items and the rated movies come from the head, from the tail and from unrated movies."""
    ease, every_I = fit(long_tailed, max_items=max_items), torch.arange(36)
    affinity_UI = ease.affinity(long_tailed)
    assert (affinity_UI[:, long_tailed.counts() == 0].abs() < 1e-7).all()
    for user in range(len(long_tailed)):
        shares_IR = ease.shares(long_tailed.of(user), every_I)
        assert shares_IR.shape == (36, len(long_tailed.of(user)))
        torch.testing.assert_close(shares_IR.sum(1), affinity_UI[user], rtol=0, atol=1e-5)


def test_ratings_of_tail_items_do_not_contribute(long_tailed: Histories) -> None:
    ease = fit(long_tailed, max_items=12)
    own_R = torch.cat([ease.head_H[:2], ease.tail_T[:3]])
    shares_NR = ease.shares(own_R, torch.arange(36))
    assert (shares_NR[:, 2:] == 0).all()
    assert (shares_NR[:, :2] != 0).any()
    of_tail = histories_of({1: ease.tail_T.tolist()}, 2, 36)
    assert (ease.affinity(of_tail) == 0).all()


@pytest.mark.usefixtures("few_weights")
def test_blocks_of_any_size_give_the_same_tail(long_tailed: Histories, monkeypatch: pytest.MonkeyPatch) -> None:
    ease = fit(long_tailed, max_items=12)
    for size in (1, 19, 20, 512):
        monkeypatch.setattr(ease_module, "TAIL_BLOCK", size)
        other = fit(long_tailed, max_items=12)
        assert torch.equal(other.from_TW, ease.from_TW)
        torch.testing.assert_close(other.weights_TW, ease.weights_TW)


def test_unrated_movies_of_a_large_catalogue_take_no_memory(long_tailed: Histories) -> None:
    """The matrices have only rated movies, and unrated ones do not change the scores."""
    rated = {user: long_tailed.of(user).tolist() for user in range(len(long_tailed))}
    large = histories_of(rated, len(long_tailed), 100_000)
    ease, whole = fit(large, max_items=40), fit(long_tailed)
    assert len(ease.head_H) == 32
    assert len(ease.tail_T) == 0
    some = torch.tensor([3, 1, 5])
    torch.testing.assert_close(
        ease.affinity(large.take(some))[:, :36], whole.affinity(long_tailed.take(some)), rtol=0, atol=1e-5
    )


def test_the_log_reports_the_size_of_the_head(long_tailed: Histories, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="recsys.retrieve.ease"):
        fit(long_tailed, max_items=32)
        assert caplog.text == ""
        ease, counts = fit(long_tailed, max_items=12), long_tailed.counts()
    share = 100 * counts[ease.head_H].sum() / counts.sum()
    assert f"32 rated movies exceed the limit of 12: the most rated, with {share:.1f}% of the ratings" in caplog.text
