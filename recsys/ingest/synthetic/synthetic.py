"""Synthetic ratings with a known truth: planted low-rank scores with Gaussian noise, and a checkerboard.

Ratings are drawn in blocks, with the same result as if they were drawn at once: 32 million take 1.5 GB.

Shapes: U users, M movies, B pairs, R rank, K = 5 stars.
"""

import math
import re
from dataclasses import dataclass, replace

import numpy as np
import polars as pl
from numpy.typing import NDArray

from recsys.errors import UsageError
from recsys.ingest.archives.signatures import shown

PREFIX = "synthetic:"
USAGE = f"{PREFIX}<users>x<movies>x<ratings>, e.g. {PREFIX}200x100x5000"
EDITION = 1  # part of the source's hash; increase it whenever the same sizes and seed give different data

BLOCK = 2_000_000  # pairs drawn or scored at once
MAX_USERS, MAX_RATINGS = 10_000_000, 100_000_000  # of a source: about 2 and 5 GB

STARS = np.arange(1, 6)
STAR_EDGES = np.arange(1.5, 5)  # a score between two edges is rounded to the star between them
YEAR_START = np.datetime64("2000-01-01", "us")
YEAR_SECONDS = 366 * 24 * 3600  # 2000 was a leap year

GENRES = ("Action", "Adventure", "Animation", "Comedy", "Crime", "Drama", "Fantasy", "Romance", "Sci-Fi", "Thriller")
OCCUPATIONS = ("artist", "farmer", "homemaker", "lawyer", "programmer", "retired", "scientist", "writer")
MOODS = ("Quiet", "Crimson", "Last", "Hidden", "Golden", "Broken", "Distant", "Silent", "Electric", "Paper")
THINGS = ("Harbour", "Orchard", "Letter", "Signal", "Winter", "Garden", "Railway", "Mirror", "Island", "Clockmaker")

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Stars = NDArray[np.int8]


@dataclass(frozen=True)
class Planted:
    """Ratings in the canonical columns, and the parameters of their distribution. user_id and movie_id start at 1."""

    ratings: pl.DataFrame
    movies: pl.DataFrame
    users: pl.DataFrame
    mean: float  # stars
    noise: float  # standard deviation of the noise, stars
    user_bias_U: Floats
    movie_bias_M: Floats
    p_UR: Floats
    q_MR: Floats

    def scores(self, user_id: Ints, movie_id: Ints) -> Floats:
        """The planted scores in stars, without noise and rounding. (B,), (B,) -> (B,) float64."""
        users, movies = user_id - 1, movie_id - 1
        bias_B = self.user_bias_U[users] + self.movie_bias_M[movies]
        return np.asarray(self.mean + bias_B + (self.p_UR[users] * self.q_MR[movies]).sum(-1))

    def probabilities(self, user_id: Ints, movie_id: Ints) -> Floats:
        """The true distribution over 1 to 5 stars. (B,), (B,) -> (B, 5) float64."""
        below_BK = normal_cdf((STAR_EDGES - self.scores(user_id, movie_id)[:, None]) / self.noise)
        return np.diff(below_BK, prepend=0.0, append=1.0, axis=1)

    def best_mae_median(self, user_id: Ints, movie_id: Ints) -> float:
        """The lowest possible expected MAE of these pairs, in stars: that of the true median."""
        p_BK = self.probabilities(user_id, movie_id)
        median_B = STARS[(p_BK.cumsum(1) >= 0.5).argmax(1)]
        return float((p_BK * np.abs(STARS - median_B[:, None])).sum(1).mean())

    def best_rmse_mean(self, user_id: Ints, movie_id: Ints) -> float:
        """The lowest possible expected RMSE of these pairs, in stars: that of the true mean."""
        p_BK = self.probabilities(user_id, movie_id)
        mean_B = p_BK @ STARS
        return math.sqrt((p_BK * (STARS - mean_B[:, None]) ** 2).sum(1).mean())


def parse_sizes(source: str) -> tuple[int, int, int]:
    """Parses users, movies and ratings of `synthetic:200x100x5000`. Raises: UsageError if it is invalid."""
    match = re.fullmatch(r"synthetic:(\d{1,12})x(\d{1,12})x(\d{1,12})", source, re.ASCII)
    if match is None:
        raise UsageError(f"--source {shown(source)} is invalid. Next: write it as {USAGE}")
    n_users, n_movies, n_ratings = (int(size) for size in match.groups())
    check_sizes(n_users, n_movies, n_ratings)
    if n_users > MAX_USERS or n_movies > MAX_USERS or n_ratings > MAX_RATINGS:
        raise UsageError(
            f"--source {source} is too large to be generated in memory: the limits are {MAX_USERS:,} users, "
            f"{MAX_USERS:,} movies and {MAX_RATINGS:,} ratings. Next: ask for fewer, or use `recsys generate`"
        )
    return n_users, n_movies, n_ratings


def check_sizes(n_users: int, n_movies: int, n_ratings: int) -> None:
    if not 0 < n_ratings <= n_users * n_movies:
        raise UsageError(
            f"{n_ratings:,} synthetic ratings of {n_users:,} users and {n_movies:,} movies are impossible: a pair is "
            f"rated at most once. Next: ask for 1 to {n_users * n_movies:,}, as in {USAGE}"
        )


def plant(
    n_users: int,
    n_movies: int,
    n_ratings: int,
    seed: int = 0,
    *,
    rank: int = 4,
    noise: float = 0.6,
    taste: float = 0.7,
) -> Planted:
    """Ratings = mean + user bias + movie bias + <p, q> of `rank` dimensions + noise, rounded and clipped to 1 to 5.

    `noise` and `taste` are the standard deviations of the noise and of <p, q>, in stars. Few movies and users have
    most of the ratings. No pair is rated twice. Rows are sorted by time.

    Raises: UsageError if there are fewer pairs than ratings.
    """
    check_sizes(n_users, n_movies, n_ratings)
    rng = np.random.default_rng(seed)
    spread = math.sqrt(taste / math.sqrt(rank))  # of p and of q, so that <p, q> has standard deviation `taste`
    truth = Planted(
        ratings=pl.DataFrame(),
        movies=make_movies(n_movies, rng),
        users=make_users(n_users, rng),
        mean=3.5,
        noise=noise,
        user_bias_U=rng.normal(0, 0.4, n_users),
        movie_bias_M=rng.normal(0, 0.5, n_movies),
        p_UR=rng.normal(0, spread, (n_users, rank)),
        q_MR=rng.normal(0, spread, (n_movies, rank)),
    )
    user_id, movie_id = draw_pairs(n_users, n_movies, n_ratings, rng)
    return replace(truth, ratings=make_ratings(user_id, movie_id, draw_stars(truth, user_id, movie_id, rng)))


def checkerboard(n_users: int, n_movies: int, shown: float = 0.5, disliked: float = 0.0, seed: int = 0) -> pl.DataFrame:
    """Ratings with known best recommendations: movies whose id has the same parity as the user's id.

    A share `shown` of the pairs of equal parity is rated 5, and a share `disliked` of the others is rated 1.
    """
    rng = np.random.default_rng(seed)
    pair = np.arange(n_users * n_movies)
    user_id, movie_id = pair // n_movies + 1, pair % n_movies + 1
    matches = user_id % 2 == movie_id % 2
    rated = np.flatnonzero(rng.random(len(pair)) < np.where(matches, shown, disliked))
    rated = rng.permutation(rated)
    return make_ratings(user_id[rated], movie_id[rated], rating=np.where(matches[rated], 5, 1))


def draw_stars(truth: Planted, user_id: Ints, movie_id: Ints, rng: np.random.Generator) -> Stars:
    """Scores with noise, rounded and clipped. (B,), (B,) -> (B,) int8, 1 to 5."""
    stars_B = np.empty(len(user_id), np.int8)
    for start in range(0, len(user_id), BLOCK):
        block = slice(start, start + BLOCK)
        scores_B = truth.scores(user_id[block], movie_id[block])
        stars_B[block] = np.searchsorted(STAR_EDGES, scores_B + rng.normal(0, truth.noise, len(scores_B))) + 1
    return stars_B


def draw_pairs(n_users: int, n_movies: int, n_ratings: int, rng: np.random.Generator) -> tuple[Ints, Ints]:
    """Distinct (user_id, movie_id) in random order, weighted by popularity and activity."""
    user_weight_U, movie_weight_M = zipf_weights(n_users, rng), zipf_weights(n_movies, rng)
    if n_ratings * 4 > n_users * n_movies:
        pairs = draw_dense(np.outer(user_weight_U, movie_weight_M).ravel(), n_ratings, rng)
    else:
        pairs = draw_sparse(user_weight_U, movie_weight_M, n_ratings, rng)
    return pairs // n_movies + 1, pairs % n_movies + 1


def draw_dense(weight: Floats, n: int, rng: np.random.Generator) -> Ints:
    """`n` distinct indices into `weight`: those with the smallest exponential variates, with `weight` as rates."""
    variates = rng.exponential(size=len(weight)) / weight
    return rng.permutation(np.argpartition(variates, n - 1)[:n])


def draw_sparse(user_weight_U: Floats, movie_weight_M: Floats, n: int, rng: np.random.Generator) -> Ints:
    """`n` distinct indices of pairs, drawn repeatedly until there are enough, without an array of all pairs."""
    pairs = np.empty(0, np.int64)
    while len(pairs) < n:
        more = max(1000, 2 * (n - len(pairs)))
        users, movies = draw_places(user_weight_U, more, rng), draw_places(movie_weight_M, more, rng)
        pairs = add_distinct(pairs, users, movies, len(movie_weight_M), n)
    return pairs


def draw_places(weight: Floats, n: int, rng: np.random.Generator) -> NDArray[np.int32]:
    """`n` indices into `weight`, which sums to 1. Like numpy's `choice`, with half the memory."""
    cumulative = weight.cumsum()
    cumulative /= cumulative[-1]
    places = np.empty(n, np.int32)
    for start in range(0, n, BLOCK):
        drawn = rng.random(min(BLOCK, n - start))
        places[start : start + BLOCK] = cumulative.searchsorted(drawn, side="right")
    return places


def add_distinct(pairs: Ints, users: NDArray[np.int32], movies: NDArray[np.int32], n_movies: int, n: int) -> Ints:
    """Appends new drawn pairs to `pairs`, in the order in which they were drawn, up to `n` pairs in total."""
    sorted_pairs = np.append(-1, np.sort(pairs))  # -1: a sentinel for the comparison
    parts, missing = [pairs], n - len(pairs)
    for start in range(0, len(users), BLOCK):
        if missing <= 0:
            break
        drawn: Ints = users[start : start + BLOCK].astype(np.int64) * n_movies + movies[start : start + BLOCK]
        each, first = np.unique(drawn, return_index=True)
        places = sorted_pairs.searchsorted(each)
        is_new = sorted_pairs.take(places, mode="clip") != each
        sorted_pairs = np.insert(sorted_pairs, places[is_new], each[is_new])
        parts.append(each[is_new][np.argsort(first[is_new])][:missing])
        missing -= len(parts[-1])
    return np.concatenate(parts)


def zipf_weights(n: int, rng: np.random.Generator) -> Floats:
    """Probabilities that fall with rank as 1 / (rank + 10), in random order."""
    weight = 1.0 / (np.arange(n) + 10.0)
    return np.asarray(rng.permutation(weight / weight.sum()))


def make_ratings(user_id: Ints, movie_id: Ints, rating: Ints | Stars) -> pl.DataFrame:
    seconds = np.arange(len(rating)) * YEAR_SECONDS // max(len(rating), 1)
    return pl.DataFrame(
        {
            "user_id": user_id.astype(np.int32),
            "movie_id": movie_id.astype(np.int32),
            "rating": rating.astype(np.float32),
            "rated_at": YEAR_START + seconds.astype("timedelta64[s]"),
        }
    ).with_columns(pl.col("rated_at").dt.replace_time_zone("UTC"))


def make_movies(n: int, rng: np.random.Generator) -> pl.DataFrame:
    genres = rng.permuted(np.tile(np.array(GENRES), (n, 1)), axis=1)
    n_genres = rng.integers(1, 4, n)
    return pl.DataFrame(
        {
            "movie_id": np.arange(1, n + 1, dtype=np.int32),
            "title": [title(index) for index in range(n)],
            "year": rng.integers(1930, 2000, n).astype(np.int16),
            "genres": [sorted(row[:count]) for row, count in zip(genres.tolist(), n_genres.tolist(), strict=True)],
        }
    )


def title(index: int) -> str:
    """A unique title for every movie: "The Quiet Harbour", and from the 101st on "The Quiet Harbour 2"."""
    part, place = divmod(index, len(MOODS) * len(THINGS))
    name = f"The {MOODS[place % len(MOODS)]} {THINGS[place // len(MOODS)]}"
    return f"{name} {part + 1}" if part else name


def make_users(n: int, rng: np.random.Generator) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "user_id": np.arange(1, n + 1, dtype=np.int32),
            "gender": rng.choice(["F", "M"], n),
            "age": rng.integers(16, 80, n).astype(np.int16),
            "occupation": rng.choice(OCCUPATIONS, n),
            "zip_code": [f"{code:05d}" for code in rng.integers(1, 100_000, n).tolist()],
        }
    )


def normal_cdf(x: Floats) -> Floats:
    erf = np.vectorize(math.erf, otypes=[np.float64])  # numpy has none
    return np.asarray(0.5 + 0.5 * erf(x / math.sqrt(2)))
