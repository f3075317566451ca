"""Finds movies by typed titles. Articles, accents, punctuation, numerals, the year and spelling may differ.

A movie has several names: its title, the title without text in parentheses, this text and, with a lower weight, the
parts before and after a colon or a dash. Names are compared in a normal form: "Matrix, The" is "the matrix", "Amélie"
is "amelie", "Godfather: Part II, The" is "the godfather part 2".
"""

import logging
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import polars as pl
from rapidfuzz import fuzz, process

from recsys.errors import UsageError

logger = logging.getLogger(__name__)

MIN_SIMILARITY = 0.75  # movies with a lower similarity do not match
# Similarities and factors of inexact matches. The product of the first three is above LETTERS.
OTHER_ARTICLE = 0.98  # "the heat" for Heat, ranked after The Heat; a query without an article matches both
PART = 0.97  # "star wars" for Star Wars: Episode IV - A New Hope, ranked after full matches
OTHER_YEAR = 0.97  # a year off by one, because the years of premiere and release may differ
LETTERS = 0.9  # multiplied by the share of common letters
OTHER_NUMBER = 0.74  # upper bound if numbers differ: "Toy Story 4" is similar to Toy Story 2, but is another movie
WORDS = 0.8  # "private ryan" for Saving Private Ryan, "star" for Star Wars and Stargate: all words occur, or the start
MIN_START = 3  # letters of a query that may be the start of a longer word
SHORTLIST = 200  # the names with the most letters in common, which are compared in detail
SUGGESTED = 3  # titles in an error message

YEAR = re.compile(r"^(?P<title>.*\S)\s*(?P<bracket>\()?\b(?P<year>(?:18|19|20)\d\d)(?(bracket)\))\s*$")

# After a comma, all of these are articles. At the start of a title, only some are: not the first word of Die Hard, I Am
# Legend or As Good as It Gets.
TRAILING = r"(?i)^(.*), (the|an?|l[aeo]s?|l'|el|il|i|gli|une?|una|d[aeio]|der|das|d[ei]n|det|die|eine?|het|os?|as)$"
LEADING = r"^(?:the|an?|l[aeo]s?|l|el|il|une?|una|der|das|den|det|eine?) (.+)$"
ALSO_KNOWN_AS = r"(?i)^a\.? ?k\.? ?a\.?:? "

ROMAN = ("ii", "iii", "iv", "v", "vi", "vii", "viii", "ix")
WRITTEN = ("two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve", "thirteen")
NUMBERED = ("part", "episode", "chapter", "volume", "vol")  # after these words, "I" and "one" are numbers, too
NUMBERS = {  # words have a blank on each side, so that adjacent words match
    **{f" {numeral} ": f" {value} " for value, numeral in enumerate(ROMAN, start=2)},
    **{f" {word} ": f" {value} " for value, word in enumerate(WRITTEN, start=2)},
    **{f" {noun}  {one} ": f" {noun}  1 " for noun in NUMBERED for one in ("i", "one")},
}
FOLDED = {
    **{"&": " and ", "'": "", "’": "", "`": ""},
    **{"æ": "ae", "œ": "oe", "ø": "o", "ß": "ss", "ł": "l", "đ": "d", "ð": "d", "þ": "th", "ı": "i"},
    **{chr(mark): "" for mark in range(0x300, 0x370)},  # combining accents, after decomposition
}


@dataclass(frozen=True)
class Query:
    """A query in normal form: a title and an optional year."""

    name: str
    year: int | None = None
    only_exact: bool = False  # for a query whose final year is read as part of the title

    @property
    def bare(self) -> str:
        return re.sub(LEADING, r"\1", self.name)


def find_movies(asked: str, movies: pl.DataFrame, limit: int = 5) -> pl.DataFrame:
    """Returns the movies most similar to the query, best first: the columns of `movies` and similarity (0 to 1).

    `movies` has movie_id, title, year and other columns, including n_ratings if known. `asked` is a movie_id or a title
    with an optional year, which may be off by one. A number that is both a movie_id and a title is read as the id. Ties
    go to the movie with more ratings, then to the lower movie_id.
    """
    by_id = _by_id(asked, movies)
    return by_id if len(by_id) else _find(asked, movies, _name(movies), limit)


def find_movie(asked: str, movies: pl.DataFrame) -> pl.DataFrame:
    """Returns the best match as a row of `find_movies`. Logs if there were several matches or only an inexact one.

    Raises: UsageError, which names the nearest titles, if there is no match.
    """
    return _take(asked, movies, _name(movies))


def parse_ratings(text: str, levels: Sequence[float]) -> list[tuple[str, float]]:
    """Parses titles and stars from text such as "Toy Story=5, Matrix, The=4"; `levels` is the rating scale.

    A comma before "=" and anything in quotes belong to the title.

    Raises: UsageError for text without "=", without a title, or with stars that are not on the scale.
    """
    ratings, rest = [], text.strip()
    while rest:
        item = re.match(r"""(?P<title>"[^"]+"|'[^']+'|[^=]*?)\s*=(?P<stars>[^,=]*)(?:,|$)\s*""", rest)
        if item is None:
            raise UsageError(
                f"'{rest}' is not a title with stars. Next: write TITLE=STARS, separated by commas: "
                '"Toy Story=5, Heat (1995)=4"'
            )
        title = item["title"].strip()
        if title[:1] == title[-1:] and title[:1] in ("'", '"'):
            title = title[1:-1].strip()
        if not title:
            raise UsageError(f"'{item[0].strip()}' has no title before the =. Next: write TITLE=STARS")
        ratings.append((title, _stars(title, item["stars"].strip(), levels)))
        rest = rest[item.end() :]
    if not ratings:
        raise UsageError('there are no ratings. Next: write TITLE=STARS, as in "Toy Story=5, Heat=4"')
    return ratings


def match_ratings(ratings: Iterable[tuple[str, float]], movies: pl.DataFrame) -> pl.DataFrame:
    """Returns the movie of each title in `ratings`, in order: the columns of `find_movie`, and rating (float32).

    Raises: UsageError for a title without a match, and for two titles of the same movie.
    """
    names = _name(movies)
    found: dict[int, tuple[str, pl.DataFrame]] = {}
    for asked, stars in ratings:
        movie = _take(asked, movies, names).with_columns(rating=pl.lit(stars, pl.Float32))
        movie_id = movie["movie_id"].item()
        if movie_id in found:
            raise UsageError(
                f"'{found[movie_id][0]}' and '{asked}' are the same movie, {_describe(movie)}. Next: rate it once, or "
                "add the year or use the movie_id of the other one"
            )
        found[movie_id] = (asked, movie)
    return pl.concat(movie for _, movie in found.values())


def _stars(title: str, text: str, levels: Sequence[float]) -> float:
    scale = ", ".join(f"{level:g}" for level in levels)
    try:
        stars = float(text)
    except ValueError:
        raise UsageError(f"'{text}', the stars of '{title}', is not a number. Next: use one of {scale}") from None
    if stars not in levels:
        raise UsageError(f"{text} stars for '{title}' are not on the rating scale. Next: use one of {scale}")
    return stars


def _take(asked: str, movies: pl.DataFrame, names: pl.DataFrame) -> pl.DataFrame:
    """Returns the best match. Logs if there were several matches or only an inexact one. Raises: UsageError."""
    matches = _find(asked, movies, names, SUGGESTED, only_exact=True)
    by_id = _by_id(asked, movies)
    if len(by_id):
        if len(matches):
            logger.info("'%s' is read as a movie_id: %s; not: %s", asked, _describe(by_id), _list(matches))
        return by_id
    if len(matches):  # the slower comparisons would only find less similar movies
        movie = matches.head(1)
        others = matches[1:].filter(pl.col("similarity") == movie["similarity"].item())
        if len(others):
            logger.info("'%s' is interpreted as %s; other matches: %s", asked, _describe(movie), _list(others))
        return movie
    nearest = _find(asked, movies, names, SUGGESTED).filter(pl.col("similarity") >= MIN_SIMILARITY)
    if nearest.is_empty():
        raise UsageError(_describe_miss(asked, _find(YEAR.sub(r"\g<title>", asked), movies, names, SUGGESTED)))
    movie, others = nearest.head(1), nearest[1:].filter(pl.col("similarity") == nearest["similarity"].first())
    also = f"; other matches: {_list(others)}" if len(others) else ""
    logger.info("'%s' is interpreted as %s%s", asked, _describe(movie), also)
    return movie


def _describe_miss(asked: str, nearest: pl.DataFrame) -> str:
    meant = f"did you mean {_list(nearest)}?" if len(nearest) else "there is no similar title."
    hint = " For several movies, give each its own =STARS." if "," in asked else ""
    return f"no movie is called '{asked}'; {meant}{hint} Next: write the title as in the table movies, or a movie_id"


def _list(movies: pl.DataFrame) -> str:
    return "; ".join(_describe(movie) for movie in movies.iter_slices(1))


def _describe(movie: pl.DataFrame) -> str:
    title, year, movie_id = movie.select("title", "year", "movie_id").row(0)
    return f"{title}{f' ({year})' if year else ''}, movie_id {movie_id}"


def _by_id(asked: str, movies: pl.DataFrame) -> pl.DataFrame:
    known = movies.filter(pl.col("movie_id").cast(pl.String) == asked.strip())
    return known.with_columns(similarity=pl.lit(1.0))


def _find(
    asked: str, movies: pl.DataFrame, names: pl.DataFrame, limit: int, *, only_exact: bool = False
) -> pl.DataFrame:
    """Like `find_movies`, but by title only."""
    similar = pl.concat(_compare(query, names, only_exact) for query in _parse(asked))
    best = similar.group_by("row").agg(similarity=pl.col("similarity").max().round(4))
    found = movies.with_row_index("row").join(best, on="row").drop("row")
    order = {"similarity": True} | ({"n_ratings": True} if "n_ratings" in movies.columns else {}) | {"movie_id": False}
    return found.sort(*order, descending=[*order.values()], nulls_last=True).head(limit)


def _parse(asked: str) -> list[Query]:
    """Returns the possible readings: a number at the end is a year, or part of a title such as Blade Runner 2049."""
    whole, dated = _plain_text(asked), YEAR.match(asked)
    if dated is None:
        return [Query(whole)]
    query = Query(_plain_text(dated["title"]), int(dated["year"]))
    return [query] if dated["bracket"] else [query, Query(whole, only_exact=True)]


def _compare(query: Query, names: pl.DataFrame, only_exact: bool) -> pl.DataFrame:
    """Returns (row, similarity) for every matching name. A movie can occur several times."""
    compact, bare = query.name.replace(" ", ""), query.bare.replace(" ", "")
    if not compact:
        return pl.DataFrame(schema={"row": pl.UInt32, "similarity": pl.Float64})
    without_blanks = pl.col("name").str.replace_all(" ", "", literal=True)
    without_article = pl.col("name").str.replace(LEADING, "$1").str.replace_all(" ", "", literal=True)
    may_be = names.filter(pl.col("name").str.ends_with(bare[-1]), pl.col("name").str.len_chars() >= len(bare))
    exact = may_be.with_columns(
        similarity=pl.when(without_blanks == compact)
        .then(1.0)
        .when(without_article == bare)
        .then(OTHER_ARTICLE if compact != bare else 1.0)
    )
    found = [exact.drop_nulls("similarity")]
    if not (only_exact or query.only_exact):
        found += [_by_letters(query, names), _by_words(query, names)]
    similar = pl.concat(found).with_columns(pl.col("similarity") * pl.col("weight"))
    if query.year is not None:
        off = (pl.col("year") - query.year).abs()
        similar = similar.filter(off <= 1).with_columns(
            pl.when(off == 0).then("similarity").otherwise(pl.col("similarity") * OTHER_YEAR)
        )
    return similar.select("row", "similarity")


def _by_letters(query: Query, names: pl.DataFrame) -> pl.DataFrame:
    """Returns the names that share the most letters with the query; only letters in the same order count."""
    if query.year is not None:
        names = names.filter(pl.col("year").is_between(query.year - 1, query.year + 1))
    nearest = process.extract(query.name, names["name"].to_list(), scorer=fuzz.ratio, limit=SHORTLIST)
    shortlist = names[[place for *_, place in nearest]]
    without_article = shortlist["name"].str.replace(LEADING, "$1")
    shares = [LETTERS * fuzz.ratio(query.bare, name) / 100 for name in without_article]
    same_numbers = _numbers(pl.col("name")) == _numbers(pl.lit(query.name))
    return shortlist.with_columns(similarity=pl.Series(shares, dtype=pl.Float64)).with_columns(
        pl.when(same_numbers).then("similarity").otherwise(pl.col("similarity").clip(upper_bound=OTHER_NUMBER))
    )


def _by_words(query: Query, names: pl.DataFrame) -> pl.DataFrame:
    """Returns the names that contain every word of the query, or start with it."""
    padded = pl.format(" {} ", "name")
    has_words = pl.all_horizontal(padded.str.contains(f" {word} ", literal=True) for word in query.bare.split())
    starts = padded.str.starts_with(f" {query.bare}") & (len(query.bare) >= MIN_START)
    return names.filter(has_words | starts).with_columns(similarity=pl.lit(WORDS))


def _numbers(name: pl.Expr) -> pl.Expr:
    """Returns the numbers in a name, joined by blanks."""
    return name.str.extract_all(r"\d+").list.join(" ")


def _name(movies: pl.DataFrame) -> pl.DataFrame:
    """Returns the names of all movies: (row, year, weight, name). A movie has several names, which can be equal."""
    title = pl.col("title")
    whole = movies.lazy().select("title", "year", row=pl.int_range(pl.len(), dtype=pl.UInt32))
    bracketed = whole.filter(title.str.contains("(", literal=True))
    outside = bracketed.with_columns(title.str.replace_all(r"\s*\([^()]*\)", ""))
    inside = bracketed.with_columns(title.str.extract_all(r"\([^()]*\)")).explode("title")
    inside = inside.with_columns(title.str.strip_chars("()").str.replace(ALSO_KNOWN_AS, ""))
    split = pl.concat([whole, outside, inside]).filter(title.str.contains_any([": ", " - "]))
    parts = split.with_columns(_front_article(title).str.replace_all(" - ", ": ", literal=True).str.split(": "))
    named = [
        frame.select("row", "year", weight=pl.lit(weight), name=_plain(_front_article(title)))
        for frame, weight in ((whole, 1.0), (outside, 1.0), (inside, 1.0), (parts.explode("title"), PART))
    ]
    return pl.concat(named).filter(pl.col("name") != "").collect()


def _front_article(title: pl.Expr) -> pl.Expr:
    """Moves a trailing article to the front: "Matrix, The" becomes "The Matrix"."""
    return title.str.strip_chars().str.replace(TRAILING, "$2 $1")


def _plain(title: pl.Expr) -> pl.Expr:
    """Normalises: lower case without accents and punctuation, numbers as digits, single blanks."""
    folded = title.str.normalize("NFKD").str.to_lowercase().str.replace_many(FOLDED)
    apart = pl.format("  {}  ", folded.str.replace_all(r"[^\p{L}\p{N}]+", "  "))
    return apart.str.replace_many(NUMBERS).str.replace_all("  ", " ", literal=True).str.strip_chars(" ")


def _plain_text(text: str) -> str:
    return str(pl.select(_plain(_front_article(pl.lit(text)))).item())
