"""Who is to be forgotten, and how a row that is theirs is told."""

import time
from pathlib import Path

import duckdb
import pytest

from recsys.errors import UsageError
from recsys.forgotten import Forgotten, forget, read_forgotten, remember
from recsys.home import Home


def test_the_list_is_kept_and_the_first_request_counts(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    assert read_forgotten(home).user_ids == []
    first = forget([42, 7], home).asked_at[42]
    time.sleep(1.1)
    again = forget([42, 9], home)
    assert again.user_ids == [7, 9, 42]
    assert again.asked_at[42] == first < again.asked_at[9]
    assert read_forgotten(home) == again
    assert again.newest == again.asked_at[9]


def test_the_digest_is_that_of_the_set(tmp_path: Path) -> None:
    one, other = forget([1, 2], Home(tmp_path / "a")), forget([2, 1], Home(tmp_path / "b"))
    assert one.digest == other.digest != forget([3], Home(tmp_path / "b")).digest


def test_a_request_can_be_taken_back(home: Home) -> None:
    forget([1, 2], home)
    assert remember([1], home).user_ids == [2]
    with pytest.raises(UsageError, match="user 1 is not among the 1 forgotten"):
        remember([1], home)


@pytest.mark.parametrize(
    ("row", "stays"),
    [
        ('{"line": "42::1::5::978300760"}', False),
        ('{"line": "1::42::5"}', False),  # may be a movie: of an unread line nobody can tell, so it goes
        ('{"line": "142::420::5"}', True),
        ('{"user_id":42,"movie_id":1}', False),
        ('{"user_id":7,"movie_id":1}', True),
    ],
)
def test_an_unread_line_that_may_be_theirs_goes(row: str, stays: bool, home: Home) -> None:
    condition = forget([42, 43], home).condition("quarantine", ["source_table", "row"])
    query = f"select count(*) from (select 'ratings' as source_table, $row as row) where {condition}"
    assert duckdb.connect().execute(query, {"row": row}).fetchall() == [(int(stays),)]


def test_movies_are_nobodys(home: Home) -> None:
    forgotten = forget([42], home)
    assert forgotten.condition("movies", ["movie_id"]) == "true"
    assert Forgotten({}).condition("ratings", ["user_id"]) == "true"
