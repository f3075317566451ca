"""The list of users who asked to be forgotten, and the SQL that removes their rows."""

from pathlib import Path

import duckdb
import pytest
from click.testing import CliRunner

from flows.cli.main import main
from recsys.errors import UsageError
from recsys.files import write_json
from recsys.forgotten import NOT_REACHED, WITHHELD, Forgotten, forget, quote, read_forgotten, remember
from recsys.home import Home


def test_the_list_keeps_the_time_of_the_first_request(home: Home) -> None:
    assert read_forgotten(home).user_ids == []
    write_json(home.forgotten, {"42": "2026-01-01T00:00:00+00:00", "7": "2026-01-02T00:00:00+00:00"})
    again = forget([42, 9], home)
    assert again.user_ids == [7, 9, 42]
    assert again.asked_at[42].isoformat() == "2026-01-01T00:00:00+00:00" < again.asked_at[9].isoformat()
    assert read_forgotten(home) == again
    assert again.newest == again.asked_at[9]


def test_checkpoints_of_killed_trainings_are_removed(home: Home) -> None:
    home.checkpoints.mkdir(parents=True)
    for name in ("one.safetensors", ".two.safetensors.17"):
        (home.checkpoints / name).write_text("weights")
    forget([7], home)
    assert list(home.checkpoints.iterdir()) == []


def test_a_checkpoint_that_cannot_be_removed_is_reported(home: Home) -> None:
    (home.checkpoints / "in the way").mkdir(parents=True)
    with pytest.raises(UsageError, match=r"in the way was trained on ratings of users .* on the list .*Next: remove"):
        forget([7], home)
    assert read_forgotten(home).user_ids == [7]


def test_the_digest_depends_only_on_the_set_of_users(tmp_path: Path) -> None:
    one, other = forget([1, 2], Home(tmp_path / "a")), forget([2, 1], Home(tmp_path / "b"))
    assert one.digest == other.digest != forget([3], Home(tmp_path / "b")).digest


def test_a_request_can_be_withdrawn(home: Home) -> None:
    forget([1, 2], home)
    assert remember([1], home).user_ids == [2]
    with pytest.raises(UsageError, match="user 1 is not among the 1 forgotten"):
        remember([1], home)


WHY = '"why": "user_id is not a whole number from 1 to 2147483647, 4 fields, UTF-8, seconds since 1970"'


@pytest.mark.parametrize(
    ("row", "kept"),
    [
        (f'{{"line": "42::1::5::978300760", {WHY}}}', WITHHELD),
        (f'{{"line": "1::42::5", {WHY}}}', WITHHELD),  # may be a movie: an unreadable line is ambiguous
        (f'{{"line": "042,1,x", {WHY}}}', WITHHELD),
        (f'{{"line": "x\\t42\\t5", {WHY}}}', WITHHELD),
        (f'{{"line": "42_a", {WHY}}}', WITHHELD),
        (f'{{"line": "142::420::5", {WHY}}}', None),
        ('{"user_id":42,"movie_id":1}', ""),
        ('{"user_id":7,"movie_id":42}', None),
    ],
)
@pytest.mark.parametrize("others", [(), (1, 4, 8, 1970)])  # these numbers occur in our own message
def test_a_row_of_theirs_is_removed_and_an_ambiguous_line_withheld(
    row: str, kept: str | None, others: tuple[int, ...], home: Home
) -> None:
    """`kept` is None if the row is unchanged, "" if it is removed."""
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
def test_a_quoted_row_of_theirs_is_removed_from_a_reason(reason: str, scrubbed: str, home: Home) -> None:
    rows = duckdb.connect().sql("select $reason as reason", params={"reason": reason})
    assert rows.project(forget([42], home).projection("runs")).fetchall() == [(scrubbed,)]


def test_a_quote_has_no_inner_braces_and_is_shortened() -> None:
    assert quote('{"a": {1}}') == '{("a": (1))}'
    assert quote("x" * 400) == "{" + "x" * 300 + "…}"


def test_tables_without_users_are_kept(home: Home) -> None:
    forgotten = forget([42], home)
    assert forgotten.condition("movies", ["movie_id"]) == "true"
    assert Forgotten({}).condition("ratings", ["user_id"]) == "true"


def test_the_command_says_what_a_request_does_not_reach(home: Home) -> None:
    arguments = ["forget", "42", "--home", str(home.root)]
    assert NOT_REACHED in CliRunner().invoke(main, arguments).stdout
    assert NOT_REACHED not in CliRunner().invoke(main, [*arguments, "--undo"]).stdout
