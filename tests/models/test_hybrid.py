import math

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from recsys.encode.features import NO_FEATURES, Feature, Features
from recsys.models import Interactions, Pairs, Sizes
from recsys.models.hybrid import DIMS, HybridConfig, HybridNetwork, hybrid
from recsys.train.loop import fit_network, predict
from tests.support.planted import FEATURES, SIZES, parts, rows_of

LEVELS = (1.0, 2.0, 3.0, 4.0, 5.0)
DAY_SECONDS = 86_400


def config_of(**fields: object) -> HybridConfig:
    return HybridConfig.model_validate({**dict(hybrid(1000, 5)), **fields})


def build(config: HybridConfig, features: Features = FEATURES, sizes: Sizes = SIZES) -> HybridNetwork:
    torch.manual_seed(0)
    return HybridNetwork(config, sizes, features)


def one_value_each(index: Tensor, names: tuple[str, ...]) -> Feature:
    return Feature(names, torch.arange(len(index) + 1), index)


def test_widths_are_those_of_the_available_tables() -> None:
    network = build(config_of())
    user, item = (sum(DIMS[name] for name in side) for side in (("user", *FEATURES.user), ("item", *FEATURES.item)))
    date = sum(DIMS[name] for name in ("weekday", "hour", "month", "rated_year"))
    assert (network.user.width, network.item.width, network.date.width) == (user, item, date)
    shapes = [tuple(weight.shape) for name, weight in network.named_parameters() if name.startswith(("layers", "head"))]
    assert shapes == [(128, user + item + date + 32), (128,), (64, 128), (64,), (4, 64), (4,)]
    bare = build(config_of(dims={"user": 7, "item": 9}))
    assert (bare.user.width, bare.item.width, bare.date.width) == (7, 9, 0)


def test_logits_by_hand() -> None:
    """The head reads all vectors, then the product of the two projections. Both projections include the date."""
    network = build(config_of(hidden_dims=(6,))).eval()
    rows = parts()[0].take(slice(0, 7))
    user, item = network.user(rows.user_idx, 0.0), network.item(rows.item_idx, 0.0)
    date = network.date(rows.rated_at)
    product = network.user_projection(torch.cat([user, date], 1)) * network.item_projection(torch.cat([item, date], 1))
    weights = dict(network.named_parameters())
    hidden = torch.cat([user, item, date, product], 1) @ weights["layers.0.weight"].T + weights["layers.0.bias"]
    expected = hidden.clamp(min=0) @ weights["head.weight"].T + weights["head.bias"]
    torch.testing.assert_close(network.logits(rows), expected)


@pytest.mark.parametrize("head", ["ordinal", "softmax"])
def test_loss_is_the_cross_entropy_by_hand(head: str) -> None:
    """softmax: the cross-entropy of the level. ordinal: that of exceeding each level except the last."""
    network = build(config_of(head=head)).eval()
    rows = parts()[0].take(slice(0, 5))
    losses = []
    for logits, level in zip(network.logits(rows).tolist(), rows.level_idx.tolist(), strict=True):
        if head == "softmax":
            losses.append(math.log(sum(math.exp(z) for z in logits)) - logits[level])
        else:
            losses.append(sum(math.log1p(math.exp(-z if level > t else z)) for t, z in enumerate(logits)))
    assert network.loss(rows).item() == pytest.approx(sum(losses) / 5, rel=1e-5)


def test_probabilities_are_differences_of_exceedance_probabilities() -> None:
    network = build(config_of())
    with torch.no_grad():
        network.head.weight.zero_()
        network.head.bias.copy_(torch.logit(torch.tensor([0.9, 0.6, 0.7, 0.1])))  # two thresholds cross
    p_K = network.probabilities(parts()[0].take(slice(0, 1))).squeeze(0)
    torch.testing.assert_close(p_K, torch.tensor([0.1, 0.3, 0.0, 0.5, 0.1]))


@pytest.mark.parametrize("head", ["ordinal", "softmax"])
def test_initial_predictions_are_the_overall_distribution(head: str) -> None:
    network, train = build(config_of(head=head, init_std=1e-4)), parts()[0]
    network.prepare(train)
    share = torch.bincount(train.level_idx, minlength=5) / len(train)
    torch.testing.assert_close(network.eval().probabilities(train).mean(0), share, atol=0.05, rtol=0)


@pytest.mark.parametrize(
    ("dims", "problem"),
    [
        ({"user": 4, "item": 4, "directors": 3}, "directors=3"),
        ({"user": 4, "item": 4, "genres": 0}, "genres=0"),
        ({"user": 4, "genres": 3}, "no item"),
    ],
)
def test_invalid_vector_lengths_are_refused(dims: dict[str, int], problem: str) -> None:
    with pytest.raises(ValidationError, match=f"{problem}.*Next: correct the name"):
        config_of(dims=dims)


def rated_by_features(seed: int) -> tuple[Interactions, Features, Sizes]:
    """Ratings that depend only on the user's gender and the movie's genre: 5 stars if both match, else 1 to 3.

    There are 80 users and 60 movies; users from 61 and movies from 41 have no ratings.
    """
    generator = torch.Generator().manual_seed(seed)
    gender, genre = torch.arange(81) % 2 + 1, torch.arange(61) // 2 % 2 + 1
    gender[0] = genre[0] = 0
    users = torch.randint(1, 61, (1500,), generator=generator)
    items = torch.randint(1, 41, (1500,), generator=generator)
    levels = torch.where(gender[users] == genre[items], 4, torch.randint(0, 3, (1500,), generator=generator))
    features = Features({"gender": one_value_each(gender, ("F", "M"))}, {"genres": one_value_each(genre, ("A", "B"))})
    return rows_of(users, items, levels), features, Sizes(81, 61, LEVELS)


def test_new_users_and_movies_are_predicted_by_their_features() -> None:
    train, features, sizes = rated_by_features(0)
    network = build(config_of(), features, sizes)
    fit_network(network, train, network.config.training)
    users, items = torch.cartesian_prod(torch.arange(61, 81), torch.arange(41, 61)).unbind(1)
    stars = predict(network, Pairs(users, items, torch.zeros_like(users))).mean_B
    expected = torch.where(users % 2 == items // 2 % 2, 5.0, 2.0)
    assert (stars - expected).abs().mean().item() < 0.5  # the overall mean would be 1.5 stars off
    without = build(config_of(), NO_FEATURES, sizes)
    fit_network(without, train, network.config.training, stop_after=1)
    stars = predict(without, Pairs(users, items, torch.zeros_like(users))).mean_B
    assert stars.std().item() < 1e-3  # without features all are predicted alike


def test_the_weekday_of_a_rating_is_learned() -> None:
    """All ratings are 5 stars at the weekend and 2 stars on other days."""
    generator = torch.Generator().manual_seed(0)
    users, items = (torch.randint(1, n, (3000,), generator=generator) for n in (61, 41))
    days = torch.randint(0, 700, (3000,), generator=generator)
    is_weekend = (days + 3) % 7 >= 5  # 1970 began on a Thursday
    rows = Interactions(users, items, days * DAY_SECONDS + 1, torch.where(is_weekend, 4, 1))
    network = build(config_of(), NO_FEATURES)
    fit_network(network, rows, network.config.training)
    week = Pairs(users[:7], items[:7], (700 + torch.arange(7)) * DAY_SECONDS + 1)  # 700 is a Thursday
    expected = torch.tensor([2.0, 2.0, 5.0, 5.0, 2.0, 2.0, 2.0])
    assert (predict(network, week).mean_B - expected).abs().max().item() < 0.7
