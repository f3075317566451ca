"""Writes the warehouse: builds the next file aside, audits it, and renames it over the present one.

The only module that opens DuckDB connections for writing a file. The caller holds `home.lock`; readers hold nothing:
who has the old file open keeps reading it, complete, until the last of their connections closes.

Every night writes a fresh file and copies into it what stays, rather than changing a copy of the old file: the file
stays compact, the tables are always those of sql/schema.sql, and so is the format, whatever wrote the old one.
"""

import logging
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
from duckdb import DuckDBPyConnection

import sql
from recsys.errors import PublishError
from recsys.expect.checkpoint import preloading
from recsys.files import replacing, sync
from recsys.forgotten import Forgotten, read_forgotten
from recsys.home import Home, Run
from recsys.settings import AuditConfig
from recsys.warehouse.audit import Beside, audit
from recsys.warehouse.measure import measure_lists
from recsys.warehouse.outcome import MetricRow, Outcome

logger = logging.getLogger(__name__)

STORAGE_VERSION = "v1.4.0"  # DuckDB 1.4, 1.5 and 2.0 read it; what 2.0 writes by itself no older one can

SERVED = (  # replaced as a whole by each run that publishes
    "recommendations", "default_recommendations", "similar_movies", "movies", "users",
)  # fmt: skip
RECORDS = ("runs", "run_steps", "metrics", "quarantine")  # grow with every run
LISTS = "recommendation_history"  # grows with every run that makes lists, and shrinks again
TABLES = (*SERVED, *RECORDS, LISTS)
ADDED = {"default_recommendations", "similar_movies", "run_steps", LISTS}  # not in a warehouse of an older version

SPARE_BYTES = 64 * 2**20  # of disk that stay free
LISTS_GROW = 4  # at most, from compressed Parquet to tables: once as they are served, once as they are remembered

NO_LISTS = "(from recommendations limit 0)"

Counts = dict[str, int]  # rows by table
Hashed = tuple[int, int | None]  # rows, and the sum of their hashes if there are any
RunKey = tuple[datetime, str]  # as_of and run_id, by which runs are in order


@dataclass(frozen=True)
class Tonight:
    """What a run is about to publish. Paths are Parquet files whose columns are those of the tables, less run_id."""

    recommendations: Path
    movies: Path  # without n_ratings, which are counted in `ratings`
    users: Path
    ratings: Path  # all that are known tonight; not published, the audit needs them
    quarantine: Path
    metrics: tuple[MetricRow, ...]
    n: int  # movies per user
    history_runs: int = 30  # runs whose lists are remembered, this one included
    default_recommendations: Path | None = None  # no lists where there is none
    similar_movies: Path | None = None  # the same
    available: Path | None = None  # (movie_id) that may be shown; None: those that somebody rated
    shortened: Path | None = None  # (user_id, n_available) where rules leave a user fewer than they have not rated
    blocked: Path | None = None  # (user_id, movie_id, genre), null is any: what rules forbid
    caps: Path | None = None  # (movie_id, group_name, at_most)
    rating_scale: tuple[float, ...] = ()  # stars; none where it is not known
    limits: AuditConfig = field(default_factory=AuditConfig)  # of the lists as a whole
    audit_docs: Path | None = None  # folder that gets the Data Docs of the audit
    copies: Path | None = None  # folder that gets a Parquet file of each served table, for `restore`

    @property
    def beside(self) -> Beside:
        return Beside(self.ratings, self.available, self.shortened, self.blocked, self.caps, self.limits)

    def audit(self, file: Path, run_id: str) -> None:
        audit(file, run_id, self.n, self.beside, self.audit_docs)


def publish(outcome: Outcome, tonight: Tonight, home: Home) -> Counts:
    """Replaces the tables that are served and adds the run to the history; returns the rows per table.

    Publishing a run again gives the same tables. Whatever dies when, `home.warehouse` is the old file or the new one.

    Raises: PublishError if the audit fails, a file cannot be read or written, or there is no room for it; the old file
    stays as it is.
    """
    assert outcome.published
    assert outcome.as_of
    with _next_file(home, tonight, check=lambda aside: tonight.audit(aside, outcome.run_id)) as file:
        file.keep(RECORDS)
        _write_served(file.connection, outcome.run_id, tonight)
        measured = _measure(file.connection, outcome, tonight, file.lists_before(outcome))
        _write_history(file, (outcome.as_of, outcome.run_id), tonight)
        _write_run(file.connection, outcome, (*tonight.metrics, *measured), tonight.quarantine)
        if tonight.copies:
            _write_copies(file.connection, tonight.copies)
        return _count_rows(file.connection)


def backfill(outcome: Outcome, tonight: Tonight, home: Home) -> Counts:
    """Adds the lists of an earlier night to the history alone; what is served stays as it is. Returns rows per table.

    They pass the same audit as lists that are published, in a file of their own that goes again.

    Raises: PublishError as `publish` does.
    """
    assert not outcome.published
    assert outcome.as_of
    alone = home.root / f".{home.warehouse.name}.backfill"
    with _told(home), _new_file(alone) as connection:
        _write_served(connection, outcome.run_id, tonight)
        measured = _measure(connection, outcome, tonight, NO_LISTS)  # those served are of a later night
        _write_run(connection, outcome, measured, None)
    try:
        tonight.audit(alone, outcome.run_id)
        with _next_file(home, tonight) as file:
            file.keep((*SERVED, *RECORDS))
            _write_history(file, (outcome.as_of, outcome.run_id), tonight)
            _write_run(file.connection, outcome, (*tonight.metrics, *measured), tonight.quarantine)
            return _count_rows(file.connection)
    finally:
        _remove_leftovers(home)


def serves_the_same(home: Home, tonight: Tonight) -> bool:
    """Whether every served table of the present warehouse has the rows that `publish` would write, whoever wrote them.

    Rows are compared by a sum of their hashes, 64 bits each: nothing is held in memory.
    """
    with duckdb.connect() as connection, _present(connection, home) as file:
        if not file.stored >= set(SERVED):
            return False
        expected: dict[str, tuple[int, int | None]] = dict.fromkeys(SERVED, (0, None))
        for table, statement, params in _list_served(tonight):
            expected[table] = _hash_rows(connection, statement, table, params)
        return all(
            _hash_rows(connection, f"from present.{table}", table, {}) == rows for table, rows in expected.items()
        )


def restore(outcome: Outcome, target: Run, home: Home) -> Counts:
    """Puts back what `target` published, in one step; `outcome` is that of the roll-back. Returns the rows per table.

    Raises: PublishError if the target's folder does not hold it any more, or as `publish` does.
    """
    assert outcome.published
    copies = _copies(target)
    if missing := [path.name for path in copies.values() if not path.exists()]:
        raise PublishError(
            f"{target.served} does not hold what run {target.run_id} published ({', '.join(missing)} is not there), so "
            "it cannot be put back. What is served stays as it is. Next: choose another run: `recsys rollback --list`"
        )
    with _next_file(home, check=lambda aside: audit(aside, target.run_id, None, None)) as file:
        file.keep((*RECORDS, LISTS))
        for table, path in copies.items():
            _insert(file.connection, table, "from read_parquet($path)", file.forgotten, path=str(path))
        _write_run(file.connection, outcome, (), None)
        return _count_rows(file.connection)


def is_copied(run: Run) -> bool:
    """Whether what the run published can be put back."""
    return all(path.exists() for path in _copies(run).values())


def _copies(run: Run) -> dict[str, Path]:
    return {table: run.served / f"{table}.parquet" for table in SERVED}


def record(outcome: Outcome, home: Home, metrics: Iterable[MetricRow] = (), quarantine: Path | None = None) -> Counts:
    """Adds a run that published nothing to the history; the tables that are served stay as they are. Returns the rows
    per table.

    A run whose lists are being served stays `published`, whatever went wrong with it afterwards. On a home without a
    warehouse it makes one with empty tables.

    Raises: PublishError if a file cannot be read or written; the old file stays as it is.
    """
    assert not outcome.published
    with _next_file(home) as file:
        file.keep(TABLES)
        _write_run(file.connection, outcome, metrics, quarantine)
        file.connection.execute(
            "update runs set published = true "
            "where run_id = $run_id and run_id in (select run_id from recommendations)",
            {"run_id": outcome.run_id},
        )
        return _count_rows(file.connection)


def check_present(home: Home) -> None:
    """Passes if the history in the present warehouse, if there is one, can be carried over.

    Raises: PublishError if it cannot.
    """
    with duckdb.connect() as connection:
        connection.execute("set timezone = 'UTC'")
        connection.execute(sql.read("schema"))
        with _present(connection, home) as file:
            file.keep(RECORDS)


@dataclass(frozen=True)
class _File:
    """The next warehouse under way, with the present one attached as `present`, if there is one."""

    connection: DuckDBPyConnection
    home: Home
    stored: frozenset[str]  # tables of the present file
    forgotten: Forgotten

    def keep(self, tables: Iterable[str]) -> None:
        """Copies tables of the present file, without a trace of users who asked to be forgotten."""
        with _told_unreadable(self.home):
            for table in (table for table in tables if self._holds(table)):
                _insert(self.connection, table, f"from present.{table}", self.forgotten)

    def keep_lists(self, run_id: str) -> None:
        """Those that one run made, of the history."""
        with _told_unreadable(self.home):
            statement = f"from present.{LISTS} where run_id = $run_id"
            _insert(self.connection, LISTS, statement, self.forgotten, run_id=run_id)

    def _holds(self, table: str) -> bool:
        """False where there is nothing to keep; a table that every version had is asked for, present or not."""
        return bool(self.stored) and (table in self.stored or table not in ADDED)

    def lists_before(self, outcome: Outcome) -> str:
        """A select of the lists that are served, less those of forgotten users.

        Of none, if they are of other data, or of the run itself: what was measured when it was published stays.
        """
        run_id = self.run_served()
        if run_id == outcome.run_id:
            return NO_LISTS
        found = "select dataset from present.runs where run_id = $run_id"
        if not run_id or self.connection.execute(found, {"run_id": run_id}).fetchall() != [(outcome.dataset,)]:
            logger.info("audit: no lists of %s are served with which tonight's could be compared", outcome.dataset)
            return NO_LISTS
        rows = self.connection.sql("from present.recommendations")
        return rows.filter(self.forgotten.condition("recommendations", rows.columns)).sql_query()

    def runs_remembered(self) -> list[RunKey]:
        if LISTS not in self.stored:
            return []
        return self.connection.sql(f"select distinct as_of, run_id from present.{LISTS}").fetchall()

    def run_served(self) -> str | None:
        """Whose lists are served by the present file."""
        if "recommendations" not in self.stored:
            return None
        rows = self.connection.sql("select run_id from present.recommendations limit 1").fetchall()
        return rows[0][0] if rows else None


@contextmanager
def _next_file(
    home: Home, tonight: Tonight | None = None, check: Callable[[Path], None] | None = None
) -> Iterator[_File]:
    """Yields the next warehouse, empty and beside the present one; when it is written and closed, it has to pass
    `check`, and is swapped in.
    """
    _remove_leftovers(home)
    try:
        with _told(home), replacing(home.warehouse) as aside:
            _check_space(home, tonight)
            # what audits is imported while the file is written
            importing = preloading() if check else nullcontext()
            with importing, _new_file(aside) as connection, _present(connection, home) as file:
                yield file
            if check:
                check(aside)
            _drop_foreign_wal(home)
    finally:
        _remove_leftovers(home)


@contextmanager
def _new_file(path: Path) -> Iterator[DuckDBPyConnection]:
    """An empty warehouse; when the block ends, the file is complete and has no log beside it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with duckdb.connect(path, config={"storage_compatibility_version": STORAGE_VERSION}) as connection:
        connection.execute("set timezone = 'UTC'")
        connection.execute(sql.read("schema"))
        yield connection
        connection.execute("checkpoint")


@contextmanager
def _told(home: Home) -> Iterator[None]:
    try:
        yield
    except (duckdb.Error, OSError) as error:
        raise PublishError(
            f"the next {home.warehouse} could not be written: {error}. The present one was not touched. "
            "Next: put right what the message names, and run the night again"
        ) from error


def _check_space(home: Home, tonight: Tonight | None) -> None:
    """Before anything is written: a disk that is full half-way helps nobody.

    Raises: PublishError if the next file may not fit.
    """
    lists = [tonight.recommendations, tonight.default_recommendations, tonight.similar_movies] if tonight else []
    present = home.warehouse.stat().st_size if home.warehouse.exists() else 0
    needed = present + LISTS_GROW * sum(path.stat().st_size for path in lists if path) + SPARE_BYTES
    free = shutil.disk_usage(home.root).free
    if free < needed:
        raise PublishError(
            f"{home.root} has {free / 1e6:,.0f} MB free, and the next warehouse may take {needed / 1e6:,.0f} MB beside "
            "the present one. Nothing was changed. Next: make room there, or keep fewer runs (RECSYS_HISTORY__RUNS, "
            "RECSYS_SNAPSHOTS__KEEP)"
        )


def _remove_leftovers(home: Home) -> None:
    """Deletes what a killed run, or DuckDB on behalf of one, left beside the warehouse."""
    for path in home.root.glob(f".{home.warehouse.name}.*"):
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def _drop_foreign_wal(home: Home) -> None:
    """A log that somebody's writing session left beside the present file: DuckDB would refuse the next one with it."""
    log = home.warehouse.with_name(f"{home.warehouse.name}.wal")
    if log.exists():
        logger.warning("%s was opened for writing by somebody; their %s goes", home.warehouse, log.name)
        log.unlink()
        sync(log.parent)


@contextmanager
def _present(connection: DuckDBPyConnection, home: Home) -> Iterator[_File]:
    """Attaches the present warehouse, if there is one, while the block lasts."""
    forgotten = read_forgotten(home)
    if not home.warehouse.exists():
        yield _File(connection, home, frozenset(), forgotten)
        return
    with _told_unreadable(home):
        connection.execute("attach $path as present (read_only)", {"path": str(home.warehouse)})
        stored = connection.sql("select table_name from duckdb_tables() where database_name = 'present'").fetchall()
    yield _File(connection, home, frozenset(name for (name,) in stored), forgotten)
    connection.execute("detach present")


@contextmanager
def _told_unreadable(home: Home) -> Iterator[None]:
    try:
        yield
    except duckdb.Error as error:
        raise PublishError(
            f"{home.warehouse} cannot be read, so the history in it would be lost: {error}. Nothing was changed. "
            "Next: close whoever has it open for writing, or put a good copy in its place, "
            "or move it away to start without a history"
        ) from error


def _insert(connection: DuckDBPyConnection, table: str, statement: str, forgotten: Forgotten, **params: str) -> None:
    """Rows of a select, without a trace of users who asked to be forgotten."""
    rows = connection.sql(statement, params=params) if params else connection.sql(statement)
    rows = rows.filter(forgotten.condition(table, rows.columns)).project(forgotten.projection(table))
    connection.execute(f"insert into {table} by name {rows.sql_query()}", params)


def _write_served(connection: DuckDBPyConnection, run_id: str, tonight: Tonight) -> None:
    for table, statement, params in _list_served(tonight):
        if table in ("movies", "users"):
            connection.execute(f"insert into {table} by name {statement}", params)
        else:
            named = f"select *, $run_id as run_id from ({statement})"
            connection.execute(f"insert into {table} by name {named}", params | {"run_id": run_id})


def _measure(
    connection: DuckDBPyConnection, outcome: Outcome, tonight: Tonight, lists_before: str
) -> tuple[MetricRow, ...]:
    """Of the lists just written, for `metrics` and the audit; `lists_before` is a select of some to compare with."""
    assert outcome.model
    # older versions lack columns
    connection.execute(f"create temp view lists_before as {NO_LISTS} union all by name ({lists_before})")
    measured = tuple(measure_lists(connection, outcome.model, tonight.beside.may_be_shown, tonight.rating_scale))
    connection.execute("drop view lists_before")
    return measured


def _list_served(tonight: Tonight) -> Iterator[tuple[str, str, dict[str, str]]]:
    """Table, the select of its rows less run_id in their order, and its parameters; of each table that there is."""
    lists = (
        ("recommendations", tonight.recommendations, "user_id, rank"),
        ("default_recommendations", tonight.default_recommendations, "segment, rank"),
        ("similar_movies", tonight.similar_movies, "movie_id, rank"),
        ("users", tonight.users, "user_id"),
    )
    for table, path, key in lists:
        if path:
            yield table, f"select * from read_parquet($path) order by {key}", {"path": str(path)}
    counted = {"movies": str(tonight.movies), "ratings": str(tonight.ratings)}
    yield "movies", sql.read("counted_movies"), counted


def _hash_rows(
    connection: DuckDBPyConnection, statement: str, table: str, params: dict[str, str]
) -> tuple[int, int | None]:
    """How many rows, and the sum of their hashes, with the columns of the table but run_id, in the table's types."""
    columns = connection.sql(f"describe present.{table}").fetchall()
    typed = ", ".join(f"cast({name} as {kind})" for name, kind, *_ in columns if name != "run_id")
    hashed = f"select count(*), sum(hash({typed})::hugeint) from ({statement})"
    ((n_rows, total),) = connection.execute(hashed, params).fetchall()
    return n_rows, total


def _write_history(file: _File, mine: RunKey, tonight: Tonight) -> None:
    """The lists of the runs of the latest as_of, in that order, with this one's among them; and of what is served."""
    others = sorted(key for key in file.runs_remembered() if key != mine)
    latest = sorted([*others, mine])[-tonight.history_runs :]
    served = file.run_served()
    for key in sorted({*latest, mine, *(key for key in others if key[1] == served)}):
        as_of, run_id = key
        if key != mine:
            file.keep_lists(run_id)
            continue
        file.connection.execute(
            f"insert into {LISTS} by name select $run_id as run_id, $as_of as as_of, user_id, rank, movie_id, score "
            "from read_parquet($path) order by user_id, rank",
            {"run_id": run_id, "as_of": as_of, "path": str(tonight.recommendations)},
        )


def _write_copies(connection: DuckDBPyConnection, folder: Path) -> None:
    for table in SERVED:
        with replacing(folder / f"{table}.parquet") as aside:
            connection.table(table).write_parquet(str(aside), compression="zstd")


def _write_run(
    connection: DuckDBPyConnection, outcome: Outcome, metrics: Iterable[MetricRow], quarantine: Path | None
) -> None:
    """Replaces rows of the same run: a night that is tried again leaves one row."""
    row = asdict(outcome)
    steps: dict[str, float] = row.pop("seconds")
    _upsert(connection, "runs", row)
    connection.execute("delete from run_steps where run_id = $run_id", {"run_id": outcome.run_id})
    for step, seconds in steps.items():
        _upsert(connection, "run_steps", {"run_id": outcome.run_id, "step": step, "seconds": seconds})
    measured = pa.Table.from_pylist([{"run_id": outcome.run_id, **asdict(metric)} for metric in metrics])
    if len(measured):  # hundreds: one statement each would take longer than all the rest
        connection.register("measured", measured)
        connection.execute("insert or replace into metrics by name select * from measured")
        connection.unregister("measured")
    if quarantine:
        connection.execute("delete from quarantine where run_id = $run_id", {"run_id": outcome.run_id})
        connection.execute(
            "insert into quarantine by name select *, $run_id as run_id from read_parquet($path) order by all",
            {"run_id": outcome.run_id, "path": str(quarantine)},
        )


def _upsert(connection: DuckDBPyConnection, table: str, row: dict[str, Any]) -> None:
    places = ", ".join(f"${column}" for column in row)
    connection.execute(f"insert or replace into {table} ({', '.join(row)}) values ({places})", row)


def _count_rows(connection: DuckDBPyConnection) -> dict[str, int]:
    counts = {table: len(connection.table(table)) for table in TABLES}
    logger.info("warehouse: %s", ", ".join(f"{table} {count:,}" for table, count in counts.items()))
    return counts
