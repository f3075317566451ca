"""Whole nights of a few seconds. A night that is killed runs in a process, forked from one that imported everything."""

import json
import logging
import multiprocessing
import os
import signal
from pathlib import Path
from typing import Any

import duckdb

from recsys.home import Home
from tests.support.planted import quick_config

SOURCE = "synthetic:60x40x2000"

forkserver = multiprocessing.get_context("forkserver")
forkserver.set_forkserver_preload(["recsys.nightly", "great_expectations"])


def quick_parameters(home: Path, source: str | Path = SOURCE, **fields: Any) -> dict[str, Any]:
    """Settings of a network that is trained for three epochs, and of a gate that accepts it."""
    config = {"model": "ordinal", "config": quick_config("ordinal", batch_size=64).model_dump(mode="json")}
    gate = {"max_mae_median": 5, "must_beat_bias": False, "min_popularity_coverage_ratio": 0, "max_ndcg_below_parts": 1}
    return {"home": str(home), "source": str(source), "config": config, "gate": gate, **fields}


def run_night(parameters: dict[str, Any], kill_at: str | None = None) -> int | None:
    """Runs a night in another process; returns its exit code, which is -9 if it was killed as it logged `kill_at`."""
    process = forkserver.Process(target=_night, args=(json.dumps(parameters), dict(os.environ), kill_at))
    process.start()
    process.join(600)
    assert process.exitcode is not None, "the night did not end within ten minutes"
    return process.exitcode


def _night(parameters: str, environment: dict[str, str], kill_at: str | None) -> None:
    os.environ.clear()  # that of an earlier test, which started the process from which this one was forked
    os.environ.update(environment)
    from recsys.nightly import run_night
    from recsys.settings import Settings

    if kill_at:
        logging.getLogger("recsys").addHandler(_Killer(kill_at))
    run_night(Settings.model_validate(json.loads(parameters)))
    os._exit(0)  # skips the finalisation of the interpreter, which takes most of a second


class _Killer(logging.Handler):
    """Sends SIGKILL to its own process when a log line starts with `at`."""

    def __init__(self, at: str) -> None:
        super().__init__()
        self.at = at

    def emit(self, record: logging.LogRecord) -> None:
        if record.getMessage().startswith(self.at):
            os.kill(os.getpid(), signal.SIGKILL)


def tables_of(home: Home) -> dict[str, list[Any]]:
    """All rows of the served tables, without the run_id."""
    tables = ("recommendations", "default_recommendations", "similar_movies", "movies", "users")
    with duckdb.connect(home.warehouse, read_only=True) as connection:
        columns = {
            table: [name for name, *_ in connection.sql(f"describe {table}").fetchall() if name != "run_id"]
            for table in tables
        }
        return {
            table: connection.sql(f"select {', '.join(names)} from {table} order by all").fetchall()
            for table, names in columns.items()
        }


def ask(home: Home, query: str) -> list[Any]:
    with duckdb.connect(home.warehouse, read_only=True) as connection:
        return connection.sql(query).fetchall()
