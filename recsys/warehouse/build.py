"""Builds the next warehouse file beside the present one, from the rows that are kept and the rows of one run.

This is the only module that opens a DuckDB file for writing. `publish` decides when a file is built, audited and
swapped in.

Every run builds a new file and copies the kept rows to it, instead of changing a copy of the old file. The new file is
therefore compact, and its tables and its format are always those of this version.
"""

import logging
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
from duckdb import DuckDBPyConnection

import sql
from recsys.errors import PublishError
from recsys.files import exact, replacing
from recsys.forgotten import Forgotten, read_forgotten
from recsys.home import Home
from recsys.settings import AuditConfig
from recsys.warehouse.audit import AuditInputs
from recsys.warehouse.measure import measure_lists
from recsys.warehouse.outcome import MetricRow, Outcome

logger = logging.getLogger(__name__)

STORAGE_VERSION = "v1.4.0"  # DuckDB 1.4, 1.5 and 2.0 read it; older versions cannot read the default format of 2.0

SERVED = (  # replaced as a whole by every run that publishes
    "recommendations", "default_recommendations", "similar_movies", "movies", "users",
)  # fmt: skip
WRITING = re.compile(r"could not write|failed to write|no space left|quota exceeded", re.IGNORECASE)
QUARANTINE_RUNS = 30  # newest runs whose refused lines are kept; bad data would otherwise fill the file over the years
RECORDS = ("runs", "run_steps", "metrics", "quarantine")  # grow with every run
LISTS = "recommendation_history"  # grows with every run that makes lists, limited to the latest runs
TABLES = (*SERVED, *RECORDS, LISTS)
ADDED = {"default_recommendations", "similar_movies", "run_steps", LISTS}  # may be missing in files of older versions

NO_LISTS = "(from recommendations limit 0)"

Counts = dict[str, int]  # rows by table
Hashed = tuple[int, int | None]  # number of rows, and the sum of their hashes; None without rows
RunKey = tuple[datetime, str]  # as_of and run_id; runs are sorted by it


@dataclass(frozen=True)
class Tonight:
    """The data that a run is about to publish. Paths are Parquet files with the columns of the tables except run_id."""

    recommendations: Path
    movies: Path  # without n_ratings, which is counted in `ratings`
    users: Path
    ratings: Path  # all ratings known to the run; read by the audit, not published
    quarantine: Path
    metrics: tuple[MetricRow, ...]
    n: int  # movies per user
    history_runs: int = 30  # number of runs whose lists are kept, including this one
    default_recommendations: Path | None = None  # None: the table stays empty
    similar_movies: Path | None = None  # None: the table stays empty
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
        return AuditInputs(self.ratings, self.available, self.shortened, self.blocked, self.caps, self.limits)


@dataclass(frozen=True)
class NextFile:
    """The next warehouse while it is built. The present one, if it exists, is attached as `present`."""

    connection: DuckDBPyConnection
    home: Home
    stored: frozenset[str]  # tables of the present file
    forgotten: Forgotten

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
        newest = f"select run_id from present.runs order by run_id desc limit {QUARANTINE_RUNS}"
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

    def write_history(self, this_run: RunKey, tonight: Tonight) -> None:
        """Writes the lists of this run, of the served run and of the runs with the latest as_of, sorted by as_of."""
        others = sorted(key for key in self._runs_in_history() if key != this_run)
        latest = sorted([*others, this_run])[-tonight.history_runs :]
        served = self.run_served()
        for key in sorted({*latest, this_run, *(key for key in others if key[1] == served)}):
            as_of, run_id = key
            if key != this_run:
                with _read_errors(self.home):
                    self.insert(LISTS, f"from present.{LISTS} where run_id = $run_id", run_id=run_id)
                continue
            self.connection.execute(
                f"insert into {LISTS} by name select $run_id as run_id, $as_of as as_of, user_id, rank, movie_id, "
                "score from read_parquet($path) order by user_id, rank",
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
        return self.connection.sql(f"select distinct as_of, run_id from present.{LISTS}").fetchall()


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
            "Next: close the program that has it open for writing, or replace it with a good copy, "
            "or move it away to start without a history"
        ) from error


def write_served(connection: DuckDBPyConnection, run_id: str, tonight: Tonight) -> None:
    """Fills the served tables."""
    for table, statement, params in list_served(tonight):
        if table in ("movies", "users"):
            connection.execute(f"insert into {table} by name {statement}", params)
        else:
            named = f"select *, $run_id as run_id from ({statement})"
            connection.execute(f"insert into {table} by name {named}", params | {"run_id": run_id})


def measure(
    connection: DuckDBPyConnection, outcome: Outcome, tonight: Tonight, lists_before: str
) -> tuple[MetricRow, ...]:
    """Measures the lists that were just written, for `metrics` and the audit.

    `lists_before` selects the lists that they are compared with.
    """
    assert outcome.model
    # a file of an older version may lack columns
    connection.execute(f"create temp view lists_before as {NO_LISTS} union all by name ({lists_before})")
    measured = tuple(measure_lists(connection, outcome.model, tonight.audit_inputs.may_be_shown, tonight.rating_scale))
    connection.execute("drop view lists_before")
    return measured


def list_served(tonight: Tonight) -> Iterator[tuple[str, str, dict[str, str]]]:
    """Each served table that has rows: its name, the select of its rows in order without run_id, and the parameters."""
    lists = (
        ("recommendations", tonight.recommendations, "user_id, rank"),
        ("default_recommendations", tonight.default_recommendations, "segment, rank"),
        ("similar_movies", tonight.similar_movies, "movie_id, rank"),
        ("users", tonight.users, "user_id"),
    )
    for table, path, key in lists:
        if path:
            yield table, f"select * from read_parquet($path) order by {key}", {"path": exact(path)}
    counted = {"movies": exact(tonight.movies), "ratings": exact(tonight.ratings)}
    yield "movies", sql.read("counted_movies"), counted


def hash_rows(connection: DuckDBPyConnection, statement: str, table: str, params: dict[str, str]) -> Hashed:
    """Counts and hashes rows over the columns of the present table, without run_id, cast to the table's types."""
    columns = connection.sql(f"describe present.{table}").fetchall()
    typed = ", ".join(f"cast({name} as {kind})" for name, kind, *_ in columns if name != "run_id")
    hashed = f"select count(*), sum(hash({typed})::hugeint) from ({statement})"
    ((n_rows, total),) = connection.execute(hashed, params).fetchall()
    return n_rows, total


def write_copies(connection: DuckDBPyConnection, folder: Path) -> None:
    """Writes a Parquet file of each served table."""
    for table in SERVED:
        with replacing(folder / f"{table}.parquet") as aside:
            connection.table(table).write_parquet(str(aside), compression="zstd")


def write_run(
    connection: DuckDBPyConnection, outcome: Outcome, metrics: Iterable[MetricRow], quarantine: Path | None
) -> None:
    """Writes the records of a run. Existing rows of the same run are replaced, so a repeated run leaves one row."""
    row = asdict(outcome)
    steps: dict[str, float] = row.pop("seconds")
    _upsert(connection, "runs", row)
    connection.execute("delete from run_steps where run_id = $run_id", {"run_id": outcome.run_id})
    for step, seconds in steps.items():
        _upsert(connection, "run_steps", {"run_id": outcome.run_id, "step": step, "seconds": seconds})
    measured = pa.Table.from_pylist([{"run_id": outcome.run_id, **asdict(metric)} for metric in metrics])
    if len(measured):  # hundreds of rows: one statement per row would take longer than writing the rest of the file
        connection.register("measured", measured)
        connection.execute("insert or replace into metrics by name select * from measured")
        connection.unregister("measured")
    if quarantine:
        connection.execute("delete from quarantine where run_id = $run_id", {"run_id": outcome.run_id})
        connection.execute(
            "insert into quarantine by name select *, $run_id as run_id from read_parquet($path) order by all",
            {"run_id": outcome.run_id, "path": exact(quarantine)},
        )


def _upsert(connection: DuckDBPyConnection, table: str, row: dict[str, Any]) -> None:
    places = ", ".join(f"${column}" for column in row)
    connection.execute(f"insert or replace into {table} ({', '.join(row)}) values ({places})", row)


def count_rows(connection: DuckDBPyConnection) -> Counts:
    """The number of rows of every table."""
    counts = {table: len(connection.table(table)) for table in TABLES}
    logger.info("warehouse: %s", ", ".join(f"{table} {count:,}" for table, count in counts.items()))
    return counts
