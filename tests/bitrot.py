"""Changes single bits in every kind of file of a published home, and checks that nothing reads them unnoticed.

    python -m tests.bitrot                              600 changed bits in each kind of file
    python -m tests.bitrot --flips 20 --kinds duckdb    a few in one kind

Each bit is changed in one file, the check that a night or command makes before it reads the file is called, and the bit
is changed back:

    detected      an error, or a warning: the file is made again, restored or not used
    no champion   detected, and the night is compared with no champion
    harmless      nothing is noticed, and the content equals what it was
    silent        nothing is noticed, and the content differs: the exit code is 1
"""

import argparse
import random
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import duckdb
import pyarrow.parquet as pq

from recsys.datasets import DATASETS
from recsys.errors import ModelError, RecsysError
from recsys.files import read_json, read_sealed, write_sealed
from recsys.forgotten import read_forgotten
from recsys.home import Home, Run
from recsys.ingest.drops import is_whole
from recsys.ingest.fetch.fetch import find_fault, local_archive
from recsys.ingest.readings import read_reading
from recsys.ingest.snapshot import Snapshot, find_damage, list_snapshots
from recsys.ingest.write import write_snapshot
from recsys.runs import seal
from recsys.train.champion import open_served
from recsys.warehouse.build import TABLES
from recsys.warehouse.publish import check_present
from tests.support.archives import write_stand_in
from tests.support.flips import flipped
from tests.support.nights import serve_night

KINDS = ("parquet", "duckdb", "safetensors", "json", "zip")
OUTCOMES = ("detected", "no champion", "harmless", "silent")
UNPUBLISHED = DATASETS["ml-latest-small"]  # no checksum is published, so the zip alone has to show its damage


@dataclass(frozen=True)
class Target:
    """A file that is read again."""

    path: Path
    notice: Callable[[], str | None]  # the outcome if the damage is noticed
    read: Callable[[], Any]  # the content that a night would use
    intact: Any = field(default=None)

    @property
    def kind(self) -> str:
        return self.path.suffix.removeprefix(".")

    def judge(self) -> str:
        noticed = self.notice()
        try:
            return noticed or ("harmless" if self.read() == self.intact else "silent")
        except duckdb.Error:  # in a table that every run writes again; DuckDB checks each block that it reads
            return "detected"


def flip_bits(targets: list[Target], flips: int, seed: int) -> Counter[str]:
    """The outcomes of `flips` changed bits, each in a file and at a place drawn at random."""
    draw, outcomes = random.Random(seed), Counter[str]()
    for _ in range(flips):
        target = draw.choice(targets)
        bit = draw.randrange(8 * target.path.stat().st_size)
        with flipped(target.path, bit):
            outcome = target.judge()
        outcomes[outcome] += 1
        if outcome == "silent":
            print(f"bit {bit} of {target.path} changes without notice", file=sys.stderr)
    return outcomes


def list_targets(home: Home) -> dict[str, list[Target]]:
    """Every file of the home that is read again, by kind. A file of these kinds that no function reads is an error."""
    found = [*_of_sources(home), *_of_snapshots(home), *_of_runs(home)]
    found += [
        Target(home.warehouse, lambda: _check_warehouse(home), lambda: _read_tables(home)),
        Target(home.forgotten, lambda: _fails(lambda: read_forgotten(home)), lambda: read_forgotten(home).asked_at),
    ]
    files = {path for path in home.root.rglob("*.*") if path.suffix[1:] in KINDS and path.is_file()}
    assert files == {target.path for target in found}, files ^ {target.path for target in found}
    early = [target.path for target in found if target.notice()]
    assert not early, f"damage is found in intact files: {early}"
    whole = [Target(target.path, target.notice, target.read, target.read()) for target in found]
    return {kind: [target for target in whole if target.kind == kind] for kind in KINDS}


def _of_sources(home: Home) -> Iterator[Target]:
    archive = home.archives / UNPUBLISHED.file
    again = Home(home.root.with_name("again"))  # into which the archive is read
    yield Target(
        archive,
        lambda: "detected" if find_fault(UNPUBLISHED, archive) else None,
        lambda: write_snapshot(local_archive(str(archive), archive, "cache"), again).snapshot_id,
    )
    for path in home.parsed.glob("*/*.*"):
        yield Target(path, partial(_check_parsed, path.parent), partial(_read, path))


def _check_parsed(entry: Path) -> str | None:
    return None if is_whole(entry) else "detected"


def _check_snapshot(folder: Path) -> str | None:
    return "detected" if find_damage(Snapshot(folder)) else None


def _check_reading(path: Path) -> str | None:
    return _unless(read_reading(path))


def _of_snapshots(home: Home) -> Iterator[Target]:
    for folder in home.snapshots.glob("[!.]*"):
        for snapshot in list_snapshots(folder):
            for path in snapshot.folder.iterdir():
                yield Target(
                    path,
                    partial(_check_snapshot, snapshot.folder),
                    partial(_read, path),
                )
        for path in (folder / ".readings").iterdir():
            yield Target(path, partial(_check_reading, path), partial(read_reading, path))


def _of_runs(home: Home) -> Iterator[Target]:
    (run,) = home.list_runs()
    sealed_apart = {run.ended, run.underway, run.steps}
    for path in run.folder.rglob("*.*"):
        if path in sealed_apart:
            yield Target(path, partial(_fails, partial(read_sealed, path)), partial(read_sealed, path))
        elif path.suffix[1:] in KINDS:
            yield Target(path, partial(_check_run, run, path), partial(_read, path))


def _check_run(run: Run, path: Path) -> str | None:
    """The champion of the next night first; then a rollback, an explanation or a resumed night."""
    damage = seal.find_damage(run, path)
    if damage and path == run.findings:
        return "no champion"  # `open_served` would read the file as that of tonight's run, too
    try:
        open_served(run)
    except ModelError:
        return "no champion"
    return "detected" if damage else None


def _check_warehouse(home: Home) -> str | None:
    try:
        return "detected" if check_present(home) else None
    except RecsysError:
        return "detected"


def _fails(read: Callable[[], object]) -> str | None:
    try:
        read()
    except (RecsysError, OSError, ValueError):
        return "detected"
    return None


def _unless(found: object) -> str | None:
    return None if found else "detected"


def _read(path: Path) -> Any:
    if path.suffix == ".parquet":
        return pq.read_table(path)
    return read_json(path) if path.suffix == ".json" else path.read_bytes()


def _read_tables(home: Home) -> dict[str, list[Any]]:
    with duckdb.connect(home.warehouse, read_only=True) as connection:
        return {table: connection.sql(f"from {table} order by all").fetchall() for table in TABLES}


def complete(home: Home) -> Home:
    """Adds the files that a published night does not leave: a forgotten user, and an archive without a known MD5."""
    write_sealed(home.forgotten, {"1000000": "2000-01-01T00:00:00+00:00"})  # before the night, whose model stays usable
    home.archives.mkdir(exist_ok=True)
    write_stand_in(home.archives / UNPUBLISHED.file, UNPUBLISHED.layout)
    return home


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--flips", type=int, default=600, help="changed bits in each kind of file")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    print(f"| kind | files | flips | {' | '.join(OUTCOMES)} |\n{'|---' * (len(OUTCOMES) + 3)}|")
    silent = 0
    with tempfile.TemporaryDirectory() as folder:
        targets = list_targets(complete(serve_night(Path(folder))))
        for kind in options.kinds:
            found = flip_bits(targets[kind], options.flips, options.seed)
            counts = " | ".join(str(found[outcome]) for outcome in OUTCOMES)
            print(f"| {kind} | {len(targets[kind])} | {options.flips} | {counts} |", flush=True)
            silent += found["silent"]
    sys.exit(silent > 0)


if __name__ == "__main__":
    main()
