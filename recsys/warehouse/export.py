"""Exports the served tables as Parquet, one folder per table and run, for engines other than DuckDB.

    DIR/<table>/run_id=<run>/part-0.parquet     as in Hive, the run is in the path and not in the file
    DIR/_latest.json                            written last: the run whose export is complete, and its tables

Each file appears by a single rename, so a reader never sees a partial file. An export that is killed leaves a hidden
folder, which the next export removes. Copies of DIR are not tracked: users who asked to be forgotten stay in them.
"""

import logging
import shutil
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pyarrow.parquet as pq
from duckdb import DuckDBPyConnection

from recsys.errors import PublishError, UsageError
from recsys.files import alone, read_json, sync, write_json
from recsys.forgotten import Forgotten, read_forgotten
from recsys.home import Home
from recsys.warehouse.build import LISTS, NAMES, RECORDS, SERVED
from recsys.warehouse.lookup import check_published, reading
from recsys.warehouse.publish import SPARE_BYTES

logger = logging.getLogger(__name__)

EXPORTED = (*SERVED, *RECORDS, NAMES)  # without the history: old partitions of `recommendations` have the same rows
LATEST = "_latest.json"
PARTITION = "run_id="
PART = "part-0.parquet"
ASIDE = ".export"  # folder of unfinished files
COPY = "(format parquet, compression zstd, kv_metadata {content: $content, written_at: $written_at})"


@dataclass(frozen=True)
class Export:
    """The result of an export. `rows` has the number of rows of the run in each exported table."""

    run_id: str
    directory: Path
    rows: dict[str, int]
    written: tuple[str, ...] = ()  # tables
    removed: tuple[str, ...] = ()  # partitions, as recommendations/run_id=20261121T030000Z

    @property
    def changed(self) -> bool:
        return bool(self.written or self.removed)

    def __add__(self, later: "Export") -> "Export":
        """The result of two passes."""
        written = tuple(dict.fromkeys((*self.written, *later.written)))
        return replace(later, written=written, removed=(*self.removed, *later.removed))


@dataclass(frozen=True)
class _Known:
    """The users who asked to be forgotten by a moment, in UTC."""

    moment: datetime
    forgotten: Forgotten

    @classmethod
    def read(cls, home: Home) -> "_Known":
        moment = datetime.now(UTC)  # before the list is read, so that no later request is thought to be known
        return cls(moment, read_forgotten(home))


@dataclass(frozen=True)
class _Select:
    statement: str
    params: dict[str, str]


def export(home: Home, directory: Path, tables: Iterable[str] = EXPORTED, keep: int | None = None) -> Export:
    """Exports the rows of the served run from every table; all rows of tables without a run_id, such as movies.

    Afterwards, no file has users who asked to be forgotten, even if the warehouse has them until the next night:
    partitions of other runs that are older than the newest such request are removed. With `keep`, only the newest
    `keep` partitions are kept; those of the served run always are. Partitions that are up to date are not rewritten.

    Raises: NotPublished if nothing is served; UsageError for a table that is not exported, or a directory that cannot
    be written; PublishError if the disk has too little space; HomeBusy if another export to the directory is in
    progress.
    """
    tables = check_tables(tables)
    try:
        with reading(home) as connection:
            check_published(connection, home)
            directory.mkdir(parents=True, exist_ok=True)
            with alone(directory / LATEST, "export"):
                _check_space(home, directory)
                known = _Known.read(home)
                exported = _write_all(connection, directory, tables, keep, known)
                while (newer := _Known.read(home)).forgotten != known.forgotten:  # a request came in the meantime
                    known = newer
                    exported = exported + _write_all(connection, directory, tables, keep, known)
    except (duckdb.IOException, OSError) as error:
        raise UsageError(
            f"{directory} cannot be written: {error}. Files that were complete are unchanged. "
            "Next: choose a folder that is writable and has free space"
        ) from error
    return exported


def check_tables(tables: Iterable[str]) -> tuple[str, ...]:
    """The tables in the order of the warehouse, without duplicates. Raises: UsageError for one that is not exported."""
    requested = {table.strip() for table in tables}
    if unknown := sorted(requested - {*EXPORTED}):
        why = f" ({LISTS} holds the same as the partitions of recommendations)" if LISTS in unknown else ""
        raise UsageError(
            f"{', '.join(map(repr, unknown))} cannot be exported{why}. Next: choose from {', '.join(EXPORTED)}"
        )
    return tuple(table for table in EXPORTED if table in requested)


def _check_space(home: Home, directory: Path) -> None:
    """Assumes that Parquet takes at most the size of the warehouse. Raises: PublishError if that may not fit."""
    needed = home.warehouse.stat().st_size + SPARE_BYTES
    free = shutil.disk_usage(directory).free
    if free < needed:
        raise PublishError(
            f"{directory} has {free / 1e6:,.0f} MB free, and an export may take {needed / 1e6:,.0f} MB. Nothing was "
            "changed. Next: free some space there, or export with --keep or fewer --tables"
        )


def _write_all(
    connection: DuckDBPyConnection, directory: Path, tables: tuple[str, ...], keep: int | None, known: _Known
) -> Export:
    exported = _write(connection, directory, tables, known)
    _write_latest(connection, exported)
    return replace(exported, removed=tuple(_remove_old(exported, keep, known.forgotten)))


def _write(connection: DuckDBPyConnection, directory: Path, tables: tuple[str, ...], known: _Known) -> Export:
    """Writes all files to a temporary folder, then renames the file of each table that is new or different.

    Also updates tables of the run that an earlier export wrote.
    """
    ((run_id,),) = connection.execute("select any_value(run_id) from recommendations").fetchall()
    aside = directory / ASIDE
    shutil.rmtree(aside, ignore_errors=True)
    rows, written = {}, []
    try:
        for table in EXPORTED:
            here = directory / table / f"{PARTITION}{run_id}" / PART
            if table not in tables and not here.exists():
                continue
            select = _select(connection, table, known.forgotten, run_id)
            rows[table], content = _content(connection, select)
            if _metadata(here).get("content") != content:
                facts = {"content": content, "written_at": known.moment.isoformat()}
                _copy(connection, select, facts, aside / table / f"{PARTITION}{run_id}")
                written.append(table)
        for table in written:
            _swap_in(aside / table / f"{PARTITION}{run_id}", directory / table)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return Export(run_id, directory, rows, tuple(written))


def _select(connection: DuckDBPyConnection, table: str, forgotten: Forgotten, run_id: str) -> _Select:
    """The rows of the run, without run_id and without users who asked to be forgotten."""
    columns = connection.table(table).columns
    kept = f"select {forgotten.projection(table)} from {table} where {forgotten.condition(table, columns)}"
    if table == "quarantine":
        kept = f"select * replace (row::varchar as row) from ({kept})"  # other engines read JSON as bytes
    if "run_id" not in columns:
        return _Select(kept, {})
    return _Select(f"select * exclude (run_id) from ({kept}) where run_id = $run_id", {"run_id": run_id})


def _content(connection: DuckDBPyConnection, select: _Select) -> tuple[int, str]:
    """The number of rows, and a fingerprint that is equal for equal rows and columns."""
    columns = " ".join(connection.sql(f"from ({select.statement}) limit 0", params=select.params or None).columns)
    statement = f"select count(*), coalesce(sum(hash(rows)), 0) from ({select.statement}) as rows"
    ((n_rows, digest),) = connection.execute(statement, select.params).fetchall()
    return n_rows, f"{n_rows} {digest} {columns}"


def _copy(connection: DuckDBPyConnection, select: _Select, facts: dict[str, str], partition: Path) -> None:
    partition.mkdir(parents=True)
    params = {**select.params, **facts, "path": str(partition / PART)}
    connection.execute(f"copy ({select.statement}) to ($path) {COPY}", params)
    sync(partition / PART)
    sync(partition)


def _swap_in(partition: Path, folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    target = folder / partition.name
    if target.exists():
        (partition / PART).replace(target / PART)
        sync(target)
    else:
        partition.rename(target)
        sync(folder)


def _write_latest(connection: DuckDBPyConnection, exported: Export) -> None:
    """Writes the run and its exported tables to _latest.json."""
    found = connection.execute(
        "select dataset, as_of::varchar from runs where run_id = $run_id", {"run_id": exported.run_id}
    ).fetchall()
    dataset, as_of = found[0] if found else (None, None)
    latest = {"run_id": exported.run_id, "dataset": dataset, "as_of": as_of, "tables": exported.rows}
    path = exported.directory / LATEST
    if not path.exists() or read_json(path) != latest:
        write_json(path, latest)


def _remove_old(exported: Export, keep: int | None, forgotten: Forgotten) -> Iterable[str]:
    """Removes outdated partitions and yields their names. Each one disappears by a single rename."""
    aside = exported.directory / ASIDE
    forgotten_by = (
        forgotten.newest + timedelta(seconds=1) if forgotten.newest else None
    )  # the request is stored in whole seconds
    for table in EXPORTED:
        partitions = sorted((exported.directory / table).glob(f"{PARTITION}*"), reverse=True)
        others = [path for path in partitions if path.name != f"{PARTITION}{exported.run_id}"]
        for place, path in enumerate(others, start=2):
            # one in the future was written when the clock was wrong, maybe before the request
            if (keep and place > keep) or (forgotten_by and not forgotten_by <= _written_at(path) <= datetime.now(UTC)):
                aside.mkdir(exist_ok=True)
                path.rename(aside / table)
                shutil.rmtree(aside)
                yield f"{table}/{path.name}"


def _written_at(partition: Path) -> datetime:
    """The moment whose requests to forget the file respects; the earliest possible time if it does not state it."""
    moment = _metadata(partition / PART).get("written_at")
    return datetime.fromisoformat(moment) if moment else datetime.min.replace(tzinfo=UTC)


def _metadata(path: Path) -> dict[str, Any]:
    """The metadata of a Parquet file; empty if the file is missing or cannot be read."""
    try:
        stored = pq.read_metadata(path).metadata or {}
    except (OSError, ValueError):  # the base class of pyarrow's ArrowInvalid
        return {}
    return {key.decode(): value.decode() for key, value in stored.items()}
