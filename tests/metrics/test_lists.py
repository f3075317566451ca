import math
from collections.abc import Iterable

import numpy as np
import polars as pl
import pytest
import pytrec_eval
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import pdist

from recsys.metrics.lists import Catalogue, catalogue_metrics, gini, list_metrics, user_metrics

Shown = dict[int, list[int]]  # movies per user, best first
Relevant = dict[int, set[int]]
Raters = dict[int, int]  # users per movie
Genres = dict[int, list[str]]


def lists_frame(shown: Shown) -> pl.DataFrame:
    rows = [(user, rank, movie) for user, movies in shown.items() for rank, movie in enumerate(movies, start=1)]
    return pl.DataFrame(rows, {"user_id": pl.Int32, "rank": pl.Int32, "movie_id": pl.Int32}, orient="row")


def relevant_frame(relevant: Relevant) -> pl.DataFrame:
    rows = [(user, movie) for user, movies in relevant.items() for movie in movies]
    return pl.DataFrame(rows, {"user_id": pl.Int32, "movie_id": pl.Int32}, orient="row")


def catalogue_of(raters: Raters, genres: Genres, n_users: int) -> Catalogue:
    movies = pl.DataFrame(list(raters.items()), {"movie_id": pl.Int32, "n_users": pl.UInt32}, orient="row")
    named = [(movie, genre) for movie, names in genres.items() for genre in names]
    return Catalogue(movies, pl.DataFrame(named, {"movie_id": pl.Int32, "genre": pl.String}, orient="row"), n_users)


def measure(shown: Shown, relevant: Relevant, n_movies: int = 100) -> dict[str, float]:
    """List metrics with a catalogue of movies 0 to n_movies - 1, each rated by one of five users."""
    lists = lists_frame(shown)
    catalogue = catalogue_of(dict.fromkeys(range(n_movies), 1), {}, n_users=5)
    return list_metrics(user_metrics(lists, relevant_frame(relevant)), lists, catalogue)


def test_lists_by_hand() -> None:
    shown = {
        1: [10, 11, 12, 13],  # 10 and 12 are relevant, a third relevant movie is not shown
        2: [20, 21],  # 21 is the only relevant movie
        3: [30],  # no relevant movie
        4: [40, 41],  # relevance unknown: not counted
    }
    relevant = {1: {10, 12, 99}, 2: {21}, 3: {31, 32}}
    ndcg_1 = (1 + 1 / math.log2(4)) / (1 + 1 / math.log2(3) + 1 / math.log2(4))
    ndcg_2 = (1 / math.log2(3)) / 1
    metrics = measure(shown, relevant, n_movies=50)
    assert metrics == {
        "ndcg_at_10": pytest.approx((ndcg_1 + ndcg_2 + 0) / 3),
        "recall_at_10": pytest.approx((2 / 3 + 1 + 0) / 3),
        "recall_at_50": pytest.approx((2 / 3 + 1 + 0) / 3),
        "mrr_at_50": pytest.approx((1 / 1 + 1 / 2 + 0) / 3),
        "hit_rate_at_10": pytest.approx((1 + 1 + 0) / 3),
        "coverage_at_10": pytest.approx(9 / 50),  # includes the list of user 4
        "gini_at_10": pytest.approx(41 / 50),  # nine movies occur once, the others never
        "novelty_at_10": pytest.approx(math.log2(5)),  # there is no diversity, because no genre is known
        "users_with_relevant": 3.0,
        "users_without_relevant": 2.0,
    }


def test_one_row_for_each_user_with_a_relevant_movie() -> None:
    shown = {3: [30, 31], 1: [10, 11, 12], 4: [40]}
    users = user_metrics(lists_frame(shown), relevant_frame({3: {31}, 2: {10, 11}, 1: {10, 11}}))
    expected = {
        "user_id": [1, 2, 3],
        "ndcg_at_10": [1.0, 0.0, 1 / math.log2(3)],
        "recall_at_10": [1.0, 0.0, 1.0],
        "recall_at_50": [1.0, 0.0, 1.0],
        "mrr_at_50": [1.0, 0.0, 0.5],
        "hit_rate_at_10": [1.0, 0.0, 1.0],
    }
    assert {name: users[name].to_list() for name in users.columns} == expected


def test_metrics_at_10_and_50() -> None:
    shown = {1: list(range(1, 61))}
    relevant = {1: {10, 11, 50, 51}}
    metrics = measure(shown, relevant, n_movies=61)
    ideal = sum(1 / math.log2(rank + 1) for rank in range(1, 5))
    assert metrics["ndcg_at_10"] == pytest.approx(1 / math.log2(11) / ideal)
    assert metrics["recall_at_10"] == pytest.approx(1 / 4)
    assert metrics["recall_at_50"] == pytest.approx(3 / 4)
    assert (metrics["mrr_at_50"], metrics["hit_rate_at_10"]) == (1 / 10, 1)
    late = measure(shown, {1: {11, 50}}, n_movies=61)
    assert (late["mrr_at_50"], late["hit_rate_at_10"]) == (1 / 11, 0)
    assert measure(shown, {1: {51}}, n_movies=61)["mrr_at_50"] == 0
    assert metrics["coverage_at_10"] == pytest.approx(10 / 61)


def test_more_relevant_movies_than_ranks() -> None:
    """The ideal list has ten movies, so a list of ten relevant movies is perfect."""
    metrics = measure({1: list(range(10))}, {1: set(range(25))})
    assert metrics["ndcg_at_10"] == pytest.approx(1)
    assert metrics["recall_at_10"] == pytest.approx(10 / 25)


def test_a_user_without_a_list_counts_as_shown_nothing_relevant() -> None:
    metrics = measure({1: [10]}, {1: {10}, 2: {10}})
    assert metrics["ndcg_at_10"] == metrics["recall_at_10"] == pytest.approx(0.5)
    assert metrics["users_with_relevant"] == 2


def test_relevance_is_per_user() -> None:
    assert measure({1: [10], 2: [20]}, {1: {20}, 2: {10}})["ndcg_at_10"] == 0


def test_without_relevant_movies_only_catalogue_metrics_remain() -> None:
    assert measure({1: [10, 11]}, {}) == {
        "coverage_at_10": 0.02,
        "gini_at_10": pytest.approx(0.98),
        "novelty_at_10": pytest.approx(math.log2(5)),
        "users_with_relevant": 0.0,
        "users_without_relevant": 5.0,
    }


def test_without_lists_the_coverage_is_zero() -> None:
    assert measure({}, {}) == {"coverage_at_10": 0.0, "users_with_relevant": 0.0, "users_without_relevant": 5.0}


def random_lists(n_users: int = 1500, n_movies: int = 200) -> tuple[Shown, Relevant, Catalogue]:
    """Lists of 0 to 60 movies; every fifth movie has no genre."""
    rng = np.random.default_rng(0)
    shown = {user: rng.permutation(n_movies)[: rng.integers(61)].tolist() for user in range(n_users)}
    relevant = {user: set(rng.permutation(n_movies)[: rng.integers(30)].tolist()) for user in range(n_users)}
    genres = {movie: rng.permutation(list("abcdefg"))[: rng.integers(1, 5)].tolist() for movie in range(n_movies)}
    known = {movie: names for movie, names in genres.items() if movie % 5}
    raters = {movie: int(rng.integers(n_users)) for movie in range(n_movies)}
    return shown, relevant, catalogue_of(raters, known, n_users)


def test_metrics_do_not_depend_on_the_order_of_rows() -> None:
    """All bits are equal, so that a repeated run gives the same metrics.json."""
    shown, relevant, catalogue = random_lists()
    lists, right = lists_frame(shown), relevant_frame(relevant)

    def shuffled(frame: pl.DataFrame, seed: int) -> pl.DataFrame:
        return frame.sample(fraction=1, shuffle=True, seed=seed)

    figures = set()
    for seed in range(8):
        users = user_metrics(shuffled(lists, seed), shuffled(right, seed + 1))
        mixed = Catalogue(shuffled(catalogue.movies, seed), shuffled(catalogue.genres, seed), catalogue.n_users)
        figures.add(tuple(list_metrics(users, shuffled(lists, seed + 2), mixed).items()))
    assert len(figures) == 1


def test_metrics_of_every_user_equal_those_of_trec_eval() -> None:
    """trec_eval is the reference implementation of information retrieval metrics."""
    shown, relevant, _ = random_lists()
    truth = {str(user): {str(movie): 1 for movie in movies} for user, movies in relevant.items() if movies}
    run = {str(user): {str(m): float(-place) for place, m in enumerate(shown[user][:50])} for user in shown}
    asked = {"ndcg_cut.10", "recall.10,50", "recip_rank", "success.10"}
    theirs = pytrec_eval.RelevanceEvaluator(truth, asked).evaluate(run)
    names = {
        "ndcg_at_10": "ndcg_cut_10",
        "recall_at_10": "recall_10",
        "recall_at_50": "recall_50",
        "mrr_at_50": "recip_rank",
        "hit_rate_at_10": "success_10",
    }
    ours = user_metrics(lists_frame(shown), relevant_frame(relevant))
    assert set(ours.columns) == {"user_id", *names}
    assert ours["user_id"].to_list() == sorted(map(int, truth))
    for name, called in names.items():
        expected = [theirs[str(user)][called] if shown[user] else 0.0 for user in ours["user_id"]]
        assert ours[name].to_list() == pytest.approx(expected, abs=1e-9)


def test_catalogue_metrics_by_hand() -> None:
    shown = {1: [1, 2, 3], 2: [1], 3: [2, 4]}
    genres = {1: ["Comedy"], 2: ["Comedy", "Drama"], 3: ["War"], 5: ["Drama"]}  # 4 has no known genre
    metrics = catalogue_metrics(lists_frame(shown), catalogue_of({1: 8, 2: 4, 3: 1, 4: 0, 5: 2}, genres, 8))
    novelty = [(0 + 1 + 3) / 3, 0, (1 + 3) / 2]  # bits of movies 1 to 4: 0, 1, 3, and 3 as if one user had rated it
    assert metrics == {
        "coverage_at_10": pytest.approx(4 / 5),
        "gini_at_10": pytest.approx((-4 * 0 - 2 * 1 + 0 * 1 + 2 * 2 + 4 * 2) / (5 * 6)),  # shown 0, 1, 1, 2, 2 times
        "novelty_at_10": pytest.approx(sum(novelty) / 3),
        "diversity_at_10": pytest.approx(
            (1 / 2 + 1 + 1) / 3
        ),  # the lists of users 2 and 3 have no pair with known genres
    }


def test_catalogue_metrics_use_the_first_ten_ranks() -> None:
    ten, eleven = {1: list(range(10))}, {1: list(range(11))}
    catalogue = catalogue_of({movie: movie + 1 for movie in range(20)}, {9: ["War"], 10: ["Drama"], 0: ["War"]}, 20)
    assert catalogue_metrics(lists_frame(ten), catalogue) == catalogue_metrics(lists_frame(eleven), catalogue)


def test_a_movie_outside_the_catalogue_is_an_assertion_error() -> None:
    with pytest.raises(AssertionError, match="not in the catalogue"):
        catalogue_metrics(lists_frame({1: [7]}), catalogue_of({1: 1}, {}, 1))


@given(st.lists(st.integers(0, 50), min_size=1, max_size=30).filter(any))
def test_gini_equals_half_the_relative_mean_difference(counts: list[int]) -> None:
    differences = sum(abs(one - other) for one in counts for other in counts) / len(counts) ** 2
    assert gini(np.array(counts)) == pytest.approx(differences / (2 * sum(counts) / len(counts)), abs=1e-12)


def test_gini_of_equal_and_of_concentrated_counts() -> None:
    assert gini(np.full(7, 3)) == 0
    assert gini(np.array([0, 0, 0, 12])) == 3 / 4


def test_novelty_and_diversity_equal_those_of_slow_implementations(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recsys.metrics.lists.USERS_PER_BLOCK", 64)
    shown, _, catalogue = random_lists(n_users=300)
    metrics = catalogue_metrics(lists_frame(shown), catalogue)
    table = catalogue.genres.to_dummies("genre").group_by("movie_id").sum()
    flags = {movie: np.array(row, dtype=bool) for movie, *row in table.rows()}
    distances = [
        pdist(np.array(rows), "jaccard").mean()
        for movies in shown.values()
        if len(rows := [flags[movie] for movie in movies[:10] if movie in flags]) > 1
    ]
    assert 200 < len(distances) < 300
    assert metrics["diversity_at_10"] == pytest.approx(np.mean(distances), abs=1e-12)
    bits = {movie: -math.log2(max(raters, 1) / 300) for movie, raters in catalogue.movies.rows()}
    novelty = [np.mean([bits[movie] for movie in movies[:10]]) for movies in shown.values() if movies]
    assert metrics["novelty_at_10"] == pytest.approx(np.mean(novelty), abs=1e-12)


def slow_metrics(shown: Shown, relevant: Relevant) -> dict[str, float]:
    """The definitions in plain Python, user by user."""
    users = [user for user, movies in relevant.items() if movies]
    ndcg = recall = 0.0
    for user in users:
        found = [movie in relevant[user] for movie in shown.get(user, [])]
        ideal = sorted((True for _ in relevant[user]), reverse=True)
        ndcg += dcg(found[:10]) / dcg(ideal[:10])
        recall += sum(found[:10]) / len(relevant[user])
    return {"ndcg_at_10": ndcg / len(users), "recall_at_10": recall / len(users)}


def dcg(found: Iterable[bool]) -> float:
    return sum(hit / math.log2(place + 2) for place, hit in enumerate(found))


MOVIES = st.integers(1, 30)
SHOWN = st.dictionaries(st.integers(1, 6), st.lists(MOVIES, max_size=15, unique=True), min_size=1)
RELEVANT = st.dictionaries(st.integers(1, 6), st.sets(MOVIES, max_size=14), min_size=1)


@given(shown=SHOWN, relevant=RELEVANT.filter(lambda relevant: any(relevant.values())))
def test_metrics_equal_those_of_a_slow_implementation(shown: Shown, relevant: Relevant) -> None:
    metrics = measure(shown, relevant)
    for name, value in slow_metrics(shown, relevant).items():
        assert metrics[name] == pytest.approx(value)
        assert 0 <= metrics[name] <= 1 + 1e-12
