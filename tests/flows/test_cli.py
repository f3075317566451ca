"""The commands that read the published tables, and messages for wrong usage."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result
from polars.exceptions import PanicException

from flows.cli.console import report_errors, resumable
from flows.cli.main import main
from recsys.home import Home
from tests.support.warehouses import make_frames, make_outcome, publish, write_night


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """A home that has only a warehouse. Tests only read it."""
    folder = tmp_path_factory.mktemp("served")
    home = Home(folder / "home")
    publish(make_outcome("20261121T030000Z"), write_night(folder / "tonight", make_frames()), home)
    return home


def invoke(home: Home, *words: str) -> Result:
    return CliRunner().invoke(main, [*words, "--home", str(home.root)])


def test_recommend_shows_served_by_once(served: Home) -> None:
    shown = invoke(served, "recommend", "1")
    assert shown.exit_code == 0
    lines = shown.stdout.splitlines()
    assert lines[0] == "served_by: history"
    assert lines[1].split() == ["rank", "title", "year", "score", "rating_hat", "because_titles"]
    assert lines[2].split() == ["1", "Movie", "3", "1995", "1", "4", "Movie", "2"]


def test_recommend_json(served: Home) -> None:
    assert json.loads(invoke(served, "recommend", "1", "--json", "--n", "1").stdout) == {
        "schema": 1,
        "command": "recommend",
        "user_id": 1,
        "segment": None,
        "run_id": "20261121T030000Z",
        "rated": [],
        "served_by": "history",
        "rows": [
            {
                "rank": 1,
                "movie_id": 3,
                "title": "Movie 3",
                "year": 1995,
                "score": 1.0,
                "rating_hat": 4.0,
                "because_movie_ids": [2],
                "because_titles": ["Movie 2"],
            }
        ],
    }


def test_recommend_csv_has_ids_and_no_other_lines(served: Home) -> None:
    assert invoke(served, "recommend", "1", "--format", "csv", "--n", "1").stdout == (
        "rank,movie_id,title,year,score,rating_hat,because_movie_ids,because_titles\n"
        "1,3,Movie 3,1995,1.0,4.0,2,Movie 2\n"
    )


def test_recommend_a_default_list(served: Home) -> None:
    shown = invoke(served, "recommend", "--segment", "gender=F age=25", "--n", "1")
    assert shown.exit_code == 0
    assert [line.split() for line in shown.stdout.splitlines()] == [
        ["served_by:", "features"],
        ["rank", "title", "year", "score"],
        ["1", "Movie", "2", "1995", "1"],
    ]
    stderr = invoke(served, "recommend", "--segment", "all", "--n", "3").stderr
    assert "the published list of segment all has 2 movies" in stderr


@pytest.mark.parametrize("words", [[], ["1", "--segment", "all"], ["1", "--ratings", "Heat=5"]])
def test_recommend_takes_one_of_user_segment_and_ratings(served: Home, words: list[str]) -> None:
    shown = invoke(served, "recommend", *words)
    assert shown.exit_code == 2
    assert "pass a USER_ID, --segment or --ratings, as in `recsys recommend 42`" in shown.stderr


def test_recommend_for_an_unknown_user_names_the_default_lists(served: Home) -> None:
    shown = invoke(served, "recommend", "77")
    assert shown.exit_code == 2
    assert "user 77 is not known" in shown.stderr
    assert "see a default list with --segment: 'all', 'gender=F age=25'" in shown.stderr


def test_similar_shows_the_movie_and_similar_ones(served: Home) -> None:
    shown = invoke(served, "similar", "movie two (1995)")
    assert shown.exit_code == 0
    assert [line.split() for line in shown.stdout.splitlines()] == [
        ["Movie", "2", "(1995),", "movie_id", "2"],
        ["title", "year", "genres", "similarity"],
        ["Movie", "3", "1995", "Drama;", "War", "1"],
        ["Movie", "4", "1995", "Drama;", "War", "0.5"],
    ]


def test_similar_json(served: Home) -> None:
    genres = ["Drama", "War"]
    assert json.loads(invoke(served, "similar", "2", "--n", "1", "--json").stdout) == {
        "schema": 1,
        "command": "similar",
        "run_id": "20261121T030000Z",
        "movie": {"movie_id": 2, "title": "Movie 2", "year": 1995, "genres": genres},
        "rows": [{"rank": 1, "movie_id": 3, "title": "Movie 3", "year": 1995, "genres": genres, "similarity": 1.0}],
    }


def test_similar_to_an_unknown_movie(served: Home) -> None:
    shown = invoke(served, "similar", "Movie 9")
    assert shown.exit_code == 2
    assert "no movie is called 'Movie 9'; did you mean Movie 1 (1995), movie_id 1; " in shown.stderr
    assert shown.stdout == ""


def test_similar_needs_a_warehouse(home: Home) -> None:
    shown = invoke(home, "similar", "Heat")
    assert shown.exit_code == 1
    assert "does not exist yet. Next: `recsys nightly" in shown.stderr


def test_recommend_for_own_ratings(served_night: Home) -> None:
    shown = invoke(served_night, "recommend", "--ratings", "20=5, 30=1", "--segment", "gender=F", "--n", "3")
    assert shown.exit_code == 0
    rated, served_by, header, *rows = shown.stdout.splitlines()
    assert re.fullmatch(r"rated: The .+ \(19\d\d\) 5; The .+ \(19\d\d\) 1", rated)
    assert served_by == "served_by: few ratings"
    assert header.split() == ["rank", "title", "year", "score", "rating_hat", "because_titles"]
    assert [row.split()[0] for row in rows] == ["1", "2", "3"]


def test_recommend_for_own_ratings_json(served_night: Home) -> None:
    words = ("recommend", "--ratings", "20=5", "--json", "--n", "2")
    found = json.loads(invoke(served_night, *words).stdout)
    assert [(row["movie_id"], row["rating"]) for row in found["rated"]] == [(20, 5.0)]
    assert [row["rank"] for row in found["rows"]] == [1, 2]


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("recommend", "--ratings", "No Such Film=5"), "no movie is called 'No Such Film'"),
        (("recommend", "--ratings", "20=5", "--segment", "gender=X"), "--segment: 'gender=X' is unknown"),
        (("explain", "777", "20"), "user 777 is not known"),
        (("explain", "5", "No Such Film"), "no movie is called 'No Such Film'"),
    ],
)
def test_unknown_names_are_wrong_usage(served_night: Home, words: tuple[str, ...], complaint: str) -> None:
    shown = invoke(served_night, *words)
    assert shown.exit_code == 2
    assert complaint in shown.stderr
    assert shown.stdout == ""


def test_explain_a_movie_in_the_list(served_night: Home) -> None:
    (first,) = json.loads(invoke(served_night, "recommend", "5", "--json", "--n", "1").stdout)["rows"]
    shown = invoke(served_night, "explain", "5", f"{first['title']} ({first['year']})")
    assert shown.exit_code == 0
    lines = shown.stdout.splitlines()
    assert lines[0] == f"{first['title']} ({first['year']}) for user 5: rank 1"
    assert f"score {first['score']:.4f}, the sum of" in lines
    assert f"expected stars {first['rating_hat']:.2f}" in lines
    assert sum("%" in line for line in lines) == 5
    assert [line.split() for line in lines if line.startswith("part")] == [["part", "value", "weight", "adds"]]


def test_explain_a_movie_that_was_rated(served_night: Home) -> None:
    because = json.loads(invoke(served_night, "explain", "5", "3", "--json").stdout)["because"]
    rated = str(because[0]["movie_id"])
    place = f"for user 5: not in the list, rated {because[0]['rating']:g} by the user, so never recommended"
    assert place in invoke(served_night, "explain", "5", rated).stdout
    assert json.loads(invoke(served_night, "explain", "5", rated, "--json").stdout)["rank"] is None


def test_explain_needs_the_folder_of_the_run(served: Home) -> None:
    """This home has only a warehouse."""
    for words in (("explain", "1", "2"), ("recommend", "--ratings", "2=5")):
        shown = invoke(served, *words)
        assert shown.exit_code == 1
        assert "has no saved ranker" in shown.stderr


def test_path_instead_of_a_list_is_wrong_usage(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECSYS_RULES__BLOCKED", "blocked.csv")
    result = invoke(home, "nightly", "--source", "synthetic:20x20x100")
    assert result.exit_code == 2
    assert 'field "rules"' in result.stderr
    assert """Next: write lists as JSON, for example RECSYS_RULES__BLOCKED='["blocked.csv"]'""" in result.stderr
    assert not home.warehouse.exists()


def test_export_reports_what_it_wrote(served: Home, tmp_path: Path) -> None:
    words = ("export", str(tmp_path / "lake"), "--tables", "movies,users")
    assert invoke(served, *words).stdout == (
        f"run 20261121T030000Z exported to {tmp_path / 'lake'}: movies 4, users 4 rows\n"
    )
    assert invoke(served, *words).stdout == (
        f"run 20261121T030000Z is already in {tmp_path / 'lake'}, nothing to write: movies 4, users 4 rows\n"
    )
    (tmp_path / "lake" / "movies" / "run_id=20261120T030000Z").mkdir()
    assert json.loads(invoke(served, *words, "--keep", "1", "--json").stdout) == {
        "schema": 1,
        "command": "export",
        "run_id": "20261121T030000Z",
        "directory": str(tmp_path / "lake"),
        "rows": {"movies": 4, "users": 4},
        "written": [],
        "removed": ["movies/run_id=20261120T030000Z"],
        "changed": True,
    }
    assert invoke(served, "export", str(tmp_path / "lake"), "--tables", "").exit_code == 2


def test_a_title_that_the_terminal_cannot_show_is_escaped() -> None:
    program = """
import click
from flows.cli.console import run_program
run_program(click.Command("show", callback=lambda: click.echo("Солярис, é")))
"""
    environment = os.environ | {"PYTHONIOENCODING": "latin-1"}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, check=True)
    assert done.stdout.decode("latin-1") == r"\u0421\u043e\u043b\u044f\u0440\u0438\u0441, é" + "\n"


def test_tables_have_no_blanks_at_the_ends_of_lines(served: Home) -> None:
    for words in (
        ("recommend", "1"),
        ("similar", "2"),
        ("runs",),
        ("runs", "20261121T030000Z"),
        ("rollback", "--list"),
    ):
        shown = CliRunner().invoke(main, words, env={"RECSYS_HOME": str(served.root)})
        assert shown.exit_code == 0, shown.stderr
        assert [line for line in shown.stdout.splitlines() if line != line.rstrip()] == []


def test_one_run_with_its_figures_and_seconds(served: Home) -> None:
    lines = [line.split() for line in invoke(served, "runs", "20261121T030000Z").stdout.splitlines()]
    for line in (
        ["verdict", "published"],
        ["metric", "ordinal", "bias"],
        ["mae_median", "0.65", "0.75"],
        ["train", "2.5"],
    ):
        assert line in lines
    table = invoke(served, "runs", "20261121T030000Z", "--format", "csv").stdout.splitlines()
    assert table[0] == "model,split,slice,metric,value"
    assert "bias,holdout,all,mae_median,0.75" in table


@pytest.mark.parametrize(
    ("words", "variables", "hint"),
    [
        (("nightly", "--model", "ordnal"), {}, "Did you mean ordinal?"),
        (("backfill", "--from", "7d", "--model", "sofmax"), {}, "Did you mean softmax?"),
        (("networks", "wide_deap"), {}, "Did you mean wide_deep?"),
        (("tune", "--model", "hybrd", "--minutes", "1"), {}, "Did you mean hybrid?"),
        (("compare", "--split", "tim"), {}, "Did you mean time?"),
        (("nightly", "--as-of", "yesterdy"), {}, "Did you mean yesterday? Next: write a date (1998-04-01)"),
        (("recommend", "1", "--format", "jsn"), {}, "Did you mean json?"),
        (("recomend", "1"), {}, "Did you mean 'recommend'?"),
        (("recommend", "1", "--ratngs", "Heat=5"), {}, "'--ratings'?"),
        (("runs",), {"RECSYS_SOURC": "ml-1m"}, "RECSYS_SOURC is not a setting. Did you mean RECSYS_SOURCE?"),
        (("runs",), {"RECSYS_GATES__MAX_MAE_MEDIAN": "1"}, "Did you mean RECSYS_GATE__MAX_MAE_MEDIAN?"),
        (("runs",), {"RECSYS_ALRT_FILE": "a"}, "Did you mean RECSYS_ALERT_FILE?"),
        (("runs",), {"RECSYS_GATE__MAX_MAE_MEDIUM": "1"}, "there is no such setting. Did you mean max_mae_median?"),
        (("runs",), {"RECSYS_MODEL": "ordnal"}, "Did you mean ordinal?"),
        (("runs",), {"RECSYS_SPLIT__KIND": "rndom"}, "Did you mean random?"),
    ],
    ids=str,
)
def test_misspelt_names_get_a_suggestion(
    words: tuple[str, ...], variables: dict[str, str], hint: str, served: Home
) -> None:
    takes_home = words[0] not in ("networks", "recomend")
    shown = CliRunner().invoke(main, [*words, *(("--home", str(served.root)) if takes_home else ())], env=variables)
    assert shown.exit_code == 2, shown.output
    assert hint in " ".join(shown.stderr.split())


def test_variables_of_other_programs_are_ignored(served: Home) -> None:
    shown = CliRunner().invoke(
        main, ["runs", "--home", str(served.root)], env={"RECSYS_TEST_DATA": "x", "RECSYS_Q": "1"}
    )
    assert shown.exit_code == 0, shown.stderr


@pytest.mark.parametrize(
    ("option", "logged"),
    [(None, ["info", "warning"]), ("--quiet", ["warning"]), ("--verbose", ["debug", "info", "warning"])],
)
def test_quiet_and_verbose_choose_what_is_logged(option: str | None, logged: list[str]) -> None:
    program = """
import click, logging
from flows.cli.console import report_errors
def log():
    for name in ("debug", "info", "warning"):
        getattr(logging.getLogger("recsys.test"), name)(name)
click.Command("log", callback=report_errors(log), params=[*report_errors(log).__click_params__])()
"""
    words = [sys.executable, "-c", program, *([option] if option else [])]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert [line.split()[-1] for line in done.stderr.splitlines()] == logged


@pytest.mark.parametrize(
    ("typed", "completed"),
    [("nightly --model mlp", ["mlp", "mlp_deep"]), ("rec", ["recommend"]), ("runs --fo", ["--format"])],
)
def test_names_are_completed(typed: str, completed: list[str]) -> None:
    words = f"recsys {typed}"
    variables = {
        "_RECSYS_COMPLETE": "bash_complete",
        "COMP_WORDS": words,
        "COMP_CWORD": str(len(words.split()) - 1),
    }
    shown = CliRunner().invoke(main, [], prog_name="recsys", env=variables)
    assert [line.partition(",")[2] for line in shown.stdout.splitlines()] == completed


@pytest.mark.parametrize("arguments", [[], ["--debug"]], ids=str)
def test_interrupted_command_exits_with_130(arguments: list[str]) -> None:
    @click.command()
    @report_errors
    def command() -> None:
        raise KeyboardInterrupt

    result = CliRunner().invoke(command, arguments)
    assert (result.exit_code, result.stderr) == (130, "recsys: interrupted\n")


def test_a_panic_is_reported_like_any_error() -> None:
    @click.command()
    @report_errors
    def command() -> None:
        raise PanicException("boom")

    result = CliRunner().invoke(command, [])
    assert result.exit_code == 1
    assert result.stderr.startswith("recsys: unexpected RuntimeError: a library panicked: boom. Next: ")


def test_an_interrupted_night_says_whether_anything_has_changed(tmp_path: Path) -> None:
    """tests/flows/test_nightly.py interrupts a real night, and reads in which step and how it resumes."""

    @click.command()
    @report_errors
    def command() -> None:
        with resumable(tmp_path):
            raise KeyboardInterrupt

    result = CliRunner().invoke(command, [])
    assert (result.exit_code, result.stderr) == (
        130,
        "recsys: interrupted before the night began; nothing has changed\n",
    )


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("nightly", "--source", "ml-100kk"), "Did you mean ml-100k?"),
        (("nightly", "--source", "/no/such.zip"), "neither a dataset nor a path that exists"),
        (("nightly", "--source", "synthetic:many"), "is invalid"),
        (
            ("nightly", "--source", "synthetic:60x40x2000", "--as-of", "2099-01-01"),
            "2099-01-01T00:00:00+00:00 is after now",
        ),
        (("check", "--source", "ml-100kk"), "Did you mean ml-100k?"),
        (("check", "--source", "synthetic:60x40x2000", "--as-of", "2099-01-01"), "is after now"),
        (("backfill", "--source", "synthetic:60x40x2000", "--from", "2001-01-02", "--to", "2001-01-01"), "swap them"),
    ],
    ids=str,
)
def test_mistakes_in_a_command_leave_no_run(words: tuple[str, ...], complaint: str, tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    result = CliRunner().invoke(main, [*words, "--home", str(home.root)], env={"PREFECT_API_URL": ""})
    assert result.exit_code == 2, result.stderr
    assert complaint in " ".join(result.stderr.split())
    assert not home.warehouse.exists()
    assert not home.runs.exists()
