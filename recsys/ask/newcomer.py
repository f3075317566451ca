"""`recsys recommend --ratings`: a list for a new user, from typed ratings and the ranker of the published run."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from recsys.ask import lookup
from recsys.ask.fold_in import SavedRanker, fold_in
from recsys.ask.titles import match_ratings, parse_ratings
from recsys.encode.vocabulary import Vocabulary
from recsys.errors import UsageError
from recsys.home import Home
from recsys.rank.common import EVERYBODY, name_service, reading_ranker

DEFAULT_N = 10


@dataclass(frozen=True)
class Newcomer:
    """The movies that typed ratings were matched to, and the resulting list."""

    run_id: str  # the published run whose models made the list
    rated: pl.DataFrame  # (movie_id, title, year, rating), in the order typed
    served_by: str
    rows: pl.DataFrame  # (rank, movie_id, title, year, score, rating_hat, because_movie_ids, because_titles)


def recommend_for(home: Home, ratings: str, segment: str | None = None, n: int | None = None) -> Newcomer:
    """Returns the best `n` movies for ratings such as "Toy Story=5,Heat=4" and a segment such as "gender=F age=25".

    `rating_hat` is what the network expects of a user with these ratings. Movies below the middle of the rating scale,
    or below the user's mean, damped towards the mean of all ratings, lower the expected stars of similar movies, and
    propose nothing. Nothing is trained, and torch is not imported. Ratings of movies that are not in the published run
    are ignored.

    Raises: NotPublished if there are no lists, or if the folder of their run is missing or damaged; UsageError if the
    ratings cannot be parsed, or if a title or the segment is unknown.
    """
    run_id, movies = lookup.read_served(home)
    run = home.run(run_id)
    with reading_ranker(run, "there is no list for a new user"):
        ranker, vocabulary = SavedRanker(run.ranker), Vocabulary.load(run.vocabulary)
    rated = match_ratings(parse_ratings(ratings, ranker.described["levels"]), movies)
    items = vocabulary.encode_movies(rated["movie_id"].to_numpy())
    known = {int(item): stars for item, stars in zip(items, rated["rating"].to_list(), strict=True) if item}
    stated = _parse_segment(segment, ranker.described["properties"])
    folded = fold_in(ranker, known, stated, n or DEFAULT_N)
    titles = dict(movies.select("movie_id", "title").iter_rows())
    because = [[int(vocabulary.movie_ids[item - 1]) for item in row] for row in folded.because]
    rows = pl.DataFrame(
        {
            "rank": np.arange(1, len(folded.item_idx) + 1),
            "movie_id": vocabulary.movie_ids[folded.item_idx - 1],
            "score": folded.score,
            "rating_hat": folded.rating_hat,
            "because_movie_ids": because,
            "because_titles": [[titles[movie_id] for movie_id in row] for row in because],
        },
        schema_overrides={"because_movie_ids": pl.List(pl.Int32), "because_titles": pl.List(pl.String)},
    )
    named = rows.join(movies.select("movie_id", "title", "year"), on="movie_id", how="left", maintain_order="left")
    return Newcomer(
        run_id,
        rated.select("movie_id", "title", "year", "rating"),
        name_service(len(known), is_stated=bool(stated)),
        named.select("rank", "movie_id", "title", "year", "score", "rating_hat", "because_movie_ids", "because_titles"),
    )


def _parse_segment(segment: str | None, properties: Sequence[str]) -> list[str]:
    """Splits the name of a segment into its properties, in any order: gender=F age=under 18."""
    known = {name.casefold(): name for name in properties}
    text = EVERYBODY if segment is None else segment.strip()
    words = re.split(r"\s+(?=\S+=)", text)  # values may contain blanks
    if text.casefold() == EVERYBODY:
        return []
    unknown = [word for word in words if word.casefold() not in known]
    if unknown:
        raise UsageError(
            f"--segment: '{unknown[0]}' is unknown. Next: use {', '.join(properties) or 'all; there are no others'}"
        )
    meant = [known[word.casefold()] for word in words]
    kinds = [name.partition("=")[0] for name in meant]
    if twice := next((kind for kind in kinds if kinds.count(kind) > 1), None):
        raise UsageError(f"--segment: '{text}' has two values of {twice}. Next: keep one of them")
    return meant
