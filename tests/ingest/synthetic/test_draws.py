import numpy as np
import polars as pl
import pytest

from recsys.ingest.synthetic import draws
from recsys.ingest.synthetic.draws import Block, World, draw_activity, draw_block, draw_movies, draw_world, list_blocks

SIZES = (2_000, 1_500, 120_000)


@pytest.fixture(scope="module")
def world() -> World:
    return draw_world(*SIZES, seed=0)


@pytest.fixture(scope="module")
def block(world: World) -> Block:
    return draw_block(world, 0, len(world.counts_U))


@pytest.mark.parametrize(
    ("n_users", "n_movies", "n_ratings", "minimum"),
    [
        (100, 50, 3_000, 20),
        (100, 50, 1_999, 1),
        (100, 50, 100, 1),
        (100, 50, 5_000, 20),
        (100, 10, 900, 1),
        (1, 1, 1, 1),
    ],
)
def test_every_user_rates_enough_and_at_most_all_movies(
    n_users: int, n_movies: int, n_ratings: int, minimum: int
) -> None:
    counts_U = draw_activity(n_users, n_movies, n_ratings, np.random.default_rng(0))
    assert len(counts_U) == n_users
    assert counts_U.sum() == n_ratings
    assert minimum <= counts_U.min() <= counts_U.max() <= n_movies


def test_few_users_and_few_movies_have_most_of_the_ratings(block: Block) -> None:
    by_user = block.ratings["user_id"].value_counts()["count"].sort(descending=True)
    by_movie = block.ratings["movie_id"].value_counts()["count"].sort(descending=True)
    assert by_user.head(len(by_user) // 5).sum() > 0.5 * len(block.ratings)
    assert by_movie.head(SIZES[1] // 5).sum() > 0.5 * len(block.ratings)


def test_a_user_rates_a_movie_once_and_lines_are_sorted(block: Block) -> None:
    pairs = block.ratings.select("user_id", "movie_id")
    assert len(pairs) == SIZES[2]
    assert pairs.n_unique() == len(pairs)
    assert pairs.equals(pairs.sort("user_id", "movie_id"))


@pytest.mark.parametrize("counts", [[5, 5], [1, 5], [0, 3], [5, 0], [1, 1]])
def test_both_ways_to_draw_movies_give_the_given_number(counts: list[int]) -> None:
    """1 / DENSE of 160 movies is 5: counts up to 5 are drawn movie by movie, larger ones at once."""
    for factor in (1, 30):
        counts_P = np.array(counts) * factor
        movies = draw_movies(counts_P, np.full(160, 1 / 160), np.random.default_rng(0))
        first, second = movies[: counts_P[0]], movies[counts_P[0] :]
        assert len(set(first)) == counts_P[0]
        assert len(set(second)) == counts_P[1]
        assert set(movies) <= set(range(160))


@pytest.mark.parametrize("count", [4, 6], ids=["one by one", "at once"])
def test_movies_are_drawn_in_proportion_to_their_popularity(count: int) -> None:
    """`count` draws without replacement; the last of 160 movies has a third of the weight of all others."""
    popularity_M = np.append(np.full(159, 0.75 / 159), 0.25)
    movies = draw_movies(np.full(4_000, count), popularity_M, np.random.default_rng(0))
    missed = np.prod([1 - 0.25 / (1 - 0.75 / 159 * drawn) for drawn in range(count)])
    expected, deviation = 4_000 * (1 - missed), np.sqrt(4_000 * missed * (1 - missed))
    assert abs((movies == 159).sum() - expected) < 4 * deviation


def test_blocks_cover_every_user_once(monkeypatch: pytest.MonkeyPatch, world: World) -> None:
    monkeypatch.setattr(draws, "BLOCK_RATINGS", 1_000)
    blocks = list(list_blocks(world))
    assert len(blocks) > 100
    assert [first for first, _ in blocks] == [0, *(beyond for _, beyond in blocks[:-1])]
    assert blocks[-1][1] == len(world.counts_U)
    sizes = [world.counts_U[first:beyond].sum() for first, beyond in blocks]
    assert max(sizes) <= 1_000 + world.counts_U.max()


def test_a_block_does_not_depend_on_the_blocks_drawn_before(world: World) -> None:
    before, after = draw_block(world, 100, 200), draw_block(world, 0, 100)
    assert draw_block(world, 100, 200).ratings.equals(before.ratings)
    assert before.ratings["user_id"].unique().to_list() == list(range(101, 201))
    assert after.ratings["user_id"].max() == 100


def test_stars_are_on_the_scale_and_whole_before_2003(block: Block) -> None:
    is_early = pl.col("timestamp") < draws.HALF_STARS_SINCE
    early, late = block.ratings.filter(is_early), block.ratings.filter(~is_early)
    assert early["rating"].unique().sort().to_list() == [1, 2, 3, 4, 5]
    assert late["rating"].unique().sort().to_list() == [half / 2 for half in range(1, 11)]


def test_times_are_in_the_range_of_movielens_and_in_sessions(block: Block) -> None:
    moments = pl.concat([block.ratings["timestamp"], block.tags["timestamp"]])
    assert moments.is_between(int(draws.OPENED), int(draws.CLOSED)).all()
    day = pl.col("timestamp") // draws.DAY_SECONDS
    days = block.ratings.group_by("user_id").agg(n_days=day.n_unique(), n_ratings=pl.len())
    assert len(days.filter(pl.col("n_days") * 5 < pl.col("n_ratings"))) > 0.9 * len(days)


def test_tags_are_of_rated_movies_and_one_for_sixteen_ratings(block: Block) -> None:
    assert len(block.tags) == pytest.approx(SIZES[2] / draws.RATINGS_PER_TAG, rel=0.1)
    assert block.tags.join(block.ratings, on=["user_id", "movie_id"], how="anti").is_empty()
    assert block.tags.select("user_id", "movie_id").n_unique() == len(block.tags)
    for mark in (",", '"', "é"):
        assert block.tags["tag"].str.contains(mark, literal=True).any()


def test_ratings_have_a_taste_that_can_be_learned(block: Block) -> None:
    """A low-rank fit to the residuals of a bias model on some ratings predicts the residuals of the others."""
    residual = pl.col("rating") - pl.col("rating").mean().over("user_id")
    rated = block.ratings.with_columns(residual=residual).with_columns(
        pl.col("residual") - pl.col("residual").mean().over("movie_id")
    )
    busy = rated.filter(pl.len().over("user_id") > 150).filter(pl.len().over("movie_id") > 50)
    users = busy["user_id"].rank("dense").to_numpy() - 1
    movies = busy["movie_id"].rank("dense").to_numpy() - 1
    is_train = np.random.default_rng(0).random(len(busy)) < 0.8
    matrix = np.zeros((users.max() + 1, movies.max() + 1))
    matrix[users[is_train], movies[is_train]] = busy["residual"].to_numpy()[is_train]
    left, strength, right = np.linalg.svd(matrix, full_matrices=False)
    guess = (left[:, : draws.RANK] * strength[: draws.RANK]) @ right[: draws.RANK]
    held_out = busy["residual"].to_numpy()[~is_train]
    assert np.corrcoef(guess[users[~is_train], movies[~is_train]], held_out)[0, 1] > 0.3
