"""The commands that read what is published, as people type them."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from warehouses import make_frames, make_outcome, write_night

from flows.cli import main
from recsys.home import Home
from recsys.warehouse.publish import publish


@pytest.fixture
def served(home: Home, tmp_path: Path) -> Home:
    publish(make_outcome("r1"), write_night(tmp_path / "tonight", make_frames()), home)
    return home


def type_command(home: Home, *words: str) -> Result:
    return CliRunner().invoke(main, [*words, "--home", str(home.root)])


def test_recommend_says_once_what_the_list_is_made_from(served: Home) -> None:
    shown = type_command(served, "recommend", "1")
    assert shown.exit_code == 0
    lines = shown.stdout.splitlines()
    assert lines[0] == "served_by: history"
    assert lines[1].split() == ["rank", "title", "year", "score", "rating_hat", "because_titles"]
    assert lines[2].split() == ["1", "Movie", "3", "1995", "1", "4", "Movie", "2"]


def test_recommend_for_machines_has_it_in_each_row(served: Home) -> None:
    rows = json.loads(type_command(served, "recommend", "1", "--json", "--n", "1").stdout)
    assert [(row["title"], row["served_by"]) for row in rows] == [("Movie 3", "history")]


def test_recommend_a_default_list(served: Home) -> None:
    shown = type_command(served, "recommend", "--segment", "gender=F age=25", "--n", "1")
    assert shown.exit_code == 0
    assert [line.split() for line in shown.stdout.splitlines()] == [
        ["rank", "title", "year", "score"],
        ["1", "Movie", "2", "1995", "1"],
    ]
    told = type_command(served, "recommend", "--segment", "all", "--n", "3").stderr
    assert "the published list of segment all has 2 movies" in told


@pytest.mark.parametrize("words", [[], ["1", "--segment", "all"]])
def test_recommend_to_one_only(served: Home, words: list[str]) -> None:
    shown = type_command(served, "recommend", *words)
    assert shown.exit_code == 2
    assert "give either a USER_ID or --segment" in shown.stderr


def test_recommend_to_a_stranger_names_the_default_lists(served: Home) -> None:
    shown = type_command(served, "recommend", "77")
    assert shown.exit_code == 2
    assert "user 77 is not known" in shown.stderr
    assert "see a default list with --segment: 'all', 'gender=F age=25'" in shown.stderr


def test_similar_shows_the_movie_and_what_is_like_it(served: Home) -> None:
    shown = type_command(served, "similar", "movie two (1995)")
    assert shown.exit_code == 0
    assert [line.split() for line in shown.stdout.splitlines()] == [
        ["Movie", "2", "(1995),", "movie_id", "2"],
        ["title", "year", "genres", "similarity"],
        ["Movie", "3", "1995", "Drama;", "War", "1"],
        ["Movie", "4", "1995", "Drama;", "War", "0.5"],
    ]


def test_similar_for_machines(served: Home) -> None:
    genres = ["Drama", "War"]
    assert json.loads(type_command(served, "similar", "2", "--n", "1", "--json").stdout) == {
        "movie": {"movie_id": 2, "title": "Movie 2", "year": 1995, "genres": genres},
        "similar": [{"rank": 1, "title": "Movie 3", "year": 1995, "genres": genres, "similarity": 1.0}],
    }


def test_similar_to_nothing(served: Home) -> None:
    shown = type_command(served, "similar", "Movie 9")
    assert shown.exit_code == 2
    assert "no movie is called 'Movie 9'; did you mean Movie 1 (1995), movie_id 1; " in shown.stderr
    assert shown.stdout == ""


def test_nothing_is_published(home: Home) -> None:
    shown = type_command(home, "similar", "Heat")
    assert shown.exit_code == 1
    assert "does not exist yet. Next: `recsys nightly" in shown.stderr
