from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor

from recsys.rank.weights import LabelledCandidates, Weights, fit_weights

TRUTH_P = torch.tensor([1.5, -0.5, 0.8], dtype=torch.float64)
SPREAD_P = torch.tensor([1.0, 3.0, 0.2], dtype=torch.float64)  # standard deviation of each part


def draw_labelled(n_users: int = 4000, n_candidates: int = 20, seed: int = 0) -> LabelledCandidates:
    """One relevant candidate per user, drawn by the softmax of the planted weights. A tenth of the places are empty."""
    generator = torch.Generator().manual_seed(seed)
    parts_BCP = torch.randn(n_users, n_candidates, 3, generator=generator, dtype=torch.float64)
    parts_BCP = parts_BCP * SPREAD_P + torch.tensor([0.0, -5.0, 100.0])
    is_candidate_BC = torch.rand(n_users, n_candidates, generator=generator) > 0.1
    chance_BC = (parts_BCP @ TRUTH_P).masked_fill(~is_candidate_BC, -torch.inf).softmax(1)
    chosen_B = torch.multinomial(chance_BC, 1, generator=generator)
    is_relevant_BC = torch.zeros_like(is_candidate_BC).scatter(1, chosen_B, True)
    return LabelledCandidates(parts_BCP, is_candidate_BC, is_relevant_BC)


@pytest.fixture(scope="module")
def labelled() -> LabelledCandidates:
    return draw_labelled()


def fit(labelled: LabelledCandidates, doubt_users: float = 4.0, expected: Sequence[float] = (0.0, 0.0, 0.0)) -> Tensor:
    return fit_weights(labelled, torch.tensor(expected, dtype=torch.float64), doubt_users)


def objective(labelled: LabelledCandidates, weight_P: Tensor, doubt_users: float, expected: Sequence[float]) -> Tensor:
    """The objective in the docstring of `fit_weights`."""
    score_BC = (labelled.parts_BCP @ weight_P).masked_fill(~labelled.is_candidate_BC, -torch.inf)
    spread_P = labelled.parts_BCP[labelled.is_candidate_BC].std(0, correction=0)
    leaving = ((weight_P - torch.tensor(expected)) * spread_P).square().sum() * doubt_users / len(labelled.parts_BCP)
    return score_BC.log_softmax(1)[labelled.is_relevant_BC].mean() - leaving


def test_planted_weights_are_found(labelled: LabelledCandidates) -> None:
    weight_P = fit(labelled, 0.0)
    assert weight_P.dtype == torch.float64
    assert (weight_P * SPREAD_P).tolist() == pytest.approx((TRUTH_P * SPREAD_P).tolist(), abs=0.06)


def test_more_users_give_better_estimates() -> None:
    misses = [(fit(draw_labelled(n, seed=1), 0.0) - TRUTH_P) * SPREAD_P for n in (50, 10_000)]
    assert misses[1].norm() < 0.06 < misses[0].norm()


@pytest.mark.parametrize("expected", [(0.0, 0.0, 0.0), (3.0, 1.0, -2.0)])
@pytest.mark.parametrize("doubt_users", [0.0, 4.0, 400.0])
def test_the_result_is_a_maximum(labelled: LabelledCandidates, doubt_users: float, expected: Sequence[float]) -> None:
    """The gradient is zero, and the objective is concave."""
    weight_P = fit(labelled, doubt_users, expected).requires_grad_()
    best = objective(labelled, weight_P, doubt_users, expected)
    best.backward()
    assert weight_P.grad is not None
    assert weight_P.grad.abs().max() < 1e-4
    for step in (*(0.05 * torch.eye(3)), *(-0.05 * torch.eye(3))):
        assert objective(labelled, weight_P.detach() + step, doubt_users, expected) < best


@pytest.mark.parametrize("expected", [(0.0, 0.0, 0.0), (3.0, 1.0, -2.0)])
def test_more_doubt_moves_weights_towards_the_prior(labelled: LabelledCandidates, expected: Sequence[float]) -> None:
    far = [
        ((fit(labelled, doubt_users, expected) - torch.tensor(expected)) * SPREAD_P).norm().item()
        for doubt_users in (0.0, 400.0, 40_000.0, 4_000_000.0)
    ]
    assert far == sorted(far, reverse=True)
    assert far[-1] < 0.001 * far[0]


def test_with_fewer_users_weights_stay_closer_to_the_prior() -> None:
    expected = (3.0, 1.0, -2.0)
    few, many = (fit(draw_labelled(n, seed=1), 50.0, expected) for n in (20, 10_000))
    assert ((many - TRUTH_P) * SPREAD_P).norm() < 0.1
    assert ((few - torch.tensor(expected)) * SPREAD_P).norm() < 0.7 * (
        (many - torch.tensor(expected)) * SPREAD_P
    ).norm()


def test_the_order_of_users_candidates_and_parts_does_not_matter(labelled: LabelledCandidates) -> None:
    order_B, order_C, order_P = (torch.randperm(n) for n in labelled.parts_BCP.shape)
    moved = LabelledCandidates(
        labelled.parts_BCP[order_B][:, order_C][:, :, order_P],
        labelled.is_candidate_BC[order_B][:, order_C],
        labelled.is_relevant_BC[order_B][:, order_C],
    )
    expected = fit(labelled)[order_P]
    torch.testing.assert_close(fit(moved), expected, rtol=1e-4, atol=1e-4)


def test_the_offset_and_unit_of_a_part_do_not_matter(labelled: LabelledCandidates) -> None:
    units_P = torch.tensor([10.0, 1.0, 0.01], dtype=torch.float64)
    other = LabelledCandidates(labelled.parts_BCP * units_P + 7, labelled.is_candidate_BC, labelled.is_relevant_BC)
    weights = [fit(one) * units for one, units in ((labelled, 1.0), (other, units_P))]
    torch.testing.assert_close(*weights, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("junk", [0.0, 1e6, torch.nan, -torch.inf])
def test_values_of_missing_candidates_do_not_matter(junk: float, labelled: LabelledCandidates) -> None:
    parts_BCP = labelled.parts_BCP.masked_fill(~labelled.is_candidate_BC[:, :, None], junk)
    changed = LabelledCandidates(parts_BCP, labelled.is_candidate_BC, labelled.is_relevant_BC)
    assert torch.equal(fit(changed), fit(labelled))


def test_users_without_a_relevant_candidate_are_ignored(labelled: LabelledCandidates) -> None:
    more = LabelledCandidates(
        torch.cat([labelled.parts_BCP, 9 * labelled.parts_BCP[:100]]),
        torch.cat([labelled.is_candidate_BC, labelled.is_candidate_BC[:100]]),
        torch.cat([labelled.is_relevant_BC, torch.zeros_like(labelled.is_relevant_BC[:100])]),
    )
    assert torch.equal(fit(more), fit(labelled))


@pytest.mark.parametrize("value", [0.0, 1.0, -9.21])
def test_a_constant_part_has_weight_zero(value: float, labelled: LabelledCandidates) -> None:
    constant_BC1 = torch.full_like(labelled.parts_BCP[:, :, :1], value)
    wider = LabelledCandidates(
        torch.cat([constant_BC1, labelled.parts_BCP], dim=2), labelled.is_candidate_BC, labelled.is_relevant_BC
    )
    weight_P = fit(wider, expected=(5.0, 0.0, 0.0, 0.0))
    assert weight_P[0] == 0
    torch.testing.assert_close(weight_P[1:], fit(labelled), rtol=1e-4, atol=1e-4)


def labelled_of(parts: list[list[list[float]]], relevant: list[list[bool]]) -> LabelledCandidates:
    parts_BCP, is_relevant_BC = torch.tensor(parts), torch.tensor(relevant)
    return LabelledCandidates(parts_BCP, torch.ones_like(is_relevant_BC), is_relevant_BC)


@pytest.mark.parametrize(
    "labelled",
    [
        labelled_of([[[1.0, 2.0], [2.0, 1.0]]], [[False, False]]),
        labelled_of([[[1.0, 2.0]]], [[True]]),  # a single candidate
        LabelledCandidates(torch.empty(0, 5, 2), torch.empty(0, 5).bool(), torch.empty(0, 5).bool()),
        LabelledCandidates(torch.empty(3, 0, 2), torch.empty(3, 0).bool(), torch.empty(3, 0).bool()),
    ],
    ids=["nothing relevant", "one candidate", "no users", "no candidates"],
)
def test_without_usable_users_the_result_is_the_prior(labelled: LabelledCandidates) -> None:
    assert fit(labelled, expected=(2.0, -1.0)).tolist() == [2, -1]


def test_two_candidates_by_hand() -> None:
    """The candidate that is 1 higher is preferred 3 times in 4: exp(weight) equals the odds of 3."""
    labelled = labelled_of([[[1.0], [0.0]]] * 4, [[True, False]] * 3 + [[False, True]])
    assert fit(labelled, 0.0, [0.0]).item() == pytest.approx(torch.tensor(3.0).log().item(), abs=1e-5)


def test_separable_choices_have_finite_weights() -> None:
    """Without the penalty they would be infinite."""
    labelled = labelled_of([[[1.0], [0.0]]] * 4, [[True, False]] * 4)
    (weight,) = fit(labelled, 0.004, [0.0]).tolist()
    assert 1 < weight < 100


BY_SIZE = Weights({size: {"a": float(size), "b": -1.0} for size in (0, 1, 3, 5, 10, 20)})


def test_users_get_the_weights_of_the_largest_size_reached() -> None:
    sizes_B = torch.tensor([0, 1, 2, 3, 4, 5, 9, 10, 19, 20, 21, 5000])
    weights_BP = BY_SIZE.of(sizes_B, ("a", "b"))
    assert weights_BP.dtype == torch.float64
    assert weights_BP[:, 0].tolist() == [0, 1, 1, 3, 3, 5, 5, 10, 10, 20, 20, 20]
    assert (weights_BP[:, 1] == -1).all()


def test_parts_are_in_the_requested_order() -> None:
    assert BY_SIZE.of(torch.tensor([3]), ("b", "a")).tolist() == [[-1, 3]]
    with pytest.raises(KeyError, match="c"):
        BY_SIZE.of(torch.tensor([3]), ("c",))


def test_saved_weights_are_loaded_unchanged(tmp_path: Path) -> None:
    BY_SIZE.save(tmp_path)
    loaded = Weights.load(tmp_path)
    assert loaded == BY_SIZE
    assert list(loaded.by_size) == list(BY_SIZE.by_size)


def test_sizes_are_sorted_as_numbers() -> None:
    sorted_as_words = {size: BY_SIZE.by_size[int(size)] for size in ("0", "1", "10", "20", "3", "5")}
    assert list(Weights.from_json(sorted_as_words).by_size) == [0, 1, 3, 5, 10, 20]
