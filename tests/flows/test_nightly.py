"""Whole nights from the command line: what is published, refused, held back, and kept.

Nights whose tests need a process of their own run in one. The others run in this process. They share a home and a
network that is trained quickly, so that the source is checked once and a night takes seconds.
"""

import json
import os
import pty
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pytest
from click.testing import CliRunner
from polars.exceptions import PanicException

from flows.cli.main import main
from flows.launch import alerting
from recsys.errors import DataRefused, GateHeld, HomeBusy, ModelError
from recsys.home import Home
from recsys.ingest.synthetic.synthetic import plant
from recsys.models import MODELS
from recsys.runs.night import night
from recsys.settings import Settings
from tests.support.archives import write_archive
from tests.support.serving import descendants, wait_for

GATE = Path(__file__).parents[2] / "docs" / "evaluation.md"
RECSYS = Path(sys.executable).with_name("recsys")

N_USERS, N_MOVIES, N_RATINGS = 100, 80, 3000  # the quick network still beats the bias model
SOURCE = f"synthetic:{N_USERS}x{N_MOVIES}x{N_RATINGS}"
THEIRS = 700419  # a user whose digits no value in `metrics` contains
OFF_SCALE, UNKNOWN_MOVIE, UNREADABLE = f"{THEIRS},1,9,978300760", "2,99999,4,978300760", "2,2,three stars"
FEW = {2: OFF_SCALE, 1500: UNKNOWN_MOVIE, 3004: UNREADABLE}  # a row in a thousand
N_BROKEN = 158  # of 3158, which is 5%

BARE = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "OMP_NUM_THREADS": "1"}
WIDE_OPEN = {
    "RECSYS_GATE__MAX_MAE_MEDIAN": "5",
    "RECSYS_GATE__MUST_BEAT_BIAS": "false",
    "RECSYS_GATE__MAX_NDCG_BELOW_PARTS": "1",
}

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@dataclass(frozen=True)
class Night:
    """The exit code and the output of `recsys nightly --json`."""

    exit_code: int
    stdout: str
    stderr: str

    @property
    def summary(self) -> Any:
        return json.loads(self.stdout)


@dataclass
class Reader:
    """The answers that a reader got while a night ran."""

    n_reads: int = 0
    seen: list[Any] = field(default_factory=list)  # distinct answers in order of time
    failures: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Terminated:
    """A night that got SIGTERM during its training, and a second night that was started before."""

    home: Home
    second: Night
    n_runs: int  # folders of runs after the second night
    children: dict[int, str]  # processes that the night had started
    exit_code: int
    alerts: list[Any]


@dataclass(frozen=True)
class Interrupted:
    """A night that was interrupted with Ctrl-C during its training, and what its terminal showed."""

    home: Home
    run_id: str
    exit_code: int
    words: str


@pytest.fixture(scope="module", autouse=True)
def alone() -> Iterator[None]:
    """No settings and no Prefect server in the environment; one torch thread, as in a night that runs by itself."""
    import torch

    n_threads = torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith(("RECSYS_", "PREFECT_"))]:
            patch.delenv(name)
        patch.setenv("PREFECT_API_URL", "")
        torch.set_num_threads(1)
        yield
        torch.set_num_threads(n_threads)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """The home that most nights of this file share."""
    return Home(tmp_path_factory.mktemp("flow") / "home")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source of the nights that share a home. A few of its ratings are bad."""
    return write_source(tmp_path_factory.mktemp("good") / "drops", FEW)


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    return write_config(tmp_path_factory.mktemp("quick"), epochs=8)


@pytest.fixture(scope="module")
def long(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Options of a training that takes longer than a test takes to interrupt it."""
    return write_config(tmp_path_factory.mktemp("long"), epochs=5000)


@pytest.fixture(scope="module")
def worse(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Options that make the network learn noise: two epochs at a rate a hundred times too large."""
    return write_config(tmp_path_factory.mktemp("worse"), epochs=2, rate_factor=100)


@pytest.fixture(scope="module")
def first(home: Home, source: Path, quick: list[str]) -> Night:
    """The first night. A copy of its home is kept beside it."""
    night = type_night(home, source, {}, *quick)
    shutil.copytree(home.root, home.root.with_name("after-first"))
    return night


@pytest.fixture(scope="module")
def terminated(
    first: Night, home: Home, source: Path, long: list[str], tmp_path_factory: pytest.TempPathFactory
) -> Terminated:
    folder = tmp_path_factory.mktemp("terminated")
    copy, alerts = copy_of_first(home, folder), folder / "alerts.jsonl"
    line, quiet = [str(RECSYS), *command(copy, source, *long)], subprocess.DEVNULL
    with subprocess.Popen(line, env=BARE | {"RECSYS_ALERT_FILE": str(alerts)}, stdout=quiet, stderr=quiet) as night:
        try:
            wait_for("the training", lambda: is_training(copy))
            children = descendants(night.pid)
            second = type_night(copy, source)
            n_runs = len(list(copy.runs.iterdir()))
            night.terminate()
            exit_code = night.wait(60)
        finally:
            night.kill()
    sent = [json.loads(alert) for alert in alerts.read_text().splitlines()]
    return Terminated(copy, second, n_runs, children, exit_code, sent)


@pytest.fixture(scope="module")
def interrupted(
    first: Night, home: Home, source: Path, long: list[str], tmp_path_factory: pytest.TempPathFactory
) -> Interrupted:
    """The driver of a pseudo-terminal sends the signal."""
    copy = copy_of_first(home, tmp_path_factory.mktemp("interrupted"))
    pid, terminal = pty.fork()
    if not pid:
        os.execve(RECSYS, [str(RECSYS), *command(copy, source, *long)], BARE)
    shown = read_in_background(terminal)
    try:
        wait_for("the training", lambda: is_training(copy))
        os.write(terminal, b"\x03")
        status = wait_for("the end", lambda: ended_with(pid))
    except BaseException:
        os.kill(pid, signal.SIGKILL)
        raise
    (run_id,) = {run.name for run in copy.runs.iterdir()} - {first.summary["run_id"]}
    return Interrupted(copy, run_id, status, " ".join(b"".join(shown).decode().split()))


@pytest.fixture(scope="module")
def before(first: Night, home: Home) -> list[Any]:
    """The recommendations of the first night."""
    return recommendations(home)


@pytest.fixture(scope="module")
def refused(before: list[Any], home: Home, tmp_path_factory: pytest.TempPathFactory) -> Night:
    """A night on a source with 5% of its ratings off the scale."""
    lines = {line: f"{line},1,9,978300760" for line in range(2, N_BROKEN + 2)}  # equal rows would count once
    return type_night(home, write_source(tmp_path_factory.mktemp("broken") / "drops", lines))


@pytest.fixture(scope="module")
def held(before: list[Any], home: Home, source: Path, worse: list[str]) -> Night:
    """A night that breaks a limit on its own error, and the limit on the difference from the champion."""
    return type_night(home, source, WIDE_OPEN | {"RECSYS_GATE__MAX_MAE_MEDIAN": "0.01"}, *worse)


@pytest.fixture(scope="module")
def reader() -> Reader:
    return Reader()


@pytest.fixture(scope="module")
def second(before: list[Any], home: Home, source: Path, quick: list[str], reader: Reader) -> Night:
    """A second night with the source and seed of the first, in another process, while a reader polls.

    Its environment has only PATH, a HOME that is not writable, and a PREFECT_API_URL that points to a port on which
    nothing listens. One limit differs from the first night: with equal settings the lists would not be written again.
    """
    with polling(home, reader):
        variables = {"RECSYS_GATE__MAX_MAE_MEDIAN": "0.89", "PREFECT_API_URL": dead_address()}
        return run_night(home, source, BARE | variables, *quick)


def test_summary_is_one_object(first: Night, home: Home) -> None:
    assert first.exit_code == 0, first.stderr
    summary = first.summary
    assert {"run_id", "as_of", "snapshot", "model", "seconds"} <= summary.keys()
    assert (summary["verdict"], summary["published"], summary["home"]) == ("published", True, str(home.root))
    assert summary["metrics"]["holdout"]["rmse_mean"] < summary["baselines"]["bias"]["rmse_mean"]
    assert summary["rows"] == {table: ask(home, f"select count(*) from {table}")[0][0] for table in summary["rows"]}
    assert summary["seconds"]["publish"] > 0


def test_metrics_have_rows_for_slices_and_for_all(first: Night, home: Home) -> None:
    query = "select slice, value from metrics where split = 'holdout' and model = ? and metric = 'n'"
    counts = dict(ask(home, query.replace("?", f"'{first.summary['model']}'")))
    assert sum(n for name, n in counts.items() if name.startswith("rating=")) == N_RATINGS / 4
    assert any(name.startswith("genre=") for name in counts)
    assert any(name.startswith("predicted=") for name in counts)
    whole = ask(home, "select value from metrics where split = 'holdout' and slice = 'all' and metric = 'ece'")
    assert len(whole) == 1


def test_a_night_with_a_config_file_and_a_split_by_time(tmp_path: Path) -> None:
    shipped = MODELS["softmax"].configure(10_000, 5)
    few = shipped.training.model_copy(update={"epochs": 3})
    config = shipped.model_copy(update={"embedding_dim": 5, "training": few})
    path = tmp_path / "best.json"
    path.write_text(json.dumps({"model": "softmax", "config": config.model_dump(mode="json")}))
    home = Home(tmp_path / "home")
    by_time = WIDE_OPEN | {"RECSYS_SPLIT__KIND": "time"}
    night = type_night(home, SOURCE, by_time, "--model", "auto", "--config", str(path))
    assert night.exit_code == 0, night.stderr
    assert night.summary["model"] == "softmax"
    assert night.summary["metrics"].keys() == {"validation", "holdout_time"}
    settings = json.loads((home.runs / night.summary["run_id"] / "config.json").read_text())
    assert settings["config"]["config"]["embedding_dim"] == 5


def test_tables_are_of_this_run(first: Night, home: Home) -> None:
    run_id = first.summary["run_id"]
    users = ask(home, "select run_id, count(distinct user_id), max(rank) from recommendations group by run_id")
    assert users == [(run_id, N_USERS, 10)]
    assert ask(home, "select run_id, verdict, published, reason from runs") == [(run_id, "published", True, None)]


def test_a_few_broken_rows_do_not_stop_the_night(first: Night, home: Home) -> None:
    """One row in a thousand is broken. Exactly these rows are quarantined."""
    rules = {OFF_SCALE: "rating_on_scale", UNKNOWN_MOVIE: "rating_movie_known", UNREADABLE: "unreadable"}
    query = "select source_line, rule from quarantine where run_id = $1 order by source_line"
    assert ask(home, query, first.summary["run_id"]) == [(line, rules[text]) for line, text in sorted(FEW.items())]


def test_broken_data_are_refused(refused: Night, home: Home, before: list[Any]) -> None:
    assert refused.exit_code == 3
    assert (refused.summary["verdict"], refused.summary["published"]) == ("data refused", False)
    assert "is refused: " in refused.stderr
    assert "Traceback" not in refused.stderr
    assert recommendations(home) == before


def test_the_reason_of_a_refusal_is_in_runs(refused: Night, home: Home) -> None:
    run_id = refused.summary["run_id"]
    recorded = ask(home, "select verdict, published, reason from runs where run_id = $1", run_id)
    assert recorded == [("data refused", False, refused.summary["reason"])]
    counted = "select source_table, rule, count(*), max(source_line) from quarantine where run_id = $1 group by all"
    assert ask(home, counted, run_id) == [("ratings", "rating_on_scale", N_BROKEN, N_BROKEN + 1)]


def test_poor_model_is_held_back(held: Night, home: Home, before: list[Any]) -> None:
    assert held.exit_code == 4
    assert (held.summary["verdict"], held.summary["published"]) == ("held back", False)
    assert "is above the gate 0.0100" in held.stderr
    assert recommendations(home) == before
    errors = (
        "select value from metrics where run_id = $1 and model = 'ordinal' and metric = 'mae_median' and slice = 'all'"
    )
    assert [0.3 < value < 4 for (value,) in ask(home, errors, held.summary["run_id"])] == [True, True]


def test_a_model_worse_than_the_champion_is_held_back(held: Night, first: Night, home: Home) -> None:
    """SQL reads the verdict, the reason, the champion and the differences."""
    run_id, champion = held.summary["run_id"], first.summary["run_id"]
    assert f"holdout MAE is worse than that of run {champion} by 0." in held.stderr
    assert "RECSYS_GATE__MAX_MAE_REGRESSION=0." in held.stderr
    recorded = ask(home, "select verdict, published, champion, reason from runs where run_id = $1", run_id)
    assert recorded == [("held back", False, champion, held.summary["reason"])]
    (query,) = re.findall(
        r"### Reading the verdict.*?```sql\n(.*?)```", GATE.read_text(encoding="utf-8"), flags=re.DOTALL
    )
    compared = [row for row in ask(home, query) if row[0] == run_id and row[2] == "against=champion"]
    assert [row[1:4] for row in compared] == [
        ("held back", "against=champion", "mae_median_difference"),
        ("held back", "against=champion", "mae_median_difference_low"),
    ]
    assert all(row[-1] > 0.005 for row in compared)
    beside = "select value from metrics where run_id = $1 and model = $2 and slice = 'all' and metric = 'mae_median'"
    assert ask(home, beside + " and split = 'holdout'", run_id, "champion") == ask(
        home, beside + " and split = 'holdout'", champion, "ordinal"
    )


def test_a_model_equal_to_the_champion_passes_the_gate(second: Night, first: Night, home: Home) -> None:
    assert second.exit_code == 0, second.stderr
    run_id = second.summary["run_id"]
    ((verdict, champion),) = ask(home, "select verdict, champion from runs where run_id = $1", run_id)
    assert (verdict, champion) == ("published", first.summary["run_id"])
    query = "select distinct value from metrics where run_id = $1 and slice like 'against=champion%' and metric like $2"
    assert ask(home, query, run_id, "%difference%") == [(0.0,)]


def test_a_reader_sees_one_complete_run_at_a_time(second: Night, first: Night, reader: Reader) -> None:
    assert reader.failures == []
    assert reader.n_reads > 10
    run_ids = (first.summary["run_id"], second.summary["run_id"])
    assert reader.seen == [[(run_id, N_USERS * 10)] for run_id in run_ids]


def test_same_seed_gives_the_same_table(second: Night, home: Home, before: list[Any]) -> None:
    assert second.exit_code == 0, second.stderr
    assert [row[:-1] for row in recommendations(home)] == [row[:-1] for row in before]


def test_a_night_is_published_against_the_gate(
    second: Night,
    home: Home,
    source: Path,
    worse: list[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """This test replaces the published tables, so it is the last one on the shared home."""
    night = type_night(home, source, WIDE_OPEN, *worse, "--force-publish")
    assert night.exit_code == 0, night.stderr
    assert "ordinal is published against the gate: holdout MAE is worse" in caplog.text
    run_id = night.summary["run_id"]
    ((verdict, reason),) = ask(home, "select verdict, reason from runs where run_id = $1", run_id)
    assert (verdict, reason) == ("published", night.summary["reason"])
    assert reason.startswith("published against the gate: holdout MAE is worse than that of run ")
    assert {row[-1] for row in recommendations(home)} == {run_id}


def test_the_next_night_removes_a_forgotten_user(
    first: Night, home: Home, source: Path, quick: list[str], tmp_path: Path
) -> None:
    """The drops still have the user's rows. Neither the published tables nor files of earlier nights do."""
    home = copy_of_first(home, tmp_path)
    assert traces(home, THEIRS) == {
        "recommendations": 10, "recommendation_history": 10, "users": 1, "user_stats": 1, "quarantine": 1
    }  # fmt: skip

    assert CliRunner().invoke(main, ["forget", str(THEIRS), "--home", str(home.root)]).exit_code == 0
    drops = Path(shutil.copytree(source, tmp_path / "drops"))
    late = "user_id,movie_id,rating,rated_at\n2,1,5,2000-12-31T23:59:58\n"
    (drops / "ratings-late.csv").write_text(late, encoding="utf-8")
    second = type_night(home, drops, WIDE_OPEN, *quick)

    assert second.exit_code == 0, second.stderr
    assert traces(home, THEIRS) == {}
    assert ask(home, "select count(distinct user_id) from recommendations") == [(N_USERS - 1,)]
    assert ask(home, "select count(*) from recommendations where user_id = 2 and movie_id = 1") == [(0,)]
    assert [path.name for path in home.runs.iterdir()] == [second.summary["run_id"]]
    assert [path.name for path in home.snapshots.glob("canonical/[!.]*")] == [second.summary["snapshot"]]
    assert ask(home, "select count(*) from runs") == [(2,)]


def test_a_night_without_a_server_logs_one_line_about_it(interrupted: Interrupted, second: Night) -> None:
    assert interrupted.words.count("Prefect") == 1
    assert "no Prefect server is configured; the night runs without one" in interrupted.words
    (dead,) = [line for line in second.stderr.splitlines() if "Prefect" in line]
    assert re.search(r"the Prefect server at http://127\.0\.0\.1:\d+/api does not answer; the night runs without", dead)


def test_the_first_line_names_the_night(interrupted: Interrupted, source: Path) -> None:
    assert f"night on {source}, tables in {interrupted.home.root}" in " ".join(interrupted.words.split()[:20])


def test_a_second_night_at_the_same_time_is_refused(terminated: Terminated) -> None:
    assert terminated.second.exit_code == 1
    assert f"is running on {terminated.home.root}" in terminated.second.stderr
    assert terminated.n_runs == 2, "those of the first night and of the one that is running"


def test_sigterm_records_the_night_as_failed_and_sends_an_alert(terminated: Terminated) -> None:
    """A machine that shuts down sends SIGTERM. The alert names the step."""
    assert terminated.exit_code == 143
    assert terminated.children == {}
    assert ask(terminated.home, "select verdict from runs order by run_id") == [("published",), ("failed",)]
    (alert,) = terminated.alerts
    assert (alert["kind"], alert["step"]) == ("crashed", "choose_network")


def test_ctrl_c_in_a_terminal_says_how_to_resume(interrupted: Interrupted) -> None:
    """docs/benchmarks.md has the seconds."""
    assert interrupted.exit_code == 130
    assert f"interrupted in step choose_network of run {interrupted.run_id}" in interrupted.words
    assert "run the same command again" in interrupted.words
    assert "Traceback" not in interrupted.words


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (DataRefused, "data refused"),
        (GateHeld, "held back"),
        (ModelError, "failed"),
        (ZeroDivisionError, "failed"),
        (PanicException, "failed"),
        (SystemExit, "crashed"),
    ],
)
def test_a_night_that_fails_without_a_server_sends_its_alert(
    kind: type[BaseException], expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alerts = tmp_path / "alerts.jsonl"
    monkeypatch.setenv("RECSYS_ALERT_FILE", str(alerts))
    settings = Settings(home=tmp_path / "home")
    with pytest.raises(kind), alerting("nightly", settings), night(settings):
        raise kind("no good")
    (alert,) = map(json.loads, alerts.read_text().splitlines())
    assert alert["kind"] == expected
    assert "no good" in alert["reason"]
    assert alert["run_id"]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), HomeBusy("busy")], ids=repr)
def test_no_alert_if_a_person_is_present(error: BaseException, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    alerts = tmp_path / "alerts.jsonl"
    monkeypatch.setenv("RECSYS_ALERT_FILE", str(alerts))
    with pytest.raises(type(error)), alerting("nightly", Settings(home=tmp_path)):
        raise error
    assert not alerts.exists()


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--model", "oracle"], "'oracle' is not one of 'auto', 'ordinal', 'ordinal_basic'"),
        (["--n", "0"], "n = 0: Input should be greater than or equal to 1"),
        (["--as-of", "someday"], "--as-of"),
        (["--source", "ml-7"], "--source ml-7 is neither a dataset nor a path that exists"),
    ],
)
def test_wrong_usage(options: list[str], complaint: str, tmp_path: Path) -> None:
    night = type_night(Home(tmp_path), SOURCE, {}, *options)
    assert night.exit_code == 2
    assert complaint in night.stderr
    assert "Traceback" not in night.stderr


def dead_address() -> str:
    """The address of a Prefect API at a port on which nothing listens."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{listener.getsockname()[1]}/api"


def command(home: Home, source: str | Path, *options: str) -> list[str]:
    fixed = ("--model", "ordinal", "--json")
    return ["nightly", "--source", str(source), "--home", str(home.root), *fixed, *options]


def run_night(home: Home, source: Path, environment: Mapping[str, str], *options: str) -> Night:
    """Runs a night in a separate process."""
    line = [str(RECSYS), *command(home, source, *options)]
    done = subprocess.run(line, env=environment, capture_output=True, text=True, check=False)
    return Night(done.returncode, done.stdout, done.stderr)


def type_night(home: Home, source: str | Path, variables: Mapping[str, str] | None = None, *options: str) -> Night:
    """Runs a night in this process."""
    done = CliRunner().invoke(main, command(home, source, *options), env=variables)
    return Night(done.exit_code, done.stdout, done.stderr)


def copy_of_first(home: Home, folder: Path) -> Home:
    """A copy of the home as the first night left it."""
    return Home(Path(shutil.copytree(home.root.with_name("after-first"), folder / "home")))


def is_training(home: Home) -> bool:
    return any("choose_network" in path.read_text() for path in home.root.glob("runs/*/underway.json"))


def ended_with(pid: int) -> int | None:
    """The exit code of a child process; None while it runs."""
    ended, status = os.waitpid(pid, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if ended else None


def read_in_background(terminal: int) -> list[bytes]:
    """Reads the terminal in a thread, because a full buffer would block the night. Returns the growing output."""
    shown: list[bytes] = []

    def read() -> None:
        with suppress(OSError):  # the other side is closed
            while block := os.read(terminal, 4096):
                shown.append(block)

    threading.Thread(target=read, daemon=True).start()
    return shown


def write_source(path: Path, broken_lines: Mapping[int, str]) -> Path:
    """Writes good ratings as drops, with `broken_lines` inserted. User 1 is called THEIRS."""
    planted = plant(N_USERS, N_MOVIES, N_RATINGS)
    ratings, users = (
        table.with_columns(pl.col("user_id").replace(1, THEIRS)) for table in (planted.ratings, planted.users)
    )
    return write_archive(path, "canonical", ratings, planted.movies, users, broken_lines)


def write_config(folder: Path, epochs: int, rate_factor: float = 1) -> list[str]:
    """Options of a small ordinal network, with the learning rate multiplied by `rate_factor`."""
    shipped = MODELS["ordinal"].configure(N_RATINGS, 5)
    rate = rate_factor * shipped.training.learning_rate
    training = shipped.training.model_copy(update={"epochs": epochs, "learning_rate": rate})
    config = type(shipped).model_validate(dict(shipped) | {"embedding_dim": 8, "training": training})
    path = folder / "config.json"
    path.write_text(json.dumps({"model": "ordinal", "config": config.model_dump(mode="json")}))
    return ["--config", str(path)]


def ask(home: Home, query: str, *params: str) -> list[Any]:
    with duckdb.connect(home.warehouse, read_only=True) as connection:
        return connection.execute(query, params).fetchall()


def recommendations(home: Home) -> list[Any]:
    """All rows of `recommendations`, with run_id as the last column."""
    return ask(home, "select * exclude run_id, run_id from recommendations order by user_id, rank")


def traces(home: Home, user_id: int) -> dict[str, int]:
    """For each table that mentions the id, the number of rows that do."""
    tables = [name for (name,) in ask(home, "select table_name from duckdb_tables()")]
    found = {
        table: ask(home, f"select count(*) from {table} where contains(to_json({table})::varchar, $1)", str(user_id))
        for table in tables
    }
    return {table: count for table, [(count,)] in found.items() if count}


@contextmanager
def polling(home: Home, reader: Reader) -> Iterator[None]:
    """Reads in a thread until the end of the block, and once more after it."""
    done = threading.Event()

    def poll() -> None:
        over = False
        while not over:
            over = done.wait(0.2)  # often enough to see each run, and rarely enough to leave time to the publisher
            read_once(home, reader)

    thread = threading.Thread(target=poll)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def read_once(home: Home, reader: Reader) -> None:
    reader.n_reads += 1
    try:
        answer = ask(home, "select run_id, count(*) from recommendations group by run_id")
    except duckdb.Error as error:
        reader.failures.append(repr(error))
    else:
        reader.seen += [answer] if answer not in reader.seen else []
