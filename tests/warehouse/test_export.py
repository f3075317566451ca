import json
import os
import shutil
import signal
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from recsys.errors import HomeBusy, NotPublished, PublishError, UsageError
from recsys.files import alone, write_json
from recsys.forgotten import forget
from recsys.home import Home
from recsys.warehouse import export as module
from recsys.warehouse.export import EXPORTED, export
from recsys.warehouse.publish import record
from tests.support.publishing import FORKS
from tests.support.warehouses import make_frames, make_outcome, publish, write_night

FIRST, SECOND, THIRD = (f"202611{day}T030000Z" for day in (20, 21, 22))


def publish_run(home: Home, run_id: str, **size: Any) -> None:
    publish(make_outcome(run_id), write_night(home.root / "night", make_frames(**size)), home)


@pytest.fixture(scope="module")
def homes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Home]:
    """For each run, a home to copy in which it is the newest published run."""
    folder = tmp_path_factory.mktemp("homes")
    home = Home(folder / "home")
    copies = {}
    for run_id in (FIRST, SECOND, THIRD):
        publish_run(home, run_id, rating_hat=4.0 if run_id == FIRST else 2.0)
        copies[run_id] = Home(Path(shutil.copytree(home.root, folder / run_id)))
    return copies


@pytest.fixture
def served(homes: dict[str, Home], home: Home) -> Home:
    shutil.copytree(homes[FIRST].root, home.root)
    return home


@pytest.fixture
def publish_next(homes: dict[str, Home], home: Home) -> Callable[[str], None]:
    """Publishes a run in the home by putting the warehouse of a copy there."""

    def put(run_id: str) -> None:
        aside = home.root / "aside"
        shutil.copyfile(homes[run_id].warehouse, aside)
        aside.replace(home.warehouse)

    return put


@pytest.fixture
def lake(tmp_path: Path) -> Path:
    return tmp_path / "lake's"  # the quote has to be escaped in SQL


def files_in(lake: Path) -> dict[str, int]:
    """Every file that a reader sees, with the time of its last change."""
    found = (path for path in lake.rglob("*") if path.is_file() and not path.name.startswith("."))
    return {str(path.relative_to(lake)): path.stat().st_mtime_ns for path in found}


def latest(lake: Path) -> Any:
    return json.loads((lake / "_latest.json").read_text())


def partitions(lake: Path, table: str = "recommendations") -> list[str]:
    return sorted(path.name for path in (lake / table).iterdir())


def test_every_table_of_the_run_is_written_and_listed(served: Home, lake: Path) -> None:
    done = export(served, lake)
    assert done.rows == {
        "recommendations": 8, "default_recommendations": 4, "similar_movies": 8, "movies": 4, "users": 4,
        "links": 4, "movie_stats": 4, "user_stats": 4, "runs": 1, "run_steps": 2, "metrics": 4, "quarantine": 1,
        "metric_names": 3,
    }  # fmt: skip
    assert done.written == EXPORTED and done.changed
    parts = {f"{table}/run_id={FIRST}/part-0.parquet" for table in EXPORTED}
    assert set(files_in(lake)) == {*parts, "_latest.json"}
    assert latest(lake) == {
        "run_id": FIRST,
        "dataset": "planted",
        "as_of": "1998-04-23 00:00:00+00",
        "tables": done.rows,
    }


def test_duckdb_polars_and_pyarrow_read_the_rows_of_the_warehouse(
    served: Home, lake: Path, publish_next: Callable[[str], None]
) -> None:
    export(served, lake)
    publish_next(SECOND)
    export(served, lake)
    with duckdb.connect(served.warehouse, read_only=True) as connection:
        expected = connection.sql("from recommendations").pl()
    files = str(lake / "recommendations" / "*" / "*.parquet")
    with duckdb.connect() as connection:
        read = connection.execute(
            "from read_parquet($files, hive_partitioning = true) where run_id = $run_id order by user_id, rank",
            {"files": files, "run_id": SECOND},
        ).fetchall()
    assert read == expected.rows()
    lazy = pl.scan_parquet(files, hive_partitioning=True, hive_schema={"run_id": pl.String})
    assert lazy.filter(run_id=SECOND).collect().equals(expected)
    table = ds.dataset(lake / "recommendations", partitioning="hive").to_table(filter=ds.field("run_id") == SECOND)
    assert pl.DataFrame(pl.from_arrow(table)).rows() == expected.rows()
    assert len(lazy.collect()) == 16


def test_quarantined_rows_are_text_for_every_engine(served: Home, lake: Path) -> None:
    export(served, lake)
    read = pl.read_parquet(lake / "quarantine" / "*" / "*.parquet")
    assert read.rows() == [("ratings", "u.data", 7, "unreadable", '{"line": "1\\t2"}')]


def test_exporting_the_same_run_again_changes_nothing(served: Home, lake: Path) -> None:
    export(served, lake)
    before = files_in(lake)
    again = export(served, lake)
    assert (again.changed, again.written, again.removed) == (False, (), ())
    assert files_in(lake) == before


def test_records_of_other_runs_are_not_exported(served: Home, lake: Path) -> None:
    record(make_outcome(SECOND, "data refused", "too few"), served)
    export(served, lake)
    assert latest(lake)["run_id"] == FIRST
    assert partitions(lake, "runs") == [f"run_id={FIRST}"]


def test_some_tables_are_added_to_those_of_the_run(served: Home, lake: Path) -> None:
    export(served, lake, ["movies"])
    assert latest(lake)["tables"] == {"movies": 4}
    assert export(served, lake, ["users"]).written == ("users",)
    assert latest(lake)["tables"] == {"movies": 4, "users": 4}


def test_an_unknown_table_is_refused(served: Home, lake: Path) -> None:
    with pytest.raises(UsageError, match=r"'film' cannot be exported\. Next: choose from recommendations, default"):
        export(served, lake, ["movies", "film"])
    with pytest.raises(UsageError, match=r"history' cannot be exported \(recommendation_history holds the same as the"):
        export(served, lake, ["recommendation_history"])
    assert not lake.exists()


def test_without_served_lists_nothing_is_exported(home: Home, lake: Path) -> None:
    with pytest.raises(NotPublished, match="does not exist yet"):
        export(home, lake)
    record(make_outcome(FIRST, "failed", "why"), home)
    with pytest.raises(NotPublished, match="holds no recommendations"):
        export(home, lake)
    assert not lake.exists()


def test_an_unwritable_folder_is_an_error(served: Home, lake: Path) -> None:
    lake.write_text("a file")
    with pytest.raises(UsageError, match=r"cannot be written: .*File exists.* Next: choose a folder"):
        export(served, lake)


def test_a_full_disk_is_an_error(served: Home, lake: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SPARE_BYTES", 2**62)
    with pytest.raises(PublishError, match=r"MB free, and an export may take .* MB\. Nothing was changed\. Next: free"):
        export(served, lake)
    assert files_in(lake) == {}


def test_a_second_export_at_the_same_time_is_refused(served: Home, lake: Path) -> None:
    lake.mkdir()
    with (
        alone(lake / "_latest.json", "export"),
        pytest.raises(HomeBusy, match=r"the export in .* is already running"),
    ):
        export(served, lake)


def test_keep_removes_all_but_the_newest(served: Home, lake: Path, publish_next: Callable[[str], None]) -> None:
    for run_id in (FIRST, SECOND, THIRD):
        publish_next(run_id)
        export(served, lake)
    done = export(served, lake, keep=2)
    assert (done.written, len(done.removed)) == ((), len(EXPORTED))
    assert done.removed[0] == f"recommendations/run_id={FIRST}"
    assert partitions(lake) == [f"run_id={SECOND}", f"run_id={THIRD}"]


def test_keep_never_removes_the_served_run(served: Home, lake: Path) -> None:
    """After a roll-back the served run is not the newest."""
    (lake / "recommendations" / f"run_id={SECOND}").mkdir(parents=True)
    export(served, lake, keep=1)
    assert partitions(lake) == [f"run_id={FIRST}"]
    assert latest(lake)["run_id"] == FIRST


def test_a_forgotten_user_is_removed_by_the_next_export(
    served: Home, lake: Path, publish_next: Callable[[str], None]
) -> None:
    """No night runs in between. The user is removed from the served run, older runs and tables not requested."""
    export(served, lake)
    publish_next(SECOND)
    export(served, lake)
    forget([3], served)
    done = export(served, lake, ["recommendations"])
    assert done.written == ("recommendations", "users", "user_stats")
    assert {path.split("=")[1] for path in done.removed} == {FIRST}
    for table in ("recommendations", "users", "user_stats"):
        read = pl.read_parquet(lake / table / "*" / "*.parquet")
        assert read["user_id"].unique().sort().to_list() == [1, 2, 4]
    assert export(served, lake).changed is False


def test_a_user_who_is_forgotten_during_an_export_is_not_in_it(served: Home, lake: Path) -> None:
    """A pipe in place of the list holds the export at reading it until the request has been written."""
    os.mkfifo(served.forgotten)
    with ThreadPoolExecutor(1) as pool:
        exporting = pool.submit(export, served, lake)
        with served.forgotten.open("w") as empty_list:  # waits until the export reads it
            asked_at = datetime.now(UTC)
            write_json(served.forgotten, {"3": asked_at.isoformat()})
            empty_list.write("{}")
        exported = exporting.result()
    for table in ("recommendations", "users"):
        assert 3 not in pl.read_parquet(lake / table / "*" / "*.parquet")["user_id"].to_list()
    assert exported.written.count("recommendations") == 1
    # a killed export leaves files like this one, and the next must not believe that they respect the request
    assert datetime.fromisoformat(pq.read_metadata(part_of(lake, "movies")).metadata[b"written_at"].decode()) < asked_at


def part_of(lake: Path, table: str) -> Path:
    (path,) = (lake / table).glob("*/*.parquet")
    return path


def killed_export(step: str, call: int, home: Home, lake: Path) -> None:
    """Exports in a process that kills itself before the given call of a step."""
    real, calls = getattr(module, step), count(1)

    def killed(*arguments: Any) -> Any:
        if next(calls) == call:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*arguments)

    setattr(module, step, killed)
    export(home, lake)


@pytest.mark.parametrize(("step", "call"), [("_copy", 3), ("_swap_in", 1), ("_swap_in", 4), ("_write_latest", 1)])
def test_after_a_kill_readers_see_whole_files_and_the_next_export_completes(
    served: Home, lake: Path, publish_next: Callable[[str], None], step: str, call: int
) -> None:
    export(served, lake)
    publish_next(SECOND)
    before = set(files_in(lake))
    child = FORKS.Process(target=killed_export, args=(step, call, served, lake))
    child.start()
    child.join()
    assert child.exitcode == -signal.SIGKILL
    assert latest(lake)["run_id"] == FIRST
    seen = {path for path in files_in(lake) if not path.startswith(".")}
    assert before <= seen
    for path in seen - {"_latest.json"}:
        pl.read_parquet(lake / path)
    assert len(seen - before) == {"_copy": 0, "_swap_in": call - 1, "_write_latest": len(EXPORTED)}[step]
    export(served, lake)
    assert latest(lake)["run_id"] == SECOND
    assert not (lake / ".export").exists()


def test_readers_see_only_whole_partitions_during_exports(home: Home, lake: Path) -> None:
    n_rows = 300 * 20
    tonight = replace(write_night(home.root / "n", make_frames(300, 60, 20), 20), history_runs=1)
    publish(make_outcome("r0"), tonight, home)
    export(home, lake)
    counts: set[int] = set()
    ended = threading.Event()

    def read() -> None:
        while not ended.wait(0.005):
            counts.update(pl.read_parquet(path).height for path in lake.glob("recommendations/*/*.parquet"))

    reader = threading.Thread(target=read)
    reader.start()
    for night in range(1, 3):
        publish(make_outcome(f"r{night}"), tonight, home)
        export(home, lake)
    ended.set()
    reader.join()
    assert counts == {n_rows}
    assert len(partitions(lake)) == 3
