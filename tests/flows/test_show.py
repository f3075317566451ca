"""The texts of a night in Prefect's UI. tests/deployments tests with a real server that they arrive there."""

from collections.abc import Iterator

import pytest

from flows.endings import with_final_states
from flows.naming import name_of
from flows.show import Bars, describe, key_of, tabulate
from recsys.errors import DataRefused, GateHeld, HomeBusy, SourceError
from recsys.files import write_json
from recsys.home import Home, Run
from recsys.progress import progress, watched
from recsys.settings import Settings


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


def test_the_verdict_links_to_the_log(run: Run) -> None:
    words = "\n".join(describe(run))
    assert words.startswith("# published\n")
    assert run.log.as_uri() in words
    assert "all limits are met" not in words  # this night was published without a gate


def test_findings_of_the_gate_are_shown_and_their_markup_is_escaped(home: Home) -> None:
    run = home.run("20261121T030000Z")
    write_json(run.config, {"config_hash": "a", "code_version": "b", "as_of": None})
    write_json(run.ended, {"verdict": "held back", "reason": "worse [click](http://evil)", "failures": 0})
    gate = {"champion": None, "not_compared": "nothing is served", "broken": ["MAE <b>0.9</b>"], "forced": False}
    write_json(run.gate, gate)
    words = "\n".join(describe(run))
    assert words.startswith("# held back\n\nworse \\[click\\]\\(http://evil\\)")
    assert "**broken**: MAE \\<b\\>0.9\\</b\\>" in words


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
        ({"source": "ml-1m", "as_of": "2003-01-01"}, "ml-1m before 2003-01-01 00:00"),
        ({"source": "/srv/drops/ml-1m.zip"}, "ml-1m.zip, all ratings"),
        (Settings(source="ml-100k"), "ml-100k, all ratings"),
    ],
)
def test_runs_are_named_by_source_and_as_of(settings: object, name: str) -> None:
    assert name_of(settings) == name


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


def test_an_unexpected_error_is_raised() -> None:
    def end() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        with_final_states(end)()
