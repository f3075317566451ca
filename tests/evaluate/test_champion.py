"""Comparison of tonight's model with the champion: the compared rows, the champion, and nights without comparison."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from pydantic import TypeAdapter
from pydantic_core import to_jsonable_python

from recsys import steps
from recsys.evaluate.champion import compare_champion, list_unseen, open_holdout_model
from recsys.evaluate.gate import check_gate
from recsys.files import read_json, write_json
from recsys.forgotten import forget
from recsys.home import Home, Run
from recsys.ingest.synthetic.synthetic import plant
from recsys.metrics.differences import Comparison
from recsys.rank.weights import Weights
from recsys.runs.metrics import read_metrics
from recsys.runs.night import describe_run, night
from recsys.runs.retention import retain_runs
from recsys.runs.seal import seal
from recsys.settings import GateConfig, HistoryConfig, Settings
from recsys.split.cut import Split, cut_holdout
from recsys.train.saved_model import SavedModel, load_model
from recsys.warehouse.outcome import MetricRow
from tests.support.archives import write_archive
from tests.support.flips import flipped
from tests.support.nights import Night, prepare, settings_of

N_USERS, N_MOVIES = 80, 60  # those that the champion was trained on; a later night has more
GROWN = plant(N_USERS + 10, N_MOVIES + 5, 3000)
FIRST = (pl.col("user_id") <= N_USERS) & (pl.col("movie_id") <= N_MOVIES)


@dataclass(frozen=True)
class Candidate:
    """A night up to the evaluation."""

    night: Night
    settings: Settings
    parts: Split
    weights: Weights
    model: SavedModel
    metrics: tuple[MetricRow, ...]

    @property
    def run(self) -> Run:
        return self.night.run

    def compare(self, **changed: Any) -> Comparison:
        asked: dict[str, Any] = {
            "model": self.model,
            "weights": self.weights,
            "split": self.parts,
            "learner": self.night.learner,
        }
        return compare_champion(**asked | changed, run=self.run, settings=self.settings)

    def rows(self) -> dict[tuple[str, str, str], float]:
        """Return the holdout rows of metrics.json."""
        rows = [row for row in read_metrics(self.run) if row.split == "holdout"]
        return {(row.model, row.slice, row.metric): row.value for row in rows}


def judge(settings: Settings, run: Run) -> Candidate:
    tonight = prepare(settings, run)
    parts = Split(run.split)
    weights = steps.weigh_parts(tonight.choice, parts, tonight.learner, run, settings)
    model = steps.train_for_holdout(tonight.choice, parts, tonight.checked, tonight.learner, run, settings.warm_start)
    metrics = steps.evaluate(model, tonight.choice, weights, parts, tonight.learner, run, settings)
    return Candidate(tonight, settings, parts, weights, model, metrics)


def publish(candidate: Candidate) -> None:
    tonight, settings = candidate.night, candidate.settings
    lists = tonight.score(tonight.train(settings.warm_start), candidate.weights, settings)
    steps.publish_lists(lists, tonight.checked, tonight.run, settings)


@dataclass(frozen=True)
class Nights:
    champion: Candidate
    first: Comparison  # of the first night, which had no champion
    equal: Candidate  # a repetition of the first night
    grown: Candidate  # a later night with users and movies that the champion was not trained on


@pytest.fixture(scope="module")
def nights(tmp_path_factory: pytest.TempPathFactory) -> Nights:
    folder = tmp_path_factory.mktemp("versus")
    source, home = folder / "source", Home(folder / "home")
    settings = settings_of(home, source, gate={"min_slice_users": 20, "must_beat_bias": False, "max_mae_median": 5})
    users = GROWN.users.filter(pl.col("user_id") <= N_USERS)
    movies = GROWN.movies.filter(pl.col("movie_id") <= N_MOVIES)
    write_archive(source, "canonical", GROWN.ratings.filter(FIRST), movies, users)
    with night(settings) as run:
        champion = judge(settings, run)
        first = champion.compare()
        publish(champion)
    with night(settings) as run:
        equal = judge(settings, run)
    shutil.rmtree(source)
    write_archive(source, "canonical", GROWN.ratings, GROWN.movies, GROWN.users)
    with night(settings) as run:
        return Nights(champion, first, equal, judge(settings, run))


def test_repeating_the_same_night_shows_no_difference(nights: Nights) -> None:
    found = nights.equal.compare()
    assert (found.champion, found.why_not) == (nights.champion.run.run_id, None)
    assert {one.metric for one in found.overall} == {"mae_median", "ndcg_at_10"}
    assert len(found.slices) > 5
    assert {(one.value, one.low, one.high) for one in found.differences} == {(0.0, 0.0, 0.0)}
    assert found.coverage_ratio == 1.0
    check_gate(nights.equal.metrics, found, nights.equal.run, nights.equal.settings.gate)
    outcome = describe_run(nights.equal.run, verdict="published", reason=None)
    assert (outcome.champion, outcome.reason) == (nights.champion.run.run_id, None)


def test_the_figures_equal_those_of_the_evaluation(nights: Nights) -> None:
    """The champion was not trained on any row of tonight's holdout, so all rows are compared."""
    nights.equal.compare()
    rows, model = nights.equal.rows(), nights.equal.night.choice.model
    for metric in ("mae_median", "rmse_mean", "log_loss", "ndcg_at_10", "coverage_at_10"):
        of_evaluation = rows[model, "all", metric]
        assert rows[model, "against=champion", metric] == pytest.approx(of_evaluation, abs=1e-12)
        assert rows["champion", "all", metric] == pytest.approx(of_evaluation, abs=1e-12)
    assert rows["champion", "all", "n"] == len(pl.read_parquet(nights.equal.parts.holdout))


def test_lists_are_compared_with_their_parts_on_the_holdout(nights: Nights) -> None:
    """Also on the first night, which has no champion."""
    rows, model = nights.champion.rows(), nights.champion.night.choice.model
    for part in ("popularity", "ease"):
        low, value, high = (
            rows[model, f"against={part}", f"ndcg_at_10_difference{end}"] for end in ("_low", "", "_high")
        )
        assert value == pytest.approx(rows[model, "all", "ndcg_at_10"] - rows[part, "all", "ndcg_at_10"])
        assert low < value < high


def test_comparing_again_replaces_the_rows(nights: Nights) -> None:
    for _ in range(2):
        nights.equal.compare()
    rows = [(row.model, row.slice, row.metric) for row in read_metrics(nights.equal.run) if row.split == "holdout"]
    assert len(rows) == len(set(rows))


def test_differences_are_in_metrics_by_slice(nights: Nights) -> None:
    found = nights.grown.compare()
    rows, model = nights.grown.rows(), nights.grown.night.choice.model
    for one in found.differences:
        part = "against=champion" if one.slice == "all" else f"against=champion {one.slice}"
        ends = [rows[model, part, f"{one.metric}_difference{end}"] for end in ("", "_low", "_high")]
        assert ends == [one.value, one.low, one.high]
        assert one.low < one.value < one.high
    errors = [rows["champion", "all", "mae_median"], rows[model, "against=champion", "mae_median"]]
    assert found.overall[0].value == pytest.approx(errors[1] - errors[0])
    assert rows[model, "against=champion", "coverage_at_10_ratio"] == found.coverage_ratio
    assert found.slices[0].low == max(one.low for one in found.slices)
    assert not any(one.slice.startswith("rating=") for one in found.slices)


def test_a_later_night_is_compared_on_rows_unknown_to_the_champion(nights: Nights, tmp_path: Path) -> None:
    """New ratings change the threshold of the draw, so a few rows that the champion was trained on are now held out."""
    held_out, rest = pl.read_parquet(nights.grown.parts.holdout), nights.grown.parts.read_rest()
    moved = rest.join(nights.champion.parts.read_rest(), on=["user_id", "movie_id"], how="semi")[:20]
    other = Split(tmp_path)
    rest.join(moved, on=["user_id", "movie_id"], how="anti").write_parquet(other.train)
    rest[:0].write_parquet(other.validation)
    pl.concat([held_out, moved]).sort("user_id", "movie_id").write_parquet(other.holdout)
    both = held_out.join(nights.champion.parts.read_rest(), on=["user_id", "movie_id"], how="semi")
    assert len(both) < 0.05 * len(held_out)
    nights.grown.compare(split=other)
    assert nights.grown.rows()["champion", "all", "n"] == len(held_out) - len(both)


def test_hidden_movies_are_not_listed(nights: Nights) -> None:
    learner = nights.grown.night.learner
    champion = open_holdout_model(nights.champion.run, learner)
    candidate = replace(champion, learned=nights.grown.parts.read_rest(), learner=learner)
    network = load_model(nights.grown.model, learner.vocabulary, learner.levels)
    hidden = pl.concat([champion.learned, candidate.learned])
    asked = np.arange(1, N_USERS + 1, dtype=np.int32)
    for maker in (champion, replace(candidate, network=network)):
        lists, n_movies = list_unseen(maker, asked, hidden)
        assert lists.join(hidden, on=["user_id", "movie_id"], how="semi").is_empty()
        assert lists["user_id"].unique().to_list() == asked.tolist()
        assert lists["rank"].max() == 10
        assert n_movies >= lists["movie_id"].n_unique()


def test_the_first_night_has_no_champion(nights: Nights) -> None:
    assert nights.first == Comparison(why_not=nights.first.why_not)
    assert "no run on source has been published" in str(nights.first.why_not)


@contextmanager
def instead(path: Path, content: bytes | None) -> Iterator[None]:
    """Replace the content of the file temporarily, or remove it."""
    whole = path.read_bytes()
    try:
        path.unlink() if content is None else path.write_bytes(content)
        yield
    finally:
        path.write_bytes(whole)


@contextmanager
def sealed_instead(path: Path, content: bytes, run: Run) -> Iterator[None]:
    """Like `instead`, for a file that its run has written with this content."""
    with instead(path, content):
        seal(run)
        yield
    seal(run)


def parquet(columns: dict[str, list[int]]) -> bytes:
    file = BytesIO()
    pl.DataFrame(columns, schema_overrides={"id": pl.Int32}).write_parquet(file)
    return file.getvalue()


DAMAGES = {
    "model/holdout/meta.json": (None, "meta.json is missing"),
    "model/holdout/weights.safetensors": (b"", "does not hold the weights"),
    "model/holdout/features.json": (b"{", "are damaged"),
    "split/train.parquet": (b"PAR1", "parquet"),
    "split/validation.parquet": (None, "No such file"),
    "vocabulary/users.parquet": (b"PAR1", "parquet"),
    "vocabulary/movies.parquet": (parquet({"id": [3, 1, 2], "idx": [1, 2, 3]}), "must be ascending"),
    "ranker/weights.json": (b'{"0": {}}', "ease"),
    "config.json": (b"{", "Expecting property name"),
    "validation/result.json": (None, "No such file"),
}


@pytest.mark.parametrize("path", DAMAGES)
def test_a_champion_with_a_changed_bit_is_not_compared(nights: Nights, path: str) -> None:
    """Most changed bits of weights and of Parquet files are other numbers, which no reader notices."""
    with flipped(nights.champion.run.folder / path, 500):
        found = nights.equal.compare()
    run_id = nights.champion.run.run_id
    assert found.why_not == f"run {run_id} is damaged: {path} is not as it was written: it has another SHA-256"


@pytest.mark.parametrize("path", DAMAGES)
def test_a_missing_or_damaged_champion_is_not_compared(
    nights: Nights, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A run of an older version has no digests."""
    content, words = DAMAGES[path]
    with instead(nights.champion.run.digests, None), instead(nights.champion.run.folder / path, content):
        found = nights.equal.compare()
    assert found == Comparison(why_not=found.why_not, uncompared=nights.champion.run.run_id)
    assert words.lower() in str(found.why_not).lower()
    assert f"no comparison with the champion: {found.why_not}" in caplog.text
    check_gate(nights.equal.metrics, found, nights.equal.run, nights.equal.settings.gate)
    gate = read_json(nights.equal.run.gate)
    assert (gate["not_compared"], gate["uncompared"]) == (found.why_not, {found.uncompared: found.why_not})


def split_again(nights: Nights, folder: Path, seed: int) -> Split:
    everything = pl.concat([nights.equal.parts.read_rest(), pl.read_parquet(nights.equal.parts.holdout)])
    rest, holdout = cut_holdout(everything, nights.equal.settings.split, seed)
    other = Split(folder)
    rest.write_parquet(other.train)
    rest[:0].write_parquet(other.validation)
    holdout.write_parquet(other.holdout)
    return other


def test_after_another_seed_the_rows_that_both_hold_out_are_compared(nights: Nights, tmp_path: Path) -> None:
    """The champion was trained on three quarters of the rows that another seed holds out."""
    other = split_again(nights, tmp_path, seed=1)
    found = nights.equal.compare(split=other)
    assert (found.champion, found.why_not) == (nights.champion.run.run_id, None)
    held_out, both = pl.read_parquet(other.holdout), pl.read_parquet(nights.champion.parts.holdout)
    n_common = len(held_out.join(both, on=["user_id", "movie_id"], how="semi"))
    assert nights.equal.rows()["champion", "all", "n"] == n_common
    assert 0.15 < n_common / len(held_out) < 0.35


def test_a_champion_that_was_trained_on_tonights_holdout_is_not_compared(nights: Nights, tmp_path: Path) -> None:
    other = split_again(nights, tmp_path, seed=1)
    holdout = pl.read_parquet(other.holdout)
    learned = holdout.join(nights.champion.parts.read_rest(), on=["user_id", "movie_id"], how="semi")
    learned.write_parquet(other.holdout)
    found = nights.equal.compare(split=other)
    assert found.uncompared == nights.champion.run.run_id
    assert f"run {found.uncompared} was trained on {len(learned)} of the {len(learned)} ratings" in str(found.why_not)
    assert "more than the limit of 90%" in str(found.why_not)


@pytest.mark.parametrize("kind", ["time", "last"])
def test_a_champion_with_another_kind_of_split_is_not_compared(nights: Nights, kind: str) -> None:
    """It was trained on ratings that are later than those that the other one predicts."""
    config = read_json(nights.champion.run.config)
    content = json.dumps(config | {"split": config["split"] | {"kind": kind}}).encode()
    with sealed_instead(nights.champion.run.config, content, nights.champion.run):
        found = nights.equal.compare()
    assert f"the split of run {nights.champion.run.run_id} was" in str(found.why_not)
    assert found.uncompared == nights.champion.run.run_id


def test_the_reason_why_a_champion_is_not_compared_is_in_runs(nights: Nights) -> None:
    with instead(nights.champion.run.holdout_model / "meta.json", None):
        found = nights.equal.compare()
    check_gate(nights.equal.metrics, found, nights.equal.run, nights.equal.settings.gate)
    outcome = describe_run(nights.equal.run, verdict="published", reason=None)
    champion = nights.champion.run.run_id
    assert outcome.reason == f"not compared with run {champion}, which was published before: {found.why_not}"
    check_gate(nights.champion.metrics, nights.first, nights.champion.run, nights.champion.settings.gate)
    assert describe_run(nights.champion.run, verdict="published", reason=None).reason is None


def move(candidate: Candidate, home: Home) -> Candidate:
    """Return the same night in a copy of its home."""
    run = home.run(candidate.run.run_id)
    old, checked = candidate.run.home.root, candidate.night.checked
    files = {name: value for name, value in vars(checked).items() if isinstance(value, Path)}
    paths: dict[str, Any] = {name: home.root / path.relative_to(old) for name, path in files.items()}
    night = replace(candidate.night, run=run, checked=replace(checked, **paths))
    return replace(candidate, night=night, parts=Split(run.split), model=SavedModel(run.holdout_model))


def test_an_earlier_champion_that_is_better_is_compared_and_kept(nights: Nights, tmp_path: Path) -> None:
    """The second night is published although it is worse by 0.004 stars, which is less than the allowance."""
    home = Home(tmp_path / "home")
    shutil.copytree(nights.champion.run.home.root, home.root)
    first, second, third = (move(one, home) for one in (nights.champion, nights.equal, nights.grown))
    found = second.compare()
    check_gate(second.metrics, found, second.run, second.settings.gate)
    written = second.run.metrics / "compare_champion.json"
    worse = {"slice": "against=champion", "metric": "mae_median_difference"}
    write_json(written, [row | {"value": 0.004} if worse.items() <= row.items() else row for row in read_json(written)])
    write_json(second.run.config, read_json(second.run.config) | {"config_hash": "other"})  # or it would be unchanged
    publish(second)
    seal(second.run)
    found = third.compare()
    assert found.champion == second.run.run_id
    assert found.best is not None
    assert (found.best.champion, found.best.best) == (first.run.run_id, None)
    assert found.best.differences == found.differences  # the first two nights are equal
    rows, model = third.rows(), third.night.choice.model
    assert rows["best", "all", "mae_median"] == rows["champion", "all", "mae_median"]
    assert rows[model, "against=best", "mae_median_difference"] == found.best.overall[0].value
    restored = TypeAdapter(Comparison).validate_python(to_jsonable_python(found))
    assert restored == found
    retain_runs(third.run, HistoryConfig(models=1), GateConfig())
    assert first.run.holdout_model.exists()


def test_a_champion_with_another_rating_scale_is_not_compared(nights: Nights) -> None:
    meta = nights.champion.run.holdout_model / "meta.json"
    halves = read_json(meta) | {"levels": [0.5, 1, 2, 3, 4, 5]}
    with sealed_instead(meta, json.dumps(halves).encode(), nights.champion.run):
        assert "was trained on ratings of 0.5, 1, 2, 3, 4, 5 stars" in str(nights.equal.compare().why_not)


def test_a_champion_with_a_later_as_of_is_not_compared(nights: Nights) -> None:
    """This happens in a backfill."""
    findings = read_json(nights.equal.run.findings)
    with instead(nights.equal.run.findings, None):
        write_json(nights.equal.run.findings, findings | {"as_of": "1999-01-01T00:00:00+00:00"})
        assert "was trained on ratings before" in str(nights.equal.compare().why_not)


def test_a_champion_trained_on_forgotten_users_is_not_compared(nights: Nights) -> None:
    """The time of the training does not matter. Ids without ratings do not count."""
    forget([99_999], nights.equal.run.home)
    try:
        assert nights.equal.compare().champion == nights.champion.run.run_id
        forget([7], nights.equal.run.home)
        assert "was trained on users who asked to be forgotten" in str(nights.equal.compare().why_not)
    finally:
        nights.equal.run.home.forgotten.unlink()


def test_a_forced_night_is_recorded_in_runs(nights: Nights) -> None:
    forcing = nights.equal.settings.gate.model_copy(update={"max_mae_median": 0.01, "force_publish": True})
    check_gate(nights.equal.metrics, nights.equal.compare(), nights.equal.run, forcing)
    outcome = describe_run(nights.equal.run, verdict="published", reason=None)
    assert str(outcome.reason).startswith("published against the gate: holdout MAE 0.")
    assert outcome.champion == nights.champion.run.run_id
    assert describe_run(nights.equal.run, verdict="failed", reason="no disk").reason == "no disk"
