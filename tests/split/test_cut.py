from datetime import timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest

from recsys.checks.check import Checked
from recsys.errors import DataRefused
from recsys.home import Home
from recsys.schema import RATINGS
from recsys.settings import SplitConfig, SplitKind
from recsys.split.cut import Split, cut_holdout, cut_validation, split_ratings, split_validation, splitmix64
from recsys.split.leaks import check_order
from tests.support.snapshots import START, make_run

N_USERS, N_MOVIES = 100, 80
CONFIG = SplitConfig(holdout_share=0.25, validation_share=0.1)


def make_ratings(seed: int = 0) -> pl.DataFrame:
    """8,000 ratings with random stars: every user rates every movie."""
    user_id, movie_id = np.divmod(np.arange(N_USERS * N_MOVIES, dtype=np.int32), np.int32(N_MOVIES))
    rating = np.random.default_rng(seed).integers(1, 6, len(user_id)).astype(np.float32)
    frame = pl.DataFrame({"user_id": user_id + 1, "movie_id": movie_id + 1, "rating": rating})
    return frame.with_columns(rated_at=pl.lit(START).dt.cast_time_unit("us"))


def split(ratings: pl.DataFrame, folder: Path, seed: int = 0, config: SplitConfig = CONFIG) -> Split:
    path = folder / "ratings.parquet"
    folder.mkdir(parents=True, exist_ok=True)
    ratings.write_parquet(path)
    tables = dict.fromkeys(("ratings", "movies", "users", "tags", "links"), path)
    checked = Checked(**tables, quarantine=path, as_of=START, rating_scale=(1.0, 2.0, 3.0, 4.0, 5.0), counts={})
    return split_ratings(checked, make_run(Home(folder / "home")), config, seed)


def read_parts(parts: Split) -> list[pl.DataFrame]:
    return [pl.read_parquet(path) for path in (parts.train, parts.validation, parts.holdout)]


def pairs(part: pl.DataFrame) -> set[tuple[int, int]]:
    return set(part.select("user_id", "movie_id").iter_rows())


def test_parts_have_exact_shares_are_disjoint_and_complete(tmp_path: Path) -> None:
    ratings = make_ratings()
    train, validation, holdout = read_parts(split(ratings, tmp_path))
    assert (len(train), len(validation), len(holdout)) == (5400, 600, 2000)  # 25% of 8,000, then 10% of 6,000
    together = pl.concat([train, validation, holdout]).sort("user_id", "movie_id")
    assert together.equals(ratings)


def test_files_are_canonical_and_sorted(tmp_path: Path) -> None:
    parts = split(make_ratings(), tmp_path)
    for path in (parts.train, parts.validation, parts.holdout):
        assert pq.read_schema(path).equals(RATINGS)
        part = pl.read_parquet(path)
        assert part.equals(part.sort("user_id", "movie_id"))


def test_the_order_of_the_source_does_not_matter(tmp_path: Path) -> None:
    ratings = make_ratings()
    in_order = read_parts(split(ratings, tmp_path / "straight"))
    shuffled = read_parts(split(ratings.sample(fraction=1.0, shuffle=True, seed=7), tmp_path / "shuffled"))
    assert all(one.equals(other) for one, other in zip(in_order, shuffled, strict=True))


def test_the_draw_depends_only_on_the_pair(tmp_path: Path) -> None:
    one = read_parts(split(make_ratings(seed=0), tmp_path / "one"))
    other = read_parts(split(make_ratings(seed=1), tmp_path / "other"))
    assert [pairs(part) for part in one] == [pairs(part) for part in other]


def test_another_seed_gives_another_draw(tmp_path: Path) -> None:
    holdouts = [read_parts(split(make_ratings(), tmp_path / str(seed), seed))[2] for seed in (0, 1)]
    in_both = len(pairs(holdouts[0]) & pairs(holdouts[1]))
    assert 430 < in_both < 570  # two independent quarters of 8,000 share 500 on average, standard deviation 17


def test_holdout_and_validation_are_drawn_independently(tmp_path: Path) -> None:
    """With a shared order, validation drawn from all ratings would equal the holdout."""
    holdout = read_parts(split(make_ratings(), tmp_path))[2]
    _, validation = split_validation(make_ratings(), CONFIG.holdout_share, seed=0)
    assert 430 < len(pairs(holdout) & pairs(validation)) < 570


def test_the_holdout_is_uniform_over_stars_users_and_movies(tmp_path: Path) -> None:
    ratings = make_ratings()
    holdout = read_parts(split(ratings, tmp_path))[2]
    for column, tolerance in (("rating", 0.05), ("user_id", 0.25), ("movie_id", 0.25)):
        counts = ratings.group_by(column).len().join(holdout.group_by(column).len(), on=column, suffix="_held_out")
        share = counts["len_held_out"] / counts["len"]
        assert len(counts) == ratings[column].n_unique()
        assert (share - 0.25).abs().max() < tolerance  # type: ignore[operator]


def test_the_hash_does_not_change_between_versions(tmp_path: Path) -> None:
    """A change of the hash would silently change every holdout."""
    holdout = read_parts(split(make_ratings(), tmp_path))[2]
    assert list(holdout.select("user_id", "movie_id").head(5).iter_rows()) == [
        (1, 5),
        (1, 9),
        (1, 12),
        (1, 17),
        (1, 18),
    ]


def test_the_hash_is_splitmix64() -> None:
    """The first outputs of the authors' splitmix64.c from the states 0 and 1234567."""
    states = np.array([0, 1234567], dtype=np.uint64)
    assert splitmix64(states).tolist() == [0xE220A8397B1DCDAF, 6457827717110365317]


def test_repeated_pairs_are_split_by_content() -> None:
    twice = pl.concat([make_ratings(seed=0), make_ratings(seed=1)])
    in_order = split_validation(twice, 0.1, seed=0)
    shuffled = split_validation(twice.sample(fraction=1.0, shuffle=True, seed=3), 0.1, seed=0)
    assert all(one.equals(other) for one, other in zip(in_order, shuffled, strict=True))
    assert len(in_order[1]) == 1600


def rated(*rows: tuple[int, int, int]) -> pl.DataFrame:
    """Ratings from (user_id, movie_id, hour), all with the same stars."""
    hours = [START + timedelta(hours=hour) for _, _, hour in rows]
    ids = {"user_id": [row[0] for row in rows], "movie_id": [row[1] for row in rows]}
    frame = pl.DataFrame(ids, schema_overrides={"user_id": pl.Int32, "movie_id": pl.Int32})
    return frame.with_columns(pl.Series("rated_at", hours), rating=pl.lit(3.0))


def at_random_times(seed: int = 0) -> pl.DataFrame:
    """`make_ratings` at 50 different times, so that many ratings share a time."""
    days = pl.lit(pl.Series(np.random.default_rng(seed).integers(0, 50, N_USERS * N_MOVIES)))
    return make_ratings().with_columns(pl.col("rated_at") + pl.duration(days=days))


def test_the_newest_ratings_are_held_out() -> None:
    ratings = rated((1, 5, 0), (2, 9, 4), (2, 5, 3), (1, 9, 5), (3, 1, 1), (1, 7, 2), (3, 2, 9), (9, 9, 6))
    rest, holdout = cut_holdout(ratings, SplitConfig(kind="time", holdout_share=0.5), seed=0)
    assert pairs(rest) == {(1, 5), (3, 1), (1, 7), (2, 5)}
    assert pairs(holdout) == {(2, 9), (1, 9), (9, 9), (3, 2)}


@pytest.mark.parametrize("config", [SplitConfig(kind="time", holdout_share=0.5), SplitConfig(kind="last", last_k=40)])
def test_ratings_of_one_second_are_held_out_whatever_their_ids(config: SplitConfig) -> None:
    """All ratings are of one second. Half of them are held out, of low ids as many as of high ones."""
    _, holdout = cut_holdout(make_ratings(), config, seed=0)
    assert len(holdout) == N_USERS * N_MOVIES / 2
    for column, highest in (("user_id", N_USERS), ("movie_id", N_MOVIES)):
        low = holdout.filter(pl.col(column) <= highest // 2)
        if column == "movie_id" or config.kind == "time":
            assert 0.47 < len(low) / len(holdout) < 0.53


def test_training_rows_are_earlier_than_the_holdout(tmp_path: Path) -> None:
    ratings = at_random_times()
    parts = read_parts(split(ratings, tmp_path, config=SplitConfig(kind="time", holdout_share=0.1)))
    train, validation, holdout = parts
    assert (len(train), len(validation), len(holdout)) == (6480, 720, 800)
    check_order(train, validation)
    check_order(pl.concat([train, validation]), holdout)
    assert pl.concat(parts).sort("user_id", "movie_id").equals(ratings)
    for part in parts:
        assert part.equals(part.sort("user_id", "movie_id"))


def test_each_users_last_ratings_are_held_out() -> None:
    ratings = rated(
        (1, 5, 0), (1, 6, 8), (1, 7, 4), (1, 8, 5),
        (2, 5, 1), (2, 6, 0),  # a user with at most two ratings keeps all
        (3, 4, 9), (3, 3, 8), (3, 2, 7),
    )  # fmt: skip
    rest, holdout = cut_holdout(ratings, SplitConfig(kind="last", last_k=2), seed=0)
    assert pairs(holdout) == {(1, 6), (1, 8), (3, 4), (3, 3)}
    assert pairs(rest) == {(1, 5), (1, 7), (2, 5), (2, 6), (3, 2)}


def test_validation_is_cut_like_the_holdout() -> None:
    ratings = at_random_times()
    last = SplitConfig(kind="last", last_k=3)
    rest, holdout = cut_holdout(ratings, last, seed=0)
    train, validation = cut_validation(rest, last, seed=0)
    per_user = [part.group_by("user_id").len()["len"].unique().to_list() for part in (train, validation, holdout)]
    assert per_user == [[N_MOVIES - 6], [3], [3]]
    random = SplitConfig()
    assert cut_validation(ratings, random, 4)[1].equals(split_validation(ratings, random.validation_share, 4)[1])


@pytest.mark.parametrize("config", [SplitConfig(kind="time"), SplitConfig(kind="last")])
def test_splits_by_time_do_not_depend_on_seed_or_order(config: SplitConfig) -> None:
    ratings = at_random_times()
    in_order = cut_holdout(ratings, config, seed=0)
    shuffled = cut_holdout(ratings.sample(fraction=1.0, shuffle=True, seed=7), config, seed=1)
    assert all(one.equals(other) for one, other in zip(in_order, shuffled, strict=True))
    assert in_order[0].columns == ratings.columns


def test_the_name_of_the_holdout_contains_the_kind_of_split() -> None:
    kinds: tuple[SplitKind, ...] = ("random", "time", "last")
    assert [SplitConfig(kind=kind).holdout for kind in kinds] == ["holdout", "holdout_time", "holdout_last"]


def test_last_k_is_refused_if_no_user_has_more_ratings() -> None:
    with pytest.raises(DataRefused, match=r"no user has more than 80 ratings.*RECSYS_SPLIT__LAST_K"):
        cut_holdout(make_ratings(), SplitConfig(kind="last", last_k=N_MOVIES), seed=0)


def test_too_few_ratings_to_split_are_refused() -> None:
    with pytest.raises(DataRefused, match=r"4 ratings cannot be split at a share of 0\.1: one part would be empty"):
        split_validation(make_ratings().head(4), 0.1, seed=0)
