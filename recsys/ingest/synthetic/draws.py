"""Draws synthetic ratings of any size in blocks of users: pairs of user and movie, stars, times and tags.

Memory is bounded by the size of a block. Every block has its own random generator, so that the same sizes and seed give
the same data regardless of the blocks drawn before.

Shapes: U users, M movies, P users of one block, B their ratings, R rank.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import polars as pl
from numpy.typing import NDArray

from recsys.ingest.synthetic.synthetic import MOODS, THINGS, Floats, Ints

BLOCK_RATINGS = 500_000  # drawn at once, about 200 MB
MIN_RATINGS = 20  # per user in the published editions
DENSE = 32  # for a user with more than 1 / DENSE of all movies, the movies are drawn at once instead of one by one
ACTIVITY_SPREAD = 1.3  # of log ratings per user: the most active of 200,000 has a hundred times the mean, as in ML-32M
# Popularity falls with rank as (rank / M + HEAD) ** -TAIL. In ML-32M, half of the users rate the most popular movie,
# and half of the movies have a handful of ratings.
HEAD, TAIL = 1 / 400, 1.6

RANK = 4  # dimensions of the planted taste
MEAN, USER_SPREAD, MOVIE_SPREAD, TASTE_SPREAD, NOISE = 3.5, 0.4, 0.45, 0.6, 0.7  # stars, standard deviations

OPENED = int(np.datetime64("1995-01-09T11:46:49", "s").astype(np.int64))  # the first rating of the published editions
CLOSED = int(np.datetime64("2023-10-13T00:00:00", "s").astype(np.int64))
HALF_STARS_SINCE = int(np.datetime64("2003-02-18T00:00:00", "s").astype(np.int64))  # whole stars until then
DAY_SECONDS = 86_400
SECONDS_PER_RATING = 12  # within a session
RATINGS_PER_SESSION = 60
STAY_DAYS = 200.0  # mean time between a user's first and last session

RATINGS_PER_TAG = 16
TAGS = (
    *(f"{mood.lower()} {thing.lower()}" for mood in MOODS for thing in THINGS),
    *("must see, twice", 'the "good" one', '"artsy"', "café noir", "so bad it's good", "Oscar, Best Picture", "BD-R"),
)


@dataclass(frozen=True)
class World:
    """The data that all blocks share. Movies are sorted by id."""

    seed: int
    counts_U: Ints  # ratings of each user
    movie_id_M: Ints  # ascending, with gaps
    popularity_M: Floats  # probabilities
    movie_bias_M: Floats  # stars
    q_MR: Floats


@dataclass(frozen=True)
class Block:
    """Ratings and tags of some users: user_id, movie_id, rating or tag, timestamp; sorted by user and movie."""

    ratings: pl.DataFrame
    tags: pl.DataFrame


def draw_world(n_users: int, n_movies: int, n_ratings: int, seed: int) -> World:
    """Draws the data that are needed before the first rating is drawn."""
    rng = np.random.default_rng([seed, 0])
    return World(
        seed=seed,
        counts_U=draw_activity(n_users, n_movies, n_ratings, rng),
        movie_id_M=draw_movie_ids(n_movies, rng),
        popularity_M=draw_popularity(n_movies, rng),
        movie_bias_M=rng.normal(0, MOVIE_SPREAD, n_movies),
        q_MR=rng.normal(0, 1, (n_movies, RANK)),
    )


def draw_activity(n_users: int, n_movies: int, n_ratings: int, rng: np.random.Generator) -> Ints:
    """Number of ratings per user: heavy-tailed, with sum `n_ratings`, each at most `n_movies`. -> (U,) int64.

    The minimum is MIN_RATINGS, or one if there are not enough ratings or movies.
    """
    assert n_users <= n_ratings <= n_users * n_movies
    minimum = MIN_RATINGS if n_ratings >= MIN_RATINGS * n_users and n_movies >= MIN_RATINGS else 1
    counts_U = np.full(n_users, minimum)
    weight_U = rng.lognormal(0, ACTIVITY_SPREAD, n_users)
    while (left := n_ratings - int(counts_U.sum())) > 0:
        room_U = n_movies - counts_U
        open_U = weight_U * (room_U > 0)
        more_U = np.minimum((open_U * (left / open_U.sum())).astype(np.int64), room_U)
        if not more_U.any():  # fewer ratings than users are left: one for each of the most active users
            more_U[np.argsort(-open_U, kind="stable")[:left]] = 1
        counts_U += more_U
    return counts_U


def draw_movie_ids(n_movies: int, rng: np.random.Generator) -> Ints:
    """Ids with gaps that widen towards the end, as in the published editions. -> (M,) int64, ascending."""
    wider_M = 4.7 * np.arange(n_movies) / n_movies
    return np.cumsum(1 + rng.poisson(wider_M))


def draw_popularity(n_movies: int, rng: np.random.Generator) -> Floats:
    weight_M = (np.arange(n_movies) / n_movies + HEAD) ** -TAIL
    return np.asarray(rng.permutation(weight_M / weight_M.sum()))


def list_blocks(world: World) -> Iterator[tuple[int, int]]:
    """Yields user indices (first, beyond) of each block of about BLOCK_RATINGS ratings; a single user may have more."""
    block_U = np.cumsum(world.counts_U) // BLOCK_RATINGS
    starts = np.flatnonzero(np.diff(block_U, prepend=-1))
    return pairwise([*starts.tolist(), len(block_U)])


def draw_block(world: World, first: int, beyond: int) -> Block:
    """Draws the ratings and tags of the users with indices in [first, beyond); user_id is the index + 1."""
    rng = np.random.default_rng([world.seed, 1, first])
    counts_P = world.counts_U[first:beyond]
    user_B = np.repeat(np.arange(beyond - first), counts_P)
    movie_B = draw_movies(counts_P, world.popularity_M, rng)
    seconds_B = draw_moments(counts_P, user_B, rng)
    stars_B = draw_stars(world, user_B, movie_B, seconds_B, rng)
    ratings = pl.DataFrame(
        {
            "user_id": (user_B + first + 1).astype(np.int32),
            "movie_id": world.movie_id_M[movie_B].astype(np.int32),
            "rating": stars_B,
            "timestamp": seconds_B,
        }
    )
    return Block(ratings, draw_tags(ratings, rng))


def draw_movies(counts_P: Ints, popularity_M: Floats, rng: np.random.Generator) -> Ints:
    """Draws `counts_P` distinct movies for each user, as ascending indices. -> (B,) int64."""
    n_movies = len(popularity_M)
    is_dense_P = counts_P * DENSE > n_movies
    keys = [
        draw_one_by_one(np.where(is_dense_P, 0, counts_P), popularity_M, rng),
        draw_at_once(np.where(is_dense_P, counts_P, 0), popularity_M, rng),
    ]
    return np.asarray(np.sort(np.concatenate(keys)) % n_movies)


def draw_one_by_one(counts_P: Ints, popularity_M: Floats, rng: np.random.Generator) -> Ints:
    """Distinct keys user * M + movie, drawn with rejection of duplicates."""
    n_movies = len(popularity_M)
    cumulative_M = np.cumsum(popularity_M)
    cumulative_M[-1] = 1.0  # despite rounding
    keys = np.array([-1])  # a sentinel below all keys, for the comparison
    lacking_P = counts_P.copy()
    while lacking_P.any():
        users = np.repeat(np.arange(len(counts_P)), lacking_P)
        movies = cumulative_M.searchsorted(rng.random(len(users)), side="right")
        drawn = distinct(users * n_movies + movies)
        places = keys.searchsorted(drawn)
        is_new = keys.take(places, mode="clip") != drawn
        keys = np.insert(keys, places[is_new], drawn[is_new])
        lacking_P -= np.bincount(drawn[is_new] // n_movies, minlength=len(counts_P))
    return keys[1:]


def distinct(keys: Ints) -> Ints:
    """Sorted and without duplicates; several times faster than numpy's unique, which hashes."""
    keys = np.sort(keys)
    return keys[np.diff(keys, prepend=-1) > 0]


def draw_at_once(counts_P: Ints, popularity_M: Floats, rng: np.random.Generator) -> Ints:
    """Keys user * M + movie, drawn without replacement: the smallest exponential variates, with popularity as rates."""
    n_movies = len(popularity_M)
    keys = [np.empty(0, np.int64)]
    for user in np.flatnonzero(counts_P):
        variate_M = rng.exponential(size=n_movies) / popularity_M
        keys.append(user * n_movies + np.argsort(variate_M, kind="stable")[: counts_P[user]])
    return np.concatenate(keys)


def draw_moments(counts_P: Ints, user_B: Ints, rng: np.random.Generator) -> Ints:
    """Seconds since 1970. Each user rates in a few sessions between joining and leaving. -> (B,) int64."""
    joined_P = rng.integers(OPENED, CLOSED - 10 * DAY_SECONDS, len(counts_P))
    stay_P = rng.exponential(STAY_DAYS * DAY_SECONDS, len(counts_P))
    stay_P = np.minimum(stay_P, CLOSED - 9 * DAY_SECONDS - joined_P)
    sessions_P = 1 + rng.poisson(counts_P / RATINGS_PER_SESSION)
    starts = rng.random(sessions_P.sum())
    first_P = np.cumsum(sessions_P) - sessions_P
    session_B = first_P[user_B] + (rng.random(len(user_B)) * sessions_P[user_B]).astype(np.int64)
    length_P = np.minimum(counts_P / sessions_P * SECONDS_PER_RATING, 8 * DAY_SECONDS)
    within_B = rng.random(len(user_B)) * length_P[user_B]
    return np.asarray((joined_P[user_B] + starts[session_B] * stay_P[user_B] + within_B).astype(np.int64))


def draw_stars(
    world: World, user_B: Ints, movie_B: Ints, seconds_B: Ints, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Mean + biases + taste <p, q> + noise, rounded to half stars, or to whole ones before 2003. -> (B,) float32."""
    n_users = int(user_B[-1]) + 1
    user_bias_P = rng.normal(0, USER_SPREAD, n_users)
    p_PR = rng.normal(0, TASTE_SPREAD / np.sqrt(RANK), (n_users, RANK))
    taste_B = np.einsum("br,br->b", p_PR[user_B], world.q_MR[movie_B])
    score_B = MEAN + user_bias_P[user_B] + world.movie_bias_M[movie_B] + taste_B + rng.normal(0, NOISE, len(user_B))
    has_halves_B = seconds_B >= HALF_STARS_SINCE
    stars_B = np.where(has_halves_B, np.rint(2 * score_B) / 2, np.rint(score_B))
    return np.asarray(np.clip(stars_B, np.where(has_halves_B, 0.5, 1.0), 5.0).astype(np.float32))


def draw_tags(ratings: pl.DataFrame, rng: np.random.Generator) -> pl.DataFrame:
    """A tag for one rating in RATINGS_PER_TAG, at most ten minutes after the rating."""
    tagged = ratings.filter(rng.random(len(ratings)) * RATINGS_PER_TAG < 1)
    tag = pl.Series(TAGS).gather(rng.integers(0, len(TAGS), len(tagged)))
    later = pl.Series(rng.integers(0, 600, len(tagged)))
    return tagged.select("user_id", "movie_id", tag=tag, timestamp=pl.col("timestamp") + later)
