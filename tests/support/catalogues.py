"""A few movies, users and ratings, small enough to derive the effect of every rule by hand."""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from recsys.encode.features import fit_features
from recsys.encode.vocabulary import Vocabulary, fit_vocabulary
from recsys.rank.eligibility import Eligibility, compile_rules
from recsys.rank.read_rules import Rules, read_rules
from recsys.schema import MOVIES, RATINGS, USERS
from recsys.settings import RulesConfig

# movie_id: title, year, genres. Movie 70 has no ratings and therefore no index; 60 has no genre.
CATALOGUE: dict[int, tuple[str, int, list[str]]] = {
    10: ("Alien", 1979, ["Horror", "Sci-Fi"]),
    20: ("Aliens", 1986, ["Action", "Sci-Fi"]),
    30: ("Heat", 1995, ["Action", "Drama"]),
    40: ("Ran", 1985, ["Drama"]),
    50: ("Psycho", 1960, ["Horror"]),
    60: ("Baraka", 1992, []),
    70: ("Solaris", 1972, ["Sci-Fi"]),
}
AGES = {1: 12, 2: 40, 3: 17, 4: None}
RATED = {1: [20, 60], 2: [10, 20, 30, 40, 50], 3: [20, 30]}  # user 4 has no ratings


@dataclass(frozen=True)
class Catalogue:
    movies: Path
    users: Path
    ratings: Path
    vocabulary: Vocabulary

    def read(self, **rules: Any) -> Rules:
        return read_rules(RulesConfig(**rules), self.movies, self.users, self.ratings)

    def compile(self, **rules: Any) -> Eligibility:
        return self.compile_read(self.read(**rules))

    def compile_read(self, rules: Rules) -> Eligibility:
        features = fit_features(self.vocabulary, pl.read_parquet(self.users), pl.read_parquet(self.movies))
        return compile_rules(rules, self.vocabulary, features.item["genres"], self.counts())

    def counts(self) -> torch.Tensor:
        """Return (I,) the number of ratings of the unknown item and of movies 10 to 60."""
        return torch.tensor(
            [0, *(sum(movie in rated for rated in RATED.values()) for movie in (10, 20, 30, 40, 50, 60))]
        )

    def items(self, *movie_ids: int) -> list[int]:
        items: list[int] = self.vocabulary.encode_movies(movie_ids).tolist()
        return items


def write_catalogue(folder: Path) -> Catalogue:
    at = datetime(2000, 1, 1, tzinfo=UTC)
    tables = {
        "movies": (
            MOVIES,
            [
                {"movie_id": movie, "title": title, "year": year, "genres": genres}
                for movie, (title, year, genres) in CATALOGUE.items()
            ],
        ),
        "users": (USERS, [{"user_id": user, "age": age} for user, age in AGES.items()]),
        "ratings": (
            RATINGS,
            [
                {"user_id": user, "movie_id": movie, "rating": 4.0, "rated_at": at}
                for user, rated in RATED.items()
                for movie in rated
            ],
        ),
    }
    for name, (schema, rows) in tables.items():
        pq.write_table(pa.Table.from_pylist(rows, schema=schema), folder / f"{name}.parquet")
    vocabulary = fit_vocabulary(pl.read_parquet(folder / "ratings.parquet"))
    movies, users, ratings = (folder / f"{name}.parquet" for name in tables)
    return Catalogue(movies, users, ratings, vocabulary)
