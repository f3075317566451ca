import numpy as np
import polars as pl
import pytest
import torch

from recsys.encode.features import NO_FEATURES, Feature, Features
from recsys.encode.vocabulary import Vocabulary
from recsys.evaluate.slices import MOVIE_POPULARITY, USER_ACTIVITY, measure_list_slices, measure_slices
from recsys.metrics.decode import Prediction
from recsys.metrics.errors import prediction_metrics
from recsys.models import Interactions
from tests.support.planted import LEVELS, rows_of

LEVELS_K = torch.tensor(LEVELS)
# Movies 1 to 4 are a comedy, a comedy and drama, a drama, and a movie without genres. Index 0 is unknown.
GENRES = Feature(("Comedy", "Drama"), torch.tensor([0, 1, 2, 4, 5, 6]), torch.tensor([0, 1, 1, 2, 2, 0]))


def rows(*triples: tuple[int, int, int]) -> Interactions:
    """Ratings by (user_idx, item_idx, stars)."""
    user_idx, item_idx, stars = torch.tensor(triples).unbind(1)
    return rows_of(user_idx, item_idx, stars - 1)


def sure_of(*stars: int) -> Prediction:
    p_BK = torch.nn.functional.one_hot(torch.tensor(stars) - 1, len(LEVELS)).float()
    return Prediction(p_BK, p_BK @ LEVELS_K)


TRAIN = rows(*((1, 1, 3),) * 20, *((2, 2, 3),) * 21, (3, 3, 3))
HOLDOUT = rows((1, 2, 4), (2, 1, 4), (3, 3, 1), (4, 4, 2), (0, 0, 5))
PREDICTION = sure_of(4, 3, 3, 2, 1)  # with errors of 0, 1, 2, 0 and 4
SLICES = measure_slices(PREDICTION, TRAIN, HOLDOUT, LEVELS_K, Features({}, {"genres": GENRES}))


def test_every_slice_by_hand() -> None:
    found = {name: (metrics["n"], metrics["mae_median"]) for name, metrics in SLICES.items()}
    assert found == {
        "new_user": (2, 2.0),  # user 4, who has no training ratings, and the unknown user
        "user_activity=1-20": (2, 1.0),  # users 1 and 3
        "user_activity=21-50": (1, 1.0),  # user 2
        "new_movie": (2, 2.0),
        "movie_popularity=1-10": (1, 2.0),  # movie 3
        "movie_popularity=11-50": (2, 0.5),  # movies 1 and 2
        "genre=Comedy": (2, 0.5),  # movies 1 and 2
        "genre=Drama": (2, 1.0),  # movies 2 and 3
        "rating=1": (1, 2.0),
        "rating=2": (1, 0.0),
        "rating=4": (2, 0.5),
        "rating=5": (1, 4.0),
    }


def test_a_slice_has_every_metric_of_its_rows() -> None:
    comedies = torch.tensor([0, 1])
    part = Prediction(PREDICTION.p_BK[comedies], PREDICTION.mean_B[comedies])
    expected = {"n": 2.0, **prediction_metrics(part, HOLDOUT.level_idx[comedies], LEVELS_K)}
    assert SLICES["genre=Comedy"] == expected


def test_buckets_leave_no_gap_and_do_not_overlap() -> None:
    """There is one movie for each number of training ratings, and each is held out once."""
    counts = torch.arange(0, 1200)
    item_idx = torch.repeat_interleave(counts + 1, counts)
    train = rows_of(torch.ones_like(item_idx), item_idx, torch.zeros_like(item_idx))
    holdout = rows_of(torch.zeros_like(counts), counts + 1, torch.zeros_like(counts))
    found = measure_slices(sure_of(*[1] * len(counts)), train, holdout, LEVELS_K, NO_FEATURES)
    sizes = {name: metrics["n"] for name, metrics in found.items() if "movie" in name}
    assert sizes == {
        "new_movie": 1,
        "movie_popularity=1-10": 10,
        "movie_popularity=11-50": 40,
        "movie_popularity=51-200": 150,
        "movie_popularity=201-1000": 800,
        "movie_popularity=1001+": 199,
    }
    assert found["new_user"]["n"] == len(counts)
    assert not any(name.startswith(("genre", "user_activity")) for name in found)


def test_edges_ascend() -> None:
    for edges in (USER_ACTIVITY, MOVIE_POPULARITY):
        assert edges[0] == 1
        assert list(edges) == sorted(set(edges))


def test_lists_by_activity_gender_and_age() -> None:
    """Users 70, 80, 90 and 95 have the indices 1 to 4; user 95 has no features."""
    vocabulary = Vocabulary(np.array([70, 80, 90, 95], dtype=np.int32), np.array([1], dtype=np.int32))
    offsets = torch.arange(6)
    groups = {
        "gender": Feature(("F", "M"), offsets, torch.tensor([0, 1, 2, 1, 0])),
        "age": Feature(("18", "under 18"), offsets, torch.tensor([0, 1, 2, 1, 0])),
        "occupation": Feature(("artist",), offsets, torch.tensor([0, 1, 1, 1, 1])),
    }
    train = rows(*((1, 1, 3),) * 20, *((2, 1, 3),) * 21, (3, 1, 3), *((4, 1, 3),) * 501)
    users = pl.DataFrame(
        {
            "user_id": [70, 80, 90, 95],
            "ndcg_at_10": [0.1, 0.2, 0.4, 0.8],
            "recall_at_10": [0.0, 0.5, 1.0, 0.0],
            "recall_at_50": [1.0, 1.0, 1.0, 1.0],
            "mrr_at_50": [1.0, 1.0, 1.0, 1.0],
            "hit_rate_at_10": [0.0, 1.0, 1.0, 0.0],
        }
    )
    slices = measure_list_slices(users, train, vocabulary, Features(groups, {}))
    names = ("users_with_relevant", "ndcg_at_10", "recall_at_10", "hit_rate_at_10")
    expected = {
        "user_activity=1-20": (2, 0.25, 0.5, 0.5),  # users 70 and 90
        "user_activity=21-50": (1, 0.2, 0.5, 1),
        "user_activity=501+": (1, 0.8, 0, 0),
        "gender=F": (2, 0.25, 0.5, 0.5),
        "gender=M": (1, 0.2, 0.5, 1),
        "age=18": (2, 0.25, 0.5, 0.5),
        "age=under 18": (1, 0.2, 0.5, 1),
    }
    assert slices == {part: pytest.approx(dict(zip(names, values, strict=True))) for part, values in expected.items()}
    known = measure_list_slices(users, train, vocabulary, NO_FEATURES)
    assert known == {part: figures for part, figures in slices.items() if part.startswith("user_activity")}
