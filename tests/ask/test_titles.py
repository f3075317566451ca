"""Search for typed titles in MovieLens and in a small made-up catalogue."""

import logging
import zipfile
from collections.abc import Callable
from io import BytesIO

import polars as pl
import pytest

from recsys.ask.titles import MIN_SIMILARITY, find_movie, find_movies, match_ratings, parse_ratings
from recsys.errors import UsageError
from tests.conftest import RealArchive

STARS = (0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 4.5, 5.0)
HALF_STARS = "0.5, 1, 1.5, 2, 2.5, 3, 3.5, 4, 4.5, 5"

# movie_id, title, year, n_ratings as in ml-latest-small
MADE_UP = [
    (1, "Toy Story", 1995, 215),
    (6, "Heat", 1995, 102),
    (29, "City of Lost Children, The (Cité des enfants perdus, La)", 1995, 38),
    (32, "Twelve Monkeys (a.k.a. 12 Monkeys)", 1995, 177),
    (47, "Seven (a.k.a. Se7en)", 1995, 203),
    (97, "Hate (Haine, La)", 1995, 10),
    (231, "Dumb & Dumber (Dumb and Dumber)", 1994, 133),
    (260, "Star Wars: Episode IV - A New Hope", 1977, 251),
    (293, "Léon: The Professional (a.k.a. The Professional) (Léon)", 1994, 133),
    (296, "Pulp Fiction", 1994, 307),
    (300, "Quiz Show", 1994, 81),
    (318, "Shawshank Redemption, The", 1994, 317),
    (527, "Schindler's List", 1993, 220),
    (541, "Blade Runner", 1982, 124),
    (589, "Terminator 2: Judgment Day", 1991, 224),
    (593, "Silence of the Lambs, The", 1991, 279),
    (648, "Mission: Impossible", 1996, 162),
    (858, "Godfather, The", 1972, 192),
    (924, "2001: A Space Odyssey", 1968, 109),
    (1036, "Die Hard", 1988, 145),
    (1196, "Star Wars: Episode V - The Empire Strikes Back", 1980, 211),
    (1214, "Alien", 1979, 146),
    (1221, "Godfather: Part II, The", 1974, 129),
    (1320, "Alien³ (a.k.a. Alien 3)", 1992, 47),
    (1617, "L.A. Confidential", 1997, 97),
    (2028, "Saving Private Ryan", 1998, 188),
    (2571, "Matrix, The", 1999, 278),
    (2628, "Star Wars: Episode I - The Phantom Menace", 1999, 140),
    (2872, "Excalibur", 1981, 39),
    (3114, "Toy Story 2", 1999, 97),
    (3793, "X-Men", 2000, 133),
    (4658, "Santa Sangre", 1989, 2),
    (4886, "Monsters, Inc.", 2001, 132),
    (4954, "Ocean's Eleven (a.k.a. Ocean's 11)", 1960, 7),
    (4963, "Ocean's Eleven", 2001, 119),
    (4973, "Amelie (Fabuleux destin d'Amélie Poulain, Le)", 2001, 120),
    (4993, "Lord of the Rings: The Fellowship of the Ring, The", 2001, 198),
    (5349, "Spider-Man", 2002, 122),
    (51662, "300", 2007, 80),
    (60069, "WALL·E", 2008, 104),
    (69757, "(500) Days of Summer", 2009, 42),
    (78499, "Toy Story 3", 2010, 55),
    (103372, "Heat, The", 2013, 6),
    (176371, "Blade Runner 2049", 2017, 18),
]

CASES = {
    "Toy Story": "Toy Story",
    "  toy   STORY ": "Toy Story",
    "toy story (1995)": "Toy Story",
    "toy storry": "Toy Story",
    "Toy Story 2": "Toy Story 2",
    "toy story ii": "Toy Story 2",
    "toy story three": "Toy Story 3",
    "heat": "Heat",
    "Heat 1995": "Heat",
    "heat (1995)": "Heat",
    "Heat 1996": "Heat",
    "the heat": "Heat, The",
    "Heat, The": "Heat, The",
    "heat 2013": "Heat, The",
    "The Matrix": "Matrix, The",
    "matrix": "Matrix, The",
    "the matrx": "Matrix, The",
    "2571": "Matrix, The",
    "godfather": "Godfather, The",
    "a godfather": "Godfather, The",
    "godfather part 2": "Godfather: Part II, The",
    "the godfather part ii": "Godfather: Part II, The",
    "Godfather: Part II, The": "Godfather: Part II, The",
    "Terminator 2": "Terminator 2: Judgment Day",
    "terminator 2 - judgement day": "Terminator 2: Judgment Day",
    "Amelie": "Amelie (Fabuleux destin d'Amélie Poulain, Le)",
    "Amélie": "Amelie (Fabuleux destin d'Amélie Poulain, Le)",
    "le fabuleux destin d’amelie poulain": "Amelie (Fabuleux destin d'Amélie Poulain, Le)",
    "Seven": "Seven (a.k.a. Se7en)",
    "se7en": "Seven (a.k.a. Se7en)",
    "Seven (a.k.a. Se7en)": "Seven (a.k.a. Se7en)",
    "12 monkeys": "Twelve Monkeys (a.k.a. 12 Monkeys)",
    "Twelve Monkeys": "Twelve Monkeys (a.k.a. 12 Monkeys)",
    "City of Lost Children": "City of Lost Children, The (Cité des enfants perdus, La)",
    "la cite des enfants perdus": "City of Lost Children, The (Cité des enfants perdus, La)",
    "lost children": "City of Lost Children, The (Cité des enfants perdus, La)",
    "la haine": "Hate (Haine, La)",
    "dumb and dumber": "Dumb & Dumber (Dumb and Dumber)",
    "leon": "Léon: The Professional (a.k.a. The Professional) (Léon)",
    "star wars": "Star Wars: Episode IV - A New Hope",
    "star wars episode 1": "Star Wars: Episode I - The Phantom Menace",
    "empire strikes back": "Star Wars: Episode V - The Empire Strikes Back",
    "fellowship of the ring": "Lord of the Rings: The Fellowship of the Ring, The",
    "pulp ficton": "Pulp Fiction",
    "shawshank redemtion": "Shawshank Redemption, The",
    "schindlers list": "Schindler's List",
    "silence of the lambs": "Silence of the Lambs, The",
    "mission impossible": "Mission: Impossible",
    "2001 a space odyssey": "2001: A Space Odyssey",
    "die hard": "Die Hard",
    "alien": "Alien",
    "alien 3": "Alien³ (a.k.a. Alien 3)",
    "LA confidential": "L.A. Confidential",
    "private ryan": "Saving Private Ryan",
    "xmen": "X-Men",
    "spiderman": "Spider-Man",
    "monsters inc": "Monsters, Inc.",
    "wall-e": "WALL·E",
    "500 days of summer": "(500) Days of Summer",
    "blade runner": "Blade Runner",
    "Blade Runner 2049": "Blade Runner 2049",
    "300 (2006)": "300",
    "300": "Quiz Show",  # an id before a title
}

IN_1M = {
    "Toy Story": "Toy Story",
    "heat": "Heat",
    "matrix": "Matrix, The",
    "godfather part 2": "Godfather: Part II, The",
    "terminator 2": "Terminator 2: Judgment Day",
    "seven": "Seven (Se7en)",
    "twelve monkeys": "Twelve Monkeys",
    "star wars": "Star Wars: Episode IV - A New Hope",
    "lost children": "City of Lost Children, The",
    "shawshank redemtion": "Shawshank Redemption, The",
    "lion king": "Lion King, The",
    "mash": "M*A*S*H",
}


@pytest.fixture
def movies() -> pl.DataFrame:
    columns = {"movie_id": pl.Int32, "title": pl.String, "year": pl.Int16, "n_ratings": pl.UInt32}
    return pl.DataFrame(MADE_UP, schema=columns, orient="row").with_columns(genres=pl.lit(["Drama"]))


def wrong(cases: dict[str, str], movies: pl.DataFrame) -> dict[str, str]:
    """Return the result of each failing case."""
    found = {asked: find_movie(asked, movies)["title"].item() for asked in cases}
    return {asked: title for asked, title in found.items() if title != cases[asked]}


def read_movies(archive: bytes, lines: str, separator: str) -> pl.DataFrame:
    """Read (movie_id, title, year) from a file with lines of id, title with year, and genres."""
    with zipfile.ZipFile(BytesIO(archive)) as zipped:
        text = zipped.read(lines).decode("latin-1" if separator == "::" else "utf-8")
    if separator == ",":
        table = pl.read_csv(text.encode()).select(movie_id="movieId", title="title")
    else:
        cells = [line.split(separator) for line in text.splitlines()]
        table = pl.DataFrame({"movie_id": [int(cell[0]) for cell in cells], "title": [cell[1] for cell in cells]})
    year = pl.col("title").str.extract(r"\((\d{4})\)\s*$").cast(pl.Int16)
    return table.select("movie_id", pl.col("title").str.replace(r"\s*\(\d{4}\)\s*$", ""), year=year)


def test_typed_titles_are_found(movies: pl.DataFrame) -> None:
    assert len(CASES) >= 40
    assert wrong(CASES, movies) == {}


def test_titles_are_found_in_ml_latest_small(real_archive: Callable[[str], RealArchive], movies: pl.DataFrame) -> None:
    """Each typed title is closest to the right one of thousands. Without the archive, the made-up catalogue is used."""
    archive = real_archive("ml-latest-small")
    if archive.is_real:
        with zipfile.ZipFile(archive.path) as zipped:
            rated = pl.read_csv(zipped.read("ml-latest-small/ratings.csv"))["movieId"].value_counts(name="n_ratings")
        every = read_movies(archive.path.read_bytes(), "ml-latest-small/movies.csv", ",")
        movies = every.join(rated, left_on="movie_id", right_on="movieId", how="left")
    assert wrong(CASES, movies) == {}


def test_titles_are_found_in_ml_1m(real_archive: Callable[[str], RealArchive], movies: pl.DataFrame) -> None:
    """Titles of ML-1M have no a.k.a. and wrongly encoded accents. There are no rating counts."""
    archive = real_archive("ml-1m")
    if archive.is_real:
        assert wrong(IN_1M, read_movies(archive.path.read_bytes(), "ml-1m/movies.dat", "::")) == {}
    else:
        assert wrong({asked: IN_1M[asked] for asked in ("heat", "star wars")}, movies) == {}


def test_the_best_comes_first_with_its_similarity(movies: pl.DataFrame) -> None:
    found = find_movies("toy story", movies, limit=4)
    assert found.columns == [*movies.columns, "similarity"]
    assert found["title"].to_list()[:3] == ["Toy Story", "Toy Story 2", "Toy Story 3"]
    assert found["similarity"][0] == 1.0
    assert found["similarity"].is_sorted(descending=True)
    assert len(found) == 4


@pytest.mark.parametrize(
    ("asked", "title", "similarity"),
    [
        ("heat", "Heat, The", 1.0),  # a query without an article matches titles with and without one
        ("the heat", "Heat", 0.98),
        ("terminator 2", "Terminator 2: Judgment Day", 0.97),
        ("heat 1994", "Heat", 0.97),
        ("the terminator 2 (1992)", "Terminator 2: Judgment Day", 0.9221),  # all three; still above any guess
        ("private ryan", "Saving Private Ryan", 0.8),
        ("toy storys", "Toy Story", 0.8526),  # 0.9 · 18 / 19
    ],
)
def test_similarity_reflects_the_kind_of_match(asked: str, title: str, similarity: float, movies: pl.DataFrame) -> None:
    found = find_movies(asked, movies, limit=50).filter(title=title)
    assert found["similarity"].to_list() == [similarity]


def test_a_year_filters(movies: pl.DataFrame) -> None:
    assert set(find_movies("heat (1995)", movies, limit=50)["year"]) <= {1994, 1995, 1996}
    with pytest.raises(UsageError, match=r"no movie is called 'Heat 1986'; did you mean Heat \(1995\), movie_id 6; "):
        find_movie("Heat 1986", movies)


def test_equal_titles_go_to_the_most_rated_then_to_the_lower_id() -> None:
    same = pl.DataFrame({"movie_id": [3, 1, 2], "title": ["Ran"] * 3, "year": [1985, 1986, None]})
    assert find_movies("ran", same)["movie_id"].to_list() == [1, 2, 3]
    counted = same.with_columns(n_ratings=pl.Series([5, None, 9]))
    assert find_movies("ran", counted)["movie_id"].to_list() == [2, 3, 1]


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ("heat", "'heat' is interpreted as Heat (1995), movie_id 6; other matches: Heat, The (2013), movie_id 103372"),
        ("pulp ficton", "'pulp ficton' is interpreted as Pulp Fiction (1994), movie_id 296"),
        ("300", "'300' is read as a movie_id: Quiz Show (1994), movie_id 300; not: 300 (2007), movie_id 51662"),
    ],
)
def test_ambiguous_and_inexact_matches_are_logged(
    asked: str, message: str, movies: pl.DataFrame, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, logger="recsys"):
        find_movie(asked, movies)
    assert caplog.messages == [message]


def test_a_word_or_beginning_finds_the_most_rated_movie(caplog: pytest.LogCaptureFixture) -> None:
    titles = ["Stag", "Star Maker, The", "Stargate", "Star Wars", "Lone Star", "Tsar", "Mustard"]
    counts = [900, 10, 100, 500, 20, 900, 900]
    movies = pl.DataFrame({"movie_id": range(1, 8), "title": titles, "n_ratings": counts}).with_columns(
        pl.lit(1990, pl.Int16).alias("year")
    )
    found = find_movies("Star", movies)
    assert found["title"].to_list()[:4] == ["Star Wars", "Stargate", "Lone Star", "Star Maker, The"]
    with caplog.at_level(logging.INFO, logger="recsys"):
        assert find_movie("star", movies)["title"].item() == "Star Wars"
    assert caplog.messages == [
        "'star' is interpreted as Star Wars (1990), movie_id 4; other matches: Stargate (1990), movie_id 3; Lone Star "
        "(1990), movie_id 5"
    ]
    assert find_movies("st", movies)["similarity"][0] < MIN_SIMILARITY, "two letters begin too many titles"


@pytest.mark.parametrize("asked", ["Toy Story", "the heat", "heat 2013", "Matrix, The", "6"])
def test_unambiguous_matches_are_not_logged(asked: str, movies: pl.DataFrame, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="recsys"):
        find_movie(asked, movies)
    assert caplog.messages == []


def test_a_different_number_is_a_different_movie(movies: pl.DataFrame) -> None:
    assert find_movies("Toy Story 4", movies)["similarity"][0] < MIN_SIMILARITY
    expected = r"no movie is called 'Toy Story 4'; did you mean Toy Story \(1995\), .*; Toy Story 2 \(1999\), movie_id"
    with pytest.raises(UsageError, match=expected):
        find_movie("Toy Story 4", movies)


@pytest.mark.parametrize("asked", ["", "?!", "*"])
def test_empty_queries_match_nothing(asked: str, movies: pl.DataFrame) -> None:
    with pytest.raises(UsageError, match="there is no similar title"):
        find_movie(asked, movies)


@pytest.mark.parametrize("asked", ["qwertyuiop", "99999999999999999999", "007", "¾"])
def test_unknown_titles_are_refused(asked: str, movies: pl.DataFrame) -> None:
    with pytest.raises(UsageError, match=f"no movie is called '{asked}'"):
        find_movie(asked, movies)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Toy Story=5,Heat=4", [("Toy Story", 5), ("Heat", 4)]),
        ("Matrix, The=5, Heat=4", [("Matrix, The", 5), ("Heat", 4)]),
        ("Toy Story (1995)=4.5", [("Toy Story (1995)", 4.5)]),
        (" 1 = 5 , 2571=0.5, ", [("1", 5), ("2571", 0.5)]),
        ("\"Good, the Bad and the Ugly, The\"=5,'Heat'=1", [("Good, the Bad and the Ugly, The", 5), ("Heat", 1)]),
        ("'burbs, The=3, 'night, Mother=2", [("'burbs, The", 3), ("'night, Mother", 2)]),
        ('"E=mc2"=3', [("E=mc2", 3)]),
    ],
)
def test_typed_ratings_are_parsed(text: str, expected: list[tuple[str, float]]) -> None:
    assert parse_ratings(text, STARS) == expected


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("Toy Story", r"'Toy Story' is not a title with stars\. Next: write TITLE=STARS"),
        ("Heat=4,Toy Story", "'Toy Story' is not a title with stars"),
        ("Heat=4,5", "'5' is not a title with stars"),
        ("Heat=4=5", "'Heat=4=5' is not a title with stars"),
        ("=4", "'=4' has no title"),
        ("Heat=4,=3", "'=3' has no title"),
        ("Heat=good", f"'good', the stars of 'Heat', is not a number. Next: use one of {HALF_STARS}"),
        ("Heat=", "'', the stars of 'Heat', is not a number"),
        ("Heat=5.5", f"5.5 stars for 'Heat' are not on the rating scale. Next: use one of {HALF_STARS}"),
        ("Heat=nan", "nan stars for 'Heat' are not on the rating scale"),
        (" ", "there are no ratings"),
    ],
)
def test_invalid_ratings_are_refused(text: str, complaint: str) -> None:
    with pytest.raises(UsageError, match=complaint):
        parse_ratings(text, STARS)


def test_rated_movies_are_found_in_the_order_typed(movies: pl.DataFrame) -> None:
    found = match_ratings(parse_ratings("Matrix, The=5, heat 2013=0.5, 1=4", STARS), movies)
    assert found.select("movie_id", "rating").rows() == [(2571, 5.0), (103372, 0.5), (1, 4.0)]
    assert found.schema["rating"] == pl.Float32


def test_rating_a_movie_twice_is_refused(movies: pl.DataFrame) -> None:
    expected = (
        r"'Seven' and 'se7en \(1995\)' are the same movie, Seven \(a\.k\.a\. Se7en\) \(1995\), movie_id 47\. Next"
    )
    with pytest.raises(UsageError, match=expected):
        match_ratings(parse_ratings("Seven=5,Heat=3,se7en (1995)=4", STARS), movies)


def test_two_titles_with_a_single_rating_are_refused(movies: pl.DataFrame) -> None:
    with pytest.raises(UsageError, match=r"'Toy Story, Heat'.* For several movies, give each its own =STARS"):
        match_ratings(parse_ratings("Toy Story, Heat=4", STARS), movies)
