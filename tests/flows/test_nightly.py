"""Whole nights from the command line: what is published, refused, held back, and kept.

Nights whose tests need a process of their own run in one. The others run in this process, which has imported Prefect.
"""

import json
import multiprocessing
import os
import pty
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pytest
from click.testing import CliRunner

from flows.cli.main import main
from flows.launch import alerting
from recsys.errors import DataRefused, GateHeld, HomeBusy, ModelError
from recsys.home import Home
from recsys.ingest.synthetic.synthetic import plant
from recsys.runs.night import night
from recsys.settings import Settings
from tests.support.archives import write_archive
from tests.support.serving import descendants, wait_for

GATE = Path(__file__).parents[2] / "docs" / "evaluation.md"
RECSYS = Path(sys.executable).with_name("recsys")
SPAWN = multiprocessing.get_context("spawn")

N_USERS, N_MOVIES, N_RATINGS = 100, 80, 3000  # training takes seconds, and the network still beats the bias model
SOURCE = f"synthetic:{N_USERS}x{N_MOVIES}x{N_RATINGS}"
LONG = "synthetic:800x500x80000"  # a night that trains for longer than a test takes to interrupt it
OFF_SCALE, UNKNOWN_MOVIE, UNREADABLE = "1::1::9::978300760", "1::99999::4::978300760", "1::2::three stars"
FEW = {1: OFF_SCALE, 1500: UNKNOWN_MOVIE, 3003: UNREADABLE}  # a row in a thousand
N_BROKEN = 158  # of 3158, which is 5%

BARE = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "OMP_NUM_THREADS": "1"}
WIDE_OPEN = {"RECSYS_GATE__MAX_MAE_MEDIAN": "5", "RECSYS_GATE__MUST_BEAT_BIAS": "false"}

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


@dataclass(frozen=True)
class Watched:
    """A night, and the answers that a reader got while it ran."""

    night: Night
    n_reads: int
    seen: list[Any]  # distinct answers in order of time
    failures: list[str]


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
def source(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The source of the nights that share a home. A few of its ratings are bad."""
    return str(write_source(tmp_path_factory.mktemp("good") / "ml-0.1-percent", FEW))


@pytest.fixture(scope="module")
def first(home: Home, source: str) -> Night:
    """The first night. Its environment has only PATH, and a HOME that is not writable."""
    return run_night(home, source, BARE)


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A source with 5% of its ratings off the scale."""
    return write_source(
        tmp_path_factory.mktemp("broken") / "ml-5-percent", dict.fromkeys(range(1, N_BROKEN + 1), OFF_SCALE)
    )


@pytest.fixture(scope="module")
def before(first: Night, home: Home) -> list[Any]:
    """The recommendations of the first night."""
    return recommendations(home)


@pytest.fixture(scope="module")
def refused(before: list[Any], home: Home, broken: Path) -> Night:
    return type_night(home, str(broken))


@pytest.fixture(scope="module")
def held(before: list[Any], home: Home, source: str) -> Night:
    return type_night(home, source, {"RECSYS_GATE__MAX_MAE_MEDIAN": "0.01"})


@pytest.fixture(scope="module")
def worse(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Options that make the network learn little: an L2 penalty a thousand times too large, and two epochs."""
    from recsys.models import MODELS  # not above: the reader of `watched` imports this file, and does not need torch

    config = MODELS["ordinal"].configure(N_RATINGS, 5)
    broken = {name: 1000 * value if name.startswith("l2") and value else value for name, value in config}
    path = tmp_path_factory.mktemp("worse") / "broken.json"
    broken["training"] = config.training.model_copy(update={"epochs": 2})
    config = type(config).model_validate(broken)
    path.write_text(json.dumps({"model": "ordinal", "config": config.model_dump(mode="json")}))
    return ["--config", str(path)]


@pytest.fixture(scope="module")
def worse_night(before: list[Any], home: Home, source: str, worse: list[str]) -> Night:
    """A night that only the comparison with the champion can hold back: the other limits are wide open."""
    return type_night(home, source, WIDE_OPEN, *worse)


@pytest.fixture(scope="module")
def watched(before: list[Any], home: Home, source: str) -> Watched:
    """A second night with the source and seed of the first, in another process, while a reader polls.

    PREFECT_API_URL points to a port on which nothing listens. One limit differs from the first night: with equal
    settings the lists would not be written again.
    """
    done = SPAWN.Event()
    answer, question = SPAWN.Pipe(duplex=False)
    reader = SPAWN.Process(target=poll, args=(home, done, question), daemon=True)
    reader.start()
    assert answer.recv() == "reading"
    night = run_night(home, source, BARE | {"RECSYS_GATE__MAX_MAE_MEDIAN": "0.89", "PREFECT_API_URL": dead_address()})
    done.set()
    n_reads, seen, failures = answer.recv()
    reader.join()
    return Watched(night, n_reads, seen, failures)


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
    from recsys.models import MODELS  # not above: the reader of `watched` imports this file, and does not need torch

    shipped = MODELS["softmax"].configure(10_000, 5)
    few = shipped.training.model_copy(update={"epochs": 3})
    config = shipped.model_copy(update={"embedding_dim": 5, "training": few})
    path = tmp_path / "best.json"
    path.write_text(json.dumps({"model": "softmax", "config": config.model_dump(mode="json")}))
    home = Home(tmp_path / "home")
    by_time = {"RECSYS_SPLIT__KIND": "time", "RECSYS_GATE__MUST_BEAT_BIAS": "false"}
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
    assert ask(home, counted, run_id) == [("ratings", "rating_on_scale", N_BROKEN, N_BROKEN)]


def test_poor_model_is_held_back(held: Night, home: Home, before: list[Any]) -> None:
    assert held.exit_code == 4
    assert (held.summary["verdict"], held.summary["published"]) == ("held back", False)
    assert "is above the gate 0.0100" in held.stderr
    assert recommendations(home) == before
    errors = (
        "select value from metrics where run_id = $1 and model = 'ordinal' and metric = 'mae_median' and slice = 'all'"
    )
    assert [0.3 < value < 1 for (value,) in ask(home, errors, held.summary["run_id"])] == [True, True]


def test_a_model_worse_than_the_champion_is_held_back(
    worse_night: Night, first: Night, home: Home, before: list[Any]
) -> None:
    """SQL reads the verdict, the reason, the champion and the differences."""
    assert worse_night.exit_code == 4
    run_id, champion = worse_night.summary["run_id"], first.summary["run_id"]
    assert f"holdout MAE is worse than that of run {champion} by 0." in worse_night.stderr
    assert "RECSYS_GATE__MAX_MAE_REGRESSION=0." in worse_night.stderr
    assert recommendations(home) == before
    recorded = ask(home, "select verdict, published, champion, reason from runs where run_id = $1", run_id)
    assert recorded == [("held back", False, champion, worse_night.summary["reason"])]
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


def test_a_model_equal_to_the_champion_passes_the_gate(watched: Watched, first: Night, home: Home) -> None:
    assert watched.night.exit_code == 0, watched.night.stderr
    run_id = watched.night.summary["run_id"]
    ((verdict, champion),) = ask(home, "select verdict, champion from runs where run_id = $1", run_id)
    assert (verdict, champion) == ("published", first.summary["run_id"])
    query = "select distinct value from metrics where run_id = $1 and metric like '%difference%'"
    assert ask(home, query, run_id) == [(0.0,)]


def test_a_reader_sees_one_complete_run_at_a_time(watched: Watched, first: Night) -> None:
    assert watched.failures == []
    assert watched.n_reads > 20
    run_ids = (first.summary["run_id"], watched.night.summary["run_id"])
    assert watched.seen == [[(run_id, N_USERS * 10)] for run_id in run_ids]


def test_same_seed_gives_the_same_table(watched: Watched, home: Home, before: list[Any]) -> None:
    assert watched.night.exit_code == 0, watched.night.stderr
    assert [row[:-1] for row in recommendations(home)] == [row[:-1] for row in before]


def test_a_night_is_published_against_the_gate(
    watched: Watched,
    home: Home,
    source: str,
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


def test_the_next_night_removes_a_forgotten_user(tmp_path: Path) -> None:
    """The drops still have the user's rows. Neither the published tables nor files of earlier nights do."""
    planted = plant(N_USERS, N_MOVIES, N_RATINGS)
    theirs = 700419  # digits that no value in `metrics` contains
    ratings = planted.ratings.with_columns(pl.col("user_id").replace(1, theirs))
    users = planted.users.with_columns(pl.col("user_id").replace(1, theirs))
    broken = {2: f"{theirs},1,99,978300760"}
    drops = write_archive(tmp_path / "drops", "canonical", ratings, planted.movies, users, broken)
    home = Home(tmp_path / "home")
    first = type_night(home, str(drops))
    assert first.exit_code == 0, first.stderr
    assert traces(home, theirs) == {
        "recommendations": 10, "recommendation_history": 10, "users": 1, "quarantine": 1
    }  # fmt: skip

    assert CliRunner().invoke(main, ["forget", str(theirs), "--home", str(home.root)]).exit_code == 0
    late = "user_id,movie_id,rating,rated_at\n2,1,5,2000-12-31T23:59:58\n"
    (drops / "ratings-late.csv").write_text(late, encoding="utf-8")
    second = type_night(home, str(drops))

    assert second.exit_code == 0, second.stderr
    assert traces(home, theirs) == {}
    assert ask(home, "select count(distinct user_id) from recommendations") == [(N_USERS - 1,)]
    assert ask(home, "select count(*) from recommendations where user_id = 2 and movie_id = 1") == [(0,)]
    assert [path.name for path in home.runs.iterdir()] == [second.summary["run_id"]]
    assert [path.name for path in home.snapshots.glob("canonical/[!.]*")] == [second.summary["snapshot"]]
    assert ask(home, "select count(*) from runs") == [(2,)]


def test_a_night_without_a_server_logs_one_line_about_it(first: Night, watched: Watched) -> None:
    none, dead = ([line for line in night.stderr.splitlines() if "Prefect" in line] for night in (first, watched.night))
    assert [line.partition(" ")[2] for line in none] == ["no Prefect server is configured; the night runs without one"]
    assert len(dead) == 1
    assert re.search(
        r"the Prefect server at http://127\.0\.0\.1:\d+/api does not answer; the night runs without", dead[0]
    )


def test_the_first_line_names_the_night(first: Night, source: str) -> None:
    assert f"night on {source}, tables in " in first.stderr.splitlines()[0]


def test_a_second_night_at_the_same_time_is_refused(tmp_path: Path) -> None:
    """The other night gets SIGSTOP as soon as it holds the lock."""
    home = Home(tmp_path / "home")
    with started(home, SOURCE) as other:
        wait_for("the other night", lambda: any(home.root.glob("runs/*/config.json")))
        other.send_signal(signal.SIGSTOP)
        night = type_night(home, SOURCE)
    assert night.exit_code == 1
    assert f"is running on {home.root}" in night.stderr
    assert len(list(home.runs.iterdir())) == 1


def test_sigterm_records_the_night_as_failed_and_sends_an_alert(tmp_path: Path) -> None:
    """A machine that shuts down sends SIGTERM. The alert names the step."""
    home, alerts = Home(tmp_path / "home"), tmp_path / "alerts.jsonl"
    with started(home, LONG, RECSYS_ALERT_FILE=str(alerts)) as night:
        wait_for("the training", lambda: is_training(home))
        assert descendants(night.pid) == {}
        night.terminate()
        assert night.wait(60) == 143
    assert ask(home, "select verdict from runs") == [("failed",)]
    (alert,) = map(json.loads, alerts.read_text().splitlines())
    assert (alert["kind"], alert["step"]) == ("crashed", "choose_network")


def test_ctrl_c_in_a_terminal_says_how_to_resume(tmp_path: Path) -> None:
    """The driver of a pseudo-terminal sends the signal. docs/benchmarks.md has the seconds."""
    home = Home(tmp_path / "home")
    pid, terminal = pty.fork()
    if not pid:
        os.execve(RECSYS, [str(RECSYS), *command(home, LONG)], BARE)
    shown = read_in_background(terminal)
    try:
        wait_for("the training", lambda: is_training(home))
        os.write(terminal, b"\x03")
        status = wait_for("the end", lambda: ended_with(pid))
    except BaseException:
        os.kill(pid, signal.SIGKILL)
        raise
    assert status == 130
    (run,) = home.runs.iterdir()
    words = " ".join(b"".join(shown).decode().split())
    assert f"interrupted in step choose_network of run {run.name}" in words
    assert "run the same command again" in words
    assert "Traceback" not in words


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (DataRefused, "data refused"),
        (GateHeld, "held back"),
        (ModelError, "failed"),
        (ZeroDivisionError, "failed"),
    ],
)
def test_a_night_that_fails_without_a_server_sends_its_alert(
    kind: type[Exception], expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
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
        (["--as-of", "yesterday"], "--as-of"),
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


def command(home: Home, source: str, *options: str) -> list[str]:
    fixed = ("--model", "ordinal", "--json")
    return ["nightly", "--source", source, "--home", str(home.root), *fixed, *options]


def run_night(home: Home, source: str, environment: Mapping[str, str], *options: str) -> Night:
    """Runs a night in a separate process."""
    line = [str(RECSYS), *command(home, source, *options)]
    done = subprocess.run(line, env=environment, capture_output=True, text=True, check=False)
    return Night(done.returncode, done.stdout, done.stderr)


def type_night(home: Home, source: str, variables: Mapping[str, str] | None = None, *options: str) -> Night:
    """Runs a night in this process."""
    done = CliRunner().invoke(main, command(home, source, *options), env=variables)
    return Night(done.exit_code, done.stdout, done.stderr)


@contextmanager
def started(home: Home, source: str, **variables: str) -> Iterator["subprocess.Popen[bytes]"]:
    """Starts a night in a separate process, which is killed if it still runs at the end of the block."""
    line, quiet = [str(RECSYS), *command(home, source)], subprocess.DEVNULL
    with subprocess.Popen(line, env=BARE | variables, stdout=quiet, stderr=quiet) as process:
        try:
            yield process
        finally:
            process.kill()


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
    """Writes good ratings in the layout of ML-1M, with `broken_lines` inserted."""
    planted = plant(N_USERS, N_MOVIES, N_RATINGS)
    return write_archive(path, "ml-1m", planted.ratings, planted.movies, planted.users, broken_lines)


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


def poll(home: Home, done: Event, results: Connection) -> None:
    """A reader in a separate process. It polls until `done`, reads once more and sends what it saw."""
    n_reads, seen, failures = 0, list[Any](), list[str]()
    results.send("reading")
    over = False
    while not over:
        over = done.is_set()
        try:
            answer = ask(home, "select run_id, count(*) from recommendations group by run_id")
        except duckdb.Error as error:
            failures.append(repr(error))
        else:
            seen += [answer] if answer not in seen else []
        n_reads += 1
        time.sleep(0.2)  # often enough to see each run, and rarely enough to leave time to the publisher
    results.send((n_reads, seen, failures))
