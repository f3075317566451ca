"""Rules, from the settings to the published table, in this process.

The expected lists are derived from the full order of a ranker without rules.
"""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import polars as pl
import pytest
import torch

from recsys import steps
from recsys.ask.lookup import recommend
from recsys.errors import PublishError, UsageError
from recsys.home import Home
from recsys.rank.fit import fit_ranker
from recsys.rank.place import rank_movies
from recsys.rank.ranker import Ranker
from recsys.rank.read_rules import Rule, Rules
from recsys.rank.ruled import apply_rules, count_removed
from recsys.rank.score import find_candidates
from recsys.rank.weights import Weights
from recsys.runs.metrics import read_metrics
from recsys.runs.night import night
from recsys.settings import AlsConfig, EaseConfig, RankConfig, RulesConfig, Settings, WarmStartConfig
from recsys.train.saved_model import SavedModel, load_model
from tests.support.nights import QUIET, SILENT, Night, prepare, settings_of, write_source
from tests.support.planted import SIZES, fit
from tests.support.rankers import LEARNER, items_of, lists_of, tastes, weights_of

N = 10
POPULAR = "select movie_id from ratings group by movie_id order by count(*) desc, movie_id limit 40"
RULES = {
    "min_ratings": 20,
    "blocked": (POPULAR, "select user_id, 'Thriller' as genre from users where age < 25"),
    "caps": ("select movie_id, unnest(genres) as group_name, 2 as at_most from movies",),
}
NAMES = ("min_ratings", "blocked[0]", "blocked[1]", "caps[0]")
Lists = dict[int, list[int]]  # user_id: movie_ids, best first


@dataclass(frozen=True)
class Published:
    home: Home
    settings: Settings
    night: Night
    orders: Lists  # every unseen movie of every user, as a ranker without rules orders them


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Published:
    folder = tmp_path_factory.mktemp("ruled")
    home = Home(folder / "home")
    settings = settings_of(home, write_source(folder / "source", 150, 150, 5000), rules=RULES, n=N)
    with night(settings) as run:
        tonight = prepare(settings, run)
        weights, model = tonight.weigh(settings), tonight.train(WarmStartConfig())
        steps.publish_lists(tonight.score(model, weights, settings), tonight.checked, run, settings)
    learner = tonight.learner
    network = load_model(model, learner.vocabulary, learner.levels)
    train = learner.encode(pl.read_parquet(tonight.checked.ratings))
    without_rules = fit_ranker(network, train, learner, settings.rank, weights)
    user_ids, movie_ids = learner.vocabulary.user_ids, learner.vocabulary.movie_ids
    orders = {
        int(user_ids[user - 1]): [int(movie_ids[item - 1]) for item in items]
        for user, items in items_of(rank_movies(without_rules, learner.vocabulary.n_movies)).items()
    }
    return Published(home, settings, tonight, orders)


@dataclass(frozen=True)
class RuleFacts:
    """The data that the rules refer to, by id."""

    counts: Counter[int]
    popular: set[int]
    genres: dict[int, list[str]]
    ages: dict[int, int]

    def is_closed(self, movie: int) -> bool:
        return self.counts[movie] < 20 or movie in self.popular

    def is_barred(self, user: int, movie: int) -> bool:
        return self.ages[user] < 25 and "Thriller" in self.genres[movie]

    def cap(self, movies: Iterable[int]) -> list[int]:
        """Drop movies whose genre already has two movies in the list."""
        kept: list[int] = []
        room = Counter(dict.fromkeys({genre for genres in self.genres.values() for genre in genres}, 2))
        for movie in movies:
            if all(room[genre] for genre in self.genres[movie]):
                kept.append(movie)
                room.subtract(self.genres[movie])
        return kept


@pytest.fixture(scope="module")
def known(published: Published) -> RuleFacts:
    checked = published.night.checked
    counts = Counter(pl.read_parquet(checked.ratings)["movie_id"].to_list())
    movies, users = pl.read_parquet(checked.movies), pl.read_parquet(checked.users)
    return RuleFacts(
        counts,
        popular=set(sorted(counts, key=lambda movie: (-counts[movie], movie))[:40]),
        genres=dict(movies.select("movie_id", "genres").iter_rows()),
        ages=dict(users.select("user_id", "age").iter_rows()),
    )


def read_lists(published: Published) -> Lists:
    rows = pl.read_parquet(published.night.run.recommendations).sort("user_id", "rank")
    lists: Lists = {}
    for user, movie in rows.select("user_id", "movie_id").iter_rows():
        lists.setdefault(user, []).append(movie)
    return lists


def tonights_metrics(published: Published, metric: str) -> dict[str, float]:
    rows = read_metrics(published.night.run)
    return {row.slice: row.value for row in rows if row.split == "tonight" and row.metric == metric}


def test_the_rules_forbid_most_places_of_lists_made_without_them(published: Published, known: RuleFacts) -> None:
    left = [[movie for movie in order[:N] if not known.is_closed(movie)] for order in published.orders.values()]
    assert sum(map(len, left)) < 0.3 * N * len(left)


def test_every_list_is_the_best_that_rules_allow(published: Published, known: RuleFacts) -> None:
    lists = read_lists(published)
    for user, order in published.orders.items():
        allowed = [movie for movie in order if not (known.is_closed(movie) or known.is_barred(user, movie))]
        assert lists.get(user, []) == known.cap(allowed)[:N]


def test_every_list_is_full_or_recorded_as_short(published: Published) -> None:
    lists = read_lists(published)
    users = pl.read_parquet(published.night.checked.users)["user_id"].to_list()
    short = {user: len(lists.get(user, [])) for user in users if len(lists.get(user, [])) != N}
    assert 0 < len(short) < len(users), "both cases occur"
    assert dict(pl.read_parquet(published.night.run.known / "shortened.parquet").iter_rows()) == short
    assert sorted(users) == sorted(published.orders)


def test_the_audit_inputs_have_the_available_movies(published: Published, known: RuleFacts) -> None:
    available = set(pl.read_parquet(published.night.run.known / "available.parquet")["movie_id"].to_list())
    assert available == {movie for movie in known.counts if not known.is_closed(movie)}


def test_lists_have_no_rated_movies(published: Published) -> None:
    rated = pl.read_parquet(published.night.checked.ratings)
    lists = pl.read_parquet(published.night.run.recommendations)
    assert lists.join(rated, on=["user_id", "movie_id"], how="semi").is_empty()


def test_users_with_few_or_no_ratings_have_lists(published: Published) -> None:
    lists = pl.read_parquet(published.night.run.recommendations)
    for user, served_by in ((SILENT, "features"), (QUIET, "few ratings")):
        assert lists.filter(user_id=user)["served_by"].unique().to_list() == [served_by]
        assert recommend(published.home, user)["served_by"].unique().to_list() == [served_by]
    assert "history" in lists["served_by"]


def test_default_lists_obey_the_rules_for_all_users(published: Published, known: RuleFacts) -> None:
    rows = pl.read_parquet(published.night.run.default_recommendations)
    assert {"all", "gender=F", "gender=M age=25"} <= set(rows["segment"])
    for _, of_segment in rows.group_by("segment"):
        movies = of_segment.sort("rank")["movie_id"].to_list()
        assert not [movie for movie in movies if known.is_closed(movie)]
        assert known.cap(movies) == movies


def test_closed_movies_are_counted_by_rule(published: Published, known: RuleFacts) -> None:
    assert tonights_metrics(published, "closed_movies") == {
        "rule=min_ratings": sum(known.counts[movie] < 20 for movie in known.genres),
        "rule=blocked[0]": 40,
    }


def test_removed_places_are_counted_by_rule(published: Published, known: RuleFacts) -> None:
    removed: Counter[str] = Counter(dict.fromkeys(NAMES, 0))
    for user, order in published.orders.items():
        naive = order[:N]
        removed["min_ratings"] += sum(known.counts[movie] < 20 for movie in naive)
        removed["blocked[0]"] += sum(movie in known.popular for movie in naive)
        removed["blocked[1]"] += sum(known.is_barred(user, movie) for movie in naive)
        removed["caps[0]"] += len(naive) - len(known.cap(naive))
    assert all(removed.values())
    assert tonights_metrics(published, "removed") == {f"rule={name}": count for name, count in removed.items()}


Tamper = Callable[[pl.DataFrame, RuleFacts], pl.DataFrame]


def show_instead(rows: pl.DataFrame, user: int, rank: int, movie: int) -> pl.DataFrame:
    place = (pl.col("user_id") == user) & (pl.col("rank") == rank)
    return rows.with_columns(pl.when(place).then(pl.lit(movie, pl.Int32)).otherwise("movie_id").alias("movie_id"))


def show_a_popular_one(rows: pl.DataFrame, known: RuleFacts) -> pl.DataFrame:
    return show_instead(rows, SILENT, 1, min(known.popular))


def show_a_thriller_to_a_child(rows: pl.DataFrame, known: RuleFacts) -> pl.DataFrame:
    user = next(user for user in rows["user_id"].unique().sort() if known.ages[user] < 25)
    shown = rows.filter(user_id=user)["movie_id"].to_list()
    thrillers = (movie for movie in sorted(known.genres) if "Thriller" in known.genres[movie])
    return show_instead(rows, user, 1, next(movie for movie in thrillers if movie not in shown))


def show_three_of_a_genre(rows: pl.DataFrame, known: RuleFacts) -> pl.DataFrame:
    """Replace a user's last movie by one of a genre that has reached its cap."""
    for user in rows["user_id"].unique().sort():
        *first, _ = rows.filter(user_id=user).sort("rank")["movie_id"].to_list()
        counts = Counter(genre for movie in first for genre in known.genres[movie])
        full = {genre for genre, count in counts.items() if count == 2}
        for movie in sorted(known.genres):
            if movie not in first and full & set(known.genres[movie]):
                return show_instead(rows, user, len(first) + 1, movie)
    raise AssertionError("no list has two of a genre")


def drop_a_place(rows: pl.DataFrame, known: RuleFacts) -> pl.DataFrame:
    last = rows.filter(pl.col("rank") == N).head(1)
    return rows.join(last, on=["user_id", "rank"], how="anti", maintain_order="left")


@pytest.mark.parametrize(
    ("tamper", "rule"),
    [
        (show_a_popular_one, "audit_available"),
        (show_a_thriller_to_a_child, "audit_blocked"),
        (show_three_of_a_genre, "audit_caps"),
        (drop_a_place, "audit_length"),
    ],
)
def test_a_list_that_breaks_a_rule_is_not_published(
    published: Published, known: RuleFacts, tamper: Tamper, rule: str
) -> None:
    tonight, before = published.night, published.home.warehouse.read_bytes()
    path = tonight.run.folder / f"{tamper.__name__}.parquet"
    tamper(pl.read_parquet(tonight.run.recommendations), known).write_parquet(path)
    with pytest.raises(PublishError, match=rule):
        steps.publish_lists(path, tonight.checked, tonight.run, published.settings)
    assert published.home.warehouse.read_bytes() == before


def test_removed_places_are_counted_once_if_lists_are_scored_again(published: Published) -> None:
    """A resumed night may already have the metrics of its lists."""
    tonight, before = published.night, tonights_metrics(published, "removed")
    weights = Weights.load(tonight.run.ranker)
    tonight.score(SavedModel(tonight.run.tonight_model), weights, published.settings)
    assert tonights_metrics(published, "removed") == before
    rows = [(row.split, row.slice, row.metric) for row in read_metrics(tonight.run)]
    assert len(set(rows)) == len(rows)


CONFIG = RankConfig(ease=EaseConfig(l2=20.0), als=AlsConfig(embedding_dim=4), candidates=5)


@pytest.fixture(scope="module")
def ranker() -> Ranker:
    network, _ = fit("ordinal", train=tastes()[0])
    return fit_ranker(network, tastes()[0], LEARNER, CONFIG, weights_of(CONFIG))


def cap_of(groups: dict[int, int], at_most: int) -> Rules:
    table = pl.DataFrame(
        {"movie_id": list(groups), "group_name": [str(group) for group in groups.values()], "at_most": at_most},
        schema={"movie_id": pl.Int32, "group_name": pl.String, "at_most": pl.Int32},
    )
    return Rules(min_ratings=0, caps=(Rule("caps[0]", table),))


def test_candidates_are_widened_until_a_list_is_full(ranker: Ranker) -> None:
    """A cap allows one of eight movies that are adjacent in popularity, so 5 candidates are too few for some users."""
    groups = {item: (item - 1) // 8 for item in range(1, 41)}
    ruled = apply_rules(ranker, cap_of(groups, 1), LEARNER)
    lists = items_of(rank_movies(ruled, 5))
    whole = lists_of(rank_movies(replace(ranker, config=change(candidates=40)), 40))
    users = ranker.users(torch.arange(1, SIZES.n_users))
    by_size = {size: find_candidates(ranker, users, size).item_BC.tolist() for size in (5, 20, 80)}
    widened: Counter[int] = Counter()
    for user in range(1, SIZES.n_users):
        order = [item for item, _, _ in whole[user]]
        for size, candidates in by_size.items():
            expected = greedy([item for item in order if item in candidates[user - 1]], groups, 5)
            if len(expected) == 5 or size == 80:
                break
        widened[size] += 1
        assert lists[user] == expected
        if size == 80:
            assert lists[user] == greedy(order, groups, 5), "the best of all movies"
    assert set(widened) == {5, 20, 80}


def change(**fields: object) -> RankConfig:
    return RankConfig.model_validate({**dict(CONFIG), **fields})


def greedy(order: Iterable[int], groups: dict[int, int], n: int) -> list[int]:
    """Take one movie per group."""
    listed: list[int] = []
    for item in order:
        if groups[item] not in {groups[other] for other in listed}:
            listed.append(item)
    return listed[:n]


def test_lists_that_cannot_be_filled_have_all_allowed_movies(ranker: Ranker) -> None:
    groups = {item: item % 3 for item in range(1, 41)}
    lists = items_of(rank_movies(apply_rules(ranker, cap_of(groups, 1), LEARNER), 10))
    assert {len(items) for items in lists.values()} == {3}


def test_diverse_lists_have_fewer_similar_movies_and_stay_sorted(ranker: Ranker) -> None:
    whole = replace(ranker, config=change(candidates=40))
    plain, diverse = (
        lists_of(rank_movies(replace(whole, config=change(candidates=40, diversity=value)), 8)) for value in (0.0, 0.8)
    )
    assert all(len(places) == 8 for places in diverse.values())
    for places in diverse.values():
        scores = [score for *_, score in places]
        assert scores == sorted(scores, reverse=True)
        assert [rank for _, rank, _ in places] == list(range(1, 9))
    alike, less_alike = (
        sum(mean_cosine(ranker, [item for item, *_ in places]) for places in lists.values())
        for lists in (plain, diverse)
    )
    assert less_alike < 0.8 * alike
    for user, places in diverse.items():
        assert sum(score for *_, score in places) <= sum(score for *_, score in plain[user]) + 1e-9


def mean_cosine(ranker: Ranker, items: list[int]) -> float:
    rows = torch.nn.functional.normalize(ranker.genres_IG[torch.tensor(items)], dim=1)
    cosines = rows @ rows.T
    n = len(items)
    return ((cosines.sum() - cosines.diagonal().sum()) / (n * (n - 1))).item()


def test_a_penalty_on_popularity_shows_less_popular_movies(ranker: Ranker) -> None:
    means = []
    for penalty in (0.0, 0.5, 2.0):
        lists = items_of(rank_movies(replace(ranker, config=change(candidates=40, popularity_penalty=penalty)), 8))
        shown = [item for items in lists.values() for item in items]
        means.append(ranker.counts[torch.tensor(shown)].double().mean().item())
    assert means[0] > means[1] > means[2]


def test_the_penalty_is_on_the_logarithm_of_the_ratings(ranker: Ranker) -> None:
    """With all 40 movies as candidates, each score is the plain one minus the penalty."""
    plain, penalised = (
        lists_of(rank_movies(replace(ranker, config=change(candidates=40, popularity_penalty=value)), 40))
        for value in (0.0, 0.5)
    )
    counts = ranker.counts.clamp(min=1).double()
    for user, places in penalised.items():
        before = {item: score for item, _, score in plain[user]}
        for item, _, score in places:
            assert score == pytest.approx(before[item] - 0.5 * counts[item].log().item(), abs=1e-9)


def test_without_rules_nothing_is_removed(ranker: Ranker) -> None:
    free = apply_rules(ranker, Rules(min_ratings=0), LEARNER)
    assert count_removed(free, 5) == {"min_ratings": 0}
    assert items_of(rank_movies(free, 5)) == items_of(rank_movies(ranker, 5))


def test_rules_that_close_all_movies_are_refused(ranker: Ranker) -> None:
    with pytest.raises(UsageError, match="the rules leave none of 40 movies"):
        apply_rules(ranker, Rules(min_ratings=1000), LEARNER)


def test_rules_that_close_all_movies_are_refused_before_training(published: Published) -> None:
    tonight = published.night
    settings = published.settings.model_copy(update={"rules": RulesConfig(min_ratings=1000)})
    with pytest.raises(UsageError, match="the rules leave none of 150 movies"):
        steps.read_rules(tonight.checked, tonight.learner, settings)
