import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.encode.vocabulary import Vocabulary
from recsys.errors import UsageError
from recsys.rank.eligibility import Eligibility, compile_rules
from recsys.rank.read_rules import Rule, Rules
from recsys.rank.selection import select_places
from tests.support.catalogues import CATALOGUE, Catalogue, write_catalogue

NO_HORROR_FOR_CHILDREN = "select user_id, 'Horror' as genre from users where age < 18"
MOVIES = [10, 20, 30, 40, 50, 60]
USERS = torch.tensor([1, 2, 3])


@pytest.fixture
def catalogue(tmp_path: Path) -> Catalogue:
    return write_catalogue(tmp_path)


def allowed(eligibility: Eligibility, catalogue: Catalogue, users: torch.Tensor = USERS) -> list[list[int]]:
    """Return the allowed movie ids of each user."""
    score_BI = torch.ones(len(users), catalogue.vocabulary.n_movies, dtype=torch.float64)
    eligibility.mask_(score_BI, users)
    assert {*score_BI.unique().tolist()} <= {1.0, -math.inf}
    assert (score_BI[:, 0] == -math.inf).all()
    return [[movie for movie, score in zip(MOVIES, row[1:], strict=True) if score == 1.0] for row in score_BI.tolist()]


def test_without_rules_everything_rated_is_allowed(catalogue: Catalogue) -> None:
    eligibility = catalogue.compile()
    assert allowed(eligibility, catalogue) == [MOVIES] * 3
    assert eligibility.closed_I.tolist() == [True, *[False] * 6]
    assert eligibility.count_closed() == {"min_ratings": 0}


def test_minimum_support(catalogue: Catalogue) -> None:
    """Movie 20 has three ratings, 30 has two, the others have one."""
    eligibility = catalogue.compile(min_ratings=2)
    assert allowed(eligibility, catalogue) == [[20, 30]] * 3
    assert eligibility.count_closed() == {"min_ratings": 4}


@pytest.mark.parametrize(("min_ratings", "closed"), [(0, 0), (1, 1)])
def test_min_ratings_decides_about_movies_without_ratings(catalogue: Catalogue, min_ratings: int, closed: int) -> None:
    """The vocabulary includes movie 70, which has no ratings."""
    vocabulary = Vocabulary(catalogue.vocabulary.user_ids, np.array([*MOVIES, 70], dtype=np.int32))
    counts_I = torch.cat([catalogue.counts(), torch.tensor([0])])
    eligibility = compile_rules(catalogue.read(min_ratings=min_ratings), vocabulary, None, counts_I)
    assert eligibility.count_closed() == {"min_ratings": closed}
    assert eligibility.closed_I[[0, -1]].tolist() == [True, closed == 1]


def test_each_form_of_blocked(catalogue: Catalogue) -> None:
    eligibility = catalogue.compile(
        blocked=[
            "select 60 as movie_id",
            "select 'Action' as genre",
            "select user_id, movie_id from (values (1, 40), (3, 10), (3, 50)) as t (user_id, movie_id)",
            NO_HORROR_FOR_CHILDREN,
        ]
    )
    assert allowed(eligibility, catalogue) == [[], [10, 40, 50], [40]]
    assert eligibility.count_closed() == {"min_ratings": 0, "blocked[0]": 1, "blocked[1]": 2}
    assert eligibility.closed_I.tolist() == [True, False, True, True, False, False, True]


def test_a_block_can_have_users_in_any_order(catalogue: Catalogue) -> None:
    eligibility = catalogue.compile(
        blocked=[NO_HORROR_FOR_CHILDREN, "select 2 as user_id, unnest([20, 40]) as movie_id"]
    )
    expected = {1: [20, 30, 40, 60], 2: [10, 30, 50, 60], 3: [20, 30, 40, 60]}
    for users in ([3, 1, 2], [2], [], [1, 1], [0]):
        lists = allowed(eligibility, catalogue, torch.tensor(users, dtype=torch.int64))
        assert lists == [expected.get(user, MOVIES) for user in users]


def test_a_movie_must_be_in_every_eligible_table(catalogue: Catalogue) -> None:
    eligibility = catalogue.compile(
        eligible=[
            "select movie_id from movies where list_contains(genres, 'Sci-Fi')",
            "select movie_id from movies where movie_id >= 20",
        ]
    )
    assert allowed(eligibility, catalogue) == [[20]] * 3
    assert eligibility.count_closed() == {"min_ratings": 0, "eligible[0]": 4, "eligible[1]": 1}


def test_rules_for_ids_without_an_index_are_ignored(catalogue: Catalogue) -> None:
    """Movie 70 and user 4 are in the source but have no ratings."""
    eligibility = catalogue.compile(
        blocked=[
            "select 70 as movie_id",
            "select 4 as user_id, 10 as movie_id",
            "select 4 as user_id, 'Drama' as genre",
        ],
        caps=["select 70 as movie_id, 'a' as group_name, 1 as at_most"],
    )
    assert allowed(eligibility, catalogue, torch.tensor([0, 1, 2, 3])) == [MOVIES] * 4
    assert eligibility.count_closed() == {"min_ratings": 0, "blocked[0]": 0}
    assert len(eligibility.caps.groups) == 0


def test_a_genre_that_only_unrated_movies_have_is_ignored(catalogue: Catalogue) -> None:
    """The features of the vocabulary do not contain such a genre."""
    genreless = compile_rules(
        catalogue.read(blocked=["select 'Drama' as genre", NO_HORROR_FOR_CHILDREN]),
        *(catalogue.vocabulary, None, catalogue.counts()),
    )
    assert allowed(genreless, catalogue) == [MOVIES] * 3


def test_rules_that_close_all_movies_are_refused(catalogue: Catalogue) -> None:
    message = (
        r"none of 6 movies to recommend: rules.min_ratings excludes 4, rules.blocked\[0\] excludes 2\. Next: loosen"
    )
    with pytest.raises(UsageError, match=message):
        catalogue.compile(min_ratings=2, blocked=["select 'Action' as genre"])


def test_removed_places_are_counted_by_rule(catalogue: Catalogue) -> None:
    """The lists without rules have two movies; -1 means that there is no second one."""
    eligibility = catalogue.compile(
        min_ratings=2,
        blocked=["select 'Horror' as genre", NO_HORROR_FOR_CHILDREN, "select 3 as user_id, 40 as movie_id"],
        eligible=["select movie_id from movies where movie_id <= 40"],
        caps=["select movie_id, unnest(genres) as group_name, 1 as at_most from movies"],
    )
    alien, heat, ran, psycho = catalogue.items(10, 30, 40, 50)
    naive_BN = torch.tensor([[alien, psycho], [ran, heat], [ran, -1]])
    assert eligibility.count_removed(USERS, naive_BN) == {
        "min_ratings": 4,  # all but Heat
        "blocked[0]": 2,  # Alien and Psycho
        "blocked[1]": 2,  # the same two for user 1, who is 12
        "blocked[2]": 1,  # Ran for user 3
        "eligible[0]": 1,  # Psycho
        "caps[0]": 2,  # Psycho after Alien, Heat after Ran
    }
    assert set(eligibility.count_removed(USERS[:0], naive_BN[:0]).values()) == {0}


def test_results_are_equal_on_another_device(catalogue: Catalogue) -> None:
    """The other device is the CPU too, because every machine has one."""
    eligibility = catalogue.compile(
        blocked=["select 'Action' as genre", NO_HORROR_FOR_CHILDREN, "select 3 as user_id, 40 as movie_id"],
        caps=["select movie_id, unnest(genres) as group_name, 1 as at_most from movies"],
    )
    moved = eligibility.to(torch.device("cpu"))
    naive_BN = torch.tensor([[1, 2], [3, 4], [5, 4]])
    assert allowed(moved, catalogue) == allowed(eligibility, catalogue) == [[40, 60], [10, 40, 50, 60], [60]]
    assert moved.count_removed(USERS, naive_BN) == eligibility.count_removed(USERS, naive_BN)
    assert moved.count_closed() == eligibility.count_closed()


def test_caps_of_two_rules_apply_together(catalogue: Catalogue) -> None:
    """Both rules have a group `a`, with limits 1 and 2."""
    eligibility = catalogue.compile(
        caps=[
            "select movie_id, 'a' as group_name, 1 as at_most from movies where movie_id <= 20",
            "select movie_id, 'a' as group_name, 2 as at_most from movies where movie_id >= 20",
        ]
    )
    item_BC = torch.arange(1, 7).unsqueeze(0)
    places = select_places(-item_BC.double(), item_BC, 6, caps=eligibility.caps)
    assert [MOVIES[column] for column in places[0].tolist() if column >= 0] == [10, 30, 40]
    naive = {name: caps.at_most_G.tolist() for name, caps in eligibility.caps_by_rule.items()}
    assert naive == {"caps[0]": [1], "caps[1]": [2]}


def test_lists_stay_full_if_the_best_movies_are_forbidden(catalogue: Catalogue) -> None:
    """The four best movies of user 1 are forbidden and masked, so the next two are selected."""
    eligibility = catalogue.compile(
        blocked=["select 1 as user_id, unnest([10, 20, 30]) as movie_id", NO_HORROR_FOR_CHILDREN]
    )
    score_BI = torch.tensor([[0.0, 9.0, 8.0, 7.0, 1.0, 6.0, 2.0]], dtype=torch.float64)
    item_BC = torch.arange(7).unsqueeze(0)
    naive_BN = item_BC.gather(1, select_places(score_BI, item_BC, 4))
    assert eligibility.count_removed(USERS[:1], naive_BN) == {"min_ratings": 0, "blocked[0]": 3, "blocked[1]": 2}
    eligibility.mask_(score_BI, USERS[:1])
    assert select_places(score_BI, item_BC, 2).tolist() == [catalogue.items(60, 40)]


@given(
    pairs=st.sets(st.tuples(st.sampled_from([1, 2, 3, 4]), st.sampled_from([*CATALOGUE]))),
    genres=st.sets(st.tuples(st.sampled_from([1, 2, 3, 4]), st.sampled_from(["Action", "Drama", "Horror", "Sci-Fi"]))),
    blocked=st.sets(st.sampled_from([*CATALOGUE]), max_size=3),
    naive=st.lists(st.permutations(range(1, 7)), min_size=3, max_size=3),
)
@settings(max_examples=40, deadline=None)
def test_masks_and_counts_equal_those_of_a_slow_implementation(
    tmp_path_factory: pytest.TempPathFactory,
    pairs: set[tuple[int, int]],
    genres: set[tuple[int, str]],
    blocked: set[int],
    naive: list[list[int]],
) -> None:
    catalogue = write_catalogue(tmp_path_factory.getbasetemp())
    ids, texts = pl.Int32, pl.String
    tables = (
        pl.DataFrame(sorted(pairs), schema={"user_id": ids, "movie_id": ids}, orient="row"),
        pl.DataFrame(sorted(genres), schema={"user_id": ids, "genre": texts}, orient="row"),
        pl.DataFrame([(movie,) for movie in sorted(blocked)], schema={"movie_id": ids}, orient="row"),
    )
    rules = Rules(1, blocked=tuple(Rule(f"blocked[{place}]", table) for place, table in enumerate(tables)))
    eligibility = catalogue.compile_read(rules)
    forbidden: dict[str, Callable[[int, int], bool]] = {
        "blocked[0]": lambda user, movie: (user, movie) in pairs,
        "blocked[1]": lambda user, movie: any((user, genre) in genres for genre in CATALOGUE[movie][2]),
        "blocked[2]": lambda user, movie: movie in blocked,
    }
    for user, movies in zip((1, 2, 3), allowed(eligibility, catalogue), strict=True):
        assert movies == [movie for movie in MOVIES if not any(forbids(user, movie) for forbids in forbidden.values())]
    naive_BN = torch.tensor([row[:4] for row in naive])
    assert eligibility.count_removed(USERS, naive_BN) == {
        "min_ratings": 0,
        **{
            name: sum(forbids(user, MOVIES[item - 1]) for user, row in enumerate(naive, 1) for item in row[:4])
            for name, forbids in forbidden.items()
        },
    }
