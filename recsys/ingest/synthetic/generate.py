"""Writes synthetic ratings of any size as files in the layout of MovieLens's CSV editions.

`draws` and `catalogue` create the content.
"""

import logging
import re
import shutil
import tempfile
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import polars as pl

from recsys.datasets import DATASETS
from recsys.errors import SourceError, UsageError
from recsys.files import replacing, sync
from recsys.ingest.archives.zips import LIMITS
from recsys.ingest.synthetic.catalogue import draw_catalogue
from recsys.ingest.synthetic.draws import World, draw_block, draw_world, list_blocks
from recsys.progress import progress

log = logging.getLogger(__name__)

USAGE = "<users>x<movies>x<ratings>, e.g. 200948x87585x32000000"
MAX_USERS, MAX_MOVIES = 20_000_000, 5_000_000  # fit in 2 GB of memory; ratings are limited by disk only

RATING_BYTES = 34  # of a line with the longest ids
TAG_BYTES = 3  # for each rating
MOVIE_BYTES = 100  # in movies.csv and links.csv
PACKED_SHARE = 0.4
MIB = 2**20

MOVIES_AT_A_TIME = 100_000

README = """\
MADE-UP RATINGS
===============

These data were made up by `recsys generate {size} --seed {seed}`. They are not MovieLens: no person gave any of these
ratings, no movie here exists, and nothing that is measured on them says anything about people or movies. The files
have the layout of MovieLens, so that programs that read MovieLens can be tried at any size.

{users:,} users, {movies:,} movies, {ratings:,} ratings, {tags:,} tags.

ratings.csv   userId,movieId,rating,timestamp: 0.5 to 5.0 stars, whole ones before 18 February 2003; seconds since 1970
tags.csv      userId,movieId,tag,timestamp
movies.csv    movieId,title,genres: genres separated by |
links.csv     movieId,imdbId,tmdbId: made up as well; they lead nowhere

Ratings follow a mean, a bias of each user and movie, a taste of a few dimensions and noise.
"""


@dataclass(frozen=True)
class Generated:
    """The size and the path of the generated files."""

    path: Path
    users: int
    movies: int
    ratings: int
    tags: int
    seed: int
    bytes: int  # of the zip, or of all files
    seconds: float


def parse_size(size: str) -> tuple[int, int, int]:
    """Parses users, movies and ratings of `200x100x5000`. Raises: UsageError if the size is invalid."""
    match = re.fullmatch(r"(\d{1,12})x(\d{1,12})x(\d{1,15})", size, re.ASCII)
    if match is None:
        raise UsageError(f"SIZE {size} is not {USAGE}. Next: pass three whole numbers separated by x")
    n_users, n_movies, n_ratings = (int(number) for number in match.groups())
    if not (0 < n_users <= MAX_USERS and 0 < n_movies <= MAX_MOVIES):
        raise UsageError(
            f"SIZE {size} asks for {n_users:,} users and {n_movies:,} movies; 1 to {MAX_USERS:,} users and 1 to "
            f"{MAX_MOVIES:,} movies are possible. Next: change the size, e.g. {USAGE}"
        )
    if not n_users <= n_ratings <= n_users * n_movies:
        raise UsageError(
            f"SIZE {size} asks for {n_ratings:,} ratings; {n_users:,} users who each rate at least one of "
            f"{n_movies:,} movies, and none twice, give {n_users:,} to {n_users * n_movies:,}. Next: change the size"
        )
    return n_users, n_movies, n_ratings


def generate(size: str, path: Path, seed: int = 0) -> Generated:
    """Writes README.txt, ratings.csv, tags.csv, movies.csv and links.csv to a zip if `path` ends in .zip, else to a
    folder. The same size and seed give the same bytes. Every user rates at least 20 movies if there are enough ratings,
    else at least one.

    Raises: UsageError for an invalid size, or a path that exists or is named like a published edition; SourceError if
    the disk is too small or cannot be written.
    """
    started = time.monotonic()
    n_users, n_movies, n_ratings = parse_size(size)
    check_path(path)
    check_readable(path, n_ratings)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        check_room(path, n_movies, n_ratings)
        with beside(path) as folder:
            world = draw_world(n_users, n_movies, n_ratings, seed)
            n_tags = write_files(folder, world, size)
            n_bytes = move(folder, path, size)
    except OSError as error:
        raise SourceError(
            f"{path} cannot be written ({error.strerror or error}). Next: check its folder, or pass another path"
        ) from error
    return Generated(path, n_users, n_movies, n_ratings, n_tags, seed, n_bytes, round(time.monotonic() - started, 1))


def is_zip(path: Path) -> bool:
    return path.suffix.lower() == ".zip"


def check_path(path: Path) -> None:
    """Raises: UsageError if the path exists, or if synthetic data could be mistaken for a published edition."""
    if path.exists():
        raise UsageError(f"{path} exists already and is not overwritten. Next: remove it, or pass another path")
    if path.name.lower().removesuffix(".zip") in DATASETS:
        raise UsageError(
            f"{path} is named like the published {path.name.lower().removesuffix('.zip')}; synthetic ratings could be "
            "mistaken for it. Next: pass another name, e.g. made-up.zip"
        )


def check_readable(path: Path, n_ratings: int) -> None:
    """Raises: UsageError for a zip that is larger than the limit for reading one."""
    if is_zip(path) and n_ratings * RATING_BYTES > LIMITS.file_bytes:
        raise UsageError(
            f"ratings.csv of {n_ratings:,} ratings takes up to {n_ratings * RATING_BYTES / 1e9:,.1f} GB, the limit "
            f"for reading it from a zip is {LIMITS.file_bytes / 1e9:,.1f} GB. Next: pass the path of a folder, without "
            ".zip"
        )


def check_room(path: Path, n_movies: int, n_ratings: int) -> None:
    """Raises: SourceError if the disk has no space for the files and their zip."""
    unpacked_bytes = n_ratings * (RATING_BYTES + TAG_BYTES) + n_movies * MOVIE_BYTES
    needed_bytes = unpacked_bytes * (1 + PACKED_SHARE if is_zip(path) else 1)
    free_bytes = shutil.disk_usage(path.parent).free
    if needed_bytes > free_bytes:
        raise SourceError(
            f"{n_ratings:,} ratings need about {needed_bytes / 1e9:,.1f} GB while they are written, and {path.parent} "
            f"has {free_bytes / 1e9:,.1f} GB free. Next: pass a path on a larger disk, or fewer ratings"
        )


@contextmanager
def beside(path: Path) -> Iterator[Path]:
    """Yields a new folder on the same disk as `path`. The folder is removed at the end if it was not moved."""
    with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as scratch:
        folder = Path(scratch) / "made-up"  # a subfolder, because only the owner can read the temporary folder
        folder.mkdir()
        yield folder


def write_files(folder: Path, world: World, size: str) -> int:
    """Writes the five files; returns the number of tags."""
    n_users, n_movies, n_ratings = len(world.counts_U), len(world.movie_id_M), int(world.counts_U.sum())
    with (folder / "movies.csv").open("xb") as movies, (folder / "links.csv").open("xb") as links:
        write_catalogue(movies, links, world)
    with (
        (folder / "ratings.csv").open("xb") as ratings,
        (folder / "tags.csv").open("xb") as tags,
        progress("made-up ratings", n_ratings, "ratings", log) as advance,
    ):
        n_tags = 0
        write_header(ratings, "userId", "movieId", "rating", "timestamp")
        write_header(tags, "userId", "movieId", "tag", "timestamp")
        for first, beyond in list_blocks(world):
            block = draw_block(world, first, beyond)
            write_lines(ratings, block.ratings)
            write_lines(tags, block.tags)
            n_tags += len(block.tags)
            advance(len(block.ratings), f"user {beyond:,} of {n_users:,}")
    text = README.format(size=size, seed=world.seed, users=n_users, movies=n_movies, ratings=n_ratings, tags=n_tags)
    (folder / "README.txt").write_text(text, encoding="utf-8")
    return n_tags


def write_header(file: BinaryIO, *columns: str) -> None:
    file.write((",".join(columns) + "\r\n").encode())


def write_lines(file: BinaryIO, frame: pl.DataFrame) -> None:
    """Writes lines like GroupLens: ending in \\r\\n, fields quoted only if necessary, stars as 4.0."""
    frame.write_csv(file, include_header=False, line_terminator="\r\n")


def write_catalogue(movies: BinaryIO, links: BinaryIO, world: World) -> None:
    write_header(movies, "movieId", "title", "genres")
    write_header(links, "movieId", "imdbId", "tmdbId")
    for start in range(0, len(world.movie_id_M), MOVIES_AT_A_TIME):
        catalogue = draw_catalogue(world.movie_id_M[start : start + MOVIES_AT_A_TIME], start, world.seed)
        write_lines(movies, catalogue.movies)
        write_lines(links, catalogue.links)


def move(folder: Path, path: Path, size: str) -> int:
    """Packs or renames the files to `path` atomically; returns the number of bytes there."""
    if is_zip(path):
        with replacing(path) as aside:
            pack(folder, aside, f"made-up-{size}")
        return path.stat().st_size
    n_bytes = sum(file.stat().st_size for file in folder.iterdir())
    for file in folder.iterdir():
        sync(file)
    folder.rename(path)
    sync(path.parent)
    return n_bytes


def pack(folder: Path, path: Path, name: str) -> None:
    """Writes the files to a zip with one folder `name` and without dates, so that equal files give equal bytes."""
    files = sorted(folder.iterdir())
    total_mib = sum(file.stat().st_size for file in files) // MIB
    with zipfile.ZipFile(path, "x") as archive, progress("packing", total_mib, "MiB", log) as advance:
        for file in files:
            entry = zipfile.ZipInfo(f"{name}/{file.name}")
            entry.compress_type, entry.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
            entry.file_size = file.stat().st_size  # without it, zipfile refuses files above 2 GB
            with file.open("rb") as unpacked, archive.open(entry, "w") as packed:
                while chunk := unpacked.read(MIB):
                    packed.write(chunk)
                    advance(len(chunk) // MIB, file.name)
