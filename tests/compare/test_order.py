import math

import pytest
import torch
from torch import Tensor

from recsys.compare import order as evaluate_order
from recsys.compare.order import measure_order
from recsys.models import Interactions, Pairs, Sizes
from tests.support.planted import LEVELS, rows_of

SIZES = Sizes(n_users=4, n_items=7, levels=LEVELS)
# Movies 1 to 5 have a training rating, 6 has none. User 3 has none either.
TRAIN = rows_of(torch.tensor([1, 1, 2, 2, 2]), torch.tensor([1, 2, 3, 4, 5]), torch.full((5,), 2))


def held(*triples: tuple[int, int, int]) -> Interactions:
    """Of (user_idx, item_idx, stars)."""
    user_idx, item_idx, stars = torch.tensor(triples).unbind(1)
    return rows_of(user_idx, item_idx, stars - 1)


def by_index(pairs: Pairs) -> Tensor:
    """The movie of the highest index first."""
    return pairs.item_idx.float()


def measure(holdout: Interactions, relevant_from: float = 4.0) -> float | None:
    return measure_order(by_index, TRAIN, holdout, SIZES, relevant_from, seed=0)


def test_ndcg_by_hand() -> None:
    """User 1 has not seen 3, 4 and 5, and is shown 5, 4, 3; user 2 is shown 2, 1."""
    first, second, third = (1 / math.log2(rank + 1) for rank in (1, 2, 3))
    assert measure(held((1, 4, 5))) == pytest.approx(second / first)
    assert measure(held((1, 3, 5), (1, 5, 4))) == pytest.approx((first + third) / (first + second))
    assert measure(held((1, 5, 4), (2, 1, 4))) == pytest.approx((1 + second) / 2)


def test_what_nobody_rated_in_training_is_not_shown_and_counts_all_the_same() -> None:
    assert measure(held((1, 6, 5))) == 0


def test_only_known_users_with_a_movie_they_liked_count() -> None:
    assert measure(held((1, 5, 5), (3, 1, 5), (2, 1, 3))) == 1
    assert measure(held((2, 1, 3))) is None
    assert measure(held((2, 1, 3)), relevant_from=3.0) == pytest.approx(1 / math.log2(3))


def test_of_equal_scores_the_lower_index_comes_first() -> None:
    flat = measure_order(lambda pairs: torch.zeros(len(pairs)), TRAIN, held((1, 3, 5)), SIZES, 4.0, seed=0)
    assert flat == 1


def test_users_are_drawn_by_seed_and_blocks_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    holdout = held((1, 5, 5), (2, 1, 5))  # first and second in their users' lists
    whole = measure(holdout)
    monkeypatch.setattr(evaluate_order, "PAIRS_PER_BLOCK", 1)
    assert measure(holdout) == whole
    monkeypatch.setattr(evaluate_order, "SAMPLE", 1)
    sampled = [measure_order(by_index, TRAIN, holdout, SIZES, 4.0, seed=seed) for seed in (*range(20), *range(20))]
    assert set(sampled) == {measure(held((1, 5, 5))), measure(held((2, 1, 5)))}
    assert sampled[:20] == sampled[20:]


def test_scores_are_asked_for_a_moment_after_all_that_is_known() -> None:
    asked = []

    def note(pairs: Pairs) -> Tensor:
        asked.extend(pairs.rated_at.unique().tolist())
        return pairs.item_idx.float()

    train = Interactions(TRAIN.user_idx, TRAIN.item_idx, torch.tensor([5, 9, 7, 1, 1]), TRAIN.level_idx)
    measure_order(note, train, held((1, 4, 5)), SIZES, 4.0, seed=0)
    assert asked == [10]
