from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor

from recsys.rank.weights import Lesson, Weights, fit_weights

TRUTH_P = torch.tensor([1.5, -0.5, 0.8], dtype=torch.float64)
SPREAD_P = torch.tensor([1.0, 3.0, 0.2], dtype=torch.float64)  # of the parts


def draw_lesson(n_users: int = 4000, n_candidates: int = 20, seed: int = 0) -> Lesson:
    """Of each user one candidate is relevant, drawn by the softmax of the planted weights; a tenth are none."""
    generator = torch.Generator().manual_seed(seed)
    parts_BCP = torch.randn(n_users, n_candidates, 3, generator=generator, dtype=torch.float64)
    parts_BCP = parts_BCP * SPREAD_P + torch.tensor([0.0, -5.0, 100.0])
    is_candidate_BC = torch.rand(n_users, n_candidates, generator=generator) > 0.1
    chance_BC = (parts_BCP @ TRUTH_P).masked_fill(~is_candidate_BC, -torch.inf).softmax(1)
    chosen_B = torch.multinomial(chance_BC, 1, generator=generator)
    is_relevant_BC = torch.zeros_like(is_candidate_BC).scatter(1, chosen_B, True)
    return Lesson(parts_BCP, is_candidate_BC, is_relevant_BC)


@pytest.fixture(scope="module")
def lesson() -> Lesson:
    return draw_lesson()


def fit(lesson: Lesson, doubt_users: float = 4.0, expected: Sequence[float] = (0.0, 0.0, 0.0)) -> Tensor:
    return fit_weights(lesson, torch.tensor(expected, dtype=torch.float64), doubt_users)


def objective(lesson: Lesson, weight_P: Tensor, doubt_users: float, expected: Sequence[float]) -> Tensor:
    """As the docstring of `fit_weights` has it."""
    score_BC = (lesson.parts_BCP @ weight_P).masked_fill(~lesson.is_candidate_BC, -torch.inf)
    spread_P = lesson.parts_BCP[lesson.is_candidate_BC].std(0, correction=0)
    leaving = ((weight_P - torch.tensor(expected)) * spread_P).square().sum() * doubt_users / len(lesson.parts_BCP)
    return score_BC.log_softmax(1)[lesson.is_relevant_BC].mean() - leaving


def test_planted_weights_are_found(lesson: Lesson) -> None:
    weight_P = fit(lesson, 0.0)
    assert weight_P.dtype == torch.float64
    assert (weight_P * SPREAD_P).tolist() == pytest.approx((TRUTH_P * SPREAD_P).tolist(), abs=0.06)


def test_more_choices_tell_them_better() -> None:
    misses = [(fit(draw_lesson(n, seed=1), 0.0) - TRUTH_P) * SPREAD_P for n in (50, 10_000)]
    assert misses[1].norm() < 0.06 < misses[0].norm()


@pytest.mark.parametrize("expected", [(0.0, 0.0, 0.0), (3.0, 1.0, -2.0)])
@pytest.mark.parametrize("doubt_users", [0.0, 4.0, 400.0])
def test_nothing_near_is_better(lesson: Lesson, doubt_users: float, expected: Sequence[float]) -> None:
    """The slope is none, and the objective concave."""
    weight_P = fit(lesson, doubt_users, expected).requires_grad_()
    best = objective(lesson, weight_P, doubt_users, expected)
    best.backward()
    assert weight_P.grad is not None
    assert weight_P.grad.abs().max() < 1e-4
    for step in (*(0.05 * torch.eye(3)), *(-0.05 * torch.eye(3))):
        assert objective(lesson, weight_P.detach() + step, doubt_users, expected) < best


@pytest.mark.parametrize("expected", [(0.0, 0.0, 0.0), (3.0, 1.0, -2.0)])
def test_doubt_draws_weights_to_what_was_expected(lesson: Lesson, expected: Sequence[float]) -> None:
    far = [
        ((fit(lesson, doubt_users, expected) - torch.tensor(expected)) * SPREAD_P).norm().item()
        for doubt_users in (0.0, 400.0, 40_000.0, 4_000_000.0)
    ]
    assert far == sorted(far, reverse=True)
    assert far[-1] < 0.001 * far[0]


def test_few_users_leave_what_was_expected_less() -> None:
    expected = (3.0, 1.0, -2.0)
    few, many = (fit(draw_lesson(n, seed=1), 50.0, expected) for n in (20, 10_000))
    assert ((many - TRUTH_P) * SPREAD_P).norm() < 0.1
    assert ((few - torch.tensor(expected)) * SPREAD_P).norm() < 0.7 * (
        (many - torch.tensor(expected)) * SPREAD_P
    ).norm()


def test_users_candidates_and_parts_have_no_order(lesson: Lesson) -> None:
    order_B, order_C, order_P = (torch.randperm(n) for n in lesson.parts_BCP.shape)
    moved = Lesson(
        lesson.parts_BCP[order_B][:, order_C][:, :, order_P],
        lesson.is_candidate_BC[order_B][:, order_C],
        lesson.is_relevant_BC[order_B][:, order_C],
    )
    expected = fit(lesson)[order_P]
    torch.testing.assert_close(fit(moved), expected, rtol=1e-4, atol=1e-4)


def test_shifts_and_units_of_a_part_do_not_matter(lesson: Lesson) -> None:
    units_P = torch.tensor([10.0, 1.0, 0.01], dtype=torch.float64)
    other = Lesson(lesson.parts_BCP * units_P + 7, lesson.is_candidate_BC, lesson.is_relevant_BC)
    weights = [fit(one) * units for one, units in ((lesson, 1.0), (other, units_P))]
    torch.testing.assert_close(*weights, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("junk", [0.0, 1e6, torch.nan, -torch.inf])
def test_what_is_no_candidate_does_not_matter(junk: float, lesson: Lesson) -> None:
    parts_BCP = lesson.parts_BCP.masked_fill(~lesson.is_candidate_BC[:, :, None], junk)
    spoilt = Lesson(parts_BCP, lesson.is_candidate_BC, lesson.is_relevant_BC)
    assert torch.equal(fit(spoilt), fit(lesson))


def test_users_without_a_relevant_candidate_teach_nothing(lesson: Lesson) -> None:
    more = Lesson(
        torch.cat([lesson.parts_BCP, 9 * lesson.parts_BCP[:100]]),
        torch.cat([lesson.is_candidate_BC, lesson.is_candidate_BC[:100]]),
        torch.cat([lesson.is_relevant_BC, torch.zeros_like(lesson.is_relevant_BC[:100])]),
    )
    assert torch.equal(fit(more), fit(lesson))


@pytest.mark.parametrize("value", [0.0, 1.0, -9.21])
def test_a_part_that_is_the_same_everywhere_has_no_weight(value: float, lesson: Lesson) -> None:
    constant_BC1 = torch.full_like(lesson.parts_BCP[:, :, :1], value)
    wider = Lesson(torch.cat([constant_BC1, lesson.parts_BCP], dim=2), lesson.is_candidate_BC, lesson.is_relevant_BC)
    weight_P = fit(wider, expected=(5.0, 0.0, 0.0, 0.0))
    assert weight_P[0] == 0
    torch.testing.assert_close(weight_P[1:], fit(lesson), rtol=1e-4, atol=1e-4)


def lesson_of(parts: list[list[list[float]]], relevant: list[list[bool]]) -> Lesson:
    parts_BCP, is_relevant_BC = torch.tensor(parts), torch.tensor(relevant)
    return Lesson(parts_BCP, torch.ones_like(is_relevant_BC), is_relevant_BC)


@pytest.mark.parametrize(
    "lesson",
    [
        lesson_of([[[1.0, 2.0], [2.0, 1.0]]], [[False, False]]),
        lesson_of([[[1.0, 2.0]]], [[True]]),  # one candidate: nothing to choose between
        Lesson(torch.empty(0, 5, 2), torch.empty(0, 5).bool(), torch.empty(0, 5).bool()),
        Lesson(torch.empty(3, 0, 2), torch.empty(3, 0).bool(), torch.empty(3, 0).bool()),
    ],
    ids=["nothing relevant", "one candidate", "no users", "no candidates"],
)
def test_where_nothing_can_be_learned_weights_are_what_was_expected(lesson: Lesson) -> None:
    assert fit(lesson, expected=(2.0, -1.0)).tolist() == [2, -1]


def test_two_candidates_by_hand() -> None:
    """With one candidate 1 above the other, preferred three times in four: the odds of 3 are e to the weight."""
    lesson = lesson_of([[[1.0], [0.0]]] * 4, [[True, False]] * 3 + [[False, True]])
    assert fit(lesson, 0.0, [0.0]).item() == pytest.approx(torch.tensor(3.0).log().item(), abs=1e-5)


def test_separable_choices_have_finite_weights() -> None:
    """Without doubt there would be no end to them."""
    lesson = lesson_of([[[1.0], [0.0]]] * 4, [[True, False]] * 4)
    (weight,) = fit(lesson, 0.004, [0.0]).tolist()
    assert 1 < weight < 100


BY_SIZE = Weights({size: {"a": float(size), "b": -1.0} for size in (0, 1, 3, 5, 10, 20)})


def test_users_have_the_weights_of_the_size_that_they_have_reached() -> None:
    sizes_B = torch.tensor([0, 1, 2, 3, 4, 5, 9, 10, 19, 20, 21, 5000])
    weights_BP = BY_SIZE.of(sizes_B, ("a", "b"))
    assert weights_BP.dtype == torch.float64
    assert weights_BP[:, 0].tolist() == [0, 1, 1, 3, 3, 5, 5, 10, 10, 20, 20, 20]
    assert (weights_BP[:, 1] == -1).all()


def test_parts_come_in_the_order_asked_for() -> None:
    assert BY_SIZE.of(torch.tensor([3]), ("b", "a")).tolist() == [[-1, 3]]
    with pytest.raises(KeyError, match="c"):
        BY_SIZE.of(torch.tensor([3]), ("c",))


def test_weights_are_read_as_they_were_written(tmp_path: Path) -> None:
    BY_SIZE.save(tmp_path)
    loaded = Weights.load(tmp_path)
    assert loaded == BY_SIZE
    assert list(loaded.by_size) == list(BY_SIZE.by_size)


def test_sizes_in_the_order_of_words_are_put_in_that_of_numbers() -> None:
    sorted_as_words = {size: BY_SIZE.by_size[int(size)] for size in ("0", "1", "10", "20", "3", "5")}
    assert list(Weights.from_json(sorted_as_words).by_size) == [0, 1, 3, 5, 10, 20]
