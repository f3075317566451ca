"""Lists treat all entries of a film as one movie."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from recsys.ask.explain import own_rating
from recsys.ask.fold_in import SavedRanker, fold_in
from recsys.encode.vocabulary import Vocabulary
from recsys.rank.films import Films, films_of, no_twins
from recsys.rank.fit import fit_ranker
from recsys.rank.lists import list_for_segment
from recsys.rank.place import rank_alone, rank_movies, rank_users
from recsys.rank.ranker import Ranker, make_new_user
from recsys.rank.ruled import count_available
from recsys.rank.saved_ranker import load_ranker, save_ranker
from recsys.rank.similar import find_similar
from recsys.settings import AlsConfig, EaseConfig, RankConfig
from tests.support.planted import FEATURES, SIZES, fit
from tests.support.rankers import (
    LEARNER,
    VOCABULARY,
    hand_made,
    histories_of,
    items_of,
    places_of,
    tastes,
    weights_of,
)

# Movies 2 and 5 are one film, and so are 3, 4 and 6. Movie 7 has no ratings.
FILMS = Films(torch.tensor([0, 1, 2, 3, 3, 2, 3, 7]))
RATED = {1: [1], 2: [2, 3, 4, 5, 6], 3: [5], 4: [2, 6]}
HISTORIES = histories_of(RATED, 5, 8)
CONFIG = RankConfig(ease=EaseConfig(l2=20.0), als=AlsConfig(embedding_dim=4))


def ranker_of_twins(shares: dict[tuple[int, int], float]) -> Ranker:
    return replace(hand_made(shares, HISTORIES), films=FILMS)


def test_films_of_a_vocabulary() -> None:
    ids = np.array([10, 20, 30, 40], dtype=np.int32)
    vocabulary = Vocabulary(ids[:1], ids, film_of={40: 20, 99: 10})
    assert films_of(vocabulary).film_I.tolist() == [0, 1, 2, 3, 2]
    assert films_of(Vocabulary(ids[:1], ids, film_of={30: 7, 40: 7})).film_I.tolist() == [0, 1, 2, 3, 3]
    assert films_of(Vocabulary(ids[:1], ids)).film_I.tolist() == no_twins(5).film_I.tolist()


def test_pairs_are_spread_over_the_entries_of_a_film() -> None:
    row, item = FILMS.spread(torch.tensor([0, 0, 1]), torch.tensor([1, 5, 3]))
    assert set(zip(row.tolist(), item.tolist(), strict=True)) == {(0, 1), (0, 2), (0, 5), (1, 3), (1, 4), (1, 6)}


def test_the_best_entry_of_a_film_is_kept() -> None:
    """Equal scores: the first column. A score of -inf is no entry. Rows are independent."""
    item_BC = torch.tensor([[1, 2, 3, 4, 5, 6], [2, 5, 6, -1, -1, -1]])
    score_BC = torch.tensor([[9.0, 1.0, 2.0, 2.0, 3.0, 1.0], [4.0, -torch.inf, 5.0, 7.0, 7.0, 7.0]])
    FILMS.keep_best_(score_BC, item_BC)
    none = -torch.inf
    assert score_BC.tolist() == [[9.0, none, 2.0, none, 3.0, none], [4.0, none, 5.0, 7.0, 7.0, 7.0]]


def test_a_list_shows_the_entry_with_the_highest_score() -> None:
    best = {(1, 2): 0.2, (1, 5): 0.9, (1, 3): 0.3, (1, 4): 0.4, (1, 6): 0.1}
    tied = {(1, 2): 0.2, (1, 5): 0.2, (1, 3): 0.3, (1, 4): 0.3, (1, 6): 0.3}
    for shares, items in ((best, [5, 4]), (tied, [3, 2])):
        ranker = ranker_of_twins(shares)
        assert items_of(rank_movies(ranker, 3))[1] == items
        assert [item for _, item in places_of(rank_alone(ranker, "ease", 3))[1]] == items
        assert [item for _, item in places_of(rank_alone(ranker, "ease", 1))[1]] == items[:1]


def test_a_list_is_full_although_the_first_candidates_are_one_film() -> None:
    shares = {(1, 3): 0.9, (1, 4): 0.8, (1, 6): 0.7, (1, 2): 0.1, (1, 5): 0.2}
    few = replace(ranker_of_twins(shares), config=RankConfig(candidates=1))
    assert items_of(rank_movies(few, 2))[1] == [3, 5]


def test_a_film_is_seen_under_any_id() -> None:
    lists = items_of(rank_movies(ranker_of_twins({(5, 3): 0.5, (5, 4): 0.7}), 3))
    assert lists == {1: [2, 3], 2: [1], 3: [4, 1], 4: [1]}


def test_default_lists_and_strangers() -> None:
    ranker = ranker_of_twins({(5, 3): 0.5, (5, 4): 0.7})
    vocabulary = Vocabulary(*(np.arange(1, size, dtype=np.int32) for size in (5, 8)))
    assert list_for_segment(ranker, (), 9, vocabulary)["movie_id"].to_list() == [1, 2, 3]
    assert rank_users(ranker, make_new_user(ranker, ratings={5: 4.0}), 9).item_idx.tolist() == [4, 1]


def test_films_are_counted_once() -> None:
    """Users 1 to 4 have not seen two, one, two and one of the films 1, 2 and 3."""
    ranker = ranker_of_twins({})
    assert count_available(ranker, torch.tensor([1, 2, 3, 4])).tolist() == [2, 1, 2, 1]


@pytest.fixture(scope="module")
def fitted() -> Ranker:
    """A ranker of the planted ratings, in which the movies 2 k and 2 k + 1 are one film."""
    film_of = {movie: movie - 1 for movie in range(3, 40, 2)}
    learner = replace(LEARNER, vocabulary=replace(VOCABULARY, film_of=film_of))
    network, _ = fit("ordinal", train=tastes()[0])
    return fit_ranker(network, tastes()[0], learner, CONFIG, weights_of(CONFIG))


def test_similar_movies_are_other_films_once(fitted: Ranker) -> None:
    """Without films, every list has the twin of the movie and most twins of the similar ones."""
    film_I = fitted.films.film_I
    n_films = len(film_I[fitted.counts > 0].unique())
    alone = replace(fitted, films=no_twins(SIZES.n_items))
    rows = {}
    for name, ranker in (("films", fitted), ("entries", alone)):
        (block,) = find_similar(ranker, FEATURES, 100)
        rows[name] = list(zip(*(column.tolist() for column in vars(block).values()), strict=True))
    by_movie: dict[int, list[tuple[int, float]]] = {}
    for item, _, similar, similarity in rows["films"]:
        by_movie.setdefault(item, []).append((similar, similarity))
    best = {(item, similar): similarity for item, _, similar, similarity in rows["entries"]}
    for item, places in by_movie.items():
        films = [int(film_I[similar]) for similar, _ in places]
        assert len(films) == len(set(films)) == n_films - 1
        assert int(film_I[item]) not in films
        for similar, similarity in places:
            twins = [one for one in range(SIZES.n_items) if film_I[one] == film_I[similar] and (item, one) in best]
            assert similar == min(twins, key=lambda one: (-best[item, one], one))
            assert similarity == best[item, similar]


def test_lists_of_a_saved_ranker_and_of_fold_in_are_the_same(fitted: Ranker, tmp_path: Path) -> None:
    save_ranker(fitted, tmp_path)
    loaded, saved = load_ranker(tmp_path, fitted.network), SavedRanker(tmp_path)
    for ratings in ({}, {4: 5.0}, {5: 4.0, 4: 5.0, 20: 2.0}, {item: 1.0 + item % 5 for item in range(1, 31, 3)}):
        for n in (5, 60):
            block, again = (rank_users(one, make_new_user(one, ratings=ratings), n) for one in (fitted, loaded))
            folded = fold_in(saved, ratings, (), n)
            assert block.item_idx.tolist() == again.item_idx.tolist() == folded.item_idx.tolist()
            assert [[item for item in row if item] for row in block.because.tolist()] == folded.because
            films = fitted.films.film_I[block.item_idx].tolist()
            assert len(films) == len(set(films))
            assert not {*films} & {*fitted.films.film_I[[*ratings]].tolist()}


def test_an_explanation_has_the_users_rating_of_the_film() -> None:
    """User 2 has rated 3 and 4 of one film. User 4 has rated 6, another entry of the film of 3, and not movie 1."""
    stars = HISTORIES.stars.clone()
    stars[HISTORIES.offsets[2] : HISTORIES.offsets[3]] = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0])
    ranker = replace(ranker_of_twins({}), histories=replace(HISTORIES, stars=stars))
    for user, item, rating in ((2, 4, 3.0), (2, 3, 2.0), (4, 3, 5.0), (4, 1, None)):
        assert own_rating(ranker, ranker.users(torch.tensor([user])), torch.tensor([item])) == rating
