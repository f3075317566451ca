"""Movies by the titles that people type: articles, accents, punctuation, numerals and a year as they come.

A movie is called by its title as published, by what stands in parentheses in it, and, counting less, by what stands
before and after a colon or a dash. All names are compared in one plain form: "Matrix, The" is "the matrix", "Amélie" is
"amelie", "Godfather: Part II, The" is "the godfather part 2".
"""

import logging
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import polars as pl
from rapidfuzz import fuzz, process

from recsys.errors import UsageError

logger = logging.getLogger(__name__)

MIN_SIMILARITY = 0.75  # similarity below which a movie is not taken for the one that was asked for
OTHER_ARTICLE = 0.98  # "the heat" for Heat, after The Heat; who types no article means either
PART = 0.97  # "star wars" for Star Wars: Episode IV - A New Hope, after any that is called so entirely
OTHER_YEAR = 0.97  # a year off by one: premiere and release differ; all three together are still above LETTERS
LETTERS = 0.9  # of the share of letters in common, when that is not all of them
OTHER_NUMBER = 0.74  # at most, when numbers differ: "Toy Story 4" may be near Toy Story 2, but is another movie
WORDS = 0.8  # "private ryan" for Saving Private Ryan: every word is there, and there are two at least
SHORTLIST = 200  # names with the most letters in common that are looked at more closely
SUGGESTED = 3  # titles that an error names

YEAR = re.compile(r"^(?P<title>.*\S)\s*(?P<bracket>\()?\b(?P<year>(?:18|19|20)\d\d)(?(bracket)\))\s*$")

# After a comma all of these are articles. In front only some are: Die Hard, I Am Legend, As Good as It Gets.
TRAILING = r"(?i)^(.*), (the|an?|l[aeo]s?|l'|el|il|i|gli|une?|una|d[aeio]|der|das|d[ei]n|det|die|eine?|het|os?|as)$"
LEADING = r"^(?:the|an?|l[aeo]s?|l|el|il|une?|una|der|das|den|det|eine?) (.+)$"
ALSO_KNOWN_AS = r"(?i)^a\.? ?k\.? ?a\.?:? "

ROMAN = ("ii", "iii", "iv", "v", "vi", "vii", "viii", "ix")
WRITTEN = ("two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve", "thirteen")
NUMBERED = ("part", "episode", "chapter", "volume", "vol")  # after these I and one are numbers, too
NUMBERS = {  # words have a blank on each side, so that one can follow another
    **{f" {numeral} ": f" {value} " for value, numeral in enumerate(ROMAN, start=2)},
    **{f" {word} ": f" {value} " for value, word in enumerate(WRITTEN, start=2)},
    **{f" {noun}  {one} ": f" {noun}  1 " for noun in NUMBERED for one in ("i", "one")},
}
FOLDED = {
    **{"&": " and ", "'": "", "’": "", "`": ""},
    **{"æ": "ae", "œ": "oe", "ø": "o", "ß": "ss", "ł": "l", "đ": "d", "ð": "d", "þ": "th", "ı": "i"},
    **{chr(mark): "" for mark in range(0x300, 0x370)},  # accents, once they are apart from their letters
}


@dataclass(frozen=True)
class Question:
    """What was typed, in plain form, as a title and perhaps a year."""

    name: str
    year: int | None = None
    only_exact: bool = False  # when the year at its end is read as a part of the title

    @property
    def bare(self) -> str:
        return re.sub(LEADING, r"\1", self.name)


def find_movies(asked: str, movies: pl.DataFrame, limit: int = 5) -> pl.DataFrame:
    """The movies most similar to what was typed, best first: the columns of `movies` and similarity (0 to 1).

    `movies` has movie_id, title, year and whatever else, n_ratings among it if that is known. `asked` is a title,
    perhaps with a year, which must be right within one, or a movie_id: a number that is both is the id. Equally similar
    movies: the one with more ratings first, then the lower movie_id.
    """
    by_id = _by_id(asked, movies)
    return by_id if len(by_id) else _find(asked, movies, _name(movies), limit)


def find_movie(asked: str, movies: pl.DataFrame) -> pl.DataFrame:
    """The one movie that was asked for, as a row of `find_movies`; tells when it had to choose or to guess.

    Raises: UsageError when there is none, naming the nearest titles.
    """
    return _take(asked, movies, _name(movies))


def parse_ratings(text: str, levels: Sequence[float]) -> list[tuple[str, float]]:
    """What was asked for and its stars, from text such as "Toy Story=5, Matrix, The=4"; `levels` is the scale.

    A comma before "=" belongs to the title; so does anything within quotes.

    Raises: UsageError for what has no "=", no title, or stars that are not on the scale.
    """
    ratings, rest = [], text.strip()
    while rest:
        item = re.match(r"""(?P<title>"[^"]+"|'[^']+'|[^=]*?)\s*=(?P<stars>[^,=]*)(?:,|$)\s*""", rest)
        if item is None:
            raise UsageError(
                f"'{rest}' is not a title and its stars. Next: write TITLE=STARS, with commas between: "
                '"Toy Story=5, Heat (1995)=4"'
            )
        title = item["title"].strip()
        if title[:1] == title[-1:] and title[:1] in ("'", '"'):
            title = title[1:-1].strip()
        if not title:
            raise UsageError(f"'{item[0].strip()}' has no title before its =. Next: write TITLE=STARS")
        ratings.append((title, _stars(title, item["stars"].strip(), levels)))
        rest = rest[item.end() :]
    if not ratings:
        raise UsageError('no ratings are given. Next: write TITLE=STARS, as in "Toy Story=5, Heat=4"')
    return ratings


def match_ratings(ratings: Iterable[tuple[str, float]], movies: pl.DataFrame) -> pl.DataFrame:
    """The movies of `parse_ratings`, in that order: the columns of `find_movie`, and rating (float32).

    Raises: UsageError for a title that no movie has, and for two of the same movie.
    """
    names = _name(movies)
    found: dict[int, tuple[str, pl.DataFrame]] = {}
    for asked, stars in ratings:
        movie = _take(asked, movies, names).with_columns(rating=pl.lit(stars, pl.Float32))
        movie_id = movie["movie_id"].item()
        if movie_id in found:
            raise UsageError(
                f"'{found[movie_id][0]}' and '{asked}' are the same movie, {_describe(movie)}. Next: rate it once, or "
                "say with its year or movie_id which other one is meant"
            )
        found[movie_id] = (asked, movie)
    return pl.concat(movie for _, movie in found.values())


def _stars(title: str, text: str, levels: Sequence[float]) -> float:
    scale = ", ".join(f"{level:g}" for level in levels)
    try:
        stars = float(text)
    except ValueError:
        raise UsageError(f"'{text}', the stars of '{title}', is not a number. Next: give one of {scale}") from None
    if stars not in levels:
        raise UsageError(f"{text} stars for '{title}' are not on the scale of these ratings: {scale}")
    return stars


def _take(asked: str, movies: pl.DataFrame, names: pl.DataFrame) -> pl.DataFrame:
    """The row of the movie meant, told where it was not the only one or not quite called so. Raises: UsageError."""
    called_so = _find(asked, movies, names, SUGGESTED, only_exact=True)
    by_id = _by_id(asked, movies)
    if len(by_id):
        if len(called_so):
            logger.info("'%s' is read as a movie_id: %s; not: %s", asked, _describe(by_id), _list(called_so))
        return by_id
    if len(called_so):  # all other ways to compare, which are slower, find less similar ones
        movie = called_so.head(1)
        others = called_so[1:].filter(pl.col("similarity") == movie["similarity"].item())
        if len(others):
            logger.info("'%s' is taken for %s; also called so: %s", asked, _describe(movie), _list(others))
        return movie
    nearest = _find(asked, movies, names, 1).filter(pl.col("similarity") >= MIN_SIMILARITY)
    if nearest.is_empty():
        raise UsageError(_describe_miss(asked, _find(YEAR.sub(r"\g<title>", asked), movies, names, SUGGESTED)))
    logger.info("'%s' is taken for %s", asked, _describe(nearest))
    return nearest


def _describe_miss(asked: str, nearest: pl.DataFrame) -> str:
    meant = f"did you mean {_list(nearest)}?" if len(nearest) else "none is called nearly so."
    hint = " If these are several movies, each needs its own =STARS." if "," in asked else ""
    return f"no movie is called '{asked}'; {meant}{hint} Next: give the title as the table movies has it, or a movie_id"


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
    """As find_movies, by titles alone."""
    similar = pl.concat(_compare(question, names, only_exact) for question in _read(asked))
    best = similar.group_by("row").agg(similarity=pl.col("similarity").max().round(4))
    found = movies.with_row_index("row").join(best, on="row").drop("row")
    order = {"similarity": True} | ({"n_ratings": True} if "n_ratings" in movies.columns else {}) | {"movie_id": False}
    return found.sort(*order, descending=[*order.values()], nulls_last=True).head(limit)


def _read(asked: str) -> list[Question]:
    """What may be meant: a year at the end is one, unless a movie is called exactly so, as Blade Runner 2049 is."""
    whole, dated = _plain_text(asked), YEAR.match(asked)
    if dated is None:
        return [Question(whole)]
    question = Question(_plain_text(dated["title"]), int(dated["year"]))
    return [question] if dated["bracket"] else [question, Question(whole, only_exact=True)]


def _compare(question: Question, names: pl.DataFrame, only_exact: bool) -> pl.DataFrame:
    """(row, similarity) of every name that the question could mean; a movie may be in it several times."""
    compact, bare = question.name.replace(" ", ""), question.bare.replace(" ", "")
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
    if not (only_exact or question.only_exact):
        found += [_by_letters(question, names), _by_words(question, names)]
    similar = pl.concat(found).with_columns(pl.col("similarity") * pl.col("weight"))
    if question.year is not None:
        off = (pl.col("year") - question.year).abs()
        similar = similar.filter(off <= 1).with_columns(
            pl.when(off == 0).then("similarity").otherwise(pl.col("similarity") * OTHER_YEAR)
        )
    return similar.select("row", "similarity")


def _by_letters(question: Question, names: pl.DataFrame) -> pl.DataFrame:
    """Names that have the most letters in common, in the same order."""
    if question.year is not None:
        names = names.filter(pl.col("year").is_between(question.year - 1, question.year + 1))
    nearest = process.extract(question.name, names["name"].to_list(), scorer=fuzz.ratio, limit=SHORTLIST)
    shortlist = names[[place for *_, place in nearest]]
    without_article = shortlist["name"].str.replace(LEADING, "$1")
    shares = [LETTERS * fuzz.ratio(question.bare, name) / 100 for name in without_article]
    same_numbers = _numbers(pl.col("name")) == _numbers(pl.lit(question.name))
    return shortlist.with_columns(similarity=pl.Series(shares, dtype=pl.Float64)).with_columns(
        pl.when(same_numbers).then("similarity").otherwise(pl.col("similarity").clip(upper_bound=OTHER_NUMBER))
    )


def _by_words(question: Question, names: pl.DataFrame) -> pl.DataFrame:
    """Names that have every word of the question, if it has two at least."""
    words = question.bare.split()
    padded = pl.format(" {} ", "name")
    there = [padded.str.contains(f" {word} ", literal=True) for word in words]
    return names.filter(len(words) > 1, *there).with_columns(similarity=pl.lit(WORDS))


def _numbers(name: pl.Expr) -> pl.Expr:
    """The numbers in it, as one text."""
    return name.str.extract_all(r"\d+").list.join(" ")


def _name(movies: pl.DataFrame) -> pl.DataFrame:
    """What each movie is called: (row, year, weight, name), a movie several times, perhaps by the same name."""
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
    """The Matrix, of "Matrix, The"."""
    return title.str.strip_chars().str.replace(TRAILING, "$2 $1")


def _plain(title: pl.Expr) -> pl.Expr:
    """Lower case without accents and punctuation, numbers as digits, one blank between words."""
    folded = title.str.normalize("NFKD").str.to_lowercase().str.replace_many(FOLDED)
    apart = pl.format("  {}  ", folded.str.replace_all(r"[^\p{L}\p{N}]+", "  "))
    return apart.str.replace_many(NUMBERS).str.replace_all("  ", " ", literal=True).str.strip_chars(" ")


def _plain_text(text: str) -> str:
    return str(pl.select(_plain(_front_article(pl.lit(text)))).item())
