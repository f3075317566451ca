"""Publishes a run: builds the next warehouse file (`build`), audits it, and renames it over the present one.

The caller holds `home.lock`. Readers hold no lock. A reader that has the old file open keeps reading the complete old
file until its last connection closes.
"""

import logging
import shutil
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path

import duckdb

import sql
from recsys.errors import PublishError
from recsys.expect.validate import Validate, preloading, validate_views
from recsys.files import exact, replacing
from recsys.home import Home, Run
from recsys.warehouse.audit import audit
from recsys.warehouse.build import (
    KEPT,
    LISTS,
    NEW,
    NO_LISTS,
    RECORDS,
    SERVED,
    STATS,
    Counts,
    NextFile,
    Tonight,
    new_file,
    present_file,
    remove_foreign_log,
    remove_leftovers,
)
from recsys.warehouse.fill import (
    Hashed,
    count_rows,
    hash_rows,
    list_served,
    measure,
    write_copies,
    write_served,
)
from recsys.warehouse.outcome import MetricRow, Outcome
from recsys.warehouse.records import list_missed, name_metrics, write_run

logger = logging.getLogger(__name__)

SPARE_BYTES = 64 * 2**20  # of disk space that must stay free
# Upper bound of the size of lists in the warehouse, as a multiple of their compressed Parquet files. The warehouse has
# every list twice: in the served table and in the history.
LISTS_GROW = 4
# What DuckDB says about a block that does not have its checksum. Any other error, for example about a column that a
# newer version has added, is no reason to replace a table.
CORRUPT = "Corrupt database file"

Audit = Callable[[Path], None]


def publish(outcome: Outcome, tonight: Tonight, home: Home, validate: Validate = validate_views) -> Counts:
    """Replaces the served tables and adds the run to the history; returns the rows per table.

    Publishing a run again gives the same tables. If the process is killed at any moment, `home.warehouse` is either the
    old file or the new one.

    Raises: PublishError if the audit fails, a file cannot be read or written, or the disk is too full; the old file
    stays as it is.
    """
    assert outcome.published
    assert outcome.as_of
    with _next_file(home, tonight, _audit_of(outcome.run_id, tonight, validate), validate) as file:
        file.keep(RECORDS)
        write_served(file.connection, outcome.run_id, tonight)
        measured = measure(file.connection, outcome, tonight, file.lists_before(outcome))
        file.write_history(outcome, tonight)
        _write_run(file, outcome, (*tonight.metrics, *measured), tonight.quarantine)
        if tonight.copies:
            write_copies(file.connection, tonight.copies)
        return count_rows(file.connection)


def backfill(outcome: Outcome, tonight: Tonight, home: Home, validate: Validate = validate_views) -> Counts:
    """Adds the lists of an earlier night to the history; the served tables stay as they are. Returns rows per table.

    The lists pass the same audit as published lists, in a temporary file of their own.

    Raises: PublishError as `publish` does.
    """
    assert not outcome.published
    assert outcome.as_of
    temporary = home.root / f".{home.warehouse.name}.backfill"
    with _write_errors(home), new_file(temporary) as connection:
        write_served(connection, outcome.run_id, tonight)
        measured = measure(connection, outcome, tonight, NO_LISTS)  # the served lists are of a later night
        write_run(connection, outcome, measured, None)
    try:
        _audit_of(outcome.run_id, tonight, validate)(temporary)
        with _next_file(home, tonight) as file:
            file.keep((*SERVED, *RECORDS))
            file.write_history(outcome, tonight)
            _write_run(file, outcome, (*tonight.metrics, *measured), tonight.quarantine)
            return count_rows(file.connection)
    finally:
        remove_leftovers(home)


def restore(outcome: Outcome | None, target: Run, home: Home, validate: Validate = validate_views) -> Counts:
    """Restores the tables that `target` published. Returns the rows per table.

    outcome: the record of a rollback. None: the run is served already, and only its damaged tables are replaced.

    Raises: PublishError if the folder of `target` no longer holds its tables, or as `publish` does.
    """
    copies = _copies(target)
    if missing := [path.name for path in copies.values() if not path.exists()]:
        raise PublishError(
            f"run {target.run_id} cannot be restored: {target.served} no longer holds {', '.join(missing)}. The served "
            "tables stay as they are. Next: choose another run: `recsys rollback --list`"
        )
    check = partial(audit, run_id=target.run_id, n=None, inputs=None, validate=validate)
    with _next_file(home, None, check, validate) as file:
        file.keep((*RECORDS, LISTS))
        for table, path in copies.items():
            file.insert(table, "from read_parquet($path)", path=exact(path))
        if outcome:
            assert outcome.published
            _write_run(file, outcome, (), None)
        else:
            name_metrics(file.connection)
        return count_rows(file.connection)


def is_copied(run: Run) -> bool:
    """Whether the folder of the run has all files that `restore` needs."""
    return all(path.exists() for path in _copies(run).values())


def _copies(run: Run) -> dict[str, Path]:
    """The copies of the served tables. Runs of older versions have none of the new ones."""
    copies = {table: run.served / f"{table}.parquet" for table in SERVED}
    is_old = not any(copies[table].exists() for table in NEW)
    return {table: path for table, path in copies.items() if not (is_old and table in NEW)}


def record(outcome: Outcome, home: Home, metrics: Iterable[MetricRow] = (), quarantine: Path | None = None) -> Counts:
    """Adds a run that published nothing to the history; the served tables stay as they are. Returns rows per table.

    A run whose lists are served stays `published`, even if it failed afterwards. A home without a warehouse gets one
    with empty tables.

    Raises: PublishError if a file cannot be read or written; the old file stays as it is.
    """
    assert not outcome.published
    with _next_file(home) as file:
        file.keep(KEPT)
        _write_run(file, outcome, metrics, quarantine)
        file.connection.execute(
            "update runs set published = true "
            "where run_id = $run_id and run_id in (select run_id from recommendations)",
            {"run_id": outcome.run_id},
        )
        return count_rows(file.connection)


def _write_run(file: NextFile, outcome: Outcome, metrics: Iterable[MetricRow], quarantine: Path | None) -> None:
    """Writes the records of a run, after those of runs that could not be added when they ended."""
    for path, missed in list_missed(file.home):
        if missed.run_id != outcome.run_id:
            write_run(file.connection, missed, (), None)
        file.added.append(path)
    write_run(file.connection, outcome, metrics, quarantine)


def serves_the_same(home: Home, tonight: Tonight) -> bool:
    """Whether every served table already has the rows that `publish` would write, whichever run wrote them.

    Compares sums of 64-bit hashes of the rows, so that no table is held in memory.
    """
    with duckdb.connect() as connection, present_file(connection, home) as file:
        if not file.stored >= set(SERVED):
            return False
        expected: dict[str, Hashed] = {table: (0, None) for table in SERVED if table not in STATS}
        for table, statement, params in list_served(tonight):
            expected[table] = hash_rows(connection, statement, table, params)
        return all(
            hash_rows(connection, f"from present.{table}", table, {}) == rows for table, rows in expected.items()
        )


def check_present(home: Home) -> list[str]:
    """Checks that the history of the present warehouse, if there is one, can be copied to the next one.

    Returns the served tables that cannot be read. A night replaces them, so they do not have to stop it: `mend`.

    Raises: PublishError if the history cannot be read, or a table has columns that this version does not know.
    """
    with duckdb.connect() as connection:
        connection.execute("set timezone = 'UTC'")
        connection.execute(sql.read("schema"))
        with present_file(connection, home) as file:
            file.check((*RECORDS, LISTS))
            return [table for table in SERVED if not _can_read(file, table)]


def _can_read(file: NextFile, table: str) -> bool:
    try:
        file.check([table])
    except PublishError as error:
        if CORRUPT not in str(error.__cause__):
            raise
        logger.warning("%s cannot be read: %s", table, error.__cause__)
        return False
    return True


def mend(damaged: Collection[str], source: Run | None, home: Home, validate: Validate = validate_views) -> Counts:
    """Replaces damaged served tables by the copies of the run that published them, or by empty tables without it.

    The history stays as it is. Returns the rows per table.

    Raises: PublishError as `restore` does.
    """
    if source is None:
        with _next_file(home) as file:
            file.keep(table for table in KEPT if table not in damaged)
            name_metrics(file.connection)
            return count_rows(file.connection)
    return restore(None, source, home, validate)


def _audit_of(run_id: str, tonight: Tonight, validate: Validate) -> Audit:
    inputs, docs = tonight.audit_inputs, tonight.audit_docs
    return partial(audit, run_id=run_id, n=tonight.n, inputs=inputs, docs=docs, validate=validate)


@contextmanager
def _next_file(
    home: Home, tonight: Tonight | None = None, check: Audit | None = None, validate: Validate | None = None
) -> Iterator[NextFile]:
    """Yields the next warehouse, empty. When the block ends, the file is closed, passes `check`, and is swapped in.

    If Great Expectations validates the tables, it is imported while the file is written.
    """
    remove_leftovers(home)
    try:
        with _write_errors(home), replacing(home.warehouse) as aside:
            _check_space(home, tonight)
            importing = preloading() if validate is validate_views else nullcontext()
            with importing, new_file(aside) as connection, present_file(connection, home) as file:
                yield file
            if check:
                check(aside)
            remove_foreign_log(home)
        for path in file.added:
            path.unlink(missing_ok=True)
    finally:
        remove_leftovers(home)


@contextmanager
def _write_errors(home: Home) -> Iterator[None]:
    try:
        yield
    except (duckdb.Error, OSError) as error:
        raise PublishError(
            f"the next {home.warehouse} could not be written: {error}. The present one was not changed. "
            "Next: fix what the message names, and run the night again"
        ) from error


def _check_space(home: Home, tonight: Tonight | None) -> None:
    """Checks the free disk space before anything is written.

    Raises: PublishError if the next file may not fit.
    """
    lists = [tonight.recommendations, tonight.default_recommendations, tonight.similar_movies] if tonight else []
    present = home.warehouse.stat().st_size if home.warehouse.exists() else 0
    needed = present + LISTS_GROW * sum(path.stat().st_size for path in lists if path) + SPARE_BYTES
    free = shutil.disk_usage(home.root).free
    if free < needed:
        raise PublishError(
            f"{home.root} has {free / 1e6:,.0f} MB free, and the next warehouse may take {needed / 1e6:,.0f} MB beside "
            "the present one. Nothing was changed. Next: free some space there, or keep fewer runs "
            "(RECSYS_HISTORY__RUNS, RECSYS_SNAPSHOTS__KEEP)"
        )
