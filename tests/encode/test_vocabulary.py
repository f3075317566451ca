from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.encode.vocabulary import Vocabulary, fit_vocabulary

INT32 = st.integers(-(2**31), 2**31 - 1)


def make_vocabulary(user_ids: list[int], movie_ids: list[int]) -> Vocabulary:
    return Vocabulary(np.array(user_ids, dtype=np.int32), np.array(movie_ids, dtype=np.int32))


def test_fit_sorts_ids_and_counts_the_unknown() -> None:
    ratings = pl.DataFrame(
        {"user_id": [30, 10, 30], "movie_id": [5, 7, 6]}, schema={"user_id": pl.Int32, "movie_id": pl.Int32}
    )
    vocabulary = fit_vocabulary(ratings)
    assert vocabulary.user_ids.tolist() == [10, 30]
    assert vocabulary.movie_ids.tolist() == [5, 6, 7]
    assert (vocabulary.n_users, vocabulary.n_movies) == (3, 4)
    assert vocabulary.user_ids.dtype == np.int32


def test_an_unknown_id_is_index_0() -> None:
    vocabulary = make_vocabulary([10, 30], [5])
    idx = vocabulary.encode_users([9, 10, 11, 30, 31])
    assert idx.tolist() == [0, 1, 0, 2, 0]
    assert idx.dtype == np.int64
    assert vocabulary.encode_movies([5, 0]).tolist() == [1, 0]


def test_ids_beyond_int32_are_unknown() -> None:
    assert make_vocabulary([0, 10], []).encode_users([2**32, 2**32 + 10]).tolist() == [0, 0]


def test_an_empty_vocabulary_encodes_all_ids_as_unknown() -> None:
    assert make_vocabulary([], []).encode_users([0, 1]).tolist() == [0, 0]
    assert make_vocabulary([], []).n_users == 1


@given(known=st.sets(INT32), asked=st.lists(INT32))
def test_an_index_is_the_position_among_the_known_ids(known: set[int], asked: list[int]) -> None:
    vocabulary = make_vocabulary(sorted(known), sorted(known))
    position = {user_id: i + 1 for i, user_id in enumerate(sorted(known))}
    ids = [*asked, *known]
    expected = [position.get(user_id, 0) for user_id in ids]
    assert vocabulary.encode_users(np.array(ids, dtype=np.int64)).tolist() == expected
    assert vocabulary.encode_movies(np.array(ids, dtype=np.int64)).tolist() == expected


@given(user_ids=st.lists(INT32, min_size=1, max_size=50))
def test_all_fitted_ids_are_known(user_ids: list[int]) -> None:
    ratings = pl.DataFrame({"user_id": user_ids, "movie_id": user_ids[::-1]})
    vocabulary = fit_vocabulary(ratings)
    assert (vocabulary.user_ids[vocabulary.encode_users(user_ids) - 1] == user_ids).all()
    assert (vocabulary.encode_movies(user_ids) > 0).all()


def test_a_saved_and_loaded_vocabulary_is_equal(tmp_path: Path) -> None:
    vocabulary = make_vocabulary([-3, 10, 30], [5, 2**31 - 1])
    vocabulary.save(tmp_path / "vocabulary")
    loaded = Vocabulary.load(tmp_path / "vocabulary")
    assert loaded.user_ids.tolist() == [-3, 10, 30]
    assert loaded.movie_ids.tolist() == [5, 2**31 - 1]
    assert loaded.content_hash() == vocabulary.content_hash()
    users = pl.read_parquet(tmp_path / "vocabulary" / "users.parquet")
    assert users.rows() == [(-3, 1), (10, 2), (30, 3)]
    assert users.schema == {"id": pl.Int32, "idx": pl.Int64}


def test_films_are_saved(tmp_path: Path) -> None:
    vocabulary = fit_vocabulary(pl.DataFrame({"user_id": [1, 1, 1], "movie_id": [5, 7, 9]}), {9: 5})
    vocabulary.save(tmp_path)
    loaded = Vocabulary.load(tmp_path)
    assert loaded.film_of == {9: 5}
    assert loaded.film_idx().tolist() == [0, 1, 2, 1]
    assert loaded.content_hash() == make_vocabulary([1], [5, 7, 9]).content_hash()
    (tmp_path / "films.parquet").unlink()  # as a home of an older version
    assert Vocabulary.load(tmp_path).film_idx().tolist() == [0, 1, 2, 3]


def test_content_hash_depends_on_the_ids() -> None:
    vocabularies = [([1, 2], [3]), ([1], [2, 3]), ([1, 2, 3], []), ([1, 2], [4])]
    hashes = {make_vocabulary(users, movies).content_hash() for users, movies in vocabularies}
    assert len(hashes) == 4
    assert all(len(digits) == 12 and int(digits, 16) >= 0 for digits in hashes)
    assert make_vocabulary([1, 2], [3]).content_hash() == "9b0c86387988"  # on every machine


@pytest.mark.parametrize("user_ids", [[2, 1], [1, 1]])
def test_unsorted_or_repeated_ids_are_an_assertion_error(user_ids: list[int]) -> None:
    with pytest.raises(AssertionError, match="ascending and unique"):
        make_vocabulary(user_ids, [])


def test_one_large_id_takes_one_row() -> None:
    rated = pl.DataFrame({"user_id": [1, 2_000_000_000], "movie_id": [2_000_000_000, 7]})
    vocabulary = fit_vocabulary(rated)
    assert (vocabulary.n_users, vocabulary.n_movies) == (3, 3)
    assert vocabulary.encode_users([1, 2_000_000_000, 1_999_999_999]).tolist() == [1, 2, 0]
