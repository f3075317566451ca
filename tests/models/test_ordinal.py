import math
from collections.abc import Sequence
from dataclasses import replace
from typing import cast

import pytest
import torch

from recsys.encode.features import Feature, Features
from recsys.models.feature_tables import FeatureTable
from recsys.models.network import Interactions, Pairs, Sizes, TrainingConfig
from recsys.models.ordinal import OrdinalConfig, OrdinalNetwork, ordinal, ordinal_basic
from tests.support.planted import pairs_of

DAY = 86_400
# (user, item, level, day) of three users and four movies. Index 0 is unknown. User 3 and movie 4 have one rating.
RATED = [(1, 1, 0, 10), (1, 2, 2, 10), (1, 3, 1, 20), (2, 1, 2, 12), (2, 2, 0, 40), (3, 4, 1, 12)]
SIZES = Sizes(n_users=4, n_items=5, levels=(1.0, 2.0, 4.0))
DIM, N_THRESHOLDS = 2, 2
CONFIG = OrdinalConfig(
    embedding_dim=DIM,
    l2=0.3,
    l2_biases=0.2,
    l2_thresholds=0.07,
    l2_opinions=0.9,
    features=("genres", "gender", "words"),
    l2_features=0.19,
    l2_days=0.11,
    min_ratings_per_day=1,
    l2_mood=0.13,
    ratings_per_knot=2,
    l2_weeks=0.17,
    training=TrainingConfig(epochs=1, batch_size=4, learning_rate=0.1, schedule="constant"),
)
PARTS = ("l2_opinions", "l2_features", "l2_days", "l2_mood", "l2_weeks")
BASIC = CONFIG.model_copy(update=dict.fromkeys(PARTS, None))
# The values of each row, starting with the unknown id. The config also names `words`, for which there is no feature
# here. The features also include `age`, which the config does not name.
GENRES_OF, GENDER_OF = [(0,), (1, 2), (2,), (0,), (1,)], [(0,), (1,), (2,), (1,)]

Rows = list[list[float]]


def interactions(rated: list[tuple[int, int, int, int]]) -> Interactions:
    user, item, level, day = torch.tensor(rated).T
    return Interactions(user, item, day * DAY, level)


TRAIN = interactions(RATED)


def feature(names: tuple[str, ...], rows: Sequence[tuple[int, ...]]) -> Feature:
    offsets = torch.tensor([0, *(len(row) for row in rows)]).cumsum(0)
    return Feature(names, offsets, torch.tensor([value for row in rows for value in row]))


FEATURES = Features(
    {"gender": feature(("F", "M"), GENDER_OF), "age": feature(("18",), [(0,), (1,), (1,), (1,)])},
    {"genres": feature(("a", "b"), GENRES_OF)},
)


def build(config: OrdinalConfig) -> OrdinalNetwork:
    """A network with random weights, including those of unseen ids."""
    network = OrdinalNetwork(config, SIZES, FEATURES)
    network.prepare(TRAIN)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in network.parameters():
            weight.normal_(0, 0.7, generator=generator)
    network.freeze()
    return network


@pytest.fixture(params=[CONFIG, BASIC], ids=["whole", "basic"])
def network(request: pytest.FixtureRequest) -> OrdinalNetwork:
    return build(request.param)


def opinions() -> dict[tuple[int, int], float]:
    """Stars above the bias baseline of `recsys.models.baselines`, damped by 25 for movies and 10 for users."""
    stars = {(user, item): SIZES.levels[level] for user, item, level, _ in RATED}
    mean = sum(stars.values()) / len(stars)
    of_item = {i: [stars[pair] - mean for pair in stars if pair[1] == i] for i in range(SIZES.n_items)}
    item_bias = {i: sum(values) / (len(values) + 25) for i, values in of_item.items()}
    left = {pair: value - mean - item_bias[pair[1]] for pair, value in stars.items()}
    of_user = {u: [left[pair] for pair in left if pair[0] == u] for u in range(SIZES.n_users)}
    user_bias = {u: sum(values) / (len(values) + 10) for u, values in of_user.items()}
    return {pair: value - user_bias[pair[0]] for pair, value in left.items()}


def of_features(network: OrdinalNetwork, kind: str, values: tuple[int, ...]) -> list[float]:
    """The mean vector of these values of a feature."""
    if network.config.l2_features is None:
        return [0.0] * (DIM + 1)
    side = network.user_features if kind == "gender" else network.item_features
    weight = cast(FeatureTable, side.tables[kind]).weight.tolist()
    return [sum(weight[value][d] for value in values) / len(values) for d in range(DIM + 1)]


def user_vector(network: OrdinalNetwork, user: int, without: int | None = None) -> list[float]:
    """p + f + |N|^-½ Σ (y + e w) over the user's items; the opinion of one item may be excluded."""
    items = [item for rater, item, *_ in RATED if rater == user]
    f = of_features(network, "gender", GENDER_OF[user])
    row = [a + b for a, b in zip(network.user[user].tolist(), f, strict=True)]
    for item in items:
        part = network.item_implicit[item].tolist()
        if network.config.l2_opinions is not None and item != without:
            opinion = opinions()[user, item]
            part = [a + opinion * b for a, b in zip(part, network.item_opinion[item].tolist(), strict=True)]
        row = [a + b / math.sqrt(len(items)) for a, b in zip(row, part, strict=True)]
    return row


def item_vector(network: OrdinalNetwork, item: int, without: int | None = None) -> list[float]:
    users = [rater for rater, rated, *_ in RATED if rated == item]
    f = of_features(network, "genres", GENRES_OF[item])
    row = [a + b for a, b in zip(network.item[item].tolist(), f, strict=True)]
    for user in users:
        part = network.user_implicit[user].tolist()
        if network.config.l2_opinions is not None and user != without:
            opinion = opinions()[user, item]
            part = [a + opinion * b for a, b in zip(part, network.user_opinion[user].tolist(), strict=True)]
        row = [a + b / math.sqrt(len(users)) for a, b in zip(row, part, strict=True)]
    return row


def moment_of(network: OrdinalNetwork, pair: Pairs) -> tuple[float, list[float]]:
    """The time effects, which are tested in test_moments.py."""
    days, mood, weeks = network.moments.days, network.moments.mood, network.moments.weeks
    number = sum(part(pair).item() for part in (days, mood) if part is not None)
    week = weeks(pair).squeeze(0).tolist() if weeks is not None else [0.0] * (DIM + 1)
    return number, week


def logits_by_hand(network: OrdinalNetwork, user: int, item: int, day: int, *, own: bool = True) -> list[float]:
    u = user_vector(network, user, None if own else item)
    i = item_vector(network, item, None if own else user)
    number, week = moment_of(network, Pairs(*(torch.tensor([value]) for value in (user, item, day * DAY))))
    score = sum(u[d] * i[d] + (u[d] + i[d]) * week[d] for d in range(DIM)) + u[DIM] + i[DIM] + week[DIM] + number
    theta, a, d = network.thresholds.tolist(), network.user_thresholds.tolist(), network.item_thresholds.tolist()
    return [(score - theta[t] - a[user][t] - d[item][t]) for t in range(N_THRESHOLDS)]


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


@pytest.mark.parametrize("user", range(SIZES.n_users))
@pytest.mark.parametrize("day", [0, 10, 12, 30, 400])
def test_probabilities_by_hand(network: OrdinalNetwork, user: int, day: int) -> None:
    for item in range(SIZES.n_items):
        first, second = (sigmoid(logit) for logit in logits_by_hand(network, user, item, day))
        second = min(first, second)  # exceeding two levels is never more likely than exceeding one
        by_hand = [1 - first, first - second, second]
        pair = Pairs(*(torch.tensor([value]) for value in (user, item, day * DAY)))
        assert network.probabilities(pair).squeeze(0).tolist() == pytest.approx(by_hand, abs=1e-6)


def test_some_thresholds_cross_in_these_data(network: OrdinalNetwork) -> None:
    """Otherwise the test above would not check how crossing thresholds are handled."""
    pairs = [(user, item) for user in range(SIZES.n_users) for item in range(SIZES.n_items)]
    crossing = [first < second for first, second in (logits_by_hand(network, *pair, 10) for pair in pairs)]
    assert 0 < sum(crossing) < len(pairs)


def test_initial_predictions_are_the_overall_distribution() -> None:
    for config in (CONFIG, BASIC):
        network = OrdinalNetwork(config, SIZES)
        unknown = pairs_of(torch.tensor([0]), torch.tensor([0]))
        network.prepare(TRAIN)
        network.freeze()
        p_K = network.probabilities(unknown).squeeze(0)
        assert p_K.tolist() == pytest.approx(
            [3 / 9, 3 / 9, 3 / 9]
        )  # two ratings of each level, plus one to avoid infinite logits
        network.prepare(replace(TRAIN, level_idx=torch.tensor([2, 2, 2, 2, 2, 0])))
        network.freeze()
        assert network.probabilities(unknown).squeeze(0).tolist() == pytest.approx([2 / 9, 1 / 9, 6 / 9])


def test_implicit_history_does_not_depend_on_the_stars() -> None:
    network = build(BASIC)
    before = network.tables()[0]
    weights = {name: weight.clone() for name, weight in network.state_dict().items()}
    network.prepare(replace(TRAIN, level_idx=2 - TRAIN.level_idx))
    network.load_state_dict(weights)
    assert torch.equal(network.tables()[0], before)


def test_initial_biases_are_zero_and_vectors_have_their_standard_deviation() -> None:
    torch.manual_seed(0)
    config = CONFIG.model_copy(update={"init_std": 0.3, "embedding_dim": 40})
    network = OrdinalNetwork(config, Sizes(500, 500, SIZES.levels))
    opinions = (network.user_opinion, network.item_opinion)
    for vectors in (network.user, network.item, network.user_implicit, network.item_implicit, *opinions):
        assert (vectors[:, -1] == 0).all()
        spread = 0.1 if any(vectors is opinion for opinion in opinions) else 0.3
        assert vectors[:, :-1].std().item() == pytest.approx(spread, rel=0.02)


def test_training_before_prepare_is_an_assertion_error() -> None:
    with pytest.raises(AssertionError, match="prepare"):
        OrdinalNetwork(CONFIG, SIZES).cut(1, torch.Generator())


@pytest.mark.parametrize(
    ("n_ratings", "n_levels", "l2"),
    [(750_000, 5, 0.13), (75_000, 5, 0.13 * 10**0.15), (750_000, 10, 0.3730), (20_000, 5, 0.2238), (100, 5, 0.2238)],
)
def test_penalties_are_those_of_the_experiments(n_ratings: int, n_levels: int, l2: float) -> None:
    for config in (ordinal(n_ratings, n_levels), ordinal_basic(n_ratings, n_levels)):
        assert config.l2 == pytest.approx(l2, rel=1e-3)
        assert config.l2_thresholds == pytest.approx(0.3 * l2 / ((n_levels - 1) / 4) ** 0.3, rel=1e-3)


def test_ordinal_basic_omits_exactly_the_optional_parts() -> None:
    whole, basic = (configure(100_000, 5).model_dump() for configure in (ordinal, ordinal_basic))
    left_out = {name for name, value in basic.items() if value is None}
    assert left_out == set(PARTS)
    assert not any(value is None for value in whole.values())


def test_a_new_movie_is_predicted_by_its_features() -> None:
    """Movie 4 has no ratings but a known genre, so it differs from the unknown movie."""
    network = OrdinalNetwork(CONFIG, SIZES, FEATURES)
    network.prepare(TRAIN.take((TRAIN.item_idx != 4).nonzero().squeeze(1)))
    with torch.no_grad():
        for table in network.item_features.tables.values():
            cast(FeatureTable, table).weight[1:] = 0.3
    network.freeze()
    assert (network.item_table[4] != network.item_table[0])[: DIM + 1].all()
    assert (network.item_table[0] == 0).all()
