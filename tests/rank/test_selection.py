import math
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.rank import selection
from recsys.rank.selection import Caps, make_caps, select_places

N_ITEMS = 9
# Lengths are 0, 1 or 2 and cosines are sums of quarters, so that sums do not depend on the order.
VECTORS = ((1, 0, 0, 0), (0, 0, 1, 0), (0, -1, 0, 0), (1, 1, 1, 1), (1, -1, 1, -1), (1, 1, -1, -1), (0, 0, 0, 0))


@dataclass(frozen=True)
class Question:
    """Scores of a block, its candidates, caps and diversity; groups are (limit, items) by name."""

    score_BC: list[list[float]]
    item_BC: list[list[int]]
    n: int
    groups: dict[str, tuple[int, frozenset[int]]]  # limit and items
    vectors_ID: list[tuple[int, ...]]
    diversity: float

    def answer(self) -> list[list[int]]:
        return select_places(
            torch.tensor(self.score_BC, dtype=torch.float64).reshape(len(self.score_BC), -1),
            torch.tensor(self.item_BC, dtype=torch.int64).reshape(len(self.item_BC), -1),
            self.n,
            caps=caps_of(self.groups),
            vectors_ID=torch.tensor(self.vectors_ID, dtype=torch.float64),
            diversity=self.diversity,
        ).tolist()


def caps_of(groups: dict[str, tuple[int, frozenset[int]]]) -> Caps:
    pairs = [(item, group) for group, (_, items) in enumerate(groups.values()) for item in sorted(items)]
    item_idx, group_idx = torch.tensor(pairs, dtype=torch.int64).reshape(-1, 2).T
    at_most = torch.tensor([most for most, _ in groups.values()], dtype=torch.int64)
    return make_caps(item_idx, group_idx, at_most, N_ITEMS)


@st.composite
def questions(draw: st.DrawFn) -> Question:
    """Questions with few distinct scores, and so with many ties. Some scores are -inf."""
    n_users, n_columns = draw(st.integers(1, 4)), draw(st.integers(0, N_ITEMS - 1))
    scores = st.lists(st.sampled_from([-math.inf, -2.5, 0.0, 0.5, 0.75, 3.0]), min_size=n_columns, max_size=n_columns)
    items = st.sets(st.integers(1, N_ITEMS - 1), min_size=n_columns, max_size=n_columns).map(sorted)
    group = st.tuples(st.integers(1, 3), st.frozensets(st.integers(1, N_ITEMS - 1)))
    return Question(
        score_BC=[draw(scores) for _ in range(n_users)],
        item_BC=[draw(items) for _ in range(n_users)],
        n=draw(st.integers(1, N_ITEMS)),
        groups=draw(st.dictionaries(st.sampled_from("abcd"), group, max_size=4)),
        vectors_ID=[draw(st.sampled_from(VECTORS)) for _ in range(N_ITEMS)],
        diversity=draw(st.sampled_from([0.0, 0.25, 0.5, 0.9])),
    )


def cosine(x: tuple[int, ...], y: tuple[int, ...]) -> float:
    lengths = math.hypot(*x) * math.hypot(*y)
    return sum(a * b for a, b in zip(x, y, strict=True)) / lengths if lengths else 0.0


def slow_list(question: Question, user: int) -> list[int]:
    """Fill one user's list place by place from all remaining candidates."""
    scores, items = question.score_BC[user], question.item_BC[user]
    known = [score for score in scores if score > -math.inf]
    scaled = list(scores)
    if question.diversity > 0 and known:
        span = max(known) - min(known) or 1.0
        scaled = [(1 - question.diversity) * ((score - min(known)) / span) for score in scores]
    chosen: list[int] = []
    while len(chosen) < question.n:
        best, best_value = -1, -math.inf
        for column in range(len(scores)):
            if column in chosen or not has_room(question, [items[other] for other in chosen], items[column]):
                continue
            vectors = [question.vectors_ID[items[other]] for other in chosen]
            likeness = max([0.0, *(cosine(question.vectors_ID[items[column]], vector) for vector in vectors)])
            value = scaled[column] - question.diversity * likeness if scores[column] > -math.inf else -math.inf
            if value > best_value:
                best, best_value = column, value
        if best == -1:
            break
        chosen.append(best)
    return chosen + [-1] * (question.n - len(chosen))


def has_room(question: Question, listed: list[int], item: int) -> bool:
    return all(
        item not in items or sum(other in items for other in listed) < most for most, items in question.groups.values()
    )


@given(questions())
@settings(max_examples=150, deadline=None)
def test_places_equal_those_of_a_slow_implementation(question: Question) -> None:
    assert question.answer() == [slow_list(question, user) for user in range(len(question.score_BC))]


@given(questions())
@settings(max_examples=50, deadline=None)
def test_splitting_a_block_into_parts_changes_nothing(question: Question) -> None:
    whole = question.answer()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(selection, "NUMBERS_AT_ONCE", 1)  # one user at a time
        assert question.answer() == whole


def test_without_caps_and_diversity_selection_is_a_stable_sort() -> None:
    score_BC = torch.randint(0, 20, (50, 40), generator=torch.Generator().manual_seed(0)).double()
    item_BC = torch.arange(1, 41).repeat(50, 1)
    expected = score_BC.argsort(dim=1, descending=True, stable=True)
    assert select_places(score_BC, item_BC, 10).equal(expected[:, :10])
    assert select_places(score_BC, item_BC, 40).equal(expected)


def test_caps_that_never_bind_give_a_stable_sort() -> None:
    """The only cap that could bind is on a group without candidates, so the loop must give the sorted order."""
    score_BC = torch.randint(0, 20, (50, 40), generator=torch.Generator().manual_seed(1)).double()
    item_BC = torch.arange(1, 41).repeat(50, 1)
    caps = make_caps(torch.tensor([41, 42]), torch.tensor([0, 0]), torch.tensor([1]), 43)
    assert caps.at_most_G.tolist() == [1]
    assert select_places(score_BC, item_BC, 10, caps=caps).equal(select_places(score_BC, item_BC, 10))


def test_a_capped_list_stays_full() -> None:
    """The best ten are in one group with a limit of two, so the next candidates follow in order."""
    item_BC = torch.arange(1, 21).unsqueeze(0)
    score_BC = -item_BC.double()
    caps = make_caps(torch.arange(1, 11), torch.zeros(10, dtype=torch.int64), torch.tensor([2]), 21)
    places = select_places(score_BC, item_BC, 5, caps=caps)
    assert item_BC.gather(1, places).tolist() == [[1, 2, 11, 12, 13]]


def test_a_list_without_enough_candidates_is_padded() -> None:
    item_BC = torch.arange(1, 5).unsqueeze(0)
    caps = make_caps(torch.arange(1, 5), torch.zeros(4, dtype=torch.int64), torch.tensor([2]), 5)
    assert select_places(-item_BC.double(), item_BC, 3, caps=caps).tolist() == [[0, 1, -1]]


def test_a_movie_of_several_groups_counts_in_each() -> None:
    """Movie 1 fills both groups, so 2 and 3 have no room; 4 is in none."""
    pairs = torch.tensor([(1, 0), (1, 1), (2, 0), (3, 1)])
    caps = make_caps(pairs[:, 0], pairs[:, 1], torch.tensor([1, 1]), 5)
    item_BC = torch.arange(1, 5).unsqueeze(0)
    assert select_places(-item_BC.double(), item_BC, 2, caps=caps).tolist() == [[0, 3]]


def test_a_rejected_movie_counts_in_no_group() -> None:
    """Movie 2 is rejected because group 0 is full, so movie 3 gets the place in group 1."""
    pairs = torch.tensor([(1, 0), (2, 0), (2, 1), (3, 1), (4, 1)])
    caps = make_caps(pairs[:, 0], pairs[:, 1], torch.tensor([1, 1]), 5)
    item_BC = torch.arange(1, 5).unsqueeze(0)
    assert select_places(-item_BC.double(), item_BC, 3, caps=caps).tolist() == [[0, 2, -1]]


def test_diversity_by_hand() -> None:
    """Movies 1 and 2 are similar, 3 is not: 0.7 · 0.9 - 0.3 = 0.33 is less than 0.7 · 0.5 = 0.35. Movie 4 is last."""
    score_BC, item_BC = torch.tensor([[10.0, 9.0, 5.0, 0.0]]), torch.tensor([[1, 2, 3, 4]])
    vectors_ID = torch.tensor([[0.0, 0.0], [1.0, 0.0], [3.0, 0.0], [0.0, 1.0], [0.0, 2.0]])
    ask: dict[str, Any] = {"vectors_ID": vectors_ID}
    assert select_places(score_BC, item_BC, 4, diversity=0.3, **ask).tolist() == [[0, 2, 1, 3]]
    assert select_places(score_BC, item_BC, 4, diversity=0.2, **ask).tolist() == [[0, 1, 2, 3]]


def test_negative_cosines_count_as_zero() -> None:
    score_BC, item_BC = torch.tensor([[2.0, 1.0, 0.9, 0.0]]), torch.tensor([[1, 2, 3, 4]])
    vectors_ID = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, 0.0]])
    assert select_places(score_BC, item_BC, 3, vectors_ID=vectors_ID, diversity=0.5).tolist() == [[0, 1, 2]]


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_nan_and_infinite_scores_fail_an_assertion(bad: float) -> None:
    with pytest.raises(AssertionError, match="not NaN"):
        select_places(torch.tensor([[1.0, bad]]), torch.tensor([[1, 2]]), 1)


@pytest.mark.parametrize("diversity", [-0.1, 1.0])
def test_diversity_outside_of_its_range_fails_an_assertion(diversity: float) -> None:
    with pytest.raises(AssertionError, match=r"not in \[0, 1\)"):
        select_places(torch.ones(1, 1), torch.ones(1, 1, dtype=torch.int64), 1, diversity=diversity)


def test_groups_that_cannot_exceed_their_limit_are_dropped() -> None:
    caps = caps_of({"small": (2, frozenset({1, 2})), "big": (2, frozenset({1, 5, 7})), "none": (1, frozenset())})
    assert caps.at_most_G.tolist() == [2]
    assert caps.groups.tolist() == [0, 0, 0]
    assert caps.offsets.diff().nonzero().squeeze(1).tolist() == [1, 5, 7]
