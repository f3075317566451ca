import pytest
import torch

from recsys.rank import popular
from recsys.rank.films import Films, no_twins
from recsys.rank.popular import rank_popular
from recsys.retrieve.histories import gather_histories
from tests.support.planted import SIZES, interactions, ratings
from tests.support.rankers import histories_of, places_of, random_histories

# user 3 has rated all but two of 6 movies, user 4 has rated none; movies 5 and 6 have no ratings
RATED = {1: [1, 2], 2: [1, 3], 3: [1, 2, 3, 4], 4: []}


def test_popular_movies_by_hand() -> None:
    """Movie 1 has three ratings, 2 and 3 have two, 4 has one, 5 and 6 have none. The lower index wins a tie."""
    histories = histories_of(RATED, 5, 7)
    assert places_of(rank_popular(histories, no_twins(histories.n_items), 10)) == {
        1: [(1, 3), (2, 4)],
        2: [(1, 2), (2, 4)],
    }
    assert places_of(rank_popular(histories, no_twins(histories.n_items), 1)) == {1: [(1, 3)], 2: [(1, 2)]}
    alone = histories_of({1: [1], 2: [3, 2, 4], 3: [4]}, 5, 7)
    assert places_of(rank_popular(alone, no_twins(alone.n_items), 3))[1] == [(1, 4), (2, 2), (3, 3)]


def test_a_film_is_listed_once_by_its_most_rated_entry() -> None:
    """Movies 2, 4 and 5 are one film, with two, three and no ratings. User 1 has rated 2, user 5 has not."""
    histories = histories_of({1: [1, 2], 2: [1, 4, 3], 3: [1, 2, 4], 4: [1, 4], 5: [3]}, 7, 7)
    films = Films(torch.tensor([0, 1, 2, 3, 2, 2, 6]))
    lists = places_of(rank_popular(histories, films, 10))
    assert lists == {1: [(1, 3)], 3: [(1, 3)], 4: [(1, 3)], 5: [(1, 1), (2, 4)]}


@pytest.mark.parametrize("n", [1, 6, 100])
@pytest.mark.parametrize("share", [0.05, 0.5, 0.95])
def test_popular_movies_equal_those_of_a_slow_implementation(n: int, share: float) -> None:
    for histories in (gather_histories(interactions(ratings(800, seed=3)), SIZES), random_histories(40, 30, share)):
        counts, lists = histories.counts().tolist(), {}
        for user in range(1, len(histories)):
            seen = set(histories.of(user).tolist())
            unseen = [item for item in range(histories.n_items) if counts[item] and item not in seen]
            order = sorted(unseen, key=lambda item: (-counts[item], item))[:n]
            lists[user] = list(enumerate(order, start=1)) if seen else []
        assert places_of(rank_popular(histories, no_twins(histories.n_items), n)) == {
            user: places for user, places in lists.items() if places
        }


@pytest.mark.parametrize("size", [1, 7, 59, 60])
def test_blocks_of_any_size_give_the_same_lists(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    histories = gather_histories(interactions(ratings(800, seed=3)), SIZES)
    (whole,) = rank_popular(histories, no_twins(histories.n_items), 5)
    monkeypatch.setattr(popular, "USERS_PER_BLOCK", size)
    columns = [torch.cat(parts) for parts in zip(*rank_popular(histories, no_twins(histories.n_items), 5), strict=True)]
    assert all(torch.equal(*pair) for pair in zip(columns, whole, strict=True))
