"""A step of a night: its kept result, retries and time limit. tests/flows kills whole nights."""

import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from polars.exceptions import PanicException

from recsys.checks.check import Checked
from recsys.errors import ModelError, SourceError, SourceOutage, StepTimeout
from recsys.files import read_json, write_json
from recsys.home import Home, Run
from recsys.ingest.fetch.fetch import Archive
from recsys.metrics.differences import Comparison, Difference
from recsys.models import MODELS
from recsys.nightly import STEPS
from recsys.rank.weights import Weights
from recsys.runs.step import Executor, Step, restore, timed
from recsys.split.cut import Split
from recsys.train.learn import Choice
from recsys.warehouse.outcome import MetricRow, Published


@pytest.fixture
def run(home: Home) -> Run:
    run = home.run("20261121T030000Z")
    write_json(run.inputs, {"source": "ml-100k"})
    return run


class Counted:
    """A step's function that counts its calls. It raises each of `errors` once before it returns `result`."""

    def __init__(self, *errors: BaseException, result: Any = 7) -> None:
        self.errors = list(errors)
        self.result = result
        self.calls = 0

    def step(self, **options: Any) -> Step[[], int]:
        def work() -> int:
            self.calls += 1
            if self.errors:
                raise self.errors.pop(0)
            number: int = self.result
            return number

        return Step(work, "work", **options)


def test_a_finished_step_is_not_executed_again(run: Run) -> None:
    work = Counted()
    assert [Executor(run)(work.step()), Executor(run)(work.step())] == [7, 7]
    assert work.calls == 1


def test_a_panic_is_an_error_of_its_step(run: Run) -> None:
    """A panic of polars is no Exception, so Prefect would take it for a crash, and no other step would handle it."""
    work = Counted(PanicException("called `Option::unwrap()` on a `None` value"))
    with pytest.raises(RuntimeError, match=r"^a library panicked: called `Option::unwrap\(\)`"):
        Executor(run)(work.step())


def test_a_failed_step_is_executed_again(run: Run) -> None:
    work = Counted(ModelError("diverged"))
    with pytest.raises(ModelError):
        Executor(run)(work.step())
    assert Executor(run)(work.step()) == 7


def test_a_step_without_a_kept_result_is_executed_each_time(run: Run) -> None:
    work = Counted()
    for _ in range(2):
        Executor(run)(work.step(is_kept=False))
    assert work.calls == 2
    assert not run.results.exists()


def test_other_inputs_are_computed_again(run: Run) -> None:
    work = Counted()
    Executor(run)(work.step())
    write_json(run.inputs, {"source": "ml-1m"})
    Executor(run)(work.step())
    assert work.calls == 2


@pytest.mark.parametrize("damage", [b"", b"{", b'{"result": "seven"}', b'{"other": 7}', b"\xff\xfe"], ids=repr)
def test_a_damaged_result_is_computed_again(run: Run, damage: bytes, caplog: pytest.LogCaptureFixture) -> None:
    work = Counted()
    Executor(run)(work.step())
    (path,) = run.results.iterdir()
    path.write_bytes(damage)
    assert Executor(run)(work.step()) == 7
    assert work.calls == 2
    assert f"{path} cannot be read" in caplog.text
    assert read_json(path) == {"result": 7}


def test_only_an_outage_is_retried(run: Run) -> None:
    outages = Counted(SourceOutage("no route to host"), SourceOutage("no route to host"))
    assert Executor(run)(outages.step(retry_delays=(0.0, 0.0))) == 7
    assert outages.calls == 3
    mistake = Counted(SourceError("no such data set"))
    with pytest.raises(SourceError):
        Executor(run)(mistake.step(retry_delays=(0.0, 0.0), is_kept=False))
    assert mistake.calls == 1


def test_the_last_outage_is_raised(run: Run) -> None:
    work = Counted(*(SourceOutage(f"attempt {n}") for n in range(3)))
    with pytest.raises(SourceOutage, match="attempt 1"):
        Executor(run)(work.step(retry_delays=(0.0,)))


def test_a_step_that_exceeds_its_limit_is_stopped(run: Run) -> None:
    began = time.monotonic()

    def dawdle() -> None:
        while time.monotonic() < began + 60:
            time.sleep(0.05)

    with pytest.raises(StepTimeout, match=r"step dawdle exceeded its limit of 0\.3 seconds"):
        Executor(run)(Step(dawdle, "dawdle", hours=0.3 / 3600))
    assert time.monotonic() - began < 30


def test_an_error_that_the_time_limit_causes_is_reported_as_the_limit(run: Run) -> None:
    """DuckDB raises an error of its own when a signal interrupts a query."""

    def query() -> None:
        try:
            time.sleep(60)
        except StepTimeout:
            raise RuntimeError("Query interrupted") from None

    with pytest.raises(StepTimeout, match="step query"):
        Executor(run)(Step(query, "query", hours=0.3 / 3600))


def test_a_step_within_its_limit_leaves_no_alarm(run: Run) -> None:
    import signal

    before = signal.getsignal(signal.SIGALRM)
    Executor(run)(Counted().step(hours=1))
    assert signal.getsignal(signal.SIGALRM) is before


def test_seconds_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", logger="recsys"):
        assert timed(len, "count")("abc") == 3
    assert [record.getMessage()[:5] for record in caplog.records] == ["count", "count"]


CONFIG = MODELS["softmax"].configure(10_000, 5)
ROW = MetricRow("ordinal", "holdout", "all", "mae_median", 0.63)
FILE = Path("/home/file.parquet")
RESULTS: dict[str, Any] = {
    "fetch_archive": Archive("x.zip", "ml-100k", "ab", "local file", Path("/data/x.zip"), "ml-100k"),
    "check_ratings": Checked(
        **dict.fromkeys(("ratings", "movies", "users", "tags", "links", "quarantine"), FILE),
        as_of=datetime(1998, 4, 22, tzinfo=UTC),
        rating_scale=(1.0, 2.0),
        counts={"ratings": 5},
    ),
    "split": Split(Path("/home/split")),
    "choose_network": Choice("softmax", CONFIG, 3, {"softmax": {"mae_median": 0.7}}),
    "weigh_parts": Weights({size: {"stars": 0.5, "ease": 1.5} for size in (0, 1, 3, 5, 10, 20)}),
    "evaluate": (ROW, MetricRow("ordinal", "holdout", "all", "ndcg_at_10", float("inf"))),
    "compare_champion": Comparison("r1", None, (Difference("mae_median", "all", 0.1, 0.0, 0.2),), (0.2, 0.3)),
    "check_gate": None,
    "score": Path("/home/recommendations.parquet"),
    "publish": Published("published", None, {"runs": 1}),
    "retain_runs": 12,
}


@pytest.mark.parametrize("name", RESULTS)
def test_results_are_the_same_after_json(run: Run, name: str) -> None:
    (step,) = (step for step in STEPS if step.name == name)
    executor = Executor(run)
    executor.attempt(Step(lambda: RESULTS[name], name))
    kept = executor.find_kept(step)
    assert kept is not None
    assert kept.value == RESULTS[name]
    assert type(kept.value) is type(RESULTS[name])
    if name == "weigh_parts":
        assert [*kept.value.by_size] == [*RESULTS[name].by_size], "weights are looked up in this order"


def test_every_kept_step_of_a_night_has_a_result_type_that_json_can_hold() -> None:
    """A type that pydantic cannot serialise raises here instead of when a night resumes."""
    from typing import get_type_hints

    from pydantic import TypeAdapter

    assert len(STEPS) == 18
    for step in STEPS:
        if step.is_kept and not step.restore:
            TypeAdapter(get_type_hints(step.function)["return"])
    with pytest.raises(ValueError, match="int"):
        restore(Counted().step(), "seven")
