import math
from collections.abc import Callable

import polars as pl
import pytest
import torch

from recsys.ingest.synthetic.synthetic import checkerboard
from recsys.models import Interactions, Sizes
from recsys.models.negatives import NegativeSampler
from recsys.models.triplet import TripletConfig, TripletNetwork, triplet, triplet_bpr
from recsys.train.loop import fit_network, score
from tests.support.planted import interactions, pairs_of, rows_of

Configure = Callable[[int, int], TripletConfig]
LEVELS = (1.0, 2.0, 3.0, 4.0, 5.0)
every_variant = pytest.mark.parametrize("variant", [triplet, triplet_bpr])


def build(config: TripletConfig, sizes: Sizes, seed: int = 0) -> TripletNetwork:
    torch.manual_seed(seed)
    return TripletNetwork(config, sizes)


def few() -> Interactions:
    """User 1 watched items 1 and 2, user 2 items 1 and 3, user 3 item 4."""
    return rows_of(torch.tensor([1, 1, 2, 2, 3]), torch.tensor([1, 2, 1, 3, 4]), torch.zeros(5, dtype=torch.int64))


@every_variant
def test_loss_by_hand(variant: Configure) -> None:
    own = variant(1000, 5)
    config = TripletConfig(**{**dict(own), "n_negatives": 6, "popularity_exponent": 1.0, "margin": 0.7})
    network = build(config, Sizes(4, 5, LEVELS))
    train = few()
    network.prepare(train)
    torch.manual_seed(3)
    drawn = NegativeSampler.fit(network.watched, 1.0).draw(5, 6).tolist()
    torch.manual_seed(3)
    loss = network.loss(train).item()
    log_share = {1: math.log(2 / 5), 2: math.log(1 / 5), 3: math.log(1 / 5), 4: math.log(1 / 5)}
    p, q = network.user.tolist(), network.item.tolist()
    seen = {(int(user), int(item)) for user, item in zip(train.user_idx, train.item_idx, strict=True)}
    losses, norms = [], 0.0
    for row, (user, item) in enumerate(zip(train.user_idx.tolist(), train.item_idx.tolist(), strict=True)):
        norms += dot(p[user], p[user]) + dot(q[item], q[item])
        norms += sum(dot(q[other], q[other]) for other in drawn[row]) / 6
        for other in drawn[row]:
            ahead = (dot(p[user], q[item]) - log_share[item]) - (dot(p[user], q[other]) - log_share[other])
            if (user, other) not in seen:
                losses.append(max(0.0, 0.7 - ahead) if config.loss == "margin" else math.log1p(math.exp(0.7 - ahead)))
    assert 0 < len(losses) < 30  # some of the drawn items were watched
    expected = sum(losses) / len(losses) + config.l2 * norms / 5
    assert loss == pytest.approx(expected, rel=1e-5)


def dot(first: list[float], second: list[float]) -> float:
    return sum(a * b for a, b in zip(first, second, strict=True))


def test_watched_and_drawn_movies_share_one_table() -> None:
    network = build(triplet_bpr(1000, 5), Sizes(4, 5, LEVELS))
    assert {name for name, _ in network.named_parameters()} == {"user", "item"}
    network.prepare(few())
    network.loss(few().take(torch.tensor([1, 1, 1]))).backward()
    assert network.item.grad is not None
    assert (network.item.grad[[2, 4]] != 0).any(1).all()  # the watched item, and one of the unwatched


@every_variant
def test_a_user_who_watched_everything_adds_only_the_penalty(variant: Configure) -> None:
    config = variant(1000, 5)
    network = build(config, Sizes(2, 3, LEVELS))
    rows = rows_of(torch.tensor([1, 1]), torch.tensor([1, 2]), torch.zeros(2, dtype=torch.int64))
    network.prepare(rows)
    norms = network.user[[1, 1]].square().sum() + network.item[[1, 2]].square().sum()
    assert network.loss(rows).item() <= config.l2 * (norms + 2 * network.item.square().sum()).item()


def test_a_score_is_the_dot_product_after_training() -> None:
    network = build(triplet(1000, 5), Sizes(4, 5, LEVELS))
    fit_network(network, few(), triplet(1000, 5).training)
    users, items = torch.tensor([1, 3]), torch.tensor([3, 1])
    expected = (network.user[users] * network.item[items]).sum(1)
    torch.testing.assert_close(score(network, pairs_of(users, items)), expected.detach())


@every_variant
def test_the_right_movies_of_a_checkerboard_rank_first(variant: Configure) -> None:
    """Users watched half of the movies of their parity. The other half must score above movies of the other parity."""
    rated = checkerboard(60, 40, shown=0.5).with_columns(pl.col("rating").cast(pl.Float32))
    train = interactions(rated)
    network = build(variant(len(train), 5), Sizes(61, 41, LEVELS))
    fit_network(network, train, network.config.training)
    users, items = torch.cartesian_prod(torch.arange(1, 61), torch.arange(1, 41)).unbind(1)
    new = ~network.watched.contains(users, items)
    users, items = users[new], items[new]
    scores, right = score(network, pairs_of(users, items)), users % 2 == items % 2
    of_one_user = users[right][:, None] == users[~right]
    in_order = (scores[right][:, None] > scores[~right])[of_one_user].float().mean().item()
    assert in_order >= 0.95


def test_popular_movies_rank_first_for_new_users() -> None:
    """Item 1 was watched by all users, items 2 to 21 by one user each."""
    users = torch.cat([torch.arange(1, 21), torch.arange(1, 21)])
    items = torch.cat([torch.ones(20, dtype=torch.int64), torch.arange(2, 22)])
    config = triplet_bpr(1000, 5)
    network = build(config, Sizes(23, 23, LEVELS))
    fit_network(network, rows_of(users, items, torch.zeros_like(users)), config.training)
    for user in (0, 22):
        scores = score(network, pairs_of(torch.full((23,), user), torch.arange(23)))
        assert scores.argmax().item() == 1
        assert scores[0] == scores[22]  # neither was watched
        assert scores[1:22].min() < scores[0] < scores[1]
