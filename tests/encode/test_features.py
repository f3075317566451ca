from itertools import pairwise
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from recsys.encode.features import Feature, Features, fit_features
from recsys.encode.vocabulary import Vocabulary

VOCABULARY = Vocabulary(np.array([3, 5, 8], dtype=np.int32), np.array([10, 11, 12, 13, 14, 15], dtype=np.int32))
USERS = pl.DataFrame(
    {
        "user_id": [8, 3, 99],
        "gender": ["F", "M", "X"],
        "age": [17, 56, 30],
        "occupation": ["writer", None, "spy"],
        "zip_code": [" 94043", "V1G4L", "0"],
    },
    schema_overrides={"age": pl.Int16},
)
MOVIES = pl.DataFrame(
    {
        "movie_id": [10, 11, 12, 13, 15],
        "title": ["Dark Night", "Night, The", "The Night", "Night of 1984", "Nightly"],
        "year": [1995, None, 1989, 2000, 1990],
        "genres": [["Drama", "Comedy"], [], ["Drama"], ["Comedy"], ["Noir"]],
    },
    schema_overrides={"year": pl.Int16},
)


@pytest.fixture
def features(monkeypatch: pytest.MonkeyPatch) -> Features:
    monkeypatch.setattr("recsys.encode.features.MIN_MOVIES_PER_WORD", 2)
    return fit_features(VOCABULARY, USERS, MOVIES)


def values(feature: Feature) -> list[list[str | None]]:
    """The names of each row's values; None means "not known"."""
    named = (None, *feature.names)
    ends = feature.offsets.tolist()
    return [[named[value] for value in feature.values[first:last].tolist()] for first, last in pairwise(ends)]


def test_users_by_index(features: Features) -> None:
    """Rows are the unknown user and users 3, 5 and 8. User 5 is not in the table, user 99 has no rating."""
    assert values(features.user["gender"]) == [[None], ["M"], [None], ["F"]]
    assert values(features.user["age"]) == [[None], ["56"], [None], ["under 18"]]
    assert values(features.user["occupation"]) == [[None], [None], [None], ["writer"]]
    assert values(features.user["region"]) == [[None], ["V"], [None], ["9"]]


def test_movies_by_index(features: Features) -> None:
    """Movie 14 is not in the table. Title words count if two movies have them, ignoring case; numbers never count."""
    assert values(features.item["genres"]) == [
        [None],
        ["Comedy", "Drama"],
        [None],
        ["Drama"],
        ["Comedy"],
        [None],
        ["Noir"],
    ]
    assert values(features.item["decade"])[1:4] == [["1990"], [None], ["1980"]]
    assert values(features.item["year"])[4] == ["2000"]
    assert features.item["words"].names == ("night", "the")
    assert values(features.item["words"])[1:4] == [["night"], ["night", "the"], ["night", "the"]]


def test_features_without_values_are_omitted() -> None:
    """Data sets without a users file have an empty table of users."""
    assert fit_features(VOCABULARY, USERS.clear(), MOVIES.clear()) == Features({}, {})
    nameless = USERS.with_columns(occupation=pl.lit(None, dtype=pl.String))
    assert set(fit_features(VOCABULARY, nameless, MOVIES).user) == {"gender", "age", "region"}


def test_the_order_of_the_rows_does_not_matter(features: Features) -> None:
    again = fit_features(VOCABULARY, USERS.reverse(), MOVIES.reverse())
    assert again.content_hash() == features.content_hash()


def test_saved_and_loaded_features_are_equal(features: Features, tmp_path: Path) -> None:
    features.save(tmp_path)
    loaded = Features.load(tmp_path)
    assert loaded.content_hash() == features.content_hash()
    assert values(loaded.item["genres"]) == values(features.item["genres"])
    assert loaded.user.keys() == features.user.keys()
    Features({}, {}).save(tmp_path)
    assert Features.load(tmp_path) == Features({}, {})


def test_the_hash_depends_on_the_values(features: Features) -> None:
    genres = features.item["genres"]
    other = Feature(genres.names, genres.offsets, torch.zeros_like(genres.values))
    assert Features(features.user, {**features.item, "genres": other}).content_hash() != features.content_hash()
