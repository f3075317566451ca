"""Merges a directory of drops in our own schema: files that arrive daily, late, twice or as corrections.

A drop is `<table>.csv` or `<table>.parquet`, optionally with a suffix: `ratings-2026-11-20.parquet`. The result depends
only on the rows, not on their distribution over files or on the order in which the files arrived:

- ratings: the latest rating of a (user, movie) pair wins. Ties: the higher rating. A row that the checks will refuse
  replaces no other row.
- retractions (user_id, movie_id, retracted_at): a retraction ends the ratings of the pair up to that time, but no later
  ones. A retraction in the future is ignored until then.
- movies, users, links: the row with the latest updated_at wins, and rows without updated_at come last. Ties: the file
  whose name without extension sorts last, for example movies-2.csv after movies.csv. A movie or user that the checks
  will refuse is used only if there is no valid row. An updated_at in the future counts as missing.
- tags: every distinct tag is kept.

Each file is parsed once; the result is kept in `home.parsed`, named by the file's content.
"""

import hashlib
import logging
import os
import shutil
import time
from collections import Counter
from datetime import datetime
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

import sql
from recsys.errors import DataRefused, SourceError
from recsys.files import exact, find_damage, hash_file, hash_files, read_sealed, write_sealed
from recsys.forgotten import WITHHELD, Forgotten
from recsys.ingest.content import LINES
from recsys.ingest.parse.drop_files import Drop, hash_drops, list_drops
from recsys.ingest.parse.formats import DROPS, read_drop
from recsys.ingest.readings import Source
from recsys.ingest.scale import find_scale
from recsys.schema import REJECTS

log = logging.getLogger(__name__)

READING = 2  # version of the parser; increase it whenever the same file would be parsed differently

REQUIRED = ("ratings", "movies")

UNUSED_DAYS = 30  # after which the parsed content of a file is deleted


def read_drops(folder: Path, parsed: Path, source: Source, connection: duckdb.DuckDBPyConnection) -> dict[str, Any]:
    """Fills ratings, movies, users, tags, links, superseded and rejects with the merged drops.

    Returns the manifest's entries about the files that were read.

    Raises: SourceError if a file cannot be read; DataRefused if it lacks a column, or a required table has no file.
    """
    drops = list_drops(folder)
    check_complete(folder, drops)
    entries = {drop.name: parse(drop, parsed, source.forgotten) for drop in drops}
    remove_stale(parsed, source.forgotten)
    for table, schema in DROPS.items():
        files = {name: entries[name] / "rows.parquet" for name in names_of(table, drops)}
        create_view(f"drop_{table}", schema, files, connection)
    create_view(
        "drop_rejects", REJECTS, {name: entry / "rejects.parquet" for name, entry in entries.items()}, connection
    )
    scale = find_scale(connection.view("drop_ratings"), source.scale)
    next_change = merge(scale, source.now, connection)
    return {
        "sha256": hash_drops(drops),  # of the files that were read; more may have arrived since the source was hashed
        "drops": {drop.name: drop.sha256 for drop in drops},
        "rating_scale": scale,
        "next_change": next_change and next_change.isoformat(),
        "notices": [notice for entry in entries.values() for notice in read_sealed(entry / "entry.json")["notices"]],
    }


def check_complete(folder: Path, drops: list[Drop]) -> None:
    counts = Counter(drop.table for drop in drops)
    missing = [table for table in REQUIRED if not counts[table]]
    if missing:
        raise DataRefused(
            f"{folder} has no file of {' and none of '.join(missing)}; it has "
            f"{', '.join(f'{count} of {table}' for table, count in counts.items()) or 'no drops'}. Next: put "
            f"{missing[0]}.csv or {missing[0]}.parquet there; the name may have a suffix before the dot"
        )


def names_of(table: str, drops: list[Drop]) -> list[str]:
    return [drop.name for drop in drops if drop.table == table]


# ---- parsing each file once


def parse(drop: Drop, parsed: Path, forgotten: Forgotten) -> Path:
    """The folder with the parsed content of the file: rows.parquet, rejects.parquet, entry.json."""
    form = drop.path.suffix.lower()  # the same bytes are parsed differently as CSV and as Parquet
    key = hashlib.sha256(f"{READING} {drop.table} {form} {drop.sha256} {forgotten.digest}".encode()).hexdigest()
    entry = parsed / f"{forgotten.digest[:8]}-{key[:24]}"
    if is_whole(entry):
        os.utime(entry)
        return entry
    log.info("reading %s", drop.name)
    entry.mkdir(parents=True, exist_ok=True)
    with duckdb.connect(config={"temp_directory": str(entry / "spill")}) as connection:
        notices = read_drop(drop.path, drop.table, connection)
        keep_rows("rows", DROPS[drop.table], forgotten, entry, connection)
        keep_rows("rejects", REJECTS, forgotten, entry, connection)
    if hash_file(drop.path) != drop.sha256:
        raise SourceError(
            f"{drop.path} changed while it was read. Next: run again when it is complete. Write drops under a name "
            "with a leading dot and rename them when they are complete"
        )
    digests = hash_files(entry / f"{name}.parquet" for name in ("rows", "rejects"))
    write_sealed(entry / "entry.json", {"notices": notices, "files": digests})
    return entry


def is_whole(entry: Path) -> bool:
    """Whether the parsed content of a file is complete and as it was written; otherwise the file is parsed again."""
    path = entry / "entry.json"  # written last
    try:
        damage = find_damage(entry, read_sealed(path)["files"]) if path.exists() else None
    except (OSError, ValueError, LookupError) as error:
        damage = str(error)
    if damage:
        log.warning("%s is damaged: %s. The file is parsed again", entry, damage)
    return path.exists() and damage is None


def keep_rows(
    relation: str, schema: pa.Schema, forgotten: Forgotten, entry: Path, connection: duckdb.DuckDBPyConnection
) -> None:
    """Streams rows and their line numbers into a Parquet file, without the name of the source file."""
    kept = with_line(schema)
    rows = connection.sql(f"from {relation}").filter(forgotten.condition(relation, schema.names))
    rows = rows.project(forgotten.projection(relation))
    with pq.ParquetWriter(entry / f"{relation}.parquet", kept, compression="zstd") as writer:
        for batch in rows.to_arrow_reader():
            writer.write_table(pa.Table.from_batches([batch]).select(kept.names).cast(kept))


def with_line(schema: pa.Schema) -> pa.Schema:
    fields = [field for field in schema if field.name not in LINES.names]
    return pa.schema([*fields, LINES.field("source_line")])


def is_parsed_without(entry: Path, forgotten: Forgotten) -> bool:
    """Whether an entry was parsed with the same list of forgotten users."""
    return entry.name.startswith(forgotten.digest[:8])


def remove_stale(parsed: Path, forgotten: Forgotten) -> None:
    """Deletes entries parsed with another list of forgotten users, and those unused for UNUSED_DAYS."""
    too_old = time.time() - UNUSED_DAYS * 24 * 3600
    for entry in parsed.iterdir():
        if not is_parsed_without(entry, forgotten) or entry.stat().st_mtime < too_old:
            shutil.rmtree(entry)


# ---- merging


def create_view(name: str, schema: pa.Schema, files: dict[str, Path], connection: duckdb.DuckDBPyConnection) -> None:
    """Creates a view of all rows of some entries, each with the name of its source file."""
    if not files:
        connection.register(name, pa.schema([*with_line(schema), LINES.field("source_file")]).empty_table())
        return
    names = pa.table({"filename": [str(path) for path in files.values()], "source_file": list(files)})
    connection.register(f"{name}_files", names)
    connection.read_parquet(list(map(exact, files.values())), filename=True).create_view(f"{name}_rows")
    connection.execute(
        f"create view {name} as select * exclude (filename) from {name}_rows inner join {name}_files using (filename)"
    )


def merge(scale: tuple[float, ...], moment: datetime, connection: duckdb.DuckDBPyConnection) -> datetime | None:
    """Returns the moment from which the same drops give other rows, if some are dated in the future."""
    now = {"now": moment}
    connection.execute("set timezone = 'UTC'")
    usable = now | {"scale": list(scale), "isolated_since": find_isolated(moment, connection)}
    connection.execute(f"create table merged_ratings as {sql.read('merge_ratings')}", usable)
    connection.execute("create view ratings as select * exclude (until) from merged_ratings where until is null")
    connection.execute("create view superseded as from merged_ratings where until > rated_at")
    params = {"movies": now, "users": now, "rejects": {"withheld": WITHHELD}}
    for table in ("movies", "users", "links", "tags", "rejects"):
        connection.execute(f"create table {table} as {sql.read(f'merge_{table}')}", params.get(table, {}))
    next_change: datetime | None = connection.execute(sql.read("next_change"), now).fetchall()[0][0]
    return next_change


def find_isolated(moment: datetime, connection: duckdb.DuckDBPyConnection) -> datetime | None:
    """The first of the ratings that the rule rated_at_isolated will refuse."""
    is_past = duckdb.ColumnExpression("rated_at") <= duckdb.ConstantExpression(moment)
    connection.view("drop_ratings").filter(is_past).create_view("ratings")  # the relation that the rule reads
    rule = connection.sql(sql.read("rule_rated_at_isolated"))
    since: datetime | None = rule.aggregate("min(rated_at)").fetchall()[0][0]
    connection.execute("drop view ratings")
    return since
