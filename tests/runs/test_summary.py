"""The summary that a night prints when it ends."""

from dataclasses import replace
from datetime import UTC, datetime

import polars as pl
import pytest
from rich.console import Console

from recsys.files import write_json
from recsys.home import Home, Run
from recsys.runs.summary import LISTS, Summary, frame_table, render, summarise
from recsys.settings import Settings
from tests.support.warehouses import make_frames, make_outcome, publish, write_night

STARTED_AT = datetime(2026, 11, 21, 3, tzinfo=UTC)


def metric(model: str, split: str, name: str, value: float) -> dict[str, object]:
    return {"model": model, "split": split, "slice": "all", "metric": name, "value": value}


@pytest.fixture
def summary(home: Home) -> Summary:
    run = Run("20261121T030000Z", STARTED_AT, home)
    write_json(run.config, Settings().model_dump(mode="json") | {"config_hash": "b", "code_version": "0.1.0"})
    write_json(run.choice, {"model": "ordinal"})
    write_json(run.steps, {"train": 3.0, "check": 1.0})
    measured = [
        metric("ordinal", "validation", "mae_median", 0.66),
        metric("softmax", "validation", "mae_median", 0.69),
        metric("ordinal", "holdout", "mae_median", 0.6512),
        metric("ordinal", "holdout", "rmse_mean", 0.8812),
        metric("ordinal", "holdout", "ndcg_at_10", 0.4123),
        metric("ordinal", "holdout", "ndcg_at_10_low", 0.4001),
        metric("ordinal", "holdout", "ndcg_at_10_high", 0.4251),
        metric("ordinal", "holdout", "users_with_relevant", 929.0),
        metric("ordinal", "holdout", "users_without_relevant", 14.0),
        metric("bias", "holdout", "rmse_mean", 0.9512),
        metric("popularity", "holdout", "ndcg_at_10", 0.1923),
        metric("ordinal", "holdout", "rmse_mean", 0.5) | {"slice": "genre=Drama"},  # in the table, not on the page
    ]
    write_json(run.metrics / "evaluate.json", measured)
    rows = publish(make_outcome(run.run_id), write_night(home.root / "night", make_frames()), home)
    return summarise(run, rows)


def test_metrics_are_of_the_chosen_network_and_baselines_are_separate(summary: Summary) -> None:
    assert summary.metrics["validation"] == {"mae_median": 0.66}
    assert summary.metrics["holdout"]["rmse_mean"] == 0.8812
    assert summary.baselines == {"bias": {"rmse_mean": 0.9512}, "popularity": {"ndcg_at_10": 0.1923}}
    assert summary.rows["recommendations"] == 8
    assert summary.seconds == {"train": 3.0, "check": 1.0}
    assert (summary.verdict, summary.published, summary.relevant_from) == ("published", True, 4.0)


def test_the_page_shows_metrics_tables_and_a_query_with_its_result(summary: Summary, home: Home) -> None:
    page = render(summary)
    lines = page.splitlines()
    assert next(line for line in lines if line.startswith("ordinal  ")).split() == ["ordinal", "0.6512", "0.8812"]
    assert next(line for line in lines if line.startswith("popularity")).split() == ["popularity", "0.1923"]
    assert "Lists of 929 users" in page
    assert "Users without a relevant movie (14) count only in coverage" in " ".join(page.split())
    assert "95% interval of ordinal's NDCG@10 over users is 0.4001 to 0.4251" in " ".join(page.split())
    assert f"Tables in {home.warehouse}:" in page
    assert "from recommendations_named" in page
    assert "Movie 2" in page.split("from recommendations_named")[1]
    assert "4 s: train 3.0, check 1.0" in page
    assert "trained once more on all ratings" in " ".join(page.split())


def test_a_night_that_published_nothing_shows_no_rows(summary: Summary) -> None:
    page = render(replace(summary, published=False, verdict="held back"))
    assert "held back" in page
    assert "select" not in page


def test_the_table_of_lists_fits_the_page(summary: Summary) -> None:
    """The heading and each row fit on one line, and no heading is cut off."""
    values = dict.fromkeys(LISTS, 12.3456)
    full = replace(summary, metrics={"holdout": values}, baselines={"popularity": values})
    lines = render(full).splitlines()
    heading = next(line for line in lines if "NDCG@10" in line)
    assert heading.split("  ")[0] == "model"
    assert [name.strip() for name in heading.split("  ")[1:] if name.strip()] == list(LISTS.values())
    assert len(heading) <= 110
    row = next(line for line in lines if line.startswith("popularity"))
    assert row.split() == ["popularity", *["12.3456"] * len(LISTS)]


def test_without_interval_metrics_no_interval_is_shown(summary: Summary) -> None:
    assert "95% interval" not in render(replace(summary, metrics={"holdout": {"mae_median": 0.7}}))


def test_a_frame_keeps_ids_whole_and_shortens_numbers() -> None:
    frame = pl.DataFrame(
        {
            "run_id": ["20261121T030000Z"],
            "stars": [4.123456],
            "at": [datetime(2026, 11, 21, 3, 4, 5, tzinfo=UTC)],
            "titles": [["Heat", "Alien"]],
            "nothing": [None],
        }
    )
    console = Console(width=70, record=True, quiet=False)
    with console.capture() as capture:
        console.print(frame_table(frame))
    assert capture.get().splitlines()[1].split() == [
        "20261121T030000Z",
        "4.123",
        "2026-11-21",
        "03:04",
        "Heat;",
        "Alien",
    ]


def test_control_characters_of_a_title_are_escaped() -> None:
    console = Console(width=80)
    with console.capture() as capture:
        console.print(
            frame_table(
                pl.DataFrame({"title": ["\x1b[2J\x1b]0;mine\x07", "\u202eredrum"], "also": [["a\nb"], ["é 猫"]]})
            )
        )
    assert "\x1b" not in capture.get()
    assert "\u202e" not in capture.get()
    assert [line.split() for line in capture.get().splitlines()[1:]] == [
        ["\\x1b[2J\\x1b]0;mine\\x07", "a\\nb"],
        ["\\u202eredrum", "é", "猫"],
    ]


def test_a_title_that_looks_like_markup_is_shown_as_it_is() -> None:
    console = Console(width=70)
    with console.capture() as capture:
        console.print(frame_table(pl.DataFrame({"title": ["[rec]", "[/rec]", "Heat [bold]"]})))
    assert [line.strip() for line in capture.get().splitlines()] == ["title", "[rec]", "[/rec]", "Heat [bold]"]
