"""Builds the next warehouse file beside the present one, from the rows that are kept and the rows of one run.

This is the only module that opens a DuckDB file for writing. `publish` decides when a file is built, audited and
swapped in; `fill` writes the rows of a run.

Every run builds a new file and copies the kept rows to it, instead of changing a copy of the old file. The new file is
therefore compact, and its tables and its format are always those of this version.
"""

import logging
import math
import re
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import duckdb
from duckdb import DuckDBPyConnection

import sql
from recsys.errors import PublishError
from recsys.files import exact, sync
from recsys.forgotten import Forgotten, read_forgotten
from recsys.home import Home
from recsys.settings import AuditConfig
from recsys.warehouse.audit import AuditInputs
from recsys.warehouse.outcome import MetricRow, Outcome

logger = logging.getLogger(__name__)

STORAGE_VERSION = "v1.4.0"  # DuckDB 1.4, 1.5 and 2.0 read it; older versions cannot read the default format of 2.0

STATS = ("movie_stats", "user_stats")  # computed from movies, users and the ratings
NEW = ("links", *STATS)  # since 0.2.0
SERVED = (  # replaced as a whole by every run that publishes
    "recommendations", "default_recommendations", "similar_movies", "movies", "users", *NEW,
)  # fmt: skip
WRITING = re.compile(r"could not write|failed to write|no space left|quota exceeded", re.IGNORECASE)
QUARANTINE_RUNS = 30  # newest runs whose refused lines are kept; bad data would otherwise fill the file over the years
RECORDS = ("runs", "run_steps", "metrics", "quarantine")  # grow with every run
LISTS = "recommendation_history"  # grows with every run that makes lists, limited to the latest runs
KEPT = (*SERVED, *RECORDS, LISTS)  # by a run that publishes nothing
NAMES = "metric_names"  # written again by every run
TABLES = (*KEPT, NAMES)
ADDED = {"default_recommendations", "similar_movies", "run_steps", LISTS, *NEW}  # may be missing in older files

NO_LISTS = "(from recommendations limit 0)"

Counts = dict[str, int]  # rows by table
RunKey = tuple[datetime, float, str]  # as_of, place in `runs` and run_id; runs are sorted by it


@dataclass(frozen=True)
class Tonight:
    """The data that a run is about to publish. Paths are Parquet files with the columns of the tables except run_id."""

    recommendations: Path
    movies: Path  # without n_ratings, which is counted in `ratings`, and film_id
    films: Path  # (movie_id, film_id) of the movies whose film_id is another movie_id
    users: Path
    ratings: Path  # all ratings known to the run; counted, and read by the audit
    quarantine: Path
    metrics: tuple[MetricRow, ...]
    n: int  # movies per user
    history_runs: int = 30  # number of runs whose lists are kept, including this one
    default_recommendations: Path | None = None  # None: the table stays empty
    similar_movies: Path | None = None  # None: the table stays empty
    links: Path | None = None  # None: the table stays empty
    available: Path | None = None  # (movie_id) that may be shown; None: every movie with a rating
    shortened: Path | None = None  # (user_id, n_available) of users who may be shown fewer than n of these
    blocked: Path | None = None  # (user_id, movie_id, genre) that rules forbid; null matches any
    caps: Path | None = None  # (movie_id, group_name, at_most)
    rating_scale: tuple[float, ...] = ()  # stars; empty if unknown
    limits: AuditConfig = field(default_factory=AuditConfig)  # for the lists as a whole
    audit_docs: Path | None = None  # folder for the page with the results of the audit
    copies: Path | None = None  # folder for a Parquet copy of each served table, which `restore` reads

    @property
    def audit_inputs(self) -> AuditInputs:
        lists = (self.available, self.shortened, self.blocked, self.caps)
        return AuditInputs(self.ratings, *lists, self.limits, self.rating_scale)


@dataclass(frozen=True)
class NextFile:
    """The next warehouse while it is built. The present one, if it exists, is attached as `present`."""

    connection: DuckDBPyConnection
    home: Home
    stored: frozenset[str]  # tables of the present file
    forgotten: Forgotten
    added: list[Path] = field(default_factory=list)  # records of runs that the next file has, and this one lacks

    def keep(self, tables: Iterable[str]) -> None:
        """Copies tables of the present file, without the users who asked to be forgotten."""
        with _read_errors(self.home):
            for table in (table for table in tables if self._is_stored(table)):
                self.insert(table, self._rows_kept(table))

    def check(self, tables: Iterable[str]) -> None:
        """Reads the rows that `keep` would copy, and checks that their columns fit. Holds none of them in memory."""
        with _read_errors(self.home):
            for table in (table for table in tables if self._is_stored(table)):
                self.insert(table, f"from present.{table} limit 0")
                self.connection.execute(
                    f"select sum(hash(kept)::hugeint) from ({self._rows_kept(table)}) kept"
                ).fetchall()

    def _rows_kept(self, table: str) -> str:
        """A select of the rows of a table that the next file gets. Only `quarantine` loses rows of old runs."""
        if table != "quarantine" or "runs" not in self.stored:
            return f"from present.{table}"
        newest = f"select run_id from present.runs order by rowid desc limit {QUARANTINE_RUNS}"
        return f"from present.quarantine where run_id in ({newest})"

    def _is_stored(self, table: str) -> bool:
        """Whether a table is read from the present file. A table that every version has is always read, so that a
        damaged file raises an error.
        """
        return bool(self.stored) and (table in self.stored or table not in ADDED)

    def insert(self, table: str, statement: str, **params: str) -> None:
        """Inserts the rows of a select, without the users who asked to be forgotten."""
        rows = self.connection.sql(statement, params=params) if params else self.connection.sql(statement)
        rows = rows.filter(self.forgotten.condition(table, rows.columns)).project(self.forgotten.projection(table))
        self.connection.execute(f"insert into {table} by name {rows.sql_query()}", params)

    def write_history(self, outcome: Outcome, tonight: Tonight) -> None:
        """Writes the lists of this run, of the served run and of the runs with the latest as_of, sorted by as_of."""
        assert outcome.as_of
        this_run = (outcome.as_of, math.inf, outcome.run_id)  # it ends last
        others = sorted(key for key in self._runs_in_history() if key[2] != outcome.run_id)
        latest = sorted([*others, this_run])[-tonight.history_runs :]
        served = self.run_served()
        for key in sorted({*latest, this_run, *(key for key in others if key[2] == served)}):
            as_of, _, run_id = key
            if key != this_run:
                with _read_errors(self.home):
                    self.insert(LISTS, f"from present.{LISTS} where run_id = $run_id", run_id=run_id)
                continue
            self.connection.execute(
                f"insert into {LISTS} by name select $run_id as run_id, $as_of as as_of, user_id, rank, movie_id, "
                "score, rating_hat, because_movie_ids from read_parquet($path) order by user_id, rank",
                {"run_id": run_id, "as_of": as_of, "path": exact(tonight.recommendations)},
            )

    def lists_before(self, outcome: Outcome) -> str:
        """Returns a select of the served lists, without forgotten users, for comparison with the lists of this run.

        It selects no rows if the served lists are of another dataset, or of this run itself.
        """
        run_id = self.run_served()
        if run_id == outcome.run_id:
            return NO_LISTS
        found = "select dataset from present.runs where run_id = $run_id"
        if not run_id or self.connection.execute(found, {"run_id": run_id}).fetchall() != [(outcome.dataset,)]:
            logger.info("audit: no lists of these data are served, so there is nothing to compare with")
            return NO_LISTS
        rows = self.connection.sql("from present.recommendations")
        return rows.filter(self.forgotten.condition("recommendations", rows.columns)).sql_query()

    def run_served(self) -> str | None:
        """The run whose lists the present file serves."""
        if "recommendations" not in self.stored:
            return None
        rows = self.connection.sql("select run_id from present.recommendations limit 1").fetchall()
        return rows[0][0] if rows else None

    def _runs_in_history(self) -> list[RunKey]:
        if LISTS not in self.stored:
            return []
        return self.connection.sql(
            f"select distinct lists.as_of, coalesce(runs.rowid, -1), lists.run_id from present.{LISTS} as lists "
            "left join present.runs using (run_id)"
        ).fetchall()


@contextmanager
def new_file(path: Path) -> Iterator[DuckDBPyConnection]:
    """An empty warehouse. When the block ends, the file is complete and has no write-ahead log beside it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with duckdb.connect(path, config={"storage_compatibility_version": STORAGE_VERSION}) as connection:
        connection.execute("set timezone = 'UTC'")
        connection.execute(f"begin; {sql.read('schema')} commit")  # one commit for 200 statements instead of 200
        yield connection
        connection.execute("checkpoint")


@contextmanager
def present_file(connection: DuckDBPyConnection, home: Home) -> Iterator[NextFile]:
    """Attaches the present warehouse, if it exists, until the block ends.

    Raises: PublishError if it cannot be read.
    """
    forgotten = read_forgotten(home)
    if not home.warehouse.exists():
        yield NextFile(connection, home, frozenset(), forgotten)
        return
    with _read_errors(home):
        connection.execute("attach $path as present (read_only)", {"path": str(home.warehouse)})
        stored = connection.sql("select table_name from duckdb_tables() where database_name = 'present'").fetchall()
    yield NextFile(connection, home, frozenset(name for (name,) in stored), forgotten)
    connection.execute("detach present")


@contextmanager
def _read_errors(home: Home) -> Iterator[None]:
    try:
        yield
    except duckdb.Error as error:
        if WRITING.search(str(error)):
            raise  # the next file could not be written, for example because the disk is full
        raise PublishError(
            f"{home.warehouse} cannot be read, so the history in it would be lost: {error}. Nothing was changed. "
            "Next: close the program that has it open for writing. If the file is damaged, put back a copy from your "
            f"backup; without one, `mv {home.warehouse} {home.warehouse.with_suffix('.damaged.duckdb')}` keeps what "
            "can still be read, and the next night begins a new history"
        ) from error


def remove_leftovers(home: Home) -> None:
    """Removes the temporary files of a killed run, and those of DuckDB."""
    for path in home.root.glob(f".{home.warehouse.name}.*"):
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def remove_foreign_log(home: Home) -> None:
    """Removes the write-ahead log of another program that wrote to the present file.

    DuckDB would refuse to open the next file beside that log.
    """
    log = home.warehouse.with_name(f"{home.warehouse.name}.wal")
    if log.exists():
        logger.warning("another program opened %s for writing; its %s is removed", home.warehouse, log.name)
        log.unlink()
        sync(log.parent)
