"""Synthetic movies and links in the published format, with every form of title and every kind of missing value."""

from dataclasses import dataclass

import numpy as np
import polars as pl

from recsys.ingest.synthetic.synthetic import GENRES, Ints, title

YEARS = (1920, 1995)  # the last is exclusive: no movie is rated before its release
NO_GENRES = "(no genres listed)"
IMDB_PRIME, TMDB_PRIME = 9_999_991, 19_999_999  # larger than the number of movies, so that ids are unique


@dataclass(frozen=True)
class Catalogue:
    """Movies (movieId, title, genres) and links (movieId, imdbId of 7 digits, tmdbId, which is null for some)."""

    movies: pl.DataFrame
    links: pl.DataFrame


def draw_catalogue(movie_id_M: Ints, first: int, seed: int) -> Catalogue:
    """Returns movies with these ids. `first` is the number of the first movie, counted from 0."""
    rng = np.random.default_rng([seed, 2, first])
    number_M = np.arange(first, first + len(movie_id_M))
    years = rng.integers(*YEARS, len(movie_id_M)).tolist()
    titles = [published_title(number, year) for number, year in zip(number_M.tolist(), years, strict=True)]
    imdb_ids = [f"{number * 7_919 % IMDB_PRIME + 1:07d}" for number in number_M.tolist()]
    has_tmdb = pl.Series(number_M % 400 != 399)
    tmdb_ids = pl.Series(number_M * 104_729 % TMDB_PRIME + 2)
    movies = pl.DataFrame({"movieId": movie_id_M, "title": titles, "genres": draw_genres(len(movie_id_M), rng)})
    links = pl.DataFrame({"movieId": movie_id_M, "imdbId": imdb_ids, "tmdbId": tmdb_ids})
    return Catalogue(movies, links.with_columns(pl.when(has_tmdb).then("tmdbId")))


def published_title(number: int, year: int) -> str:
    """A unique title with the article last; some have a second name, quotes, or no year."""
    name = title(number).removeprefix("The ")
    if number % 97 == 96:
        return f"{name}, The"
    if number % 89 == 88:
        return f'"{name}" ({year})'
    if number % 83 == 82:
        return f"{name}, The (Été, {name}: L'histoire) ({year})"
    return f"{name} ({year})" if number % 3 == 2 else f"{name}, The ({year})"


def draw_genres(n_movies: int, rng: np.random.Generator) -> list[str]:
    """One to three genres, sorted and separated by |; one movie in forty has none."""
    places_M3 = rng.integers(0, len(GENRES), (n_movies, 3)).tolist()
    has_none_M = (rng.random(n_movies) < 1 / 40).tolist()
    return [
        NO_GENRES if has_none else "|".join(GENRES[place] for place in sorted(set(places)))
        for places, has_none in zip(places_M3, has_none_M, strict=True)
    ]
