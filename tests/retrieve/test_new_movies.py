import math
from collections import Counter
from datetime import UTC, datetime

import numpy as np
import polars as pl
import pytest
import torch

from recsys.encode.features import MIN_MOVIES_PER_WORD, NO_FEATURES, Features, fit_features
from recsys.encode.vocabulary import Vocabulary
from recsys.rank.fit import fit_ranker
from recsys.rank.place import rank_movies
from recsys.rank.weights import Weights
from recsys.retrieve import new_movies as module
from recsys.retrieve.new_movies import NewMovies, find_new_movies
from recsys.settings import RankConfig
from tests.support.planted import FEATURES, SIZES
from tests.support.rankers import LEARNER, indifferent, items_of, tastes

Movie = tuple[str, int | None, list[str]]  # title, year, genres


def features_of(movies: list[Movie]) -> Features:
    """Element i of the list is the movie with item_idx and movie_id i + 1."""
    ids = np.arange(1, len(movies) + 1, dtype=np.int32)
    titles, years, genres = zip(*movies, strict=True)
    table = pl.DataFrame(
        {"movie_id": ids, "title": titles, "year": years, "genres": genres},
        schema_overrides={"year": pl.Int16, "genres": pl.List(pl.String)},
    )
    users = pl.DataFrame(
        schema={
            "user_id": pl.Int32,
            "gender": pl.String,
            "age": pl.Int16,
            "occupation": pl.String,
            "zip_code": pl.String,
        }
    )
    return fit_features(Vocabulary(np.array([1], np.int32), ids), users, table)


def counts_of(*counts: int) -> torch.Tensor:
    return torch.tensor([0, *counts])


def shares_of(new: NewMovies, item: int) -> dict[int, float]:
    """Return the neighbours with a nonzero share."""
    row = new.item_M.tolist().index(item)
    shares = zip(new.like_MK[row].tolist(), new.share_MK[row].tolist(), strict=True)
    return {like: share for like, share in shares if share > 0}


# by genres alone: no movie has a year, no title word is common
BY_GENRES: list[Movie] = [
    ("Ahab", None, ["Drama"]),
    ("Brut", None, ["Drama", "War"]),
    ("Cato", None, ["War"]),
    ("Dodo", None, ["Comedy"]),
    ("Echo", None, ["Drama", "War"]),
]


def test_similarity_by_hand() -> None:
    """Movie 5 is new. Of the six rows, including the unknown id, three have Drama and War, one has Comedy."""
    new = find_new_movies(features_of(BY_GENRES), counts_of(9, 9, 9, 9, 0))
    assert new.item_M.tolist() == [5]
    assert new.like_MK.tolist() == [[1, 2, 3, 4]]
    cosines = {1: math.sqrt(0.5), 2: 1.0, 3: math.sqrt(0.5), 4: 0.0}
    expected = [cosine / sum(cosines.values()) for cosine in cosines.values()]
    assert new.share_MK[0].tolist() == pytest.approx(expected, abs=1e-6)


def test_a_rare_genre_weighs_more_than_a_common_one() -> None:
    movies: list[Movie] = [
        *[("Ahab", None, ["Drama"])] * 8,
        ("Brut", None, ["Western"]),
        ("Cato", None, ["Drama", "Western"]),
    ]
    new = find_new_movies(features_of(movies), counts_of(*[5] * 9, 0))
    drama, western = math.log(11 / 9), math.log(11 / 2)
    of_one_drama = drama / (8 * drama + western)
    expected = {**dict.fromkeys(range(1, 9), of_one_drama), 9: western / drama * of_one_drama}
    assert shares_of(new, 10) == pytest.approx(expected)


def test_the_score_of_a_new_movie_is_the_weighted_mean_of_its_neighbours() -> None:
    new = find_new_movies(FEATURES, tastes_counts())
    assert new.item_M.tolist() == [39, 40]
    torch.testing.assert_close(new.share_MK.sum(1), torch.ones(2))
    score_BI = torch.randn(7, SIZES.n_items, generator=torch.Generator().manual_seed(0))
    before = score_BI.clone()
    placed_BI = new.place(score_BI)
    for user in range(7):
        for item in (39, 40):
            shares = shares_of(new, item)
            mean = sum(share * before[user, like].item() for like, share in shares.items())
            assert placed_BI[user, item].item() == pytest.approx(mean, abs=1e-5)
    assert torch.equal(placed_BI[:, :39], before[:, :39]), "no rated movie changes, nor the unknown"


def tastes_counts() -> torch.Tensor:
    return torch.bincount(tastes()[0].item_idx, minlength=SIZES.n_items)


@pytest.mark.parametrize("neighbours", [1, 3, 50])
def test_neighbours_equal_those_of_a_slow_implementation(neighbours: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "NEIGHBOURS", neighbours)
    monkeypatch.setattr(module, "NEW_AT_ONCE", 2)
    counts = tastes_counts()
    counts[torch.tensor([5, 6, 17])] = 0
    new = find_new_movies(FEATURES, counts)
    rated = counts.nonzero().squeeze(1).tolist()
    assert new.item_M.tolist() == [5, 6, 17, 39, 40]
    for row, item in enumerate(new.item_M.tolist()):
        likeness = {like: slow_likeness(item, like) for like in rated}
        best = sorted(sorted(rated, key=lambda like: (-round(likeness[like], 6), like))[:neighbours])
        total = sum(likeness[like] for like in best)
        assert new.like_MK[row].tolist() == best
        assert new.share_MK[row].tolist() == pytest.approx([likeness[like] / total for like in best], abs=1e-5)


def slow_likeness(first: int, second: int) -> float:
    """Mean of three cosines with IDF weights."""
    cosines = []
    for name in ("genres", "decade", "words"):
        feature = FEATURES.item[name]
        of_movie = [
            {value for value in feature.values[feature.offsets[item] : feature.offsets[item + 1]].tolist() if value}
            for item in range(SIZES.n_items)
        ]
        frequency = Counter(value for values in of_movie for value in values)
        weight = {value: math.log(SIZES.n_items / count) for value, count in frequency.items()}
        length = {item: math.sqrt(sum(weight[value] ** 2 for value in of_movie[item])) for item in (first, second)}
        product = sum(weight[value] ** 2 for value in of_movie[first] & of_movie[second])
        cosines.append(product / (length[first] * length[second]) if product else 0.0)
    return sum(cosines) / 3


def test_a_franchise_is_found_by_a_title_word() -> None:
    franchise: list[Movie] = [(f"Batman {numeral}", 1989, ["Action"]) for numeral in ("One", "Two", "Three", "Four")]
    others: list[Movie] = [(f"Picture {letter}", 1989, ["Action"]) for letter in "abcdefgh"]
    movies = [*others, *franchise, ("Batman Returns", 2005, ["Action"])]
    assert len(franchise) + 1 == MIN_MOVIES_PER_WORD
    shares = shares_of(find_new_movies(features_of(movies), counts_of(*[7] * 12, 0)), 13)
    # all movies share the genre, none the decade; with the word, two cosines of the franchise are 1, of the others one
    assert shares == pytest.approx({**dict.fromkeys(range(1, 9), 1 / 16), **dict.fromkeys(range(9, 13), 2 / 16)})


def test_ties_between_neighbours_go_to_the_lower_index(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "NEIGHBOURS", 3)
    movies: list[Movie] = [("Ahab", None, ["War"]), *[("Brut", None, ["Drama"])] * 6]
    new = find_new_movies(features_of(movies), counts_of(*[1] * 6, 0))
    assert new.like_MK.tolist() == [[2, 3, 4]]
    assert new.share_MK[0].tolist() == pytest.approx([1 / 3] * 3)


@pytest.mark.parametrize("movie", [("Unheard", None, []), ("Unheard", None, ["Musical"]), ("Unheard", 2026, [])])
def test_a_movie_without_similar_movies_is_not_placed(movie: Movie) -> None:
    """The first movie has no features. The others share none with a rated movie."""
    new = find_new_movies(features_of([*BY_GENRES, movie]), counts_of(9, 9, 9, 9, 0, 0))
    assert new.item_M.tolist() == [5]


def test_without_features_or_new_movies_nothing_is_placed() -> None:
    score_BI = torch.ones(2, 6)
    for features, counts in (
        (NO_FEATURES, counts_of(1, 1, 0, 0, 0)),
        (features_of(BY_GENRES), counts_of(*[1] * 5)),
        (features_of(BY_GENRES), counts_of(*[0] * 5)),
    ):
        new = find_new_movies(features, counts)
        assert new.item_M.tolist() == []
        assert torch.equal(new.place(score_BI), torch.ones(2, 6))


def test_new_movies_are_listed() -> None:
    """New movies score like their neighbours, which some users like best."""
    config = RankConfig(retrievers=("als",))
    weights = Weights({0: {"als": 1.0, "stars": 0.0, "likes": 0.0}})
    ranker = fit_ranker(indifferent(SIZES.n_users, SIZES.n_items), tastes()[0], LEARNER, config, weights)
    lists = items_of(rank_movies(ranker, 10))
    assert any({39, 40} & set(items) for items in lists.values())


YEARS: list[Movie] = [
    ("Ahab", 1995, ["Drama"]),
    ("Brut", 1998, ["Drama"]),
    ("Cato", 1997, ["Drama"]),
    ("Dodo", None, ["Drama"]),
    ("Echo", 1999, ["Drama"]),
]


@pytest.mark.parametrize(
    ("moment", "new"),
    [
        (datetime(1997, 1, 1, tzinfo=UTC), [3, 4]),
        (datetime(1997, 12, 31, 23, 59, 59, tzinfo=UTC), [3, 4]),
        (datetime(1998, 1, 1, tzinfo=UTC), [2, 3, 4]),
        (datetime(2026, 1, 1, tzinfo=UTC), [2, 3, 4]),
        (datetime(1970, 1, 1, tzinfo=UTC), [2, 3, 4]),  # unknown
    ],
)
def test_movies_of_later_years_do_not_exist_yet(moment: datetime, new: list[int]) -> None:
    """Movies 1 and 5 have ratings, and therefore exist."""
    features, counts = features_of(YEARS), counts_of(9, 0, 0, 0, 9)
    assert find_new_movies(features, counts, int(moment.timestamp())).item_M.tolist() == new
