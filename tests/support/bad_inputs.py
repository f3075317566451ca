"""Creates every kind of bad input, by its name in docs/data.md. The expected results are on that page."""

import gzip
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from recsys.forgotten import forget
from recsys.home import Home
from tests.support import hostile
from tests.support.archives import Names
from tests.support.servers import honest, other_bytes, status
from tests.support.spoiling import (
    Change,
    Kind,
    Write,
    a_zip,
    changed,
    column,
    crafted,
    drops,
    edition,
    files_named,
    frame,
    header,
    in_drops,
    in_edition,
    in_parquet,
    just,
    more,
    more_movies,
    named,
    number,
    packed,
    small,
    some,
    tables,
    write_drops,
)

# ---- the kinds

ARCHIVES = {kind: crafted("made.zip", write) for kind, (write, _) in hostile.ZIPS.items()}
ARCHIVES |= {kind: crafted("made", write) for kind, (write, _) in hostile.FOLDERS.items()}

SOURCES = {
    "a misspelt dataset": named("ml-100kk"),
    "a path that is not there": named("/nowhere/ml-1m.zip"),
    "no source at all": named(""),
    "synthetic without sizes": named("synthetic:many"),
    "more synthetic ratings than pairs": named("synthetic:10x10x101"),
    "more synthetic users than fit": named("synthetic:99999999999x10x100"),
    "an empty folder": Kind(lambda path: path),
    "a folder of other files": Kind(changed(drops, "drops", {**dict.fromkeys(drops()), "notes.txt": just("hello\n")})),
    "a zip without ratings": Kind(a_zip("ml-1m/movies.dat", "ml-1m/users.dat")),
    "a zip without movies": Kind(a_zip("ml-1m/ratings.dat", "ml-1m/users.dat")),
    "a zip of two editions": Kind(a_zip("a/ratings.dat", "a/movies.dat", "b/ratings.dat", "b/movies.dat")),
}

FILES = {
    "an empty file": in_drops(ratings=just("")),
    "a header and nothing else": in_drops(ratings=lambda content: content.split(b"\n")[0] + b"\n"),
    "text in UTF-16": in_drops(ratings=lambda content: content.decode().encode("utf-16")),
    "UTF-16 without its mark": in_drops(ratings=lambda content: content.decode().encode("utf-16-le")),
    "gzip called csv": in_drops(ratings=gzip.compress),
    "an HTML page called csv": in_drops(movies=just("<!DOCTYPE html>\n<html><body>Please log in</body></html>\n")),
    "Parquet called csv": in_drops(ratings=lambda _: packed()["ratings.parquet"]),
    "CSV called Parquet": in_parquet("ratings", damage=lambda _: drops()["ratings.csv"]),
    "Parquet cut short": in_parquet("ratings", damage=lambda content: content[: len(content) // 2]),
    "a damaged page of Parquet": in_parquet(
        "ratings", damage=lambda content: content[:3000] + bytes(500) + content[3500:]
    ),
    "a null in Parquet": in_parquet("movies", more_movies),
    "a bomb in Parquet": in_parquet("movies", lambda _: long_titles(9_000, n_rows=10_000)),
    "a title of a megabyte in Parquet": in_parquet("movies", lambda _: long_titles(10**6, n_rows=10_000)),
    "an endless list of genres": Kind(
        changed(lambda: tables("ml-100k"), "ml-100k", {"u.genre": more("War|0" * 20_000)})
    ),
    "a pointer of Git LFS": in_drops(
        ratings=just("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n")
    ),
    "zeros in place of text": in_drops(ratings=lambda content: bytes(len(content))),
    "an endless line": in_drops(ratings=more(b"1,1,5," + b"9" * 2**25)),
    "line ends of classic Mac OS": in_drops(ratings=lambda content: content.replace(b"\n", b"\r")),
    "semicolons instead of commas": in_drops(ratings=lambda content: content.replace(b",", b";")),
    "another file's content": in_drops(ratings=lambda _: drops()["movies.csv"]),
    "two files for one table": Kind(
        changed(drops, "drops", {"ratings.parquet": lambda _: packed()["ratings.parquet"]})
    ),
}

HEADERS = {
    "an added column": in_drops(ratings=column("device", pl.lit("tv"))),
    "a missing column": in_drops(ratings=frame(lambda table: table.drop("rated_at"))),
    "a renamed column": in_drops(movies=header("genres", "genre")),
    "no header": in_drops(ratings=lambda content: content.partition(b"\n")[2]),
    "a column named twice": in_drops(ratings=header("movie_id", "rating")),
    "a column in another case": in_drops(ratings=header("rating", "Rating")),
    "words instead of numbers": in_drops(ratings=column("rating", pl.lit("good"))),
    "milliseconds instead of seconds": in_drops(ratings=column("rated_at", pl.col("rated_at") + "000")),
    "ids as fractions in Parquet": in_parquet("ratings", lambda table: cast(table, "user_id", pa.float64())),
    "stars as text in Parquet": in_parquet("ratings", lambda table: cast(table, "rating", pa.string())),
    "IMDb ids as numbers in Parquet": in_parquet("links", lambda table: cast(table, "imdb_id", pa.int64())),
    "a missing column of an edition": in_edition(movies=frame(lambda table: table.drop("genres"))),
    "a file that is not used": in_edition(**{"genome-tags": just("tagId,tag\r\n1,007\r\n")}),
}


def long_titles(n_bytes: int, n_rows: int) -> pa.Table:
    """Movies with the same title, which the file stores once."""
    titles = pa.DictionaryArray.from_arrays(pa.array([0] * n_rows, pa.int32()), ["x" * n_bytes])
    ids, years = list(range(1, n_rows + 1)), pa.array([1990] * n_rows, pa.int16())
    return pa.table({"movie_id": ids, "title": titles, "year": years, "genres": [["War"]] * n_rows})


def cast(table: pa.Table, name: str, kind: pa.DataType) -> pa.Table:
    position = table.schema.get_field_index(name)
    return table.set_column(position, name, table[name].cast(kind))


@dataclass(frozen=True)
class Rows:
    """Lines added to a file, and the positions of the bad ones, from 0."""

    file: str
    lines: tuple[str | bytes, ...]
    bad: tuple[int, ...]


def rows(file: str, *lines: str | bytes, bad: tuple[int, ...] = (0,)) -> Rows:
    return Rows(file, lines, bad)


ROWS = {
    "a line cut in the middle": rows("ratings.csv", "1,1"),
    "a field too many": rows("ratings.csv", "1,1,4,978300760,tv"),
    "an empty line": rows("ratings.csv", ""),
    "a quote that does not close": rows("ratings.csv", '1,1,"4,978300760'),
    "a field on two lines": rows("ratings.csv", '1,1,4,"978300760', '"', bad=(0, 1)),
    "a byte that is not UTF-8": rows("ratings.csv", b"1,1,4\xe9,978300760"),
    "a NUL": rows("ratings.csv", b"1,1\0,4,978300760"),
    "a line of a million characters": rows("ratings.csv", "1,1,4," + "9" * 1_000_000),
    "user 0": rows("ratings.csv", "0,1,4,978300760"),
    "a negative user": rows("ratings.csv", "-1,1,4,978300760"),
    "an id with a fraction": rows("ratings.csv", "1.5,1,4,978300760"),
    "an id beyond 32 bits": rows("ratings.csv", "2147483648,1,4,978300760"),
    "no movie": rows("ratings.csv", "1,,4,978300760"),
    "digits of another script": rows("ratings.csv", "\u0661,1,4,978300760"),
    "no stars": rows("ratings.csv", "1,1,,978300760"),
    "stars that are not a number": rows("ratings.csv", "1,1,nan,978300760"),
    "a rating above the scale": rows("ratings.csv", "1,1,9,978300760"),
    "a rating below the scale": rows("ratings.csv", "1,1,-1,978300760"),
    "a rating between the steps": rows("ratings.csv", "1,1,4.7,978300760"),
    "a half star among whole stars": rows("ratings.csv", "1,1,3.5,978300760"),
    "an impossible date": rows("ratings.csv", "1,1,4,2000-02-30"),
    "a date beyond the year 9999": rows("ratings.csv", "1,1,4,12000-01-01"),
    "a rating from before MovieLens": rows("ratings.csv", "1,1,4,0"),
    "a rating from the future": rows("ratings.csv", "1,1,4,4102444800"),
    "a rating long after all others": rows("ratings.csv", "1,1,4,1577836800"),
    "a rating of an unknown movie": rows("ratings.csv", "1,99999,4,978300760"),
    "a movie without a title": rows("movies.csv", "901,,1999,Drama"),
    "a movie from before film": rows("movies.csv", "902,Tapestry,1066,Drama"),
    "a year that is not a number": rows("movies.csv", "903,Heat,MCMXCV,Drama"),
    "a movie on two lines": rows("movies.csv", "904,Heat,1986,Crime", "904,Heat,1995,Crime", bad=(1,)),
    "a movie with an IMDb id": rows("movies.csv", "tt0113277,Heat,1995,Crime"),
    "an impossible age": rows("users.csv", "901,F,130,writer,00100"),
    "an age that is not a number": rows("users.csv", "902,F,old,writer,00100"),
    "an unknown gender": rows("users.csv", "903,female,30,writer,00100"),
    "a user on two lines": rows("users.csv", "904,F,30,writer,00100", "904,F,31,writer,00100", bad=(1,)),
    "an empty tag": rows("tags.csv", "1,1, ,946684800"),
    "a tag of an unknown movie": rows("tags.csv", "1,99999,slow,946684800"),
    "a tag from before MovieLens": rows("tags.csv", "1,1,slow,0"),
    "a tag without a user": rows("tags.csv", ",1,slow,946684800"),
    "links of an unknown movie": rows("links.csv", "99999,0114709,862"),
    "a movie linked twice": rows("links.csv", "1,0114709,862"),
    "a TMDB id that is not a number": rows("links.csv", "2,0114709,eight"),
    "a retraction that cannot be read": rows("retractions.csv", "1,one,978300760"),
    "a retraction without a time": rows("retractions.csv", "1,1,"),
}

EDITION_ROWS = {
    "a movie rated twice": rows("ratings.csv", "999,1,4,946684801", "999,1,5,946684800", bad=(1,)),
    "a genre that the edition does not know": rows("movies.csv", "901,Heat (1995),Telenovela"),
    "an empty quoted title": rows("movies.csv", '902,"",Drama'),
    "a fractional user id": rows("ratings.csv", "4.5,1,4,946684800"),
}


def with_rows(files: Callable[[], Names], folder: str, kinds: Mapping[str, Rows]) -> Write:
    """Writes the files with all these lines added."""
    changes = {}
    for name in {added.file for added in kinds.values()}:
        lines = [line for added in kinds.values() if added.file == name for line in added.lines]
        changes[name] = more(*lines)
    return changed(files, folder, changes)


def find_lines(files: Names, kinds: Mapping[str, Rows]) -> dict[str, set[int]]:
    """By kind, the line numbers of its bad lines in the file that `with_rows` writes."""
    last = {name: content.count(b"\n") for name, content in files.items()}
    found = {}
    for kind, added in kinds.items():
        found[kind] = {last[added.file] + 1 + position for position in added.bad}
        last[added.file] += len(added.lines)
    return found


def first_lines(n: int) -> Change:
    return lambda content: b"".join(content.splitlines(keepends=True)[: n + 1])


TABLES = {
    "too few ratings": in_drops(ratings=first_lines(400)),
    "ratings that are all equal": in_drops(ratings=column("rating", pl.lit("3"))),
    "ratings of one user": Kind(small(1, 600, 550)),
    "ratings of one movie": Kind(small(600, 1, 550)),
    "many truncated lines": in_drops(ratings=more(*(f"{user},1" for user in range(1, 101)))),
    "many ratings off the scale": in_drops(ratings=column("rating", some(0.006, pl.lit("9"), "rating"))),
    "ratings on another scale": in_drops(ratings=column("rating", 2 * number("rating"))),
    "a reversed scale": in_drops(ratings=column("rating", 6 - number("rating"))),
    "another distribution of stars": in_drops(
        ratings=column("rating", pl.col("rating").replace({"2.0": "1", "4.0": "5"}))
    ),
    "dates from another epoch": in_drops(ratings=column("rated_at", number("rated_at").cast(pl.Int64) - 3 * 10**8)),
    "an export cut short": in_drops(ratings=first_lines(6400)),
    "users with new ids": in_drops(ratings=column("user_id", pl.col("user_id") + "000")),
    "movies cut short": in_drops(movies=first_lines(150)),
    "movies appended to movies": in_drops(movies=lambda content: content + content.replace(b"The ", b"A ")),
    "another column in place of ages": in_drops(users=column("age", pl.lit("999"))),
    "genders spelt out": in_drops(users=column("gender", pl.lit("female"))),
    "genres of another edition": in_edition(movies=column("genres", pl.lit("Telenovela"))),
    "tags without text": in_drops(tags=column("tag", pl.lit(" "))),
    "links appended to links": in_drops(links=lambda content: content + content.replace(b",00", b",10")),
    "no ratings before the requested time": Kind(
        changed(drops, "drops", {}), settings={"as_of": datetime(1999, 1, 1, tzinfo=UTC)}
    ),
    "an export that is no longer updated": Kind(
        changed(drops, "drops", {}), settings={"check": {"shift": {"newest_rating_age_days_stop": 30}}}
    ),
}

DROPS = {
    "no drop of ratings": in_drops(ratings=None),
    "no drop of movies": in_drops(movies=None),
    "a drop under another name": Kind(
        changed(drops, "drops", {"ratings.csv": None, "rating-2026.csv": lambda _: drops()["ratings.csv"]})
    ),
    "a drop that arrives twice": files_named(ratings__2=lambda _: drops()["ratings.csv"]),
    "a late drop without a column": files_named(ratings__2=just("user_id,movie_id,rating\n1,1,4\n")),
    "a late drop of another type": files_named(
        ratings__2=just("user_id,movie_id,rating,rated_at\nann,1,4,978300760\n")
    ),
    "retractions without a time": files_named(retractions=just("user_id,movie_id\n1,1\n")),
    "a retraction without a rating": files_named(retractions__2=lambda _: drops()["retractions.csv"]),
    "everything retracted": files_named(
        retractions=lambda _: (
            pl.read_csv(drops()["ratings.csv"])
            .select("user_id", "movie_id", pl.lit(978300760).alias("retracted_at"))
            .write_csv()
            .encode()
        )
    ),
}

ML_1M = named("ml-1m").write


LOGIN_PAGE = b"<!DOCTYPE html><html><body>Please log in</body></html>"

DOWNLOADS = {
    "not found": Kind(ML_1M, answer=status(404)),
    "forbidden": Kind(ML_1M, answer=status(403)),
    "unavailable for long": Kind(ML_1M, answer=status(503, Retry_After=7200)),
    "another file than published": Kind(ML_1M, answer=honest),
    "a login page in place of the file": Kind(ML_1M, answer=other_bytes(LOGIN_PAGE)),
    "redirects without end": Kind(ML_1M, answer=status(302, Location="/again")),
}


# ---- damage to the home


def damage_snapshots(damage: Callable[[Path], None]) -> Callable[[Home], None]:
    """Damages every snapshot of the home."""

    def damage_them(home: Home) -> None:
        for manifest in home.snapshots.glob("canonical/*/manifest.json"):
            damage(manifest.parent)

    return damage_them


def cut(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def damage_page(path: Path) -> None:
    """Damages a page, and removes the runs whose checks could be reused."""
    content = path.read_bytes()
    path.write_bytes(content[:3000] + bytes(400) + content[3400:])
    shutil.rmtree(path.parents[3] / "runs")


def retype_ratings(snapshot: Path) -> None:
    ratings = pq.read_table(snapshot / "ratings.parquet")
    pq.write_table(cast(ratings, "rating", pa.float64()), snapshot / "ratings.parquet")


def put_file(path: Path) -> None:
    shutil.rmtree(path, ignore_errors=True)
    path.write_text("in the way\n")


def cut_parsed(home: Home) -> None:
    shutil.rmtree(home.snapshots)
    for path in home.parsed.glob("*/rows.parquet"):
        cut(path)


def cut_forgotten(home: Home) -> None:
    forget([1], home)
    cut(home.forgotten)


def cut_readings(home: Home) -> None:
    for path in home.snapshots.glob("canonical/.readings/*.json"):
        cut(path)


def at_home(damage: Callable[[Home], None]) -> Kind:
    return Kind(lambda path: write_drops(path / "drops"), damage=damage)


HOMES = {
    "a home that is a file": at_home(lambda home: put_file(home.root)),
    "a file in place of the runs": at_home(lambda home: put_file(home.runs)),
    "a file in place of the snapshots": at_home(lambda home: put_file(home.snapshots)),
    "a file in place of the archives": Kind(ML_1M, damage=lambda home: put_file(home.archives), answer=honest),
    "a damaged warehouse": at_home(lambda home: cut(home.warehouse)),
    "a damaged list of the forgotten": at_home(cut_forgotten),
    "a snapshot of other columns": at_home(damage_snapshots(retype_ratings)),
    "a damaged snapshot": at_home(damage_snapshots(lambda folder: cut(folder / "ratings.parquet"))),
    "a damaged manifest": at_home(damage_snapshots(lambda folder: cut(folder / "manifest.json"))),
    "a damaged page of a snapshot": at_home(damage_snapshots(lambda folder: damage_page(folder / "ratings.parquet"))),
    "a snapshot without a file": at_home(damage_snapshots(lambda folder: (folder / "tags.parquet").unlink())),
    "a damaged record of readings": at_home(cut_readings),
    "a damaged cache of drops": at_home(cut_parsed),
    "a damaged snapshot of last night": Kind(
        changed(drops, "drops", {"ratings.csv": more("1,1,4,978300760")}),
        damage=damage_snapshots(lambda folder: cut(folder / "ratings.parquet")),
    ),
}

GROUPS: dict[str, dict[str, Kind]] = {
    "Archives and folders": ARCHIVES,
    "Sources": SOURCES,
    "Files": FILES,
    "Headers and types": HEADERS,
    "Tables": TABLES,
    "Drops": DROPS,
    "Downloads": DOWNLOADS,
    "At home": HOMES,
}
ROW_GROUPS = {"Rows": (drops, ROWS), "Rows of an edition": (edition, EDITION_ROWS)}
