"""The texts of a night in Prefect's UI. tests/deployments tests with a real server that they arrive there."""

import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest

from flows.endings import conclude, with_final_states
from flows.naming import name_of
from flows.show import Bars, key_of, show_images, tabulate
from flows.verdict import describe, describe_changes, escape_markdown
from recsys.errors import DataRefused, GateHeld, HomeBusy, SourceError
from recsys.files import read_json, write_json
from recsys.home import Home, Run
from recsys.progress import progress, watched
from recsys.runs.summary import summarise
from recsys.settings import GateConfig, Settings
from recsys.warehouse.lookup import reading


@pytest.fixture
def run(served_night: Home) -> Run:
    (folder,) = served_night.runs.iterdir()
    return served_night.run(folder.name)


def test_each_model_is_a_row_and_missing_metrics_are_empty(home: Home) -> None:
    run = home.run("20261121T030000Z")
    measured = (
        ("ordinal", "holdout", "all", "mae_median", 0.63), ("ordinal", "holdout", "all", "ndcg_at_10", 0.43),
        ("ordinal", "validation", "all", "mae_median", 0.61), ("popularity", "holdout", "all", "ndcg_at_10", 0.19),
        ("ordinal", "holdout", "genre=War", "mae_median", 0.5), ("ordinal", "holdout", "all", "users", 9.0),
    )  # fmt: skip
    keys = ("model", "split", "slice", "metric", "value")
    write_json(run.metrics / "evaluate.json", [dict(zip(keys, row, strict=True)) for row in measured])
    assert list(tabulate(run)) == [
        {"model": "ordinal", "MAE median": "0.6300", "NDCG@10": "0.4300"},
        {"model": "popularity", "MAE median": "", "NDCG@10": "0.1900"},
    ]


def test_the_page_of_a_night_shows_its_data_and_lists(run: Run) -> None:
    words = "\n".join(describe(run))
    assert words.startswith("# Published\n")
    counts = read_json(run.findings)["counts"]
    assert f"- rows: {counts['ratings']:,} ratings, {counts['users']:,} users, {counts['movies']:,} movies" in words
    with reading(run.home) as connection:
        rows = connection.sql("select title, year from recommendations_named order by user_id, rank limit 1")
        [(title, year)] = rows.fetchall()
        n_rows = len(connection.table("recommendations"))
    assert f"recommendations {n_rows:,}" in words
    assert f"| 1 | {escape_markdown(f'{title} ({year})')} |" in words
    assert "all limits are met" not in words  # this night was published without a gate
    assert "user_id" not in words


def test_lists_of_any_length_are_compared_with_last_nights(home: Home) -> None:
    """The names of the metrics have the length of the lists."""
    run = home.run("20261121T030000Z")
    write_json(run.config, {"n": 12})
    measured = {"users_with_both": 60.0, "changed_at_12": 0.25, "churn_at_12": 0.1}
    keys = ("model", "split", "slice", "metric", "value")
    rows = [dict(zip(keys, ("ordinal", "tonight", "all", *one), strict=True)) for one in measured.items()]
    write_json(run.metrics / "score.json", rows)
    assert [*describe_changes(run)] == [
        "- changed since last night: 15 of 60 lists; 10.0% of their movies were replaced"
    ]
    write_json(run.metrics / "score.json", [])
    assert [*describe_changes(run)] == []


def test_pages_are_linked_if_they_are_served(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    page = run.data_docs / "index.html"
    assert f"- checks of the data: `{page}`" in [*describe(run)]
    monkeypatch.setenv("RECSYS_PAGES_URL", "http://127.0.0.1:4201/")
    assert f"- checks of the data: `{page}`" in [*describe(run)]  # the pages of another home are served
    monkeypatch.setenv("RECSYS_HOME", str(run.home.root))
    link = f"[checks.html](http://127.0.0.1:4201/{run.run_id}/checks.html)"
    assert f"- checks of the data: {link}" in [*describe(run)]
    assert f"- log: `{run.log}`" in [*describe(run)]  # it may quote rows, so it is not served
    assert "file://" not in "\n".join(describe(run))


def test_figures_stand_beside_last_nights_and_their_limits_and_steps_are_timed(home: Home) -> None:
    run = home.run("20261121T030000Z")
    gate = {"max_mae_median": 0.9, "max_mae_regression": 0.005, "max_ndcg_regression": 0.01, "min_coverage_ratio": 0.7,
            "min_popularity_coverage_ratio": 0.5}  # fmt: skip
    write_json(run.config, {"config_hash": "a", "code_version": "b", "as_of": None, "gate": gate})
    write_json(run.ended, {"verdict": "held back", "reason": "worse", "failures": 0})
    write_json(run.gate, {"champion": "20261120T030000Z", "not_compared": None, "broken": ["a"], "forced": False})
    write_json(run.choice, {"model": "ordinal"})
    measured = (
        ("ordinal", "all", "mae_median", 0.65), ("bias", "all", "mae_rounded", 0.7),
        ("champion", "all", "mae_median", 0.6),
        ("ordinal", "against=champion", "mae_median_difference", 0.05),
        ("ordinal", "against=champion", "mae_median_difference_low", 0.03),
        ("ordinal", "against=champion", "mae_median_difference_high", 0.07),
    )  # fmt: skip
    rows = [dict(zip(("model", "slice", "metric", "value"), row, strict=True)) for row in measured]
    write_json(run.metrics / "evaluate.json", [row | {"split": "holdout"} for row in rows])
    write_json(run.underway, {"step": "check_gate", "since": "2026-11-21T03:00:00"})
    write_json(run.steps, {"a": 0.4, "b": 3.0, "c": 4.0, "d": 4.0, "e": 5.0, "f": 6.0})
    lines = [*describe(run)]
    shown = (
        "| MAE, stars | 0.6500 | 0.7000 (bias) | 0.6000 | +0.0500 (+0.0300 to +0.0700) | ≤ 0.9; difference ≤ 0.005 |"
    )
    assert shown in [line.replace("\\", "") for line in lines]
    assert r"- ended in step: check\_gate" in lines
    slowest = lines.index("\n## Slowest steps of 22 s\n")
    steps = ["| f | 6.0 |", "| e | 5.0 |", "| c | 4.0 |", "| d | 4.0 |", "| b | 3.0 |"]
    assert lines[slowest + 3 : slowest + 8] == steps
    assert not any(line.startswith("## Lists") for line in lines)  # the served lists are not of this run


def test_rows_that_a_reason_quotes_are_not_shown(home: Home) -> None:
    run = home.run("20261121T030000Z")
    write_json(run.config, {"config_hash": "a", "code_version": "b", "as_of": None})
    reason = 'ml-1m is refused, e.g. line 1: {"user_id":17,"rating":9.0}. Next: correct the source'
    write_json(run.ended, {"verdict": "data refused", "reason": reason, "failures": 0})
    words = "\n".join(describe(run))
    assert "17" not in words.replace(run.run_id, "")
    assert "Next\\: correct the source" in words


@pytest.mark.parametrize(
    "hostile",
    ["[click](http://evil.example)", "<img src=x>", "a | b", "`code`", "**b**", "http://evil.example", "a@evil.example",
     "\x1b]8;;http://evil\x07", "&lt;b&gt;", "![x](y)"],
)  # fmt: skip
def test_markdown_of_a_source_is_plain_text(hostile: str) -> None:
    """What is left between the escaped characters has no meaning in Markdown or HTML."""
    rest = re.sub(r"\\[!-/:-@\[-`{-~]", "", escape_markdown(hostile))
    assert not re.search(r"[\\`*_{}\[\]()<>#|!~&:@\x00-\x1f]", rest)


def test_a_picture_is_embedded_where_its_address_is_not_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both UIs print the address of an image artifact: for an embedded picture, all of its bytes."""
    made: list[tuple[str, dict[str, str]]] = []
    monkeypatch.setattr("flows.show.create_markdown_artifact", lambda markdown, **more: made.append((markdown, more)))
    (tmp_path / "nights.png").write_bytes(b"png")
    show_images({"nights": tmp_path / "nights.png"})
    assert made == [("![nights](data:image/png;base64,cG5n)", {"key": "nights", "description": "nights"})]


def test_findings_of_the_gate_are_shown_and_their_markup_is_escaped(home: Home) -> None:
    run = home.run("20261121T030000Z")
    limits = GateConfig().model_dump()
    write_json(run.config, {"config_hash": "a", "code_version": "b", "as_of": None, "gate": limits})
    write_json(run.ended, {"verdict": "held back", "reason": "worse [click](http://evil)", "failures": 0})
    write_json(run.choice, {"model": "ordinal"})
    gate = {"champion": None, "not_compared": "nothing is served", "broken": ["MAE <b>0.9</b>"], "forced": False}
    write_json(run.gate, gate)
    words = "\n".join(describe(run))
    assert words.startswith("# Held back\n\nworse \\[click\\]\\(http\\://evil\\)")
    assert "**broken**: MAE \\<b\\>0.9\\</b\\>" in words
    assert (
        "Not compared with last night's model, whose figures are those on its own holdout: nothing is served" in words
    )


def test_watchers_get_the_progress_of_a_step() -> None:
    seen: list[tuple[str, float]] = []
    with watched(lambda label, share: seen.append((label, share))):
        run_steps()
    run_steps()
    assert seen == [("lists", 0.25), ("lists", 0.5), ("lists", 0.75), ("lists", 1.0)]


def run_steps() -> None:
    import logging

    with progress("lists", 8, "users", logging.getLogger("recsys.test"), done=0) as advance:
        for _ in range(4):
            advance(2, "")


def test_an_unreachable_ui_does_not_end_the_night(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise ConnectionError("gone")

    monkeypatch.setattr("flows.show.create_progress_artifact", refuse)
    Bars()("ordinal for tonight", 1.0)
    assert "the Prefect UI does not show it: gone" in caplog.text


@pytest.mark.parametrize("label", ["ordinal for tonight", "ALS: round 3/8", "Ünïcode"])
def test_artifact_keys_are_valid_in_prefect(label: str) -> None:
    assert set(key_of(label)) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({"source": "ml-1m", "as_of": "2003-01-01"}, "2026-12-01 ml-1m before 2003-01-01"),
        (
            {"source": "/srv/drops/ml-1m.zip", "as_of": "2003-01-01T06:30"},
            "2026-12-01 ml-1m.zip before 2003-01-01 06:30",
        ),
        ({"source": "ml-1m", "model": "ordinal"}, "2026-12-01 ml-1m, ordinal"),
        ({"source": "/srv/a\x1b[2Jb"}, "2026-12-01 a\\x1b[2Jb"),
        (Settings(source="ml-100k"), "2026-12-01 ml-100k"),
    ],
)
def test_runs_are_named_by_day_and_source_and_what_is_unusual(settings: object, name: str) -> None:
    assert name_of(settings, date(2026, 12, 1)) == name


@pytest.fixture
def errors() -> Iterator[dict[str, Exception]]:
    yield {
        "Data refused": DataRefused("a"),
        "Held back": GateHeld("b"),
        "Busy": HomeBusy("c"),
        "Failed": SourceError("d"),
    }


def test_expected_errors_become_named_final_states(errors: dict[str, Exception]) -> None:
    for name, error in errors.items():

        def end(error: Exception = error) -> None:
            raise error

        state = with_final_states(end)()
        assert (state.name, state.message) == (name, str(error))  # type: ignore[attr-defined]
        assert state.is_cancelled() == isinstance(error, HomeBusy)  # type: ignore[attr-defined]


def test_messages_of_states_quote_no_rows_and_no_control_characters() -> None:
    def end() -> None:
        raise DataRefused('a\x1b[31mb: {"user_id":17}; next')

    state = with_final_states(end)()
    assert state.message == "a\\x1b[31mb: {withheld}; next"  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("verdict", "reason", "message"),
    [
        ("published", None, "ordinal, MAE 0.6543 stars, NDCG@10 0.4100"),
        ("unchanged", "the lists are the same", "the lists are the same; ordinal, MAE 0.6543 stars, NDCG@10 0.4100"),
    ],
)
def test_a_night_that_succeeded_ends_in_the_state_of_its_verdict(
    run: Run, verdict: str, reason: str | None, message: str
) -> None:
    figures = {"holdout": {"mae_median": 0.65432, "ndcg_at_10": 0.41}}
    summary = replace(summarise(run, {}, verdict=verdict, reason=reason), model="ordinal", metrics=figures)
    state = conclude(summary)
    assert (state.name, state.message, state.data) == (verdict.capitalize(), message, summary)  # type: ignore[attr-defined]


def test_an_unexpected_error_is_raised() -> None:
    def end() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        with_final_states(end)()
