"""Who is to be forgotten, and how a row that is theirs is told."""

import time
from pathlib import Path

import duckdb
import pytest

from recsys.errors import UsageError
from recsys.forgotten import WITHHELD, Forgotten, forget, quote, read_forgotten, remember
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


def test_checkpoints_of_killed_trainings_go_at_once(home: Home) -> None:
    home.checkpoints.mkdir(parents=True)
    for name in ("one.safetensors", ".two.safetensors.17"):
        (home.checkpoints / name).write_text("weights")
    forget([7], home)
    assert list(home.checkpoints.iterdir()) == []


def test_a_checkpoint_that_cannot_be_removed_is_told(home: Home) -> None:
    (home.checkpoints / "in the way").mkdir(parents=True)
    with pytest.raises(UsageError, match=r"in the way was learned from users .* on the list .*Next: remove"):
        forget([7], home)
    assert read_forgotten(home).user_ids == [7]


def test_the_digest_is_that_of_the_set(tmp_path: Path) -> None:
    one, other = forget([1, 2], Home(tmp_path / "a")), forget([2, 1], Home(tmp_path / "b"))
    assert one.digest == other.digest != forget([3], Home(tmp_path / "b")).digest


def test_a_request_can_be_taken_back(home: Home) -> None:
    forget([1, 2], home)
    assert remember([1], home).user_ids == [2]
    with pytest.raises(UsageError, match="user 1 is not among the 1 forgotten"):
        remember([1], home)


WHY = '"why": "user_id is not a whole number from 1 to 2147483647, 4 fields, UTF-8, seconds since 1970"'


@pytest.mark.parametrize(
    ("row", "kept"),
    [
        (f'{{"line": "42::1::5::978300760", {WHY}}}', WITHHELD),
        (f'{{"line": "1::42::5", {WHY}}}', WITHHELD),  # may be a movie: of an unread line nobody can tell
        (f'{{"line": "042,1,x", {WHY}}}', WITHHELD),
        (f'{{"line": "x\\t42\\t5", {WHY}}}', WITHHELD),
        (f'{{"line": "42_a", {WHY}}}', WITHHELD),
        (f'{{"line": "142::420::5", {WHY}}}', None),
        ('{"user_id":42,"movie_id":1}', ""),
        ('{"user_id":7,"movie_id":42}', None),
    ],
)
@pytest.mark.parametrize("others", [(), (1, 4, 8, 1970)])  # numbers in our own words are no mention
def test_a_row_of_theirs_goes_and_an_unread_line_that_may_be_counts_on(
    row: str, kept: str | None, others: tuple[int, ...], home: Home
) -> None:
    """`kept` is None for the row itself, "" for none."""
    line = row.partition('"why"')[0]
    forgotten = forget([42, *(number for number in others if str(number) not in line)], home)
    rows = duckdb.connect().sql("select 'ratings' as source_table, $row as row", params={"row": row})
    rows = rows.filter(forgotten.condition("quarantine", rows.columns)).project(forgotten.projection("quarantine"))
    assert [found for _, found in rows.fetchall()] == ([] if kept == "" else [kept or row])


@pytest.mark.parametrize(
    ("reason", "scrubbed"),
    [
        ('line 7: {"user_id":42,"movie_id":1}; line 8: {"user_id":7}', 'line 7: {withheld}; line 8: {"user_id":7}'),
        ("in line 2, {42;1;4: no}. Next", "in line 2, {withheld}. Next"),
        ("{42}{142}{x 042}", "{withheld}{142}{withheld}"),
        ("42 of 4,200 lines", "42 of 4,200 lines"),  # no row is quoted
    ],
)
def test_a_reason_keeps_no_quote_of_theirs(reason: str, scrubbed: str, home: Home) -> None:
    rows = duckdb.connect().sql("select $reason as reason", params={"reason": reason})
    assert rows.project(forget([42], home).projection("runs")).fetchall() == [(scrubbed,)]


def test_a_quote_has_braces_of_its_own_and_no_others() -> None:
    assert quote('{"a": {1}}') == '{("a": (1))}'
    assert quote("x" * 400) == "{" + "x" * 300 + "…}"


def test_movies_are_nobodys(home: Home) -> None:
    forgotten = forget([42], home)
    assert forgotten.condition("movies", ["movie_id"]) == "true"
    assert Forgotten({}).condition("ratings", ["user_id"]) == "true"
