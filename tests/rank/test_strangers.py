import math

import pytest
import torch

from recsys.models import Pairs
from recsys.rank.strangers import Strangers, fit_strangers
from recsys.retrieve.histories import Histories, gather_histories
from recsys.train.loop import predict
from tests.support.planted import LEVELS, SIZES, fit, quick_config
from tests.support.rankers import tastes

# two movies; one factor adds a star to the first and takes half a star from the second
TWO = Strangers(
    stars_I=torch.tensor([3.0, 3.0, 4.5]),
    likes_I=torch.tensor([0.5, 0.5, 0.8]),
    stars_ID=torch.tensor([[0.0], [1.0], [-0.5]]),
    likes_ID=torch.tensor([[0.0], [2.0], [-1.0]]),
    noise=torch.tensor(1.0, dtype=torch.float64),
)


def history(ratings: dict[int, float], n_items: int = 3) -> Histories:
    items = torch.tensor(sorted(ratings), dtype=torch.int64)
    stars = torch.tensor([ratings[item] for item in sorted(ratings)])
    return Histories(torch.tensor([0, len(items)]), items, stars, n_items)


@pytest.mark.parametrize(
    ("ratings", "factor"),
    [
        ({}, 0.0),
        ({1: 5.0}, 1.0),  # 2 stars above the expected ones, halved: the noise is as large as the prior
        ({1: 1.0}, -1.0),
        ({2: 2.5}, 0.8),  # -2 · -0.5 / (0.25 + 1)
        ({1: 5.0, 2: 2.5}, 3 / 2.25),
    ],
)
def test_factors_by_hand(ratings: dict[int, float], factor: float) -> None:
    placed = TWO.place(history(ratings))
    assert placed.flatten().tolist() == pytest.approx([factor])
    stars, likes = TWO.predict(placed, torch.tensor([[1, 2]]), LEVELS)
    assert stars.flatten().tolist() == pytest.approx([3 + factor, min(4.5 - factor / 2, 5.0)])
    odds = (2 * factor, math.log(4) - factor)
    assert likes.flatten().tolist() == pytest.approx([1 / (1 + math.exp(-one)) for one in odds])


@pytest.mark.parametrize(("name", "epochs"), [("ordinal", 3), ("dot_bias", 20)])
def test_expected_stars_follow_the_stars_that_were_given(name: str, epochs: int) -> None:
    """Planted users like the movies of their own parity. A stranger who likes even ones is expected to like others."""
    train = tastes()[0]
    network, _ = fit(name, quick_config(name, epochs=epochs), train=train)
    strangers = fit_strangers(network, gather_histories(train, SIZES), 0, 4.0)
    item_idx = torch.arange(SIZES.n_items)
    alone = predict(network, Pairs(torch.zeros_like(item_idx), item_idx, torch.zeros_like(item_idx)))
    assert torch.equal(strangers.stars_I, alone.mean_B)
    given = {2: 5.0, 4: 5.0, 6: 5.0, 3: 2.0, 5: 2.0}
    shown = item_idx[7:39]
    stars, likes = (one[0] for one in strangers.predict(strangers.place(history(given, 41)), shown[None], LEVELS))
    for changed, before in ((stars, strangers.stars_I[shown]), (likes, strangers.likes_I[shown])):
        is_even = shown % 2 == 0
        assert (changed - before)[is_even].mean() > 0.05
        assert (changed - before)[~is_even].mean() < -0.05


def test_without_known_users_nothing_changes_the_expected_stars() -> None:
    network, _ = fit("ordinal", train=tastes()[0])
    empty = Histories(torch.zeros(62, dtype=torch.int64), torch.zeros(0, dtype=torch.int64), torch.zeros(0), 41)
    strangers = fit_strangers(network, empty, 0, 4.0)
    assert strangers.place(history({3: 5.0}, 41)).numel() == 0
    stars, _ = strangers.predict(strangers.place(history({3: 5.0}, 41)), torch.tensor([[1, 2]]), LEVELS)
    assert torch.equal(stars[0].float(), strangers.stars_I[1:3])
