import math
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import torch
from torch import Tensor

from recsys.compare import order
from recsys.compare.order import measure_order
from recsys.encode.vocabulary import Vocabulary
from recsys.models import Interactions, Pairs
from recsys.train.learn import Learner
from tests.support.planted import LEVELS, rows_of

# Ids are ten times the indices. Movies 1 to 5 have training ratings. Movie 6 and user 3 have none.
VOCABULARY = Vocabulary(np.array([10, 20, 30], dtype=np.int32), np.arange(10, 70, 10, dtype=np.int32))
LEARNER = Learner(VOCABULARY, LEVELS, seed=0, device="cpu")
TRAIN = rows_of(torch.tensor([1, 1, 2, 2, 2]), torch.tensor([1, 2, 3, 4, 5]), torch.full((5,), 2))


def held(*triples: tuple[int, int, int]) -> pl.DataFrame:
    """Ratings by (user_idx, item_idx, stars)."""
    rows = [(10 * user, 10 * item, stars) for user, item, stars in triples]
    schema = {"user_id": pl.Int32, "movie_id": pl.Int32, "rating": pl.Float32}
    return pl.DataFrame(rows, schema=schema, orient="row")


def by_index(pairs: Pairs) -> Tensor:
    """Order movies by descending index."""
    return pairs.item_idx.float()


def measure(holdout: pl.DataFrame, relevant_from: float = 4.0) -> float | None:
    return measure_order(by_index, TRAIN, holdout, LEARNER, relevant_from)


def test_ndcg_by_hand() -> None:
    """User 1 has not seen 3, 4 and 5, so the list is 5, 4, 3. The list of user 2 is 2, 1."""
    first, second, third = (1 / math.log2(rank + 1) for rank in (1, 2, 3))
    assert measure(held((1, 4, 5))) == pytest.approx(second / first)
    assert measure(held((1, 3, 5), (1, 5, 4))) == pytest.approx((first + third) / (first + second))
    assert measure(held((1, 5, 4), (2, 1, 4))) == pytest.approx((1 + second) / 2)


def test_a_relevant_movie_without_training_ratings_counts_as_missed() -> None:
    assert measure(held((1, 6, 5))) == 0


def test_only_users_with_a_training_rating_and_a_relevant_movie_count() -> None:
    assert measure(held((1, 5, 5), (3, 1, 5), (2, 1, 3))) == 1
    assert measure(held((2, 1, 3))) is None
    assert measure(held((2, 1, 3)), relevant_from=3.0) == pytest.approx(1 / math.log2(3))


def test_ties_go_to_the_lower_index() -> None:
    flat = measure_order(lambda pairs: torch.zeros(len(pairs)), TRAIN, held((1, 3, 5)), LEARNER, 4.0)
    assert flat == 1


def test_the_seed_draws_the_users_and_block_size_has_no_effect(monkeypatch: pytest.MonkeyPatch) -> None:
    holdout = held((1, 5, 5), (2, 1, 5))  # ranks 1 and 2
    whole = measure(holdout)
    monkeypatch.setattr(order, "PAIRS_PER_BLOCK", 1)
    assert measure(holdout) == whole
    monkeypatch.setattr(order, "SAMPLE", 1)
    learners = [replace(LEARNER, seed=seed) for seed in (*range(20), *range(20))]
    sampled = [measure_order(by_index, TRAIN, holdout, learner, 4.0) for learner in learners]
    assert set(sampled) == {measure(held((1, 5, 5))), measure(held((2, 1, 5)))}
    assert sampled[:20] == sampled[20:]


def test_scores_are_for_the_time_after_the_last_training_rating() -> None:
    asked = []

    def note(pairs: Pairs) -> Tensor:
        asked.extend(pairs.rated_at.unique().tolist())
        return pairs.item_idx.float()

    train = Interactions(TRAIN.user_idx, TRAIN.item_idx, torch.tensor([5, 9, 7, 1, 1]), TRAIN.level_idx)
    measure_order(note, train, held((1, 4, 5)), LEARNER, 4.0)
    assert asked == [10]
